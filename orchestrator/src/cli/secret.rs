//! `secret`: lists, sets and removes secrets.

use std::process::ExitCode;

use serde::Serialize;

use super::context::CommandContext;
use super::exit::CommandResult;
use super::output::{self, Table, tell};
use super::{args, entries};
use crate::entry::EntryKind;

/// A secret, in the form of `--json`.
#[derive(Serialize)]
struct SecretJson {
    name: String,
    /// The places that have it, the winner first.
    places: Vec<String>,
    needed_by: Vec<String>,
}

pub(super) async fn secret(
    context: &CommandContext,
    command: &args::SecretCommand,
) -> CommandResult {
    match command {
        args::SecretCommand::Ls(args) => list(context, args).await,
        args::SecretCommand::Set(args) => {
            let text = entries::read_value(&format!("secret `{}`", args.name))?;
            entries::set(context, EntryKind::Secret, &args.name, &text, args.anyway).await?;
            Ok(ExitCode::SUCCESS)
        }
        args::SecretCommand::Rm(args) => {
            entries::remove(context, EntryKind::Secret, &args.name).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(context: &CommandContext, args: &args::EntryLs) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let (infos, problems) = runtime.host.entries(EntryKind::Secret).await;
    entries::tell_problems(&problems);
    if args.format.json {
        let secrets = infos.iter().map(|info| SecretJson {
            name: info.name.clone(),
            places: info.places.clone(),
            needed_by: info.needed_by.clone(),
        });
        output::json(&secrets.collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if infos.is_empty() {
        tell("no secrets: `secret set NAME` sets one in the store");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["NAME", "FROM", "NEEDED BY"]);
    for info in &infos {
        table.row([
            info.name.clone().into(),
            entries::places_cell(info),
            entries::needed_cell(info),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
