use std::collections::{HashMap, HashSet};
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::asked::AskedBackfill;
use super::{Backfill, Reprocess};
use crate::clock::kept;
use crate::error::Error;
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
use crate::schedule::ScheduleUnion;
use crate::state::{RunKind, RunState};

/// The maximum number of ticks in a backfill: all of them are planned before the first one runs.
const MOST_TICKS: usize = 1_000_000;

/// The action of a backfill for a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TickAction {
    /// Creates the run.
    Create,
    /// Resumes the run, which no living process executes.
    Resume,
    /// Re-runs the finished run.
    Rerun,
    /// Does nothing.
    Skip,
    /// Does nothing: the tick has another run, with another interval or other parameters.
    Different,
}

/// A tick of a backfill.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BackfillTick {
    /// The instant of the tick.
    pub logical_date: DateTime<Utc>,
    /// The action for the tick.
    pub action: TickAction,
    /// The reason for the action.
    pub reason: &'static str,
    /// What differs, if the tick has another run.
    pub difference: Option<String>,
    /// The run of the tick, if it has one.
    pub run: Option<RunId>,
    /// The state of that run.
    pub state: Option<RunState>,
    /// A manual run for the same date that succeeded, if the tick has no run of its own.
    pub manual: Option<RunId>,
}

/// The plan of a backfill. Its `Display` is a table.
#[derive(Clone, Debug)]
pub struct BackfillPlan {
    pub(super) flow: &'static str,
    pub(super) schedules: ScheduleUnion,
    pub(super) ticks: Vec<BackfillTick>,
}

impl Backfill {
    pub(super) async fn plan(&self, asked: &AskedBackfill) -> Result<Vec<BackfillTick>, Error> {
        let AskedBackfill {
            host,
            call,
            schedules,
            ..
        } = asked;
        let definition = call.definition;
        let (from, to) = (self.dates.start(), self.dates.end());
        let refused = |problem: String| {
            Error::Options(format!("backfill of `{}`: {problem}", definition.name))
        };
        let mut ticks: Vec<DateTime<Utc>> = schedules
            .fires_between(self.dates.clone())
            .map(kept)
            .take(MOST_TICKS + 1)
            .collect();
        if ticks.len() > MOST_TICKS {
            return Err(refused(format!(
                "expected at most {MOST_TICKS} ticks, got more of `{schedules}` from {from} to {to}"
            )));
        }
        if let Some((_, start)) = schedules.start().filter(|(day, _)| day > from) {
            return Err(refused(format!(
                "expected dates from the start of the schedule on, which is {}, got {from}",
                start.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            )));
        }
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
            return Err(refused(format!(
                "`{schedules}` has no tick from {from} to {to}"
            )));
        };
        let filter = RunFilter::new()
            .flow(definition.name)
            .of_deployment(asked.deployment.as_deref())
            .since(*first)
            .until(*last);
        let of_ticks = filter
            .clone()
            .kind(RunKind::Scheduled)
            .kind(RunKind::Backfill);
        let runs = host.services.store.find_runs(&of_ticks).await?;
        let runs: HashMap<DateTime<Utc>, RunSummary> = runs
            .into_iter()
            .map(|run| (run.logical_date, run))
            .collect();
        let manual = filter.kind(RunKind::Manual).state(RunState::Success);
        let manual = host.services.store.find_runs(&manual).await?.into_iter();
        let manual: HashMap<DateTime<Utc>, RunId> = manual
            .filter(|run| run.unreadable.is_none() && asked.difference(run).is_none())
            .map(|run| (run.logical_date, run.id))
            .collect();
        let unfinished = runs.values().any(|run| !run.state.is_final());
        let abandoned = if unfinished {
            host.services.store.find_abandoned().await?
        } else {
            Vec::new()
        };
        let abandoned: HashSet<RunId> = abandoned.into_iter().map(|run| run.id).collect();
        if self.newest_first {
            ticks.reverse();
        }
        let now = host.services.clock.now();
        let mut planned = Vec::with_capacity(ticks.len());
        for logical_date in ticks {
            let run = runs.get(&logical_date);
            let manual = manual.get(&logical_date).copied().filter(|_| run.is_none());
            let difference = run.and_then(|run| asked.difference(run));
            let (action, reason) = match run {
                None if logical_date > now => (TickAction::Skip, "it is not due yet"),
                None if manual.is_some() && self.adopt_manual => {
                    (TickAction::Skip, "a manual run succeeded")
                }
                None => (TickAction::Create, "it has no run"),
                Some(run) => self.of_run(run, abandoned.contains(&run.id)),
            };
            let (action, reason) = match (action, run, &difference) {
                (TickAction::Rerun, Some(run), Some(difference)) => {
                    return Err(asked.cannot_rerun(run, difference));
                }
                (_, _, Some(_)) => (TickAction::Different, "it has another run"),
                (..) => (action, reason),
            };
            planned.push(BackfillTick {
                logical_date,
                action,
                reason,
                difference,
                run: run.map(|run| run.id),
                state: run.map(|run| run.state),
                manual,
            });
        }
        Ok(planned)
    }

    /// Returns the action for a tick that has a run, and the reason for it.
    fn of_run(&self, run: &RunSummary, is_abandoned: bool) -> (TickAction, &'static str) {
        match run.state {
            _ if run.unreadable.is_some() => (TickAction::Skip, "its run cannot be read"),
            RunState::Pending | RunState::Running if is_abandoned => (
                TickAction::Resume,
                "its run was left by a process that ended",
            ),
            state => self.of_state(state),
        }
    }

    /// Returns the action for a tick whose run is in the given state, and the reason for it.
    fn of_state(&self, state: RunState) -> (TickAction, &'static str) {
        match (state, self.reprocess) {
            (RunState::Pending | RunState::Running, _) => (TickAction::Skip, "its run is active"),
            (_, Reprocess::All) => (TickAction::Rerun, "all runs are re-run"),
            (RunState::Success, _) => (TickAction::Skip, "its run succeeded"),
            (RunState::Failed, Reprocess::Failed) => (TickAction::Rerun, "its run failed"),
            (RunState::Cancelled, Reprocess::Failed) => {
                (TickAction::Rerun, "its run was cancelled")
            }
            (RunState::Failed, Reprocess::None) => (TickAction::Skip, "it has a run, which failed"),
            (RunState::Cancelled, Reprocess::None) => {
                (TickAction::Skip, "it has a run, which was cancelled")
            }
        }
    }
}

