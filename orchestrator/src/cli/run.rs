//! `run`: runs a flow now.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Done, FAILED, Failure};
use super::output::{self, is_so, of_run, tell};
use super::parameters::Typed;
use super::progress::{self, Following, named};
use super::{args, dates};
use crate::capture::quietly;
use crate::error::Error;
use crate::flow::{FlowCall, Request};
use crate::id::RunId;
use crate::log::LogLevel;
use crate::runtime::{Accepted, Awaited, Runtime, wait};
use crate::state::RunState;
use crate::store::{Kept, RunRecord};
use crate::value::to_json;

/// How long a run may wait until people are told what for.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, args: &args::Run) -> Done {
    let flow = context.flow(&args.flow)?;
    let call = flow.call(&Typed::from(&args.parameters))?;
    let date = args
        .date
        .as_deref()
        .map(|date| dates::of_run(&flow.schedules(), date))
        .transpose()?;
    let request = Request {
        logical_date: date.map(|date| date.logical_date),
        interval: date.and_then(|date| date.interval),
        key: args.key.clone(),
        refresh_cache: args.refresh_cache,
        ..Request::default()
    };
    let runtime = context.runtime().await?;
    if args.detach {
        return detach(&runtime, &call, &request).await;
    }
    progress::with_logs(LogLevel::Trace);
    let graph = quietly(|| runtime.0.graph(&call, &request));
    let tasks = graph.map_or(0, |graph| graph.nodes().len());
    let following = Following::new(runtime.events(), tasks);
    let ended = runtime
        .until_signal(to_its_end(&runtime, &call, &request, following.bar()))
        .await;
    match ended {
        Ok(ended) => {
            let (record, was_here) = ended?;
            if was_here {
                following.end().await;
            } else {
                drop(following);
            }
            report(&record, runtime.0.store.is_durable())
        }
        Err(stopped) => {
            drop(following);
            tell(&stopped);
            Ok(stopped.exit_code())
        }
    }
}

async fn detach(runtime: &Runtime, call: &Arc<FlowCall>, request: &Request) -> Done {
    if !runtime.0.store.is_durable() {
        return Err(
            Failure::usage("a run in a store in memory cannot be left to another process")
                .why("the store ends with this one")
                .hint("leave `--detach` out, or name a store: `--store sqlite:PATH`"),
        );
    }
    let run = runtime.0.submit(call, request).await?;
    output::print(format_args!("{run}\n"))?;
    match runtime.find_run(run).await? {
        Some(record) if record.state().is_final() => has_the_key(&record),
        _ => tell("it is left to whoever serves: `serve`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the run, or finds the one that has its key, and waits for its end. Says whether this process executed it.
async fn to_its_end(
    runtime: &Runtime,
    call: &Arc<FlowCall>,
    request: &Request,
    bar: Option<&ProgressBar>,
) -> Result<(RunRecord, bool), Error> {
    let taken = match runtime.0.accept(call, request).await? {
        Accepted::Started(started) => {
            let run = started.id;
            let mut end = std::pin::pin!(started.end());
            return match tokio::time::timeout(PATIENCE, &mut end).await {
                Ok(record) => Ok((record?, true)),
                Err(_) => {
                    say_if_it_waits(runtime, run, bar).await?;
                    Ok((end.await?, true))
                }
            };
        }
        Accepted::Taken(record) => record,
    };
    request.check_is_that_of(call, &taken)?;
    has_the_key(&taken);
    match wait(
        &runtime.0,
        call.definition,
        taken,
        &CancellationToken::new(),
    )
    .await?
    {
        Awaited::Here(finished) => Ok((finished.record, true)),
        Awaited::Elsewhere(record) => Ok((record, false)),
    }
}

/// Says why nothing happens, where the run waits for its turn.
async fn say_if_it_waits(
    runtime: &Runtime,
    run: RunId,
    bar: Option<&ProgressBar>,
) -> Result<(), Error> {
    if runtime
        .find_run(run)
        .await?
        .is_some_and(|record| record.state() == RunState::Pending)
    {
        progress::tell_above(bar, runtime.why(run, None).await?.to_string().trim_end());
    }
    Ok(())
}

fn has_the_key(record: &RunRecord) {
    tell(format_args!(
        "{} has the key, and {}",
        named(record.id(), record.flow()),
        is_so(record.state())
    ));
}

/// Prints what a run returned, and says how it ended.
pub(super) fn report(record: &RunRecord, is_kept: bool) -> Done {
    let (state, style) = (record.state(), of_run(record.state()));
    let took = record
        .duration()
        .map(|took| format!(" after {}", output::duration(took)))
        .unwrap_or_default();
    let run = named(record.id(), record.flow());
    tell(format_args!("{run}: {style}{state}{style:#}{took}"));
    if let Some(json) = json(record)? {
        output::json(&json)?;
    }
    if state == RunState::Success {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(FAILED, format!("{run} {}", is_so(state)));
    let why = record
        .error()
        .map_or_else(|| "its end was asked for".to_owned(), ToString::to_string);
    let hint = is_kept.then(|| {
        format!(
            "`why {}` says more, and `runs show {}` shows its tasks",
            record.id(),
            record.id()
        )
    });
    Err(failure.why(why).or_hint(hint))
}

/// What a run returned, as JSON.
pub(super) fn json(record: &RunRecord) -> Result<Option<serde_json::Value>, Failure> {
    let bytes = match record.output() {
        None => return Ok(None),
        Some(Kept::Live(value)) => value.encode().and_then(|bytes| to_json(&bytes)),
        Some(Kept::Encoded(encoded)) => to_json(&encoded.0),
    };
    let unreadable = |error: crate::value::EncodingError| {
        Failure::new(FAILED, "what the flow returned cannot be shown as JSON")
            .why(error.to_string())
    };
    bytes.map(Some).map_err(unreadable)
}
