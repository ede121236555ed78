//! `var`: lists, prints, sets and removes variables.

use std::process::ExitCode;

use serde::Serialize;

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, Table, print, tell};
use super::{args, entries};
use crate::entry::EntryKind;
use crate::runtime::EntryInfo;
use crate::secret::Secret;

/// A variable, in the form of `--json`.
#[derive(Serialize)]
struct VariableJson {
    name: String,
    value: Option<String>,
    /// The places that have it, the winner first.
    places: Vec<String>,
    needed_by: Vec<String>,
}

impl VariableJson {
    fn new(info: &EntryInfo) -> Self {
        Self {
            name: info.name.clone(),
            value: info.value().map(str::to_owned),
            places: info.places.clone(),
            needed_by: info.needed_by.clone(),
        }
    }
}

pub(super) async fn var(context: &CommandContext, command: &args::Var) -> CommandResult {
    match command {
        args::Var::Ls(args) => list(context, args).await,
        args::Var::Get(args) => get(context, args).await,
        args::Var::Set(args) => {
            let text = match &args.value {
                Some(value) => Secret::from(value.as_str()),
                None => entries::read_value(&format!("the value of variable `{}`", args.name))?,
            };
            entries::set(context, EntryKind::Variable, &args.name, &text, args.anyway).await?;
            Ok(ExitCode::SUCCESS)
        }
        args::Var::Rm(args) => {
            entries::remove(context, EntryKind::Variable, &args.name).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(context: &CommandContext, args: &args::EntryLs) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let (infos, problems) = runtime.host.entries(EntryKind::Variable).await;
    entries::tell_problems(&problems);
    if args.format.json {
        output::json(&infos.iter().map(VariableJson::new).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if infos.is_empty() {
        tell("no variables: `var set NAME VALUE` sets one in the store");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["NAME", "VALUE", "FROM", "NEEDED BY"]);
    for info in &infos {
        let value = VariableJson::new(info).value.unwrap_or_default();
        table.row([
            info.name.clone().into(),
            output::beginning(&value).into(),
            entries::places_cell(info),
            entries::needed_cell(info),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

async fn get(context: &CommandContext, args: &args::VarGet) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let info = runtime.host.entry(EntryKind::Variable, &args.name).await;
    let shown = VariableJson::new(&info);
    if args.format.json && shown.value.is_some() {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    match shown.value {
        Some(value) => {
            print(format_args!("{value}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        None if !shown.places.is_empty() => {
            let why = format!(
                "it is the file {}, which may be a secret: no task here takes it as a variable",
                shown.places[0]
            );
            Err(CommandFailure::usage(format!("`{}` is not printed", args.name)).why(why))
        }
        None => Err(
            CommandFailure::usage(format!("no variable `{}`", args.name))
                .hint("`var ls` lists the variables"),
        ),
    }
}
