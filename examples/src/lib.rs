//! What both examples stand on: the shop's data, where files go, and how a run is shown on a
//! terminal.
//!
//! The examples themselves are `customer_pipeline/main.rs` and `multi_source_etl/main.rs`; start
//! there.

#![allow(
    missing_docs,
    reason = "fields and variants say by their names what they are; nobody depends on this crate"
)]

// ── the data
pub mod cdnow;
pub mod database;
pub mod folder;
pub mod shop;

// ── the terminal
pub mod format;
pub mod progress;

use std::process::ExitCode;

use orchestrator::{RunState, Runtime};

/// Goes on with what an example that was killed has left.
///
/// # Errors
///
/// Where the store fails.
pub async fn go_on(runtime: &Runtime) -> Result<(), orchestrator::Error> {
    for run in runtime.resume().await? {
        let (flow, date, state) = (run.flow(), run.logical_date().format("%F %R"), run.state());
        println!("a run of {flow} for {date} was left before its end; it went on: {state}\n");
    }
    Ok(())
}

/// What came of an example, as the status of the process.
pub fn exit_with(ended: orchestrator::Result<RunState>) -> ExitCode {
    match ended {
        Ok(RunState::Success) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", format::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}
