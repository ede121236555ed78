//! `db`: the store as a whole.

use std::process::ExitCode;

use super::args;
use super::context::Context;
use super::exit::{Done, FAILED};
use super::output::{self, GREEN, RED, Table, print};

pub(super) async fn db(context: &Context, command: &args::Db) -> Done {
    match command {
        args::Db::Check(args) => check(context, args).await,
        args::Db::Prune => prune(context).await,
    }
}

async fn check(context: &Context, args: &args::DbCheck) -> Done {
    let found = context.runtime().await?.check_store().await?;
    let code = if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
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
        (true, None) => print("it is in memory: there is nothing on a disk that could be damaged\n")?,
    }
    Ok(code)
}

async fn prune(context: &Context) -> Done {
    let pruned = context.runtime().await?.prune().await?;
    print(format_args!("{} run(s) lost their tasks, {} cached result(s) went\n", pruned.runs, pruned.cached))?;
    Ok(ExitCode::SUCCESS)
}
