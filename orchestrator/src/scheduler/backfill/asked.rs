use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Backfill;
use crate::clock::kept;
use crate::error::Error;
use crate::excerpt::Excerpt;
use crate::executor::Host;
use crate::flow::{FlowCall, Request};
use crate::journal::RunSummary;
use crate::schedule::{ScheduleUnion, span};
use crate::state::RunKind;
use crate::task::Interval;
use crate::value::json_text;

/// What a backfill asks for, checked.
pub(super) struct AskedBackfill {
    pub(super) host: Arc<Host>,
    /// The flow with the parameters of the runs.
    pub(super) call: Arc<FlowCall>,
    pub(super) deployment: Option<Arc<str>>,
    pub(super) schedules: ScheduleUnion,
}

impl Backfill {
    pub(super) async fn checked(&self) -> Result<AskedBackfill, Error> {
        let definition = self.call.definition;
        let flow = definition.name;
        let refused = |problem: String| Error::Schedule {
            flow: flow.to_owned(),
            problem,
        };
        let schedules = self
            .schedules
            .iter()
            .cloned()
            .collect::<Result<Vec<_>, _>>();
        let schedules = schedules.map_err(|error| refused(error.to_string()))?;
        let (from, to) = (self.dates.start(), self.dates.end());
        let problem = match (self.of_one_run, self.at_once) {
            (Some(option), _) => Some(format!(
                "`.{option}(…)` applies to a single run, but each tick has its own"
            )),
            (_, Some(0)) => Some("expected `max_active_runs` to be at least 1, got 0".to_owned()),
            _ if self.newest_first && definition.depends_on_past => Some(
                "`.newest_first(true)` cannot be combined with `depends_on_past` of the flow: the run of each tick \
                 waits until that of the tick before has succeeded; leave one of them out"
                    .to_owned(),
            ),
            _ if from > to => Some(format!(
                "expected the first date not to be after the last, got {from} and {to}"
            )),
            _ if !span::contains_day(*from) || !span::contains_day(*to) => Some(format!(
                "expected dates in the years 1 to 9999, got {from} to {to}"
            )),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(Error::Options(format!("backfill of `{flow}`: {problem}")));
        }
        let mut call = Arc::clone(&self.call);
        for schedule in &schedules {
            let with_parameters = call.with(schedule.given_parameters());
            call = with_parameters.map_err(|problem| Error::Parameters {
                flow: flow.to_owned(),
                problem,
            })?;
        }
        let host = match &self.host {
            Some(host) => Arc::clone(host),
            None => Host::of_here()?,
        };
        let record = host
            .deployment_of(definition, self.deployment.as_deref())
            .await;
        let deployment = match record {
            Ok(record) => record.and_then(|record| record.key.name),
            Err(error) => return Err(error),
        };
        Ok(AskedBackfill {
            host,
            call,
            deployment,
            // the dates say which ticks there are, whenever the schedules came into force
            schedules: ScheduleUnion::uncounted(schedules),
        })
    }
}

impl AskedBackfill {
    /// Returns the request for the run of a tick.
    pub(super) fn request(&self, tick: DateTime<Utc>) -> Request {
        Request::of_tick(
            RunKind::Backfill,
            self.deployment.clone(),
            self.schedules.interval_of(tick),
        )
    }

    /// Returns what differs if the run of a tick is another run than the one that is asked for.
    pub(super) fn difference(&self, run: &RunSummary) -> Option<String> {
        if run.unreadable.is_some() {
            return None;
        }
        let Interval { start, end } = self.schedules.interval_of(run.logical_date);
        let interval = Interval {
            start: kept(start),
            end: kept(end),
        };
        let mut differences = Vec::new();
        if run.interval != interval {
            differences.push(format!(
                "its run has the interval {}, not {interval}",
                run.interval
            ));
        }
        if !self.call.has(&run.parameters) {
            let (recorded, asked) = differing(&run.parameters, &self.call.parameters);
            differences.push(format!("its run has {recorded}, not {asked}"));
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }

    /// Returns the error for a re-run of another run. A re-run keeps the interval and the parameters
    /// of its run, so its result would not be the requested one.
    pub(super) fn cannot_rerun(&self, run: &RunSummary, difference: &str) -> Error {
        let (flow, id, at) = (self.call.definition.name, run.id, run.logical_date);
        Error::Options(format!(
            "backfill of `{flow}`: run {id} of {at} is another run and cannot be re-run for this one: {difference}; \
             use the same schedule and parameters, or leave its date out"
        ))
    }
}

/// Returns the parameters that differ, recorded and asked for, such as `region = "EU"`.
fn differing(recorded: &Map<String, Value>, asked: &Map<String, Value>) -> (String, String) {
    let names: BTreeSet<&String> = recorded.keys().chain(asked.keys()).collect();
    let names: Vec<&String> = names
        .into_iter()
        .filter(|name| recorded.get(*name) != asked.get(*name))
        .collect();
    let write = |parameters: &Map<String, Value>| {
        let parameter = |name: &&String| match parameters.get(*name) {
            Some(value) => format!("{name} = {}", Excerpt::of(json_text(value), 200, 0)),
            None => format!("no {name}"),
        };
        names.iter().map(parameter).collect::<Vec<_>>().join(", ")
    };
    (write(recorded), write(asked))
}
