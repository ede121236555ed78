use std::any::TypeId;
use std::fmt;

use super::{BlockingBody, BodyFuture, Call, TaskOptions};

/// A task as `#[task]` wrote it down: one static for each task function.
#[derive(Debug)]
pub struct TaskDef {
    /// Its name: the function's, or `name = "…"`.
    pub name: &'static str,
    /// The crate that it is in.
    pub crate_name: &'static str,
    /// The module that it is in.
    pub module: &'static str,
    /// The file that it is in.
    pub file: &'static str,
    /// The line that it is on.
    pub line: u32,
    /// `description = "…"`, or its doc comment.
    pub description: &'static str,
    /// Its tags.
    pub tags: &'static [&'static str],
    /// Its inputs, in order: neither resources nor the context.
    pub parameters: &'static [Parameter],
    /// The resources that it takes.
    pub resources: &'static [Resource],
    /// The options of the attribute.
    pub options: TaskOptions,
    /// What runs.
    pub body: Body,
    /// Whether it takes the context, and so may ask whether it is cancelled.
    pub cooperative: bool,
}

/// A parameter of a task or a flow.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type, as it is written.
    pub type_name: &'static str,
}

/// A parameter that is a resource.
#[derive(Debug)]
pub struct Resource {
    /// Its name.
    pub name: &'static str,
    /// Its type, as it is written.
    pub type_name: &'static str,
    /// Its type.
    pub id: fn() -> TypeId,
}

/// A task's body.
pub enum Body {
    /// An `async fn`.
    Async(fn(&mut Call<'_>) -> BodyFuture),
    /// A `fn`: it runs on a thread where it may block.
    Blocking(fn(&mut Call<'_>) -> BlockingBody),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "async fn",
            Self::Blocking(_) => "fn",
        })
    }
}

/// A task's entry in the registry of this binary.
#[derive(Debug)]
pub struct TaskEntry(pub &'static TaskDef);

inventory::collect!(TaskEntry);
