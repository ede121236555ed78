//! `db`: checks and prunes the store.

use std::process::ExitCode;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::names;
use super::output::{self, GREEN, RED, Table, plural, print};
use crate::error::StoreError;
use crate::store::{self, Pruned, StoreCheck};

pub(super) async fn db(context: &CommandContext, command: &args::Db) -> CommandResult {
    match command {
        args::Db::Check(args) => check(context, args).await,
        args::Db::Prune(args) => prune(context, args).await,
    }
}

/// The contents of the store and its problems, including those that prevent opening it.
async fn look(context: &CommandContext) -> Result<StoreCheck, CommandFailure> {
    match context.runtime_if_there().await {
        Ok(Some(runtime)) => Ok(runtime.check_store().await?),
        Ok(None) => {
            let what = format!("there is no store {}", names::store(context));
            Err(CommandFailure::usage(what).hint(names::OTHER_STORE))
        }
        Err(failure) => {
            let Some(url) = context.url()? else {
                return Err(failure);
            };
            match store::open(&url, None, context.bare().now().into()) {
                Err(StoreError::Damaged { place, problem }) => {
                    Ok(StoreCheck::damaged(place, problem))
                }
                _ => Err(failure),
            }
        }
    }
}

async fn check(context: &CommandContext, args: &args::DbCheck) -> CommandResult {
    let found = look(context).await?;
    let is_sound = found.problems.is_empty() && found.unreadable_runs.is_empty();
    let code = if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    };
    if args.format.json {
        output::json(&found)?;
        return Ok(code);
    }
    let mut table = Table::bare(0);
    table.row(["store".into(), found.store.clone().into()]);
    if let Some(schema) = found.schema {
        table.row(["schema".into(), schema.to_string().into()]);
    }
    if let Some(size) = found.size {
        table.row(["size".into(), output::bytes(size).into()]);
    }
    for (what, count) in &found.counts {
        table.row([what.replace('_', " ").into(), count.to_string().into()]);
    }
    table.print()?;
    for problem in found.problems.iter().chain(&found.unreadable_runs) {
        print(format_args!("{RED}{problem}{RED:#}\n"))?;
    }
    match (found.problems.is_empty(), found.schema) {
        (true, _) if !is_sound => print("runs cannot be read; the rest of the store is sound\n")?,
        (false, _) => {
            print("it is damaged: stop all processes that use it, and restore it from a copy\n")?
        }
        (true, Some(_)) => print(format_args!("{GREEN}it is sound{GREEN:#}\n"))?,
        (true, None) => print("it is in memory: there is no file to check\n")?,
    }
    Ok(code)
}

async fn prune(context: &CommandContext, args: &args::DbPrune) -> CommandResult {
    let Some(runtime) = context.runtime_if_there().await? else {
        print(format_args!(
            "nothing was pruned{}\n",
            names::looked_in(context, false)
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    let pruned = match args.older_than {
        Some(age) => runtime.prune_older(age).await?,
        None => runtime.prune().await?,
    };
    print(format_args!("{}\n", in_words(pruned)))?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(pruned: Pruned) -> String {
    let its = if pruned.runs == 1 { "its" } else { "their" };
    let runs = format!("{} lost {its} tasks", plural(pruned.runs, "run"));
    let cached = format!("{} deleted", plural(pruned.cached, "cached result"));
    match (pruned.runs, pruned.cached) {
        (0, 0) => "nothing was old enough to be pruned".to_owned(),
        (_, 0) => runs,
        (0, _) => cached,
        (_, _) => format!("{runs}; {cached}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruned_counts_are_put_into_words() {
        for (runs, cached, expected) in [
            (0, 0, "nothing was old enough to be pruned"),
            (1, 0, "1 run lost its tasks"),
            (0, 1, "1 cached result deleted"),
            (
                2_000,
                2,
                "2,000 runs lost their tasks; 2 cached results deleted",
            ),
        ] {
            let mut pruned = Pruned::default();
            (pruned.runs, pruned.cached) = (runs, cached);
            assert_eq!(in_words(pruned), expected, "{runs} runs, {cached} results");
        }
    }
}
