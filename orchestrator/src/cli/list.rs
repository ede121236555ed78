//! `runs`: lists runs.

use std::process::ExitCode;

use super::args::{self, Kind, State};
use super::context::Context;
use super::exit::Done;
use super::output::{self, Table, instant, tell};
use super::{dates, names};
use crate::state::{RunKind, RunState};
use crate::store::{RunFilter, RunSummary};

pub(super) async fn list(context: &Context, args: &args::RunsList) -> Done {
    let mut filter = RunFilter::new().limit(args.limit);
    let runtime = context.runtime().await?;
    if let Some(flow) = &args.flow {
        // a flow that is gone has its runs still
        if runtime.find_runs(&RunFilter::new().flow(flow).limit(1)).await?.is_empty() {
            names::flow(flow)?;
        }
        filter = filter.flow(flow);
    }
    filter = args.state.iter().fold(filter, |filter, state| filter.state((*state).into()));
    filter = args.kind.iter().fold(filter, |filter, kind| filter.kind((*kind).into()));
    if let Some(since) = &args.since {
        filter = filter.since(dates::bound(since, false)?);
    }
    if let Some(until) = &args.until {
        filter = filter.until(dates::bound(until, true)?);
    }
    let runs = runtime.find_runs(&filter).await?;
    if args.format.json {
        output::json(&runs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        tell("no runs");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["RUN", "FLOW", "KIND", "STATE", "FOR", "TOOK", "ERROR"]);
    for run in &runs {
        table.row([
            run.id.to_string().into(),
            run.flow.as_str().into(),
            run.kind.as_str().into(),
            run.state.into(),
            instant(run.logical_date).into(),
            took(run).into(),
            run.error.as_deref().map(output::first_line).unwrap_or_default().into(),
        ]);
    }
    table.print()?;
    if runs.len() == args.limit {
        tell(format_args!("the latest {}; `--limit` shows more", args.limit));
    }
    Ok(ExitCode::SUCCESS)
}

fn took(run: &RunSummary) -> String {
    let took = run.finished_at.zip(run.started_at).and_then(|(end, start)| (end - start).to_std().ok());
    took.map(output::duration).unwrap_or_default()
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Success => Self::Success,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Kind> for RunKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Manual => Self::Manual,
            Kind::Scheduled => Self::Scheduled,
            Kind::Backfill => Self::Backfill,
        }
    }
}
