//! Catches panics of user code: of calls with [`catch`], and of drops with [`Fragile`].

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::task::Poll;
use std::time::Duration;

use crate::error::{BoxError, PanicReport, TaskError};
use crate::mask;

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static PANIC: RefCell<Option<CaughtPanic>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs user code, and returns its panic as a value. A panic hook that the program has set is called
/// as for any panic. The default hook is not: it would write the message, which may contain a secret,
/// as it is; the caller tells the panic, masked.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, PanicReport> {
    // a hook cannot be set during unwinding, which may be the reason for this drop
    if !std::thread::panicking() {
        HOOK.call_once(install_hook);
    }
    CATCHING.set(CATCHING.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(code));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(|payload| {
        let caught = PANIC.take().unwrap_or_default();
        if let Some(backtrace) = caught.backtrace {
            tracing::error!(%backtrace, "panicked");
        }
        let panicked = PanicReport {
            place: caught.place,
            ..PanicReport::from_payload(&*payload)
        };
        // the panic payload is user code, too: its drop may panic
        drop(Fragile::new(payload));
        panicked
    })
}

/// Waits for user code that the library needs an answer from. A panic is an error, and so is an answer
/// that does not come in time: the caller may hold something that others wait for.
pub(crate) async fn answer<T>(
    within: Duration,
    code: impl Future<Output = Result<T, BoxError>> + Send,
) -> Result<T, BoxError> {
    match tokio::time::timeout(within, contained(code)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} seconds", within.as_secs()).into()),
    }
}

/// Waits for user code. A panic is an error.
pub(crate) async fn contained<T>(
    code: impl Future<Output = Result<T, BoxError>> + Send,
) -> Result<T, BoxError> {
    // its drop is user code, too
    let mut code = Fragile::new(Box::pin(code));
    poll_fn(|cx| match catch(|| code.as_mut().poll(cx)) {
        Ok(poll) => poll,
        Err(panicked) => Poll::Ready(Err(TaskError::panicked(&panicked).into())),
    })
    .await
}

/// What only a hook can see of a panic.
#[derive(Default)]
struct CaughtPanic {
    place: Option<String>,
    /// Captured if the environment asks for it (`RUST_BACKTRACE`).
    backtrace: Option<Backtrace>,
}

/// Installs a hook that records the location of a caught panic.
fn install_hook() {
    let next = std::panic::take_hook();
    // after a hook was taken, the default one is installed
    let default = std::panic::take_hook();
    let is_default = is_same_hook(&*next, &*default);
    std::panic::set_hook(Box::new(move |info| {
        if CATCHING.get() == 0 {
            return next(info);
        }
        let place = info.location().map(ToString::to_string);
        let is_nested = PANIC.with_borrow(Option::is_some);
        // a panic during another one, and any panic of a program that does not unwind, aborts the
        // process: its message is not returned
        if is_default && (is_nested || cfg!(panic = "abort")) {
            let report = PanicReport {
                place: place.clone(),
                ..PanicReport::from_payload(info.payload())
            };
            eprintln!("{}", mask::masked(&report.to_string()));
        }
        let backtrace = is_default.then(Backtrace::capture);
        let backtrace =
            backtrace.filter(|backtrace| backtrace.status() == BacktraceStatus::Captured);
        PANIC.set(Some(CaughtPanic { place, backtrace }));
        if !is_default {
            next(info);
        }
    }));
}

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// Returns `true` if two hooks are the same function.
#[allow(
    ambiguous_wide_pointer_comparisons,
    reason = "the default hook is boxed at one place of the standard library, so with one vtable; if not, \
              the default hook is taken for a hook of the program, and is called"
)]
fn is_same_hook(one: &Hook, other: &Hook) -> bool {
    std::ptr::eq(one, other)
}

/// A wrapper for objects whose `Drop` may be user code: a value, an error, a closure, the future of
/// a body. The last owner drops it, wherever that is; a panic in the drop is logged and contained.
#[derive(Clone, Default)]
pub(crate) struct Fragile<T>(Option<T>);

impl<T> Fragile<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self(Some(content))
    }

    pub(crate) fn into_inner(mut self) -> T {
        match self.0.take() {
            Some(content) => content,
            None => unreachable!("{EMPTY}"),
        }
    }
}

/// The content is always present here: only `into_inner` and `drop` take it, and both consume the
/// wrapper.
const EMPTY: &str = "what is fragile holds its content until it is dropped";

impl<T> Deref for Fragile<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(content) => content,
            None => unreachable!("{EMPTY}"),
        }
    }
}

impl<T> DerefMut for Fragile<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(content) => content,
            None => unreachable!("{EMPTY}"),
        }
    }
}

impl<T> Drop for Fragile<T> {
    fn drop(&mut self) {
        let Some(content) = self.0.take() else { return };
        if !std::mem::needs_drop::<T>() {
            return;
        }
        if let Err(panicked) = catch(|| drop(content)) {
            tracing::error!(error = %panicked, "the `Drop` of a value panicked");
        }
    }
}
