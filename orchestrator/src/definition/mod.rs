//! Definitions: the statics that `#[task]` and `#[flow]` generate, and the calls made through them.
//!
//! A definition names a function. A [`Call`] has the arguments of a task's function, a [`FlowCall`]
//! those of a flow's. Definitions and [`scope`](crate::scope) depend on each other: the function of
//! a flow returns nodes, which refer to definitions.

mod call;
mod context;
mod flow;
mod flow_call;
mod function;
pub(crate) mod options;
mod parameters;
mod requirement;
mod returns;
mod serving;
mod task;

pub(crate) use call::{
    Arg, Args, DerivedInput, Elements, PreparedRequirement, PreparedRequirements, ResolvedSource,
    Resources,
};
pub use call::{BlockingBody, BodyFuture, BorrowedInput, Call};
pub(crate) use context::{BodyPlace, RunFacts};
pub use context::{Context, Interval};
pub use flow::{FlowDef, FlowEntry};
pub(crate) use flow_call::FlowCall;
pub use function::{CallParameters, FlowFunction, Function};
pub use options::{Delay, Pool, TaskOptions};
#[doc(inline)]
pub use orchestrator_grammar::trigger::{ParseTriggerError, Trigger};
pub use parameters::Parameters;
pub use requirement::{
    ClientDef, Connect, ParseVariable, Requirement, RequirementKind, VariableValue, parse_variable,
};
pub(crate) use requirement::{Lookup, SharedClient, TakenClient};
pub(crate) use returns::FlowBodyKind;
pub use returns::{FlowBody, FlowReturn};
pub use serving::{Missed, Overlap, ScheduleDef};
pub use task::{CacheDef, KeyFn, Parameter, Resource, TaskBody, TaskCode, TaskDef, TaskEntry};
