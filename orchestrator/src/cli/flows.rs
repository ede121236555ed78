//! `flows`: lists the flows.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::args;
use super::context::CommandContext;
use super::dates::{local, zone_of};
use super::exit::CommandResult;
use super::output::{self, Table, TableCell, YELLOW, instant, tell};
use super::selection::{self, UpcomingDeployment};
use crate::id::RunId;
use crate::journal::RunFilter;
use crate::state::RunState;

/// A flow, in the form of `--json`.
#[derive(Serialize)]
struct FlowEntryJson {
    name: &'static str,
    description: &'static str,
    tags: &'static [&'static str],
    schedules: Vec<String>,
    /// The schedules with the names of their deployments, for the text form.
    #[serde(skip)]
    shown: String,
    paused: bool,
    next: Option<DateTime<Utc>>,
    /// The next tick in the schedule's time zone, for the text form.
    #[serde(skip)]
    local: String,
    last_run: Option<LastRunJson>,
    file: &'static str,
    line: u32,
}

#[derive(Serialize)]
struct LastRunJson {
    id: RunId,
    state: RunState,
    logical_date: DateTime<Utc>,
}

pub(super) async fn flows(context: &CommandContext, args: &args::Flows) -> CommandResult {
    let store = context.runtime_if_there().await?;
    let now = context.bare().now();
    let paused = match &store {
        Some(runtime) => runtime.paused().await?,
        None => Vec::new(),
    };
    let records = match &store {
        Some(runtime) => runtime.host.deployment_records(None).await?,
        None => Vec::new(),
    };
    let mut listed = Vec::new();
    for flow in context.flows() {
        let definition = flow.definition;
        let last_run = match &store {
            Some(runtime) => runtime
                .find_runs(&RunFilter::new().flow(definition.name).limit(1))
                .await?
                .pop(),
            None => None,
        };
        let deployments = selection::upcoming(&flow, &records, now);
        let next = deployments
            .iter()
            .map(UpcomingDeployment::union)
            .filter_map(|union| Some((union.next(now)?, union)))
            .min_by_key(|next| next.0);
        let schedules = deployments.iter().flat_map(|deployment| {
            let schedules = deployment.schedules.iter().flatten();
            schedules.map(|schedule| (&deployment.key, schedule.to_string()))
        });
        let (shown, schedules): (Vec<String>, Vec<String>) = schedules
            .map(|(key, schedule)| {
                (
                    selection::with_name(key.name.as_deref(), &schedule),
                    schedule,
                )
            })
            .unzip();
        listed.push(FlowEntryJson {
            name: definition.name,
            description: definition.description,
            tags: definition.tags,
            paused: paused.iter().any(|(flow, _)| flow == definition.name),
            next: next.as_ref().map(|(at, _)| *at),
            local: next
                .map(|(at, union)| local(at, zone_of(&union, at)))
                .unwrap_or_default(),
            schedules,
            shown: shown.join("; "),
            last_run: last_run.map(|run| LastRunJson {
                id: run.id,
                state: run.state,
                logical_date: run.logical_date,
            }),
            file: definition.file,
            line: definition.line,
        });
    }
    if args.format.json {
        output::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        tell(
            "no flows in this program; those of a library crate are linked if `main.rs` mentions it: `use my_flows as _;`",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["FLOW", "SCHEDULE", "STATE", "NEXT", "LAST RUN", "FOR"]);
    for flow in listed {
        let state = if flow.paused {
            TableCell::styled("paused", YELLOW)
        } else {
            "".into()
        };
        let (last, date) = match flow.last_run {
            Some(run) => (TableCell::from(run.state), instant(run.logical_date)),
            None => ("".into(), String::new()),
        };
        table.row([
            flow.name.into(),
            flow.shown.into(),
            state,
            flow.local.into(),
            last,
            date.into(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
