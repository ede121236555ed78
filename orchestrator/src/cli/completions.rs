//! `completions`: for shells.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::args::{self, Arguments};
use super::context::Context;
use super::exit::{Done, FAILED, Failure};
use super::output;

pub(super) fn completions(context: &Context, args: &args::Completions) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), &context.program, &mut script);
    match &args.output {
        None => output::print(String::from_utf8_lossy(&script))?,
        Some(path) => std::fs::write(path, script).map_err(|error| {
            Failure::new(FAILED, format!("`{}` cannot be written", path.display())).why(error.to_string())
        })?,
    }
    Ok(ExitCode::SUCCESS)
}
