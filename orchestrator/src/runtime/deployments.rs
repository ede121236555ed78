//! Deployments on record, and which of them a manual run belongs to.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Runtime;
use crate::clock::kept;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec};
use crate::error::Error;
use crate::executor::Host;
use crate::flow::{FlowDef, Request};
use crate::schedule::{Schedule, ScheduleUnion};
use crate::state::RunKind;
use crate::task::Interval;

/// A deployment on record: what is in force for a flow, as it was served last. See
/// [`Serve`](crate::Serve).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Deployment {
    /// The flow's name.
    pub flow: String,
    /// The name; `None` for the default deployment.
    pub name: Option<String>,
    /// The schedules, in words.
    pub schedules: Vec<String>,
    /// The parameters of its runs.
    pub parameters: Map<String, Value>,
    /// When these schedules and parameters came into force.
    pub since: Option<DateTime<Utc>>,
    /// The instant up to which each tick has its run or was decided to have none.
    pub decided: DateTime<Utc>,
    /// The next tick, if there is one that this program can compute.
    pub next: Option<DateTime<Utc>>,
    /// Why the record cannot be read completely, if so.
    pub unreadable: Option<String>,
}

impl Runtime {
    /// Returns the deployments on record of a flow, by name, the default one first.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn deployments(&self, flow: &str) -> Result<Vec<Deployment>, Error> {
        let now = self.now();
        let records = self.host.deployment_records(Some(flow)).await?;
        let deployment = |record| Deployment::new(record, now);
        Ok(records.iter().map(deployment).collect())
    }

    /// Removes a deployment from the record. Manual runs no longer belong to it, and if it is served
    /// again, it is new: it has missed nothing. Its runs are kept. Returns `false` if it was not on
    /// record.
    ///
    /// A process that serves it creates no more runs of it until it serves it anew.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn forget_deployment(&self, flow: &str, name: Option<&str>) -> Result<bool, Error> {
        let key = DeploymentKey {
            flow: flow.to_owned().into(),
            name: name.map(Arc::from),
        };
        Ok(self.host.services.store.remove_deployment(&key).await?)
    }
}

impl Deployment {
    /// Creates it from a record.
    pub(crate) fn new(record: &DeploymentRecord, now: DateTime<Utc>) -> Self {
        let (union, unreadable) = match in_force(record) {
            Ok(union) => (Some(union), None),
            Err(problem) => (None, Some(problem)),
        };
        let segment = record.in_force();
        Self {
            flow: record.key.flow.to_string(),
            name: record.key.name.as_deref().map(str::to_owned),
            schedules: union
                .iter()
                .flat_map(ScheduleUnion::schedules)
                .map(ToString::to_string)
                .collect(),
            parameters: segment
                .map(|segment| segment.parameters.clone())
                .unwrap_or_default(),
            since: segment.map(|segment| segment.since),
            decided: record.decided,
            next: union.and_then(|union| union.next(now)),
            unreadable,
        }
    }
}

/// Returns the schedules that are in force by a record.
///
/// # Errors
///
/// Returns the problem if the record cannot be read, or has a timetable that no schedule of this
/// process has.
pub(crate) fn in_force(record: &DeploymentRecord) -> Result<ScheduleUnion, String> {
    match (&record.unreadable, record.in_force()) {
        (Some(problem), _) => Err(problem.clone()),
        (None, None) => Err("it has no schedules".to_owned()),
        (None, Some(segment)) => segment.restore(),
    }
}

/// Adds to the records of a flow's deployments what the program serves and is not on record yet.
pub(crate) fn with_served(
    mut records: Vec<DeploymentRecord>,
    served: &[DeploymentSpec],
    flow: &str,
    now: DateTime<Utc>,
) -> Vec<DeploymentRecord> {
    for spec in served.iter().filter(|spec| spec.key.flow == flow) {
        if records.iter().all(|record| record.key != spec.key) {
            records.push(spec.put_in_force(None, now).0);
        }
    }
    records
}

/// Why it is not known which deployment of a flow is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnclearDeployment {
    /// No deployment has the name.
    Unknown,
    /// There are several, no default one, and no name was given.
    Several,
}

/// Returns which of the deployments of a flow is meant by a name, or by none: the default one, or
/// the only one. Returns `None` for the default one if there is no record of it.
pub(crate) fn choose(
    flow: &FlowDef,
    records: &[DeploymentRecord],
    name: Option<&str>,
) -> Result<Option<usize>, UnclearDeployment> {
    let is_meant = |record: &DeploymentRecord| record.key.name.as_deref() == name;
    match (records.iter().position(is_meant), name, records) {
        (Some(place), ..) => Ok(Some(place)),
        (None, Some(_), _) => Err(UnclearDeployment::Unknown),
        (None, None, []) => Ok(None),
        (None, None, _) if flow.schedule.is_some() => Ok(None),
        (None, None, [_]) => Ok(Some(0)),
        (None, None, _) => Err(UnclearDeployment::Several),
    }
}

