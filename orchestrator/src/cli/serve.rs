//! `serve`: serves flows on their schedules.

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::names;
use super::output::halt;
use super::parameters::ParameterArguments;
use crate::capture::init_logs;
use crate::scheduler::Serve;

pub(super) async fn serve(mut context: CommandContext, args: &args::Serve) -> CommandResult {
    for name in &args.flows {
        names::flow(name)?;
    }
    let is_meant = |flow: &str| args.flows.is_empty() || args.flows.iter().any(|name| name == flow);
    let mut by_attribute = Vec::new();
    for flow in context.flows() {
        let name = flow.definition.name;
        if !is_meant(name) || !flow.given.is_empty() {
            continue;
        }
        if flow.definition.schedule.is_none() {
            if args.flows.is_empty() {
                continue;
            }
            return Err(CommandFailure::usage(format!("flow `{name}` has no schedule"))
                .hint("write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`"));
        }
        let call = flow
            .call(&ParameterArguments::default())
            .map_err(|failure| CommandFailure {
                hint: Some(format!(
                    "give its parameters: `orchestrator::cli().serve([{name}(…).scheduled()])`"
                )),
                ..failure
            })?;
        by_attribute.extend(Serve::of(call));
    }
    let (runtime, mut serves) = context.served().await?;
    serves.retain(|serve| is_meant(serve.flow()));
    serves.extend(by_attribute);
    if serves.is_empty() {
        return Err(CommandFailure::usage("there is nothing to serve")
            .why("no flow of this program has a schedule")
            .hint(
                "write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`",
            ));
    }
    // the runs themselves are reported by their logs
    init_logs();
    Ok(halt(runtime.serve_until_halt(serves).await?))
}
