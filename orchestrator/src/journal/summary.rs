use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::RunId;
use crate::state::{RunKind, RunState};
use crate::task::Interval;

/// A run without its tasks, as lists of runs show it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run's id.
    pub id: RunId,
    /// The flow's name.
    pub flow: String,
    /// The kind of the run: manual, scheduled or a backfill.
    pub kind: RunKind,
    /// The deployment that the run belongs to; `None` for the default one.
    pub deployment: Option<String>,
    /// The key that the run was requested with, if any.
    pub key: Option<String>,
    /// The run's state.
    pub state: RunState,
    /// The instant that the run is for.
    pub logical_date: DateTime<Utc>,
    /// The span of time that the run is for.
    pub interval: Interval,
    /// The flow's parameters.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// When the run was accepted.
    pub created_at: DateTime<Utc>,
    /// When the run started.
    pub started_at: Option<DateTime<Utc>>,
    /// When the run reached its final state.
    pub finished_at: Option<DateTime<Utc>>,
    /// The error of a run that did not succeed.
    pub error: Option<String>,
    /// Why the record cannot be read completely, if so. The readable fields are set; the others are
    /// left empty (no parameters, a manual run, pending, 1970).
    pub unreadable: Option<String>,
}

/// The deployment that a filter selects; `None` is the default one.
#[derive(Clone, Debug)]
pub(crate) struct DeploymentFilter(pub(crate) Option<String>);

/// A filter for lists of runs. It matches all runs unless something is set, and lists the most
/// recently accepted ones first.
///
/// # Examples
///
/// ```
/// use orchestrator::{RunFilter, RunState};
///
/// let filter = RunFilter::new().flow("daily").state(RunState::Failed).limit(10);
/// # let _ = filter;
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub(crate) flow: Option<String>,
    pub(crate) deployment: Option<DeploymentFilter>,
    pub(crate) states: Vec<RunState>,
    pub(crate) kinds: Vec<RunKind>,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) limit: Option<usize>,
    pub(crate) oldest_first: bool,
}

impl RunFilter {
    /// Creates a filter that matches all runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects the runs of a flow.
    #[must_use]
    pub fn flow(mut self, name: impl Into<String>) -> Self {
        self.flow = Some(name.into());
        self
    }

    /// Selects the runs of a deployment, by its name.
    #[must_use]
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.deployment = Some(DeploymentFilter(Some(name.into())));
        self
    }

    /// Selects the runs of default deployments, those without a name.
    #[must_use]
    pub fn default_deployment(mut self) -> Self {
        self.deployment = Some(DeploymentFilter(None));
        self
    }

    /// Selects the runs of a deployment; `None` is the default one.
    pub(crate) fn of_deployment(mut self, name: Option<&str>) -> Self {
        self.deployment = Some(DeploymentFilter(name.map(str::to_owned)));
        self
    }

    /// Selects the runs in a state. Given several times, a run may be in any of the states.
    #[must_use]
    pub fn state(mut self, state: RunState) -> Self {
        self.states.push(state);
        self
    }

    /// Selects the runs that are not final.
    #[must_use]
    pub fn unfinished(self) -> Self {
        self.state(RunState::Pending).state(RunState::Running)
    }

    /// Selects the runs of a kind. Given several times, a run may be of any of the kinds.
    #[must_use]
    pub fn kind(mut self, kind: RunKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Selects the runs whose logical date is at this instant or later.
    #[must_use]
    pub fn since(mut self, at: DateTime<Utc>) -> Self {
        self.since = Some(at);
        self
    }

    /// Selects the runs whose logical date is at this instant or earlier.
    #[must_use]
    pub fn until(mut self, at: DateTime<Utc>) -> Self {
        self.until = Some(at);
        self
    }

    /// Limits the list to this number of runs.
    #[must_use]
    pub fn limit(mut self, runs: usize) -> Self {
        self.limit = Some(runs);
        self
    }

    /// Lists the runs that were accepted first at the beginning.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// Returns `true` if a run matches, apart from the limit.
    pub(crate) fn matches(&self, run: &RunSummary) -> bool {
        self.flow.as_ref().is_none_or(|flow| *flow == run.flow)
            && self
                .deployment
                .as_ref()
                .is_none_or(|DeploymentFilter(name)| *name == run.deployment)
            && (self.states.is_empty() || self.states.contains(&run.state))
            && (self.kinds.is_empty() || self.kinds.contains(&run.kind))
            && self.since.is_none_or(|since| run.logical_date >= since)
            && self.until.is_none_or(|until| run.logical_date <= until)
    }
}
