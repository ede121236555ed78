//! `run`: runs a flow now.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::output::{self, halt, is_so, of_run, tell};
use super::parameters::ParameterArguments;
use super::progress::{self, RunFollower, named};
use super::{args, dates, selection};
use crate::capture::quietly;
use crate::error::Error;
use crate::flow::{FlowCall, Request, registry};
use crate::id::RunId;
use crate::journal::{EncodedResult, ResultValue, RunRecord};
use crate::log::LogLevel;
use crate::runtime::{Acceptance, JoinOutcome, Runtime, wait};
use crate::state::RunState;
use crate::value::of_bytes;

/// The time after which a waiting run prints what it waits for.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &CommandContext, args: &args::Run) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let store = context.runtime_if_there().await?;
    let records = selection::records(store.as_ref(), &args.flow).await?;
    let name = args.deployment.as_deref();
    let deployment = selection::select(&flow, records, name, context.bare().now())?;
    let call = deployment.call(&ParameterArguments::from(&args.parameters))?;
    let schedules = deployment.schedules()?;
    let date = args
        .date
        .as_deref()
        .map(|date| dates::of_run(&schedules, date))
        .transpose()?;
    let request = Request {
        deployment: name.map(Arc::from),
        logical_date: date.map(|date| date.logical_date),
        interval: date.and_then(|date| date.interval),
        key: args.key.clone(),
        refresh_cache: args.refresh_cache,
        ..Request::default()
    };
    let runtime = match store {
        Some(runtime) => runtime,
        None => context.runtime().await?,
    };
    if args.detach {
        return detach(&runtime, &call, &request).await;
    }
    progress::with_logs(LogLevel::Trace);
    let graph = quietly(|| runtime.host.graph(&call, &request));
    let tasks = graph.map_or(0, |graph| graph.nodes().len());
    let mut following = None;
    let ended = runtime
        .until_halt(async {
            // created only now, when signals are handled: a signal before would end the process and
            // leave the bar behind
            following = Some(RunFollower::new(runtime.events(), tasks));
            to_its_end(&runtime, &call, &request).await
        })
        .await;
    match ended {
        Ok(ended) => {
            let (record, was_here) = ended?;
            if let Some(following) = following.filter(|_| was_here) {
                following.end().await;
            }
            report(&record, runtime.host.services.store.is_durable())
        }
        Err(halted) => {
            drop(following);
            Ok(halt(halted))
        }
    }
}

async fn detach(runtime: &Runtime, call: &Arc<FlowCall>, request: &Request) -> CommandResult {
    if !runtime.host.services.store.is_durable() {
        return Err(CommandFailure::usage(
            "a run in an in-memory store cannot be left to another process",
        )
        .why("the store ends with this process")
        .hint("leave `--detach` out, or name a store: `--store sqlite:PATH`"));
    }
    let run = runtime.host.submit(call, request).await?;
    output::print(format_args!("{run}\n"))?;
    match runtime.find_run(run).await? {
        Some(record) if record.state().is_final() => has_the_key(&record),
        _ => tell("it is left to a serving process: `serve`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates the run, or finds the one with its key, and waits for it to finish. Also returns whether
/// this process executed it.
async fn to_its_end(
    runtime: &Runtime,
    call: &Arc<FlowCall>,
    request: &Request,
) -> Result<(RunRecord, bool), Error> {
    let taken = match runtime.host.accept(call, request).await? {
        Acceptance::Started(started) => {
            let run = started.id;
            let mut end = std::pin::pin!(started.end());
            return match tokio::time::timeout(PATIENCE, &mut end).await {
                Ok(record) => Ok((record?, true)),
                Err(_) => {
                    say_if_it_waits(runtime, run).await?;
                    Ok((end.await?, true))
                }
            };
        }
        Acceptance::Taken(record) => record,
    };
    request.check_is_that_of(call, &taken)?;
    has_the_key(&taken);
    match wait(
        &runtime.host,
        call.definition,
        taken,
        &CancellationToken::new(),
    )
    .await?
    {
        JoinOutcome::Here(finished) => Ok((finished.record, true)),
        JoinOutcome::Elsewhere(record) => Ok((record, false)),
    }
}

/// Prints the reason if the run waits for a slot.
async fn say_if_it_waits(runtime: &Runtime, run: RunId) -> Result<(), Error> {
    if runtime
        .find_run(run)
        .await?
        .is_some_and(|record| record.state() == RunState::Pending)
    {
        progress::tell_above(runtime.why(run, None).await?.to_string().trim_end());
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

/// Prints the result of a run and its final state.
pub(super) fn report(record: &RunRecord, is_kept: bool) -> CommandResult {
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
    let failure = CommandFailure::new(FAILED, format!("{run} {}", is_so(state)));
    let why = record.error().map_or_else(
        || "its cancellation was requested".to_owned(),
        ToString::to_string,
    );
    let hint = is_kept.then(|| {
        format!(
            "`why {}` explains it, and `runs show {}` shows its tasks",
            record.id(),
            record.id()
        )
    });
    Err(failure.why(why).or_hint(hint))
}

/// Returns the result of a run as the JSON of its type. If this program does not know the type, the
/// JSON is derived from the encoded bytes.
pub(super) fn json(record: &RunRecord) -> Result<Option<serde_json::Value>, CommandFailure> {
    let encoded;
    let bytes = match record.output() {
        None => return Ok(None),
        Some(ResultValue::Encoded(EncodedResult(bytes))) => Ok(bytes.as_slice()),
        Some(ResultValue::Live(value)) => match value.encode() {
            Ok(bytes) => {
                encoded = bytes;
                Ok(encoded.as_slice())
            }
            Err(error) => Err(error),
        },
    };
    let unreadable = |error: crate::value::EncodingError| {
        CommandFailure::new(FAILED, "the flow's output cannot be shown as JSON")
            .why(error.to_string())
    };
    let bytes = bytes.map_err(unreadable)?;
    let typed = registry::find(record.flow()).and_then(|flow| (flow.output?)(bytes).ok());
    typed
        .map_or_else(|| of_bytes(bytes), Ok)
        .map(Some)
        .map_err(unreadable)
}
