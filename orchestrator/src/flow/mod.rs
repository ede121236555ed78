//! Flows: functions that wire tasks.

pub(crate) mod registry;
mod returns;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use crate::definition::{
    CallParameters, FlowBody, FlowDef, FlowEntry, FlowFunction, FlowReturn, Function, Missed,
    Overlap, Parameters, ScheduleDef,
};
pub(crate) use crate::definition::{FlowBodyKind, FlowCall};
use crate::scope::{self, NodeKind, NodeSpec};
use crate::state::RunKind;
use crate::task::{Input, Interval, IntoInput, Node, Outcome};
use crate::value::Data;

/// A flow with its arguments: a description that can be run, awaited, drawn, and used as a task of
/// another flow.
///
/// Calling a flow function creates one; nothing has run yet, and each `.run()` starts a new run. If
/// it is used inside another flow, as a task's input or by awaiting it, it is part of that flow's
/// run.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn add(a: u64, b: u64) -> u64 { a + b }
///
/// #[flow]
/// fn sum_of_three(a: u64, b: u64, c: u64) -> Node<u64> {
///     add(add(a, b), c)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let runtime = Runtime::in_memory();
/// let flow = sum_of_three(1, 2, 3).on(&runtime);
/// assert_eq!(flow.clone().await?, 6);
/// assert_eq!(flow.run().await?.state(), RunState::Success);
/// # Ok(())
/// # }
/// ```
#[must_use = "a flow does nothing until it is run, awaited, or passed to a task"]
pub struct Flow<T> {
    pub(crate) call: Arc<FlowCall>,
    pub(crate) request: Request,
    output: PhantomData<fn() -> T>,
}

/// The options of a requested run.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) kind: RunKind,
    /// The runtime to run on, if not the default one. The requesting code knows its type.
    pub(crate) host: Option<Arc<dyn Any + Send + Sync>>,
    /// The deployment; `None` for the default one, or the only one on record.
    pub(crate) deployment: Option<Arc<str>>,
    pub(crate) logical_date: Option<DateTime<Utc>>,
    pub(crate) interval: Option<Interval>,
    /// The key: one run per flow and key.
    pub(crate) key: Option<String>,
    pub(crate) refresh_cache: bool,
}

impl Default for Request {
    fn default() -> Self {
        let (logical_date, interval, key) = (None, None, None);
        Self {
            kind: RunKind::Manual,
            host: None,
            deployment: None,
            logical_date,
            interval,
            key,
            refresh_cache: false,
        }
    }
}

impl Request {
    /// Returns the name of an option that was set and applies to a single run only.
    pub(crate) fn of_one_run(&self) -> Option<&'static str> {
        let set = [
            (self.logical_date.is_some(), "logical_date"),
            (self.interval.is_some(), "interval"),
            (self.key.is_some(), "key"),
        ];
        set.into_iter()
            .find_map(|(is_set, option)| is_set.then_some(option))
    }
}

/// Creates a flow, for the expansions of flow functions.
///
/// The parameters are checked to be data at the definition's function; a bound here would repeat
/// the error.
pub fn flow<P: 'static, T>(definition: &'static FlowDef, parameters: P) -> Flow<T> {
    Flow {
        call: Arc::new(FlowCall::new(definition, Box::new(parameters))),
        request: Request::default(),
        output: PhantomData,
    }
}

impl<T> Flow<T> {
    /// Returns the name of the flow.
    pub fn name(&self) -> &'static str {
        self.call.definition.name
    }

    /// Sets the instant that the run is for. The default is the time at which the run is requested.
    pub fn logical_date(mut self, date: DateTime<Utc>) -> Self {
        self.request.logical_date = Some(date);
        self
    }

    /// Sets the deployment that the run or the backfill belongs to, by the name that it is
    /// [served](crate::Serve::named) under. Its interval is one of that deployment.
    ///
    /// The default is the default deployment if it is on record or the flow's attribute has a
    /// schedule, or else the only deployment on record. If there are several and no default one, the
    /// run is refused with an error that lists them.
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.request.deployment = Some(name.into().into());
        self
    }

    /// Sets the span of time that the run is for, `[start, end)`.
    ///
    /// The default is an interval of the run's deployment, as it is on record, or of the schedule in
    /// the flow's attribute: if the logical date is a tick, the interval of that tick, and otherwise
    /// the last one that was complete at the logical date. Without any schedule, the interval is
    /// empty, at the logical date. The same holds for the command line and for
    /// [triggers](crate::Runtime::trigger).
    pub fn interval(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        self.request.interval = Some(Interval { start, end });
        self
    }

    /// Sets the key of the run. The first request with a key creates the run; later ones, in this
    /// process or another, wait for it or return it if it has finished. An unfinished run that its
    /// process left is resumed.
    ///
    /// The parameters must be those of the first request: otherwise the error names both. A key has
    /// at most 1 KiB.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Sets whether the run ignores cached results. Its own results are cached again. The default
    /// is `false`.
    pub fn refresh_cache(mut self, refresh: bool) -> Self {
        self.request.refresh_cache = refresh;
        self
    }

    /// Converts the flow to a node of the flow whose body is running.
    pub(crate) fn into_node(self) -> Node<T> {
        Node::new(scope::add(NodeSpec::new(
            NodeKind::Flow(self.call),
            Box::new([]),
        )))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<T> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<T>::into_input(self.into_node())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Option<T>> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<Option<T>>::into_input(self.into_node())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Outcome<T>> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<Outcome<T>>::into_input(self.into_node())
    }
}

impl<T> Clone for Flow<T> {
    fn clone(&self) -> Self {
        Self {
            call: Arc::clone(&self.call),
            request: self.request.clone(),
            output: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Flow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flow<{}>({:?})", std::any::type_name::<T>(), self.call)
    }
}
