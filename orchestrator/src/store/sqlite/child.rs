//! Tests that need another process run themselves again.

use std::process::Command;

/// The variable that says to a test that it is the other process.
const FOLDER: &str = "ORCHESTRATOR_TEST_CHILD";

/// A command that runs one test of this binary, by its full name, in another process.
pub(super) fn again(test: &str, folder: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder);
    command
}

/// What a test that is the other process was given.
pub(super) fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}