impl BackfillPlan {
    /// Returns the ticks in the order in which they are processed.
    pub fn ticks(&self) -> &[BackfillTick] {
        &self.ticks
    }
}

impl fmt::Display for BackfillPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acted = self
            .ticks
            .iter()
            .filter(|tick| tick.action.is_taken())
            .count();
        let (flow, schedules, ticks) = (self.flow, &self.schedules, self.ticks.len());
        writeln!(
            f,
            "backfill of {flow} by {schedules}: {acted} of {ticks} ticks to process"
        )?;
        writeln!(
            f,
            "{:<25} {:<9} {:<42} run",
            "logical date", "action", "reason"
        )?;
        for tick in &self.ticks {
            let date = tick.logical_date.with_timezone(&self.schedules.zone());
            let date = date.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            write!(f, "{date:<25} {:<9} ", tick.action)?;
            match (tick.run, tick.manual) {
                (Some(run), _) => write!(f, "{:<42} {run}", tick.reason)?,
                (None, Some(run)) => write!(f, "{:<42} made by hand: {run}", tick.reason)?,
                (None, None) => write!(f, "{}", tick.reason)?,
            }
            match &tick.difference {
                Some(difference) => writeln!(f, ": {difference}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl TickAction {
    /// Returns the name of the action, such as `create`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resume => "resume",
            Self::Rerun => "rerun",
            Self::Skip => "skip",
            Self::Different => "different",
        }
    }

    /// Returns `true` if a run is created, resumed or re-run.
    pub(super) fn is_taken(self) -> bool {
        match self {
            Self::Create | Self::Resume | Self::Rerun => true,
            Self::Skip | Self::Different => false,
        }
    }
}

impl fmt::Display for TickAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