/// What a run belongs to, and the span of time that it is for.
#[derive(Clone, Debug)]
pub(crate) struct RunPlace {
    pub(crate) deployment: Option<Arc<str>>,
    pub(crate) logical_date: DateTime<Utc>,
    pub(crate) interval: Interval,
    /// The parameters of the deployment on record, if the run belongs to one.
    pub(crate) parameters: Option<Map<String, Value>>,
}

impl RunPlace {
    /// Returns the place of a run as far as it is known without a store: by the request and the
    /// flow's attribute.
    pub(crate) fn by_attribute(flow: &FlowDef, request: &Request, now: DateTime<Utc>) -> Self {
        Self::new(
            request,
            now,
            request.deployment.clone(),
            of_attribute(flow).as_ref(),
        )
    }

    fn new(
        request: &Request,
        now: DateTime<Utc>,
        deployment: Option<Arc<str>>,
        schedules: Option<&ScheduleUnion>,
    ) -> Self {
        // truncated to the precision of the store, so that a resumed body sees the same times
        let logical_date = kept(request.logical_date.unwrap_or(now));
        let interval = request.interval.or_else(|| {
            schedules.and_then(|schedules| schedules.last_complete_interval(logical_date))
        });
        let interval = interval.unwrap_or(Interval {
            start: logical_date,
            end: logical_date,
        });
        Self {
            deployment,
            logical_date,
            interval: Interval {
                start: kept(interval.start),
                end: kept(interval.end),
            },
            parameters: None,
        }
    }
}

fn of_attribute(flow: &FlowDef) -> Option<ScheduleUnion> {
    let schedule = Schedule::of_flow(flow)?.ok()?;
    Some(ScheduleUnion::uncounted(vec![schedule]))
}

impl Host {
    /// Returns what a requested run belongs to. A manual run belongs to the deployment that it
    /// names, else to the default one, else to the only one on record, and has that one's last
    /// interval that was complete at its logical date.
    ///
    /// # Errors
    ///
    /// Returns an error if the deployment is not on record, or not clear, or if its interval cannot
    /// be computed here.
    pub(crate) async fn place(
        &self,
        flow: &FlowDef,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Result<RunPlace, Error> {
        if request.kind != RunKind::Manual {
            return Ok(RunPlace::by_attribute(flow, request, now));
        }
        let Some(record) = self
            .deployment_of(flow, request.deployment.as_deref())
            .await?
        else {
            return Ok(RunPlace::by_attribute(flow, request, now));
        };
        let schedules = match request.interval {
            Some(_) => None,
            None => Some(in_force(&record).map_err(|problem| Error::Schedule {
                flow: flow.name.to_owned(),
                problem: format!(
                    "the interval of a manual run cannot be computed: {problem}; give one with `.interval(…)`"
                ),
            })?),
        };
        let place = RunPlace::new(request, now, record.key.name.clone(), schedules.as_ref());
        Ok(RunPlace {
            parameters: record
                .segments
                .into_iter()
                .last()
                .map(|segment| segment.parameters),
            ..place
        })
    }

    /// Returns the records of deployments, of one flow or of all, by flow and name.
    pub(crate) async fn deployment_records(
        &self,
        flow: Option<&str>,
    ) -> Result<Vec<DeploymentRecord>, Error> {
        Ok(self.services.store.list_deployments(flow).await?)
    }

    /// Returns the deployment that is meant by a name, or by none. Returns `None` for the default
    /// deployment if it is not on record.
    pub(crate) async fn deployment_of(
        &self,
        flow: &FlowDef,
        name: Option<&str>,
    ) -> Result<Option<DeploymentRecord>, Error> {
        let records = self.deployment_records(Some(flow.name)).await?;
        let now = self.services.clock.now();
        let mut records = with_served(records, &self.served, flow.name, now);
        match choose(flow, &records, name) {
            Ok(place) => Ok(place.map(|place| records.swap_remove(place))),
            Err(UnclearDeployment::Several) => Err(Error::Options(format!(
                "flow `{}` has several deployments and no default one: choose one of {} with `.deployment(…)`",
                flow.name,
                names(records.iter().map(|record| &record.key))
            ))),
            Err(UnclearDeployment::Unknown) => {
                let known = match records.is_empty() {
                    true => "none is on record: a deployment is once it has been served".to_owned(),
                    false => {
                        let keys = records.iter().map(|record| &record.key);
                        format!("on record: {}", names(keys))
                    }
                };
                Err(Error::Options(format!(
                    "flow `{}` has no deployment `{}` ({known})",
                    flow.name,
                    name.unwrap_or_default()
                )))
            }
        }
    }
}

/// Lists the names of deployments.
pub(crate) fn names<'a>(keys: impl IntoIterator<Item = &'a DeploymentKey>) -> String {
    let name = |key: &DeploymentKey| match &key.name {
        Some(name) => format!("`{name}`"),
        None => "the default one".to_owned(),
    };
    let names: Vec<String> = keys.into_iter().map(name).collect();
    names.join(", ")
}
