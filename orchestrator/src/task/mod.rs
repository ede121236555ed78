//! Tasks: functions that do work, and their uses in flows.
//!
//! A task function, called, makes a [`Node`]: one use of the task. Inside a flow's body nodes are written down in the
//! [`Scope`](scope) that is being built on this thread; outside they carry their own description, until they are
//! awaited.

mod call;
mod context;
mod definition;
mod expand;
mod input;
mod node;
mod options;
mod outcome;
pub(crate) mod scope;
mod trigger;

pub(crate) use call::{Arg, Args, Derived, Elements, Given, Resources};
pub use call::{BlockingBody, BodyFuture, Borrowed, Call};
pub use context::{Context, Interval};
pub(crate) use context::{Place, RunFacts};
pub use definition::{Body, CacheDef, Code, KeyFn, Parameter, Resource, TaskDef, TaskEntry};
pub use expand::{Element, IntoList, List, Mapped, Mapping, expand};
pub(crate) use input::{Convert, Projection, Resolved, Source};
pub use input::{Gathered, Input, IntoInput, gather};
pub use node::{AnyHandle, Node, NotData, Results, Upstream};
pub use options::{Delay, Pool, TaskOptions};
pub use outcome::Outcome;
pub use trigger::{ParseTriggerError, Trigger};
