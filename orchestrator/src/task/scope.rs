//! The scope: where nodes are written down while the body of a flow runs.
//!
//! There is at most one on a thread, and only while a body is being polled. Who polls the body reads it afterwards and
//! plans what is new. A node made without a scope is *loose*: it carries its own description.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::{Input, Resolved, TaskDef, TaskOptions};
use crate::error::GraphError;
use crate::flow::FlowCall;
use crate::value::{OutputType, Value};

/// No node: what the region of a node is that is in no mapping.
pub(crate) const NONE: u32 = u32::MAX;

/// A node, as a handle knows it.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// A node of a scope.
    Scoped { scope: u64, id: u32 },
    /// The symbolic element of a mapping of a scope.
    Element { scope: u64, mapping: u32 },
    /// A node that was made outside of any scope.
    Loose(Arc<Mutex<NodeSpec>>),
}

/// What a body wrote down of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) kind: Kind,
    /// The mapping whose closure made the node.
    pub(crate) region: u32,
    /// The `expand` whose closure made the node.
    pub(crate) stage: u32,
    pub(crate) inputs: Box<[Input]>,
    /// The type of its results, where it is a task.
    pub(crate) output: Option<&'static OutputType>,
    pub(crate) more: Option<Box<More>>,
}

/// What few nodes have.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    pub(crate) after: Vec<Handle>,
    pub(crate) name: Option<String>,
    pub(crate) options: TaskOptions,
    pub(crate) allow_failure: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Task(&'static TaskDef),
    Flow(Arc<FlowCall>),
    /// The start of a mapping: works out the list; its inputs are the lists.
    Mapping(Box<MappingSpec>),
    /// The end of a mapping: collects what became of one of its nodes, over all elements.
    Gather(Box<GatherSpec>),
}

type Length = Arc<dyn Fn(&[Value]) -> Result<usize, String> + Send + Sync>;
type Get = Arc<dyn Fn(&[Value], usize) -> Value + Send + Sync>;

#[derive(Clone)]
pub(crate) struct MappingSpec {
    pub(crate) length: Length,
    pub(crate) get: Get,
    pub(crate) plain: bool,
}

impl std::fmt::Debug for MappingSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappingSpec")
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GatherSpec {
    pub(crate) of: Handle,
    pub(crate) mapping: u32,
    pub(crate) projection: Option<super::Projection>,
    pub(crate) mode: GatherMode,
    pub(crate) collect: fn(&mut dyn Iterator<Item = Resolved>) -> Value,
}

/// What a gather is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GatherMode {
    /// The values, where no element failed.
    Values,
    /// What became of each element.
    Outcomes,
    /// Only that all are done.
    Done,
}

impl NodeSpec {
    pub(crate) fn new(kind: Kind, inputs: Box<[Input]>) -> Self {
        Self {
            kind,
            region: NONE,
            stage: NONE,
            inputs,
            output: None,
            more: None,
        }
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The name that it is called by before it is planned.
    pub(crate) fn name(&self) -> &str {
        match (
            self.more.as_ref().and_then(|more| more.name.as_deref()),
            &self.kind,
        ) {
            (Some(name), _) => name,
            (_, Kind::Task(definition)) => definition.name,
            (_, Kind::Flow(call)) => call.definition.name,
            (_, Kind::Mapping(_) | Kind::Gather(_)) => "a mapping",
        }
    }
}

/// A body waits for a node.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) node: u32,
    pub(crate) promise: Arc<Promise>,
}

/// Where a body that awaits a node is told what became of it.
#[derive(Debug, Default)]
pub(crate) struct Promise(Mutex<PromiseState>);

#[derive(Debug, Default)]
struct PromiseState {
    resolved: Option<Resolved>,
    kept: bool,
    waker: Option<Waker>,
}

