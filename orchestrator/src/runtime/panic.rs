//! Panics of users' code, caught with the place where they happened.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::Panicked;

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs a user's code, and gives its panic as a value. The process's panic hook is called as for any panic.
pub(super) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Panicked> {
    HOOK.call_once(remember_places);
    CATCHING.set(CATCHING.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(code));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(|payload| Panicked {
        place: PLACE.take(),
        ..Panicked::from_payload(&*payload)
    })
}

/// Only the hook is told where a panic happened.
fn remember_places() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if CATCHING.get() > 0 {
            PLACE.set(info.location().map(ToString::to_string));
        }
        next(info);
    }));
}
