//! Tasks: functions that do work, and their uses in flows.
//!
//! Calling a task function creates a [`Node`]: one use of the task. Inside a flow's body, nodes are
//! recorded in the [`Scope`](scope) of the thread; outside, they carry their own description until
//! they are awaited.

mod expand;
mod input;
mod node;
mod outcome;

pub(crate) use crate::definition::{
    Arg, Args, BodyPlace, DerivedInput, Elements, Lookup, PreparedRequirement,
    PreparedRequirements, ResolvedSource, Resources, RunFacts, SharedClient, TakenClient,
};
pub use crate::definition::{
    BlockingBody, BodyFuture, BorrowedInput, CacheDef, Call, ClientDef, Connect, Context, Delay,
    Interval, KeyFn, Parameter, ParseTriggerError, ParseVariable, Pool, Requirement,
    RequirementKind, Resource, TaskBody, TaskCode, TaskDef, TaskEntry, TaskOptions, Trigger,
    VariableValue, parse_variable,
};
pub use crate::scope::Input;
pub(crate) use crate::scope::{Conversion, InputSource, NodeOutcome, Projection};
pub use expand::{Element, IntoList, List, Mapped, Mapping, expand};
pub use input::{Gathered, IntoInput, gather};
pub use node::{AnyHandle, Node, NotData, Results, Upstream};
pub use outcome::Outcome;
