//! Which deployment of a flow a command means, with its schedules and parameters.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use orchestrator_grammar::similar::nearest;
use serde_json::{Map, Value};

use super::context::ProgramFlow;
use super::exit::CommandFailure;
use super::parameters::{self, ParameterArguments};
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec};
use crate::flow::FlowCall;
use crate::runtime::{Runtime, UnclearDeployment, choose, in_force, names, with_served};
use crate::schedule::{Schedule, ScheduleUnion};

/// The deployment that a command means.
#[derive(Debug)]
pub(super) struct SelectedDeployment<'a> {
    flow: &'a ProgramFlow,
    /// What is on record, or else what the program serves. `None` if the flow's attribute counts.
    record: Option<DeploymentRecord>,
}

/// Returns the records of a flow's deployments; none if there is no store.
pub(super) async fn records(
    runtime: Option<&Runtime>,
    flow: &str,
) -> Result<Vec<DeploymentRecord>, CommandFailure> {
    match runtime {
        Some(runtime) => Ok(runtime.host.deployment_records(Some(flow)).await?),
        None => Ok(Vec::new()),
    }
}

/// Returns the deployment that is meant by `--deployment`, or without it: the default one, or the
/// only one. What is on record comes before what the program serves.
pub(super) fn select<'a>(
    flow: &'a ProgramFlow,
    records: Vec<DeploymentRecord>,
    name: Option<&str>,
    now: DateTime<Utc>,
) -> Result<SelectedDeployment<'a>, CommandFailure> {
    let definition = flow.definition;
    let mut known = with_served(records, &flow.given, definition.name, now);
    match choose(definition, &known, name) {
        Ok(place) => Ok(SelectedDeployment {
            flow,
            record: place.map(|place| known.swap_remove(place)),
        }),
        Err(UnclearDeployment::Unknown) => {
            let keys: Vec<DeploymentKey> = known.into_iter().map(|record| record.key).collect();
            Err(unknown(flow, name.unwrap_or_default(), &keys))
        }
        Err(UnclearDeployment::Several) => {
            let first = known.iter().find_map(|record| record.key.name.clone());
            let what = format!(
                "flow `{}` has several deployments and no default one",
                definition.name
            );
            Err(CommandFailure::usage(what)
                .why(format!(
                    "there is {}",
                    names(known.iter().map(|record| &record.key))
                ))
                .hint(format!(
                    "choose one, such as `--deployment {}`",
                    first.as_deref().unwrap_or_default()
                )))
        }
    }
}

/// Returns the error for a deployment that is neither on record nor served by the program.
pub(super) fn unknown(flow: &ProgramFlow, typed: &str, known: &[DeploymentKey]) -> CommandFailure {
    let name = flow.definition.name;
    let meant = nearest(typed, known.iter().filter_map(|key| key.name.as_deref()));
    let hint = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("`deployments ls {name}` lists those on record"),
    };
    let has_default = known.iter().any(|key| key.name.is_none());
    let of_attribute = flow.scheduled().map(|_| flow.key(None));
    let of_attribute = of_attribute.filter(|_| !has_default);
    let list = match known.is_empty() && of_attribute.is_none() {
        true => "none on record, and the program serves none".to_owned(),
        false => names(of_attribute.iter().chain(known)),
    };
    CommandFailure::usage(format!("no deployment `{typed}` of flow `{name}`"))
        .why(format!("there is {list}"))
        .hint(hint)
}

