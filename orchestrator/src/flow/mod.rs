//! Flows: functions that wire tasks.

mod definition;
mod function;
mod parameters;
pub(crate) mod registry;
mod returns;
mod serving;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use definition::{FlowDef, FlowEntry};
pub use function::{FlowFunction, Function, Kept};
pub use parameters::Parameters;
pub(crate) use returns::Progress;
pub use returns::{FlowBody, FlowReturn};
pub use serving::{Missed, Overlap, ScheduleDef};

use crate::state::RunKind;
use crate::task::scope::{self, Kind, NodeSpec};
use crate::task::{Context, Input, Interval, IntoInput, Node, Outcome};
use crate::value::Data;

/// A flow with its parameters: a description that can be run, awaited, drawn, and used as a task of another flow.
///
/// Calling a flow function makes one; nothing has run yet, and each `.run()` is a new run. Used inside another flow, as
/// a task's input or by awaiting it there, it is part of that flow's run.
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

/// A flow function with what its parameters were given.
pub(crate) struct FlowCall {
    pub(crate) definition: &'static FlowDef,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    /// The first parameter that is not what its JSON says: a run could not be continued from it.
    pub(crate) problem: Option<String>,
    values: Box<dyn Any + Send + Sync>,
}

/// How a run is asked for.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) kind: RunKind,
    /// The runtime that it goes to, unless the default one. Who asked for it knows the type.
    pub(crate) host: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) logical_date: Option<DateTime<Utc>>,
    pub(crate) interval: Option<Interval>,
    /// One run per flow and key.
    pub(crate) key: Option<String>,
    pub(crate) refresh_cache: bool,
}

impl Default for Request {
    fn default() -> Self {
        let (logical_date, interval, key) = (None, None, None);
        Self {
            kind: RunKind::Manual,
            host: None,
            logical_date,
            interval,
            key,
            refresh_cache: false,
        }
    }
}

impl Request {
    /// An option that was set and is for one run alone.
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

/// Makes a flow: what a flow function calls.
///
/// That the parameters are data is checked where the definition's function is; here it would be said again.
pub fn flow<P: 'static, T>(definition: &'static FlowDef, parameters: P) -> Flow<T> {
    let Kept {
        values,
        json,
        problem,
    } = definition
        .function
        .keep(definition.parameters, Box::new(parameters));
    let call = FlowCall {
        definition,
        parameters: json,
        problem,
        values,
    };
    Flow {
        call: Arc::new(call),
        request: Request::default(),
        output: PhantomData,
    }
}

impl FlowCall {
    /// The flow with parameters that were recorded, or given from outside.
    ///
    /// # Errors
    ///
    /// Names the parameter that is missing, unknown or of another type.
    pub(crate) fn recall(
        definition: &'static FlowDef,
        json: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Arc<Self>, String> {
        let values = definition.function.parse(definition.parameters, json)?;
        Ok(Arc::new(Self {
            definition,
            parameters: json.clone(),
            problem: None,
            values,
        }))
    }

    /// Whether recorded parameters are those of the call, however they were written: one that was left out is null, and
    /// a whole number may stand for a float.
    pub(crate) fn has(&self, recorded: &serde_json::Map<String, serde_json::Value>) -> bool {
        let function = self.definition.function;
        let written = |json| {
            Some(
                function
                    .keep(
                        self.definition.parameters,
                        function.parse(self.definition.parameters, json).ok()?,
                    )
                    .json,
            )
        };
        self.parameters == *recorded
            || written(recorded).is_some_and(|recorded| written(&self.parameters) == Some(recorded))
    }

    /// The flow with some of its parameters overridden.
    ///
    /// # Errors
    ///
    /// As those of [`recall`](Self::recall).
    pub(crate) fn with(
        self: &Arc<Self>,
        overrides: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Arc<Self>, String> {
        if overrides.is_empty() {
            return Ok(Arc::clone(self));
        }
        let mut json = self.parameters.clone();
        json.extend(
            overrides
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self::recall(self.definition, &json)
    }

    /// Calls the flow's function. Where it is a plain `fn`, this is all of its body.
    pub(crate) fn start(&self, context: Arc<Context>) -> FlowBody {
        self.definition.function.start(&*self.values, context)
    }
}

impl fmt::Debug for FlowCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.definition.name, self.parameters)
    }
}

impl<T> Flow<T> {
    /// The flow's name.
    pub fn name(&self) -> &'static str {
        self.call.definition.name
    }

    /// Sets the instant that the run is for. By default it is the moment at which the run is asked for.
    pub fn logical_date(mut self, date: DateTime<Utc>) -> Self {
        self.request.logical_date = Some(date);
        self
    }

    /// Sets the span of time that the run is for, `[start, end)`. By default it is empty, at the logical date.
    pub fn interval(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        self.request.interval = Some(Interval { start, end });
        self
    }

    /// Asks for the one run with a key: the first that asks makes it; whoever asks again, in this process or another,
    /// waits for it or gets it as it ended. A run that its process left before its end goes on.
    ///
    /// The parameters are those of the first time: other ones are refused, with an error that names both.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Sets whether the run refuses what is cached. What it computes is cached anew. No by default.
    pub fn refresh_cache(mut self, refresh: bool) -> Self {
        self.request.refresh_cache = refresh;
        self
    }

    /// The flow as a node of the flow whose body is running.
    pub(crate) fn into_node(self) -> Node<T> {
        Node::new(scope::add(NodeSpec::new(
            Kind::Flow(self.call),
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

#[cfg(test)]
mod tests {
    use super::{FlowBody, FlowCall, FlowDef, Function, Missed, Overlap};
    use crate::task::{Parameter, TaskOptions};

    const fn parameter(name: &'static str, type_name: &'static str) -> Parameter {
        Parameter {
            name,
            type_name,
            unordered: false,
            in_key: true,
        }
    }

    static SUM: FlowDef = FlowDef {
        name: "sum",
        crate_name: "",
        module: "",
        file: "",
        line: 0,
        description: "",
        tags: &[],
        parameters: &[parameter("a", "u8"), parameter("b", "Option<u8>")],
        resources: &[],
        is_async: false,
        max_active_runs: None,
        schedule: None,
        missed: Missed::Latest,
        overlap: Overlap::Queue,
        timeout: None,
        defaults: TaskOptions::NONE,
        function: &Function(|(_, _): (u8, Option<u8>), _| FlowBody::wired(())),
    };

    #[test]
    fn a_call_comes_back_from_what_was_recorded_of_it() {
        let call = super::flow::<_, ()>(&SUM, (1_u8, Some(2_u8))).call;
        assert_eq!(call.problem, None);
        let recalled = FlowCall::recall(&SUM, &call.parameters).expect("it is what was recorded");
        assert_eq!(recalled.parameters, call.parameters);
        assert_eq!(recalled.values.downcast_ref(), Some(&(1_u8, Some(2_u8))));
    }

    #[test]
    fn parameters_that_do_not_fit_are_named() {
        for (json, expected) in [
            (r#"{"a": 1}"#, None),
            (r#"{}"#, Some("parameter `a: u8`: it is missing")),
            (
                r#"{"a": 300}"#,
                Some("parameter `a: u8`: invalid value: integer `300`, expected u8"),
            ),
            (
                r#"{"a": 1, "c": 2}"#,
                Some("no parameter `c` (parameters: `a: u8`, `b: Option<u8>`)"),
            ),
        ] {
            let json = serde_json::from_str(json).expect(json);
            assert_eq!(FlowCall::recall(&SUM, &json).err().as_deref(), expected);
        }
    }
}
