//! `pause` and `resume`: pause and resume the schedules of a flow.

use std::process::ExitCode;

use super::args::{self, MissedTicks};
use super::context::CommandContext;
use super::exit::CommandResult;
use super::output::print;
use crate::flow::Missed;

pub(super) async fn pause(context: &CommandContext, args: &args::Pause) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let name = flow.definition.name;
    let changed = context.runtime().await?.pause(name).await?;
    let is_scheduled = !flow.deployments().is_empty();
    print(match changed {
        true if is_scheduled => {
            format!("{name} is paused: its schedules create no runs until `resume {name}`\n")
        }
        true => {
            format!(
                "{name} is paused; this only affects schedules, and in this program it has none\n"
            )
        }
        false => format!("{name} was paused already\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(context: &CommandContext, args: &args::Resume) -> CommandResult {
    let name = context.flow(&args.flow)?.definition.name;
    let runtime = context.runtime().await?;
    let unpause = match args.missed {
        Some(missed) => runtime.unpause(name).missed(missed.into()),
        None => runtime.unpause(name),
    };
    let changed = unpause.await?;
    print(match (changed, args.missed) {
        (true, None) => format!("{name} is resumed: ticks of the meantime count as missed\n"),
        (true, Some(MissedTicks::None)) => {
            format!("{name} is resumed: the ticks that it missed get no runs\n")
        }
        (true, Some(MissedTicks::Latest)) => {
            format!("{name} is resumed: of the ticks that it missed, the latest gets a run\n")
        }
        (true, Some(MissedTicks::All)) => {
            format!("{name} is resumed: each tick that it missed gets a run\n")
        }
        (false, None) => format!("{name} was not paused\n"),
        (false, Some(_)) => format!("{name} was not paused: `--missed` has no effect\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

impl From<MissedTicks> for Missed {
    fn from(missed: MissedTicks) -> Self {
        match missed {
            MissedTicks::None => Self::None,
            MissedTicks::Latest => Self::Latest,
            MissedTicks::All => Self::All,
        }
    }
}
