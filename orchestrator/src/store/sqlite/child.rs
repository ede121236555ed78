//! Child processes of tests: a test runs itself in another process.

use std::process::Command;

/// The variable that tells a test that it is the child process.
const FOLDER: &str = "ORCHESTRATOR_TEST_CHILD";

/// Returns a command that runs one test of this binary, by its full name, in another process.
pub(super) fn again(test: &str, folder: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder);
    command
}

/// Returns the folder that a child process was given.
pub(super) fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}
