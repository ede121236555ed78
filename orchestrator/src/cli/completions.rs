//! `completions`: prints completions for a shell.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory as _};

use super::args::{self, Arguments};
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::output;
use crate::flow::registry;

pub(super) fn completions(context: &CommandContext, args: &args::Completions) -> CommandResult {
    let mut flows: Vec<&'static str> = registry::flows().map(|flow| flow.name).collect();
    flows.sort_unstable();
    flows.dedup();
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut with_flows(Arguments::command(), &flows),
        &context.program,
        &mut script,
    );
    match &args.output {
        None => output::print(String::from_utf8_lossy(&script))?,
        Some(path) => std::fs::write(path, script).map_err(|error| {
            CommandFailure::new(FAILED, format!("`{}` cannot be written", path.display()))
                .why(error.to_string())
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the names of flows to the completions. The parser itself does not use this list: an unknown
/// name has an error of its own.
fn with_flows(command: Command, flows: &[&'static str]) -> Command {
    let named = |argument: Arg| match argument.get_id().as_str() {
        "flow" | "flows" => argument.value_parser(PossibleValuesParser::new(flows)),
        _ => argument,
    };
    command
        .mut_args(named)
        .mut_subcommands(|command| with_flows(command, flows))
}
