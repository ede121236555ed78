//! The scope: records the nodes that the body of a flow creates.
//!
//! A thread has at most one scope, and only while it polls a body. The caller then reads the scope
//! and plans the new nodes. A node created without a scope is *loose*: it carries its own
//! description.

mod input;

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

pub use self::input::Input;
pub(crate) use self::input::{Conversion, InputSource, NodeOutcome, Projection};
use crate::definition::{FlowCall, TaskDef, TaskOptions};
use crate::error::GraphError;
use crate::index::{NodeId, StageId};
use crate::value::{OutputType, Value};

/// A reference to a node.
#[derive(Clone)]
pub(crate) enum Handle {
    /// A node of a scope.
    Scoped { scope: u64, id: NodeId },
    /// The symbolic element of a mapping in a scope; `None` if the mapping is not in a flow.
    Element { scope: u64, mapping: Option<NodeId> },
    /// A node that was created outside any scope.
    Loose(Arc<LooseNode>),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scoped { scope, id } => write!(f, "Scoped({scope}, {id})"),
            Self::Element { scope, mapping } => write!(f, "Element({scope}, {mapping:?})"),
            // without its inputs: chains of loose nodes may be long
            Self::Loose(_) => f.write_str("Loose"),
        }
    }
}

/// The description of a loose node. Its inputs may be loose nodes, too, and so on.
pub(crate) struct LooseNode(Mutex<NodeSpec>);

impl LooseNode {
    /// Locks the description. The lock must be short, and must not be held together with that of
    /// another node.
    pub(crate) fn spec(&self) -> MutexGuard<'_, NodeSpec> {
        self.0.lock()
    }
}

/// Drops a chain link by link: a long one must not need a deep stack.
impl Drop for LooseNode {
    fn drop(&mut self) {
        let mut handles = self.0.get_mut().take_handles();
        while let Some(handle) = handles.pop() {
            if let Handle::Loose(loose) = handle
                && let Some(mut loose) = Arc::into_inner(loose)
            {
                handles.append(&mut loose.0.get_mut().take_handles());
            }
        }
    }
}

/// The description of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) kind: NodeKind,
    /// The mapping whose closure created the node; `None` for a node of the flow itself.
    pub(crate) region: Option<NodeId>,
    /// The `expand` whose closure created the node.
    pub(crate) stage: Option<StageId>,
    pub(crate) inputs: Box<[Input]>,
    /// The type of its results, if it is a task.
    pub(crate) output: Option<&'static OutputType>,
    pub(crate) more: Option<Box<NodeExtras>>,
}

/// Properties that few nodes have.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeExtras {
    pub(crate) after: Vec<Handle>,
    pub(crate) name: Option<String>,
    pub(crate) options: TaskOptions,
    pub(crate) allow_failure: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Task(&'static TaskDef),
    Flow(Arc<FlowCall>),
    /// The start of a mapping: computes the list of elements. Its inputs are the mapped lists.
    Mapping(Box<MappingSpec>),
    /// The end of a mapping: collects the outcomes of one of its nodes over all elements.
    Gather(Box<GatherSpec>),
}

type ListLength = Arc<dyn Fn(&[Value]) -> Result<usize, String> + Send + Sync>;
type ElementGetter = Arc<dyn Fn(&[Value], usize) -> Value + Send + Sync>;

#[derive(Clone)]
pub(crate) struct MappingSpec {
    pub(crate) length: ListLength,
    pub(crate) get: ElementGetter,
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
    pub(crate) mapping: NodeId,
    pub(crate) projection: Option<Projection>,
    pub(crate) mode: GatherMode,
    pub(crate) collect: fn(&mut dyn Iterator<Item = NodeOutcome>) -> Value,
}

/// The purpose of a gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GatherMode {
    /// Collects the values, if no element failed.
    Values,
    /// Collects the outcome of each element.
    Outcomes,
    /// Only waits for all elements.
    Done,
}

impl NodeSpec {
    pub(crate) fn new(kind: NodeKind, inputs: Box<[Input]>) -> Self {
        Self {
            kind,
            region: None,
            stage: None,
            inputs,
            output: None,
            more: None,
        }
    }

