//! `db`: the store as a whole.

use std::process::ExitCode;

use super::args;
use super::context::Context;
use super::exit::{Done, FAILED, Failure};
use super::names;
use super::output::{self, GREEN, RED, Table, plural, print};
use crate::error::StoreError;
use crate::store::{self, Pruned, StoreCheck};

pub(super) async fn db(context: &Context, command: &args::Db) -> Done {
    match command {
        args::Db::Check(args) => check(context, args).await,
        args::Db::Prune(args) => prune(context, args).await,
    }
}

/// What there is, and what is wrong with it: also where that is so much that it cannot be opened.
async fn look(context: &Context) -> Result<StoreCheck, Failure> {
    match context.runtime_if_there().await {
        Ok(Some(runtime)) => Ok(runtime.check_store().await?),
        Ok(None) => {
            let what = format!("there is no store {}", names::store(context));
            Err(Failure::usage(what).hint(names::OTHER_STORE))
        }
        Err(failure) => {
            let Some(url) = context.url()? else {
                return Err(failure);
            };
            match store::open(&url, None, context.bare().now().timestamp_micros()) {
                Err(StoreError::Damaged { path, problem }) => {
                    Ok(StoreCheck::damaged(&path, problem))
                }
                _ => Err(failure),
            }
        }
    }
}

async fn check(context: &Context, args: &args::DbCheck) -> Done {
    let found = look(context).await?;
    let code = if found.problems.is_empty() {
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
    for problem in &found.problems {
        print(format_args!("{RED}{problem}{RED:#}\n"))?;
    }
    match (found.problems.is_empty(), found.schema) {
        (false, _) => print("it is damaged: stop what uses it, and restore it from a copy\n")?,
        (true, Some(_)) => print(format_args!("{GREEN}it is sound{GREEN:#}\n"))?,
        (true, None) => {
            print("it is in memory: there is nothing on a disk that could be damaged\n")?
        }
    }
    Ok(code)
}

async fn prune(context: &Context, args: &args::DbPrune) -> Done {
    let pruned = match context.runtime_if_there().await? {
        Some(runtime) => match args.older_than {
            Some(age) => runtime.prune_older(age).await?,
            None => runtime.prune().await?,
        },
        None => Pruned::default(),
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
    fn what_was_pruned_is_said_in_words() {
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
            assert_eq!(in_words(pruned), expected);
        }
    }
}
