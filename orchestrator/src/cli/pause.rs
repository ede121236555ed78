//! `pause` and `resume`: pause and resume the schedules of a flow.

use std::process::ExitCode;

use super::args;
use super::context::CommandContext;
use super::exit::CommandResult;
use super::output::print;

pub(super) async fn pause(
    context: &CommandContext,
    args: &args::OneFlow,
    pause: bool,
) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let runtime = context.runtime().await?;
    let name = flow.definition.name;
    let changed = if pause {
        runtime.pause(name).await?
    } else {
        runtime.unpause(name).await?
    };
    let is_scheduled = !flow.schedules().is_empty();
    print(match (pause, changed) {
        (true, true) if is_scheduled => {
            format!("{name} is paused: its schedules create no runs until `resume {name}`\n")
        }
        (true, true) => {
            format!(
                "{name} is paused; this only affects schedules, and in this program it has none\n"
            )
        }
        (true, false) => format!("{name} was paused already\n"),
        (false, true) => format!("{name} is resumed: ticks of the meantime count as missed\n"),
        (false, false) => format!("{name} was not paused\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