    /// Removes and returns the nodes that it takes and waits for.
    fn take_handles(&mut self) -> Vec<Handle> {
        let mut handles = Vec::new();
        for input in std::mem::take(&mut self.inputs) {
            input.into_handles(&mut handles);
        }
        if let Some(more) = &mut self.more {
            handles.append(&mut more.after);
        }
        handles
    }

    pub(crate) fn more(&mut self) -> &mut NodeExtras {
        self.more.get_or_insert_default()
    }

    /// Returns its name before it is planned.
    pub(crate) fn name(&self) -> &str {
        match (
            self.more.as_ref().and_then(|more| more.name.as_deref()),
            &self.kind,
        ) {
            (Some(name), _) => name,
            (_, NodeKind::Task(definition)) => definition.name,
            (_, NodeKind::Flow(call)) => call.definition.name,
            (_, NodeKind::Mapping(_) | NodeKind::Gather(_)) => "a mapping",
        }
    }
}

/// A body's wait for a node.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) node: NodeId,
    pub(crate) promise: Arc<Promise>,
}

/// Passes the outcome of a node to the body that awaits it.
#[derive(Debug, Default)]
pub(crate) struct Promise(Mutex<PromiseState>);

#[derive(Debug, Default)]
struct PromiseState {
    resolved: Option<NodeOutcome>,
    kept: bool,
    waker: Option<Waker>,
}

impl Promise {
    pub(crate) fn fulfil(&self, resolved: NodeOutcome) {
        // woken without the lock: a waker may run code that polls this promise, which locks again
        let waker = {
            let mut state = self.0.lock();
            state.resolved = Some(resolved);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns `true` if the body has received the outcome. A body may stop waiting before that.
    pub(crate) fn was_kept(&self) -> bool {
        self.0.lock().kept
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<NodeOutcome> {
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

/// The nodes that a body has created since they were last read.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) id: u64,
    /// The prefix of the keys of its nodes, such as `report/`.
    pub(crate) prefix: Option<Arc<str>>,
    /// The id of the first of `specs`; nodes before it have been planned.
    pub(crate) first: NodeId,
    pub(crate) specs: Vec<NodeSpec>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) limits: Vec<StageLimit>,
    /// The first problem.
    pub(crate) problem: Option<ScopeProblem>,
    region: Option<NodeId>,
    stage: Option<StageId>,
    gathers: HashMap<GatherKey, NodeId>,
}

/// A problem in the description of a body. A scope knows planned nodes only by their ids, so the
/// problem is converted to a [`GraphError`] by the planner, which knows their names.
#[derive(Debug)]
pub(crate) enum ScopeProblem {
    /// An option was set on a node that was already planned.
    Planned { node: NodeId, option: &'static str },
    /// An option was set on a node of another scope.
    Foreign { node: NodeId },
    /// A complete error.
    Graph(GraphError),
}

impl From<GraphError> for ScopeProblem {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

/// The maximum number of active elements of an `expand`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageLimit {
    pub(crate) stage: StageId,
    pub(crate) elements: u32,
}

/// Identifies what a gather collects, so that equal gathers share a node.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GatherKey {
    mapping: NodeId,
    of: NodeId,
    mode: GatherMode,
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
            first: NodeId::MIN,
            specs: Vec::new(),
            waits: Vec::new(),
            limits: Vec::new(),
            problem: None,
            region: None,
            stage: None,
            gathers: HashMap::new(),
        }
    }

    /// Runs `body` with this scope as the thread's, and returns the scope.
    pub(crate) fn enter<R>(self, body: impl FnOnce() -> R) -> (Self, std::thread::Result<R>) {
        let outer = CURRENT.replace(Some(self));
        let result = catch_unwind(AssertUnwindSafe(body));
        match CURRENT.replace(outer) {
            Some(scope) => (scope, result),
            None => unreachable!("a scope is taken away only by who entered it"),
        }
    }

    /// Returns the id of the next node.
    fn next(&self) -> NodeId {
        self.first.plus(self.specs.len())
    }

    pub(crate) fn add(&mut self, mut spec: NodeSpec) -> Handle {
        let id = self.next();
        spec.region = self.region;
        spec.stage = self.stage;
        if let (NodeKind::Flow(call), Some(_)) = (&spec.kind, self.region) {
            let flow = call.definition.name.to_owned();
            self.refuse(GraphError::FlowInMapping { flow });
        }
        self.specs.push(spec);
        Handle::Scoped { scope: self.id, id }
    }

    /// Returns the node that collects the outcomes of `of` over all elements of `mapping`. There is
    /// one node for each way to collect them.
    pub(crate) fn gather(&mut self, spec: GatherSpec) -> Handle {
        let key = match (&spec.of, &spec.projection) {
            (Handle::Scoped { id, .. }, None) => Some(GatherKey {
                mapping: spec.mapping,
                of: *id,
                mode: spec.mode,
            }),
            _ => None,
        };
        if let Some(id) = key.as_ref().and_then(|key| self.gathers.get(key)) {
            return Handle::Scoped {
                scope: self.id,
                id: *id,
            };
        }
        let region = self.region_of_mapping(spec.mapping);
        let handle = self.add(NodeSpec::new(
            NodeKind::Gather(Box::new(spec)),
            Box::new([]),
        ));
        if let Handle::Scoped { id, .. } = handle {
            if let Some(spec) = self.spec(id) {
                spec.region = region;
                spec.stage = region.and(spec.stage);
            }
            if let Some(key) = key {
                self.gathers.insert(key, id);
            }
        }
        handle
    }

    /// Returns the region of a mapping's node. Mappings that are already planned are in the flow
    /// itself: nested ones are created in closures, which run at once.
    fn region_of_mapping(&mut self, mapping: NodeId) -> Option<NodeId> {
        self.spec(mapping)?.region
    }

    pub(crate) fn refuse(&mut self, problem: impl Into<ScopeProblem>) {
        self.problem.get_or_insert(problem.into());
    }

    /// Returns the description of a node that has not been planned.
    pub(crate) fn spec(&mut self, id: NodeId) -> Option<&mut NodeSpec> {
        let at = id.index().checked_sub(self.first.index())?;
        self.specs.get_mut(at)
    }
}

/// Accesses the thread's scope, if there is one.
pub(crate) fn with<R>(f: impl FnOnce(&mut Scope) -> R) -> Option<R> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(f))
}

