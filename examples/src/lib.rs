//! What both examples stand on: the shop's data, where files go, and how a run is shown on a terminal.
//!
//! The examples themselves are `customer_pipeline/main.rs` and `multi_source_etl/main.rs`; start there.

#![allow(missing_docs, reason = "fields and variants say by their names what they are; nobody depends on this crate")]

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

/// Runs an example with the words of its command line, and makes what came of it the status of the process.
pub async fn exit_with(run: impl AsyncFnOnce(&[String]) -> orchestrator::Result<RunState>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(RunState::Success) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", format::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}
