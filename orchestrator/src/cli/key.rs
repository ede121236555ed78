//! `key`: prints a new key, and seals the store's secrets anew.

use std::process::ExitCode;

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{plural, print};
use super::{args, entries, names};
use crate::runtime::Resealed;
use crate::vault::KeyRing;

pub(super) async fn key(context: &CommandContext, command: &args::Key) -> CommandResult {
    match command {
        args::Key::New => new(),
        args::Key::Rotate => rotate(context).await,
    }
}

fn new() -> CommandResult {
    let key = KeyRing::new_key();
    let key = key.map_err(|error| CommandFailure::usage("no key").why(error.to_string()))?;
    print(format_args!("{}\n", key.expose()))?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(context: &CommandContext) -> CommandResult {
    let what = "nothing was sealed anew";
    let Some(runtime) = context.runtime_if_there().await? else {
        return Err(
            CommandFailure::usage(what).why(format!("there is no store {}", names::store(context)))
        );
    };
    let resealed = runtime.host.reseal_entries().await;
    let Resealed { anew, sealed } = resealed.map_err(|error| entries::refused(what, error))?;
    print(format_args!(
        "{} of {} sealed anew with the first key\n",
        anew,
        plural(sealed as u64, "sealed entry").replace("entrys", "entries")
    ))?;
    Ok(ExitCode::SUCCESS)
}
