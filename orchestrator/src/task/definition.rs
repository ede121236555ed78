use std::any::TypeId;
use std::fmt;
use std::time::Duration;

use super::{BlockingBody, BodyFuture, Call, TaskOptions};
use crate::value::Same;

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
    /// How its results are cached; they are not where it is `None`.
    pub cache: Option<CacheDef>,
    /// How its results are compared, if they can be.
    pub same: Same,
}

/// A parameter of a task or a flow.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type, as it is written.
    pub type_name: &'static str,
    /// Whether it is written as a `HashSet<…>`, whose elements are in no order.
    pub unordered: bool,
    /// Whether it is part of a cache key.
    pub in_key: bool,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}: {}`", self.name, self.type_name)
    }
}

/// How the results of a task are cached.
#[derive(Debug)]
pub struct CacheDef {
    /// How long an entry may be used; for ever where it is `None`.
    pub expiry: Option<Duration>,
    /// What the code of the task is, for the key.
    pub code: Code,
    /// `cache_key = path`: what stands for the inputs.
    pub key: Option<KeyFn>,
}

/// Hashes what stands for the inputs of a call.
pub type KeyFn = fn(&mut Call<'_>) -> Result<[u8; 32], String>;

/// The code of a task, as a cache key knows it.
#[derive(Debug)]
pub enum Code {
    /// The tokens of the function.
    Tokens(&'static str),
    /// `version = "…"`.
    Version(&'static str),
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