/// The nodes that the closure of an `expand` created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageNodes {
    pub(crate) id: StageId,
    /// The first node, and the number of nodes.
    pub(crate) first: NodeId,
    pub(crate) nodes: usize,
}

/// Runs the closure of an `expand` in the region of its mapping. Also returns the nodes that it
/// created, if there is a scope.
pub(crate) fn in_region<R>(
    mapping: Option<NodeId>,
    closure: impl FnOnce() -> R,
) -> (R, Option<StageNodes>) {
    let id = StageId::new(NEXT_STAGE.fetch_add(1, Ordering::Relaxed));
    let before = with(|scope| {
        let outer = (
            std::mem::replace(&mut scope.region, mapping),
            scope.stage.replace(id),
        );
        (outer, scope.next())
    });
    let result = catch_unwind(AssertUnwindSafe(closure));
    let stage = with(|scope| {
        let (outer, first) = before?;
        (scope.region, scope.stage) = outer;
        Some(StageNodes {
            id,
            first,
            nodes: scope.next().index() - first.index(),
        })
    });
    match result {
        Ok(returned) => (returned, stage.flatten()),
        Err(panic) => resume_unwind(panic),
    }
}

/// Adds a node to the thread's scope, or creates a loose one.
pub(crate) fn add(spec: NodeSpec) -> Handle {
    let mut spec = Some(spec);
    let added = with(|scope| spec.take().map(|spec| scope.add(spec))).flatten();
    match (added, spec) {
        (Some(handle), _) => handle,
        (None, Some(spec)) => Handle::Loose(Arc::new(LooseNode(Mutex::new(spec)))),
        (None, None) => unreachable!("a node is added once"),
    }
}
