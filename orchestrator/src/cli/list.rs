//! `runs`: lists runs.

use std::process::ExitCode;

use chrono_tz::Tz;

use super::args::{self, KindFilter, StateFilter};
use super::context::{CommandContext, ProgramDeployment};
use super::exit::CommandResult;
use super::output::{self, RED, Table, TableCell, instant, tell};
use super::{dates, names};
use crate::journal::{RunFilter, RunSummary};
use crate::schedule::Schedule;
use crate::state::{RunKind, RunState};

pub(super) async fn list(context: &CommandContext, args: &args::RunsList) -> CommandResult {
    let limit = args.limit.get();
    // one more than shown tells whether there are more
    let mut filter = RunFilter::new().limit(limit.saturating_add(1));
    let runtime = context.runtime_if_there().await?;
    if let Some(flow) = &args.flow {
        names::flow_with_runs(runtime.as_ref(), flow).await?;
        filter = filter.flow(flow);
    }
    if let Some(deployment) = &args.deployment {
        filter = filter.deployment(deployment);
    }
    filter = args
        .state
        .iter()
        .fold(filter, |filter, state| filter.state((*state).into()));
    filter = args
        .kind
        .iter()
        .fold(filter, |filter, kind| filter.kind((*kind).into()));
    let bound = |typed: &str, to_the_end: bool| match args
        .flow
        .as_deref()
        .map(|flow| zone(context, flow, args.deployment.as_deref()))
    {
        Some(zone) => dates::bound_in(zone, typed, to_the_end),
        None => dates::bound(typed, to_the_end),
    };
    if let Some(since) = &args.since {
        filter = filter.since(bound(since, false)?);
    }
    if let Some(until) = &args.until {
        filter = filter.until(bound(until, true)?);
    }
    let mut runs = match &runtime {
        Some(runtime) => runtime.find_runs(&filter).await?,
        None => Vec::new(),
    };
    let has_more = runs.len() > limit;
    runs.truncate(limit);
    if args.format.json {
        output::json(&runs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        tell(format_args!(
            "no runs found{}",
            names::looked_in(context, runtime.is_some())
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let now = context.bare().now();
    let has_names = runs.iter().any(|run| run.deployment.is_some());
    let mut heads = vec![
        "RUN", "FLOW", "KIND", "STATE", "AGE", "FOR", "TOOK", "ERROR",
    ];
    if has_names {
        heads.insert(2, "DEPLOYMENT");
    }
    let mut table = Table::new(heads);
    for (run, id) in runs.iter().zip(output::ends(runs.iter().map(|run| run.id))) {
        let deployment = run.deployment.as_deref().unwrap_or_default();
        let deployment = has_names.then(|| deployment.into());
        let first = [id.into(), run.flow.as_str().into()].into_iter();
        let rest = [
            run.kind.as_str().into(),
            match run.unreadable {
                Some(_) => TableCell::styled("unreadable".to_owned(), RED),
                None => run.state.into(),
            },
            output::age(now, run.created_at).into(),
            instant(run.logical_date).into(),
            took(run).into(),
            run.unreadable
                .as_deref()
                .or(run.error.as_deref())
                .map(output::first_line)
                .unwrap_or_default()
                .into(),
        ];
        table.row(first.chain(deployment).chain(rest));
    }
    table.print()?;
    if has_more {
        tell(format_args!("the latest {limit}; `--limit` shows more"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the time zone of a flow's dates, those of the named deployment if the program serves it,
/// or UTC if the program no longer has the flow.
fn zone(context: &CommandContext, flow: &str, deployment: Option<&str>) -> Tz {
    let deployments = context
        .flow(flow)
        .map(|flow| flow.deployments())
        .unwrap_or_default();
    let is_meant = |other: &&ProgramDeployment| other.key.name.as_deref() == deployment;
    let meant = deployments.iter().find(is_meant);
    let schedules = meant.or(deployments.first()).map(|meant| &meant.schedules);
    schedules
        .and_then(|schedules| schedules.first())
        .map_or(Tz::UTC, Schedule::zone)
}

fn took(run: &RunSummary) -> String {
    let took = run
        .finished_at
        .zip(run.started_at)
        .and_then(|(end, start)| (end - start).to_std().ok());
    took.map(output::duration).unwrap_or_default()
}

impl From<StateFilter> for RunState {
    fn from(state: StateFilter) -> Self {
        match state {
            StateFilter::Pending => Self::Pending,
            StateFilter::Running => Self::Running,
            StateFilter::Success => Self::Success,
            StateFilter::Failed => Self::Failed,
            StateFilter::Cancelled => Self::Cancelled,
        }
    }
}

impl From<KindFilter> for RunKind {
    fn from(kind: KindFilter) -> Self {
        match kind {
            KindFilter::Manual => Self::Manual,
            KindFilter::Scheduled => Self::Scheduled,
            KindFilter::Backfill => Self::Backfill,
        }
    }
}
