//! `why`: the recorded reasons, as a chain.

use std::process::ExitCode;

use super::args;
use super::context::Context;
use super::exit::Done;
use super::names;
use super::output::{self, print};
use crate::error::Error;

pub(super) async fn why(context: &Context, args: &args::Why) -> Done {
    let runtime = context.runtime().await?;
    let record = names::record(&runtime, &args.run.run).await?;
    let why = match runtime.why(record.id(), args.task.as_deref()).await {
        Err(Error::UnknownTask { task, .. }) => return Err(names::no_task(&record, &task)),
        why => why?,
    };
    if args.format.json {
        output::json(&why)?;
    } else {
        print(why)?;
    }
    Ok(ExitCode::SUCCESS)
}
