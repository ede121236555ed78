use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::RunId;
use crate::state::{RunKind, RunState};
use crate::task::Interval;

/// A run without its tasks: what lists of runs show.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run's id.
    pub id: RunId,
    /// The flow's name.
    pub flow: String,
    /// Why there is the run.
    pub kind: RunKind,
    /// The key that it was asked for with, if any.
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
    /// Why the run is not a success.
    pub error: Option<String>,
}

/// Which runs are asked for: all of them, unless something is set; the last accepted ones first.
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
    pub(crate) states: Vec<RunState>,
    pub(crate) kinds: Vec<RunKind>,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) limit: Option<usize>,
    pub(crate) oldest_first: bool,
}

impl RunFilter {
    /// All runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of a flow.
    #[must_use]
    pub fn flow(mut self, name: impl Into<String>) -> Self {
        self.flow = Some(name.into());
        self
    }

    /// Only those in a state, or in one of those given before.
    #[must_use]
    pub fn state(mut self, state: RunState) -> Self {
        self.states.push(state);
        self
    }

    /// Only those that are not final.
    #[must_use]
    pub fn unfinished(self) -> Self {
        self.state(RunState::Pending).state(RunState::Running)
    }

    /// Only those of a kind, or of one of those given before.
    #[must_use]
    pub fn kind(mut self, kind: RunKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Only those whose logical date is at this instant or later.
    #[must_use]
    pub fn since(mut self, at: DateTime<Utc>) -> Self {
        self.since = Some(at);
        self
    }

    /// Only those whose logical date is at this instant or earlier.
    #[must_use]
    pub fn until(mut self, at: DateTime<Utc>) -> Self {
        self.until = Some(at);
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, runs: usize) -> Self {
        self.limit = Some(runs);
        self
    }

    /// The first accepted ones first.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// Whether a run is asked for, but for the limit.
    pub(crate) fn matches(&self, run: &RunSummary) -> bool {
        self.flow.as_ref().is_none_or(|flow| *flow == run.flow)
            && (self.states.is_empty() || self.states.contains(&run.state))
            && (self.kinds.is_empty() || self.kinds.contains(&run.kind))
            && self.since.is_none_or(|since| run.logical_date >= since)
            && self.until.is_none_or(|until| run.logical_date <= until)
    }
}
