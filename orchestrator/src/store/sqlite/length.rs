//! The length of the write-ahead log after each commit, as reported by a hook of SQLite.
//!
//! rusqlite's hook has two forms. Up to 0.40 it is a plain function of a `&Wal`, which cannot
//! capture a destination: it reports to a thread-local of the thread that commits. From 0.41 on it
//! is a function of a `&mut Wal`. The form is inferred from [`Wal::checkpoint`], whose receiver
//! changed at the same time.

use std::cell::Cell;
use std::ffi::c_int;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

thread_local! {
    static LENGTH: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Reports the length of the log after each commit of a connection.
pub(super) fn report(connection: &mut Connection) {
    // the return type depends on the version; it only fails for a shared connection
    let _ = connection.wal_hook(Some(hook(Wal::checkpoint as fn(_) -> _)));
}

/// Returns the length of the log, in pages, after the last commit of this thread on a connection
/// that [reports](report) it. Returns `None` if nothing was written.
pub(super) fn take() -> Option<u32> {
    LENGTH.take()
}

fn reported(length: c_int) -> rusqlite::Result<()> {
    LENGTH.set(u32::try_from(length).ok());
    Ok(())
}

/// The form of a hook.
trait Form {
    type Hook;
    const HOOK: Self::Hook;
}

impl<'a> Form for fn(&'a Wal) -> rusqlite::Result<()> {
    type Hook = fn(&Wal, c_int) -> rusqlite::Result<()>;
    const HOOK: Self::Hook = |_, length| reported(length);
}

impl<'a> Form for fn(&'a mut Wal) -> rusqlite::Result<()> {
    type Hook = fn(&mut Wal, c_int) -> rusqlite::Result<()>;
    const HOOK: Self::Hook = |_, length| reported(length);
}

fn hook<F: Form>(_: F) -> F::Hook {
    F::HOOK
}