impl Promise {
    pub(crate) fn fulfil(&self, resolved: Resolved) {
        let waker = {
            let mut state = self.0.lock();
            state.resolved = Some(resolved);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the body got its answer. A body may have stopped waiting before.
    pub(crate) fn was_kept(&self) -> bool {
        self.0.lock().kept
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Resolved> {
        let mut state = self.0.lock();
        match state.resolved.take() {
            Some(resolved) => {
                state.kept = true;
                Poll::Ready(resolved)
            }
            None => {
                state.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// What a body has written down since it was last looked at.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) id: u64,
    /// What stands before the keys of its nodes, as `report/`.
    pub(crate) prefix: Option<Arc<str>>,
    /// The id of the first of `specs`; nodes before it have been planned.
    pub(crate) first: u32,
    pub(crate) specs: Vec<NodeSpec>,
    pub(crate) waits: Vec<Wait>,
    /// Limits of stages: how many elements of an `expand` may be under way at once.
    pub(crate) limits: Vec<(u32, u32)>,
    /// The first thing that is wrong.
    pub(crate) problem: Option<GraphError>,
    region: u32,
    stage: u32,
    gathers: HashMap<(u32, u32, GatherMode), u32>,
}

static NEXT_SCOPE: AtomicU64 = AtomicU64::new(0);
static NEXT_STAGE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

impl Scope {
    pub(crate) fn new(prefix: Option<Arc<str>>) -> Self {
        Self {
            id: NEXT_SCOPE.fetch_add(1, Ordering::Relaxed),
            prefix,
            first: 0,
            specs: Vec::new(),
            waits: Vec::new(),
            limits: Vec::new(),
            problem: None,
            region: NONE,
            stage: NONE,
            gathers: HashMap::new(),
        }
    }

    /// Runs `body` with this scope as the thread's, and gives the scope back.
    pub(crate) fn enter<R>(self, body: impl FnOnce() -> R) -> (Self, std::thread::Result<R>) {
        let outer = CURRENT.replace(Some(self));
        let result = catch_unwind(AssertUnwindSafe(body));
        match CURRENT.replace(outer) {
            Some(scope) => (scope, result),
            None => unreachable!("a scope is taken away only by who entered it"),
        }
    }

    /// The id that the next node gets.
    fn next(&self) -> u32 {
        self.first + u32::try_from(self.specs.len()).unwrap_or(NONE - self.first)
    }

    pub(crate) fn add(&mut self, mut spec: NodeSpec) -> Handle {
        let id = self.next();
        spec.region = self.region;
        spec.stage = self.stage;
        if let (Kind::Flow(call), true) = (&spec.kind, self.region != NONE) {
            let flow = call.definition.name.to_owned();
            self.refuse(GraphError::FlowInMapping { flow });
        }
        self.specs.push(spec);
        Handle::Scoped { scope: self.id, id }
    }

    /// The node that collects what became of `of`, in all elements of `mapping`; one for each way to collect it.
    pub(crate) fn gather(&mut self, spec: GatherSpec) -> Handle {
        let key = match (&spec.of, &spec.projection) {
            (Handle::Scoped { id, .. }, None) => Some((spec.mapping, *id, spec.mode)),
            _ => None,
        };
        if let Some(id) = key.and_then(|key| self.gathers.get(&key)) {
            return Handle::Scoped {
                scope: self.id,
                id: *id,
            };
        }
        let region = self.region_of_mapping(spec.mapping);
        let handle = self.add(NodeSpec::new(Kind::Gather(Box::new(spec)), Box::new([])));
        if let Handle::Scoped { id, .. } = handle {
            let at = (id - self.first) as usize;
            self.specs[at].region = region;
            if region == NONE {
                self.specs[at].stage = NONE;
            }
            if let Some(key) = key {
                self.gathers.insert(key, id);
            }
        }
        handle
    }

    /// The region that a mapping's node is in. Mappings that are planned already are in the flow itself: nested ones
    /// are made in closures, which run at once.
    fn region_of_mapping(&self, mapping: u32) -> u32 {
        let at = mapping.checked_sub(self.first).map(|at| at as usize);
        at.and_then(|at| self.specs.get(at))
            .map_or(NONE, |spec| spec.region)
    }

    pub(crate) fn refuse(&mut self, problem: GraphError) {
        self.problem.get_or_insert(problem);
    }

    /// The description of a node that has not been planned.
    pub(crate) fn spec(&mut self, id: u32) -> Option<&mut NodeSpec> {
        let at = id.checked_sub(self.first)? as usize;
        self.specs.get_mut(at)
    }
}

/// Reads and writes the thread's scope, if there is one.
pub(crate) fn with<R>(f: impl FnOnce(&mut Scope) -> R) -> Option<R> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(f))
}

/// What the closure of an `expand` wrote down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    pub(crate) number: u32,
    /// Its first node, and how many there are.
    pub(crate) first: u32,
    pub(crate) nodes: u32,
}

impl Stage {
    pub(crate) const NOWHERE: Self = Self {
        number: NONE,
        first: NONE,
        nodes: 0,
    };
}

/// Runs the closure of an `expand` in the region of its mapping.
pub(crate) fn in_region<R>(mapping: u32, closure: impl FnOnce() -> R) -> (R, Stage) {
    let number = NEXT_STAGE.fetch_add(1, Ordering::Relaxed);
    let before = with(|scope| {
        let outer = (
            std::mem::replace(&mut scope.region, mapping),
            std::mem::replace(&mut scope.stage, number),
        );
        (outer, scope.next())
    });
    let result = catch_unwind(AssertUnwindSafe(closure));
    let stage = with(|scope| {
        let Some((outer, first)) = before else {
            return Stage::NOWHERE;
        };
        (scope.region, scope.stage) = outer;
        Stage {
            number,
            first,
            nodes: scope.next() - first,
        }
    });
    match result {
        Ok(returned) => (returned, stage.unwrap_or(Stage::NOWHERE)),
        Err(panic) => resume_unwind(panic),
    }
}

/// Adds a node: to the thread's scope, or loose.
pub(crate) fn add(spec: NodeSpec) -> Handle {
    let mut spec = Some(spec);
    let added = with(|scope| spec.take().map(|spec| scope.add(spec))).flatten();
    match (added, spec) {
        (Some(handle), _) => handle,
        (None, Some(spec)) => Handle::Loose(Arc::new(Mutex::new(spec))),
        (None, None) => unreachable!("a node is added once"),
    }
}
