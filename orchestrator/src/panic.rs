//! Catches panics of user code: of calls with [`catch`], and of drops with [`Fragile`].

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::PanicReport;

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs user code, and returns its panic as a value. The panic hook of the process is called as for
/// any panic.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, PanicReport> {
    // a hook cannot be set during unwinding, which may be the reason for this drop
    if !std::thread::panicking() {
        HOOK.call_once(remember_places);
    }
    CATCHING.set(CATCHING.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(code));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(|payload| {
        let panicked = PanicReport {
            place: PLACE.take(),
            ..PanicReport::from_payload(&*payload)
        };
        // the panic payload is user code, too: its drop may panic
        drop(Fragile::new(payload));
        panicked
    })
}

/// Installs a hook that records the location of a panic, which only hooks can see.
fn remember_places() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if CATCHING.get() > 0 {
            PLACE.set(info.location().map(ToString::to_string));
        }
        next(info);
    }));
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