impl SelectedDeployment<'_> {
    /// Returns the name; `None` for the default deployment.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        self.record.as_ref()?.key.name.clone()
    }

    /// Returns its schedules, or an empty union if the flow has no schedule.
    pub(super) fn schedules(&self) -> Result<ScheduleUnion, CommandFailure> {
        let Some(record) = &self.record else {
            let scheduled = self.flow.scheduled().into_iter().collect();
            return Ok(ScheduleUnion::new(scheduled, DateTime::UNIX_EPOCH));
        };
        in_force(record).map_err(|problem| {
            CommandFailure::usage(format!(
                "the schedules of {} cannot be computed",
                record.key
            ))
            .why(problem)
            .hint("serve it anew, with its schedules given to `orchestrator::cli().serve([…])`")
        })
    }

    /// Returns its parameters: those that the program serves it with, or else those on record.
    pub(super) fn parameters(&self) -> Option<&Map<String, Value>> {
        let record = self.record.as_ref()?;
        match self.spec() {
            Some(spec) => Some(&spec.call.parameters),
            None => record.in_force().map(|segment| &segment.parameters),
        }
    }

    /// Returns what the program serves.
    fn spec(&self) -> Option<&DeploymentSpec> {
        let key = &self.record.as_ref()?.key;
        self.flow.given.iter().find(|spec| spec.key == *key)
    }

    /// Returns the flow with its parameters, overridden by `--param`.
    pub(super) fn call(&self, typed: &ParameterArguments) -> Result<Arc<FlowCall>, CommandFailure> {
        let definition = self.flow.definition;
        match (self.spec(), self.parameters()) {
            (Some(spec), _) => parameters::call(definition, Some(&spec.call), typed),
            (None, Some(recorded)) => parameters::call_on_record(definition, recorded, typed),
            (None, None) => parameters::call(definition, None, typed),
        }
    }
}

/// A deployment whose ticks are listed.
#[derive(Clone, Debug)]
pub(super) struct UpcomingDeployment {
    pub(super) key: DeploymentKey,
    /// The schedules, or why they cannot be computed.
    pub(super) schedules: Result<Vec<Schedule>, String>,
    /// When they came into force, or now.
    pub(super) since: DateTime<Utc>,
}

/// Returns the deployments of a flow whose ticks are listed: those that the program serves, or else
/// those on record.
pub(super) fn upcoming(
    flow: &ProgramFlow,
    records: &[DeploymentRecord],
    now: DateTime<Utc>,
) -> Vec<UpcomingDeployment> {
    let since = |record: Option<&DeploymentRecord>| {
        let segment = record.and_then(DeploymentRecord::in_force);
        segment.map_or(now, |segment| segment.since)
    };
    let served = flow.deployments();
    if served.is_empty() {
        let recorded = |record: &DeploymentRecord| UpcomingDeployment {
            key: record.key.clone(),
            schedules: in_force(record).map(|union| union.schedules().to_vec()),
            since: since(Some(record)),
        };
        let of_flow = |record: &&DeploymentRecord| record.key.flow == flow.definition.name;
        return records.iter().filter(of_flow).map(recorded).collect();
    }
    let served = served.into_iter().map(|deployment| {
        let spec = deployment.spec();
        let is_its = |record: &&DeploymentRecord| {
            record.key == deployment.key
                && spec.as_ref().is_some_and(|spec| spec.is_in_force(record))
        };
        UpcomingDeployment {
            since: since(records.iter().find(is_its)),
            key: deployment.key,
            schedules: Ok(deployment.schedules),
        }
    });
    served.collect()
}

impl UpcomingDeployment {
    /// Returns the schedules as one; none if they cannot be computed.
    pub(super) fn union(&self) -> ScheduleUnion {
        ScheduleUnion::new(self.schedules.clone().unwrap_or_default(), self.since)
    }

    /// Returns each schedule, as it is in force.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Schedule, ScheduleUnion)> {
        let schedules = self.schedules.iter().flatten();
        schedules.map(|schedule| {
            (
                schedule,
                ScheduleUnion::new(vec![schedule.clone()], self.since),
            )
        })
    }
}

/// Writes a text about a deployment, after its name if it has one.
pub(super) fn with_name(deployment: Option<&str>, text: &str) -> String {
    match deployment {
        Some(name) => format!("{name}: {text}"),
        None => text.to_owned(),
    }
}
