use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Context, SharedClient};
use crate::error::TaskError;
use crate::panic::Fragile;
use crate::scope::{Conversion, MappingSpec, NodeOutcome, Projection};
use crate::secret::Secret;
use crate::value::{Data, Value};

/// The future of an async body.
pub type BodyFuture = Pin<Box<dyn Future<Output = Result<Value, TaskError>> + Send>>;

/// A blocking body, ready to run.
pub type BlockingBody = Box<dyn FnOnce() -> Result<Value, TaskError> + Send>;

/// The resources of a runtime, by type.
#[derive(Clone, Default)]
pub(crate) struct Resources(HashMap<TypeId, Fragile<Arc<dyn Any + Send + Sync>>>);

impl Resources {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, resource: T) {
        self.0
            .insert(TypeId::of::<T>(), Fragile::new(Arc::new(resource)));
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.contains_key(&id)
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({})", self.0.len())
    }
}

/// The elements of a mapping, made one at a time from the lists that are mapped over.
#[derive(Debug)]
pub(crate) struct Elements {
    pub(crate) lists: SmallVec<[Value; 1]>,
    pub(crate) spec: MappingSpec,
}

impl Elements {
    pub(crate) fn get(&self, index: u32) -> Value {
        (self.spec.get)(&self.lists, index as usize)
    }
}

/// An input on its way to a body. User code (a projection, a conversion) runs when the body takes
/// it.
#[derive(Debug)]
pub(crate) enum Arg {
    Value(Value),
    Element(Arc<Elements>, u32),
    Derived(Box<DerivedInput>),
    /// The input was taken: each is taken once.
    Taken,
}

/// An input that is computed when it is taken.
#[derive(Debug)]
pub(crate) struct DerivedInput {
    pub(crate) given: ResolvedSource,
    pub(crate) projection: Option<Projection>,
    pub(crate) convert: Conversion,
}

#[derive(Debug)]
pub(crate) enum ResolvedSource {
    Node(NodeOutcome),
    Element(Arc<Elements>, u32),
    Many(Vec<Arg>, fn(Vec<Value>) -> Value),
}

impl Arg {
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Element(elements, index) => elements.get(index),
            Self::Derived(derived) => derived.into_value(),
            Self::Taken => unreachable!("an input is taken once"),
        }
    }
}

impl DerivedInput {
    fn into_value(self) -> Value {
        let resolved = match self.given {
            ResolvedSource::Node(resolved) => resolved,
            ResolvedSource::Element(elements, index) => NodeOutcome::Success(elements.get(index)),
            ResolvedSource::Many(args, combine) => {
                NodeOutcome::Success(combine(args.into_iter().map(Arg::into_value).collect()))
            }
        };
        let projected = match (resolved, &self.projection) {
            (NodeOutcome::Success(value), Some(projection)) => {
                NodeOutcome::Success(projection.apply(value))
            }
            (other, _) => other,
        };
        self.convert.apply(projected)
    }
}

pub(crate) type Args = SmallVec<[Arg; 3]>;

/// A connection, a variable or a secret, ready for a body.
pub(crate) enum PreparedRequirement {
    Client(SharedClient),
    /// `None` once it was taken.
    Variable(Option<Fragile<Box<dyn Any + Send>>>),
    Secret(Secret),
}

/// The requirements of a task, in the order of [`TaskDef::requirements`](super::TaskDef).
pub(crate) type PreparedRequirements = Vec<PreparedRequirement>;

/// One call of a task's body: its inputs, to be taken once each, its requirements, the resources and
/// the context.
pub struct Call<'a> {
    args: Args,
    prepared: PreparedRequirements,
    resources: &'a Resources,
    context: Option<Arc<Context>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        args: Args,
        prepared: PreparedRequirements,
        resources: &'a Resources,
        context: Option<Arc<Context>>,
    ) -> Self {
        Self {
            args,
            prepared,
            resources,
            context,
        }
    }

    fn arg(&mut self, index: usize) -> Arg {
        match self.args.get_mut(index) {
            Some(arg) => std::mem::replace(arg, Arg::Taken),
            None => unreachable!("input {index} of a task that has {}", self.args.len()),
        }
    }

    /// Takes an input by value: moves it if it has no other users, and clones it otherwise.
    pub fn owned<T: Data>(&mut self, index: usize) -> T {
        match self.arg(index) {
            Arg::Element(elements, element) if elements.spec.plain => {
                elements.lists[0].get::<Vec<T>>()[element as usize].clone()
            }
            other => other.into_value().take(),
        }
    }

    /// Takes an input by reference, without a copy.
    pub fn borrowed<T: Data>(&mut self, index: usize) -> BorrowedInput<T> {
        match self.arg(index) {
            Arg::Element(elements, element) if elements.spec.plain => {
                BorrowedInput(Lender::Element(
                    Fragile::new(elements.lists[0].clone().share()),
                    element as usize,
                ))
            }
            other => BorrowedInput(Lender::Value(Fragile::new(other.into_value().share()))),
        }
    }

    /// Returns a resource, whose presence was checked before the run.
    pub fn resource<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let found = self
            .resources
            .0
            .get(&TypeId::of::<T>())
            .map(|resource| Arc::clone(resource));
        match found.and_then(|resource| resource.downcast().ok()) {
            Some(resource) => resource,
            None => unreachable!(
                "the resource `{}` was checked before the run",
                std::any::type_name::<T>()
            ),
        }
    }

    /// Returns a client, made of a connection before the call.
    pub fn client<T: Send + Sync + 'static>(&self, index: usize) -> Arc<T> {
        let client = match self.prepared.get(index) {
            Some(PreparedRequirement::Client(client)) => client.downcast(),
            _ => None,
        };
        client.unwrap_or_else(|| unprepared(index))
    }

    /// Takes the value of a variable.
    pub fn variable<T: 'static>(&mut self, index: usize) -> T {
        let value = match self.prepared.get_mut(index) {
            Some(PreparedRequirement::Variable(value)) => value.take(),
            _ => None,
        };
        let value = value.and_then(|value| value.into_inner().downcast().ok());
        value.map_or_else(|| unprepared(index), |value| *value)
    }

    /// Returns a secret.
    pub fn secret(&self, index: usize) -> Secret {
        match self.prepared.get(index) {
            Some(PreparedRequirement::Secret(secret)) => secret.clone(),
            _ => unprepared(index),
        }
    }

    /// Returns the context of this attempt.
    pub fn context(&self) -> Arc<Context> {
        match &self.context {
            Some(context) => Arc::clone(context),
            None => unreachable!("a task that takes the context is cooperative"),
        }
    }
}

fn unprepared(index: usize) -> ! {
    unreachable!("requirement {index} was prepared before the call")
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// An input that a body borrows.
pub struct BorrowedInput<T>(Lender<T>);

enum Lender<T> {
    Value(Fragile<Arc<T>>),
    Element(Fragile<Arc<Vec<T>>>, usize),
}

impl<T> fmt::Debug for BorrowedInput<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Borrowed")
    }
}

impl<T> Deref for BorrowedInput<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Lender::Value(value) => value,
            Lender::Element(list, index) => &list[*index],
        }
    }
}
