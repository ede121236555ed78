//! Plans the nodes that a body created: assigns keys, edges and policies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{InstanceKey, NodeMeta, NodeWiring, check};
use crate::bounds;
use crate::error::GraphError;
use crate::index::{GateId, IndexVec, NodeId, NodeNumber, ScopeId, StageId};
use crate::policy::retry::Policy;
use crate::policy::trigger::may_be_met_after_a_cancel;
use crate::scope::{GatherMode, Handle, NodeKind, NodeSpec, Scope, ScopeProblem};
use crate::task::{Conversion, Input, TaskDef, TaskOptions};
use crate::value::OutputType;

/// The planned nodes of a run. Nodes are only added, so ids stay valid.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    pub(crate) nodes: IndexVec<NodeId, PlannedNode>,
    /// The nodes of each mapping, by the id of the mapping's node.
    pub(crate) members: HashMap<NodeId, Vec<NodeId>>,
    root_members: u32,
    /// The number of uses of each name.
    names: HashMap<(Option<Arc<str>>, Cow<'static, str>), u32>,
    /// The last name and its number of uses: most nodes have the same name as the one before.
    last_name: Option<(Option<Arc<str>>, Cow<'static, str>, u32)>,
    /// The policy of a task that is called without options, in the scope that is being planned.
    policies: HashMap<usize, Arc<Policy>, AddressHash>,
    last: Option<(usize, Arc<Policy>)>,
}

/// A hasher for addresses of statics. They are trusted input, and one is looked up for each node.
type AddressHash = std::hash::BuildHasherDefault<AddressHasher>;

#[derive(Debug, Default)]
pub(crate) struct AddressHasher(u64);

impl std::hash::Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A node of the graph.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) kind: NodeKind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) prefix: Option<Arc<str>>,
    /// The number of this use of the name, from 1.
    pub(crate) number: u32,
    /// The mapping that it is in; `None` for a node of the flow itself.
    pub(crate) region: Option<NodeId>,
    /// Its index among the nodes of its region.
    pub(crate) local: u32,
    pub(crate) stage: Option<StageId>,
    /// The scope that created it.
    pub(crate) scope: ScopeId,
    /// Its position among the nodes of the flow itself: that of its outermost mapping for a mapped
    /// node.
    pub(crate) order: NodeId,
    pub(crate) inputs: Box<[Input]>,
    pub(crate) upstreams: SmallVec<[Edge; 3]>,
    pub(crate) links: SmallVec<[ReverseEdge; 3]>,
    pub(crate) policy: Arc<Policy>,
    /// The number of inputs that take its value, element by element.
    pub(crate) uses: u32,
    /// Whether its value may be needed again by a consumer that `uses` does not count.
    pub(crate) pinned: bool,
    pub(crate) allow_failure: bool,
    /// The consumer of a node that a body returned. Set by the runtime.
    pub(crate) returned_to: Option<ReturnTarget>,
    /// The limits of its body. Set by the runtime.
    pub(crate) gate: GateId,
    /// The type of its results, if it is a task.
    pub(crate) output: Option<&'static OutputType>,
    /// Its wiring, in a run that may have to be resumed.
    pub(crate) wiring: Option<Box<NodeWiring<NodeId>>>,
    /// Its number in the run's log, and its index there among the nodes of its region. They differ
    /// from its id and index only if the run was resumed.
    pub(crate) logged: NodeNumber,
    pub(crate) logged_local: u32,
    /// Whether it was planned by an earlier execution of the run, and so is recorded.
    pub(crate) recorded: bool,
}

/// The consumer of a node that the body of a flow returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnTarget {
    /// The caller of the run.
    Caller,
    /// The node of the nested flow.
    Node(NodeId),
}

/// A dependency of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) node: NodeId,
    pub(crate) takes: UpstreamUse,
    pub(crate) reach: Reach,
}

/// A dependent of a node: an edge, seen from its other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReverseEdge {
    pub(crate) to: NodeId,
    pub(crate) takes: UpstreamUse,
    pub(crate) reach: Reach,
}

/// The relation of an edge to mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Within one mapping, element by element, or outside any mapping.
    Same,
    /// Into a mapping: all elements take one result.
    Into,
    /// Out of a mapping: its gather takes all elements.
    OutOf,
}

/// What a node makes of an upstream. Ordered: the strictest use counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UpstreamUse {
    /// Only waits for the upstream (`.after`).
    Nothing,
    /// Takes the outcome, whatever it is.
    Outcome,
    /// Takes the value, if it exists.
    Option,
    /// Takes the value.
    Plain,
}

impl From<Conversion> for UpstreamUse {
    fn from(convert: Conversion) -> Self {
        match convert {
            Conversion::Plain => Self::Plain,
            Conversion::Option(_) => Self::Option,
            Conversion::Outcome(_) | Conversion::Outcomes => Self::Outcome,
        }
    }
}

/// The options that apply if neither the call nor the task sets them: the flow's, then the
/// runtime's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) flow: TaskOptions,
    pub(crate) runtime: TaskOptions,
}

impl Wiring {
    /// Plans the nodes that a scope has recorded since the last call. `scope` is its number in the
    /// run.
    ///
    /// # Errors
    ///
    /// Returns an error if the nodes do not form a valid graph. None of the batch must run then.
    pub(crate) fn absorb(
        &mut self,
        scope: &mut Scope,
        number: ScopeId,
        defaults: &Defaults,
    ) -> Result<(), GraphError> {
        let first = self.nodes.next_id();
        let absorbed = match scope.problem.take() {
            Some(problem) => Err(self.name_nodes(problem)),
            None => self.add_all(scope, number, defaults, first),
        };
        if absorbed.is_err() {
            self.forget(first);
        }
        absorbed
    }

    /// Removes the nodes from `first` on.
    pub(crate) fn forget(&mut self, first: NodeId) {
        let kept = |id: &NodeId| *id < first;
        for node in self.nodes.drain_from(first) {
            self.root_members -= u32::from(node.region.is_none());
        }
        self.nodes
            .iter_mut()
            .for_each(|node| node.links.retain(|link| kept(&link.to)));
        self.members
            .values_mut()
            .for_each(|members| members.retain(kept));
    }

    fn add_all(
        &mut self,
        scope: &mut Scope,
        number: ScopeId,
        defaults: &Defaults,
        first: NodeId,
    ) -> Result<(), GraphError> {
        debug_assert_eq!(scope.first, first);
        self.nodes.reserve(scope.specs.len());
        self.last = None;
        self.policies.clear();
        let mut afters = Vec::new();
        for spec in scope.specs.drain(..) {
            afters.extend(self.add(spec, scope.prefix.as_ref(), number, defaults)?);
        }
        let (mut afters, mut forward) = (afters.into_iter().peekable(), false);
        for id in first.until(self.nodes.next_id()) {
            self.wire(id, scope.id)?;
            while let Some((_, handles)) = afters.next_if(|(of, _)| *of == id) {
                for handle in handles {
                    forward |= self.wait_for(id, &handle, scope.id)?;
                }
            }
        }
        if forward {
            check::acyclic(self, first)?;
        }
        for id in first.until(self.nodes.next_id()) {
            self.number(id);
        }
        scope.first = self.nodes.next_id();
        self.name_mappings(first);
        Ok(())
    }

    /// Adds a node without its edges, and returns the nodes that it only waits for. Options that
    /// the node must not have are refused here, wherever they were set.
    fn add(
        &mut self,
        spec: NodeSpec,
        prefix: Option<&Arc<str>>,
        scope: ScopeId,
        defaults: &Defaults,
    ) -> Result<Option<(NodeId, Vec<Handle>)>, GraphError> {
        let id = self.nodes.next_id();
        if let Some(problem) = spec.more.as_ref().and_then(|more| more.options.problem()) {
            return Err(GraphError::Option {
                task: spec.name().to_owned(),
                problem,
            });
        }
        let NodeSpec {
            kind,
            region,
            stage,
            inputs,
            output,
            more,
        } = spec;
        let mut name = match &kind {
            NodeKind::Task(definition) => Cow::Borrowed(definition.name),
            NodeKind::Flow(call) => Cow::Borrowed(call.definition.name),
            NodeKind::Mapping(_) => Cow::Borrowed("expand()"),
            NodeKind::Gather(_) => Cow::Borrowed("gather"),
        };
        let policy = match (&kind, &more) {
            (NodeKind::Task(definition), Some(more)) => {
                let options = more
                    .options
                    .clone()
                    .or(&definition.options)
                    .or(&defaults.flow)
                    .or(&defaults.runtime);
                Arc::new(Policy::from(options))
            }
            (NodeKind::Task(definition), None) => self.policy(definition, defaults),
            (_, Some(more)) => Arc::new(Policy::from(more.options.clone())),
            (_, None) => self.plain_policy(),
        };
        let local = match region {
            None => {
                self.root_members += 1;
                self.root_members - 1
            }
            Some(mapping) => {
                let members = self.members.entry(mapping).or_default();
                members.push(id);
                u32::try_from(members.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let order = region
            .and_then(|mapping| self.nodes.get(mapping))
            .map_or(id, |mapping| mapping.order);
        let (mut after, mut allow_failure) = (None, false);
        if let Some(more) = more {
            allow_failure = more.allow_failure;
            if let Some(given) = more.name {
                name = Cow::Owned(given);
            }
            after = (!more.after.is_empty()).then_some((id, more.after));
        }
        self.nodes.push(PlannedNode {
            kind,
            name,
            prefix: prefix.cloned(),
            number: 1,
            region,
            local,
            stage,
            scope,
            order,
            inputs,
            output,
            upstreams: SmallVec::new(),
            links: SmallVec::new(),
            policy,
            uses: 0,
            pinned: false,
            allow_failure,
            returned_to: None,
            gate: GateId::PLAIN,
            wiring: None,
            logged: NodeNumber::new(id.get()),
            logged_local: local,
            recorded: false,
        });
        Ok(after)
    }

    fn policy(&mut self, definition: &'static TaskDef, defaults: &Defaults) -> Arc<Policy> {
        let key = std::ptr::from_ref(definition).addr();
        if let Some((last, policy)) = &self.last
            && *last == key
        {
            return Arc::clone(policy);
        }
        let policy = self.policies.entry(key).or_insert_with(|| {
            Arc::new(Policy::from(
                definition
                    .options
                    .clone()
                    .or(&defaults.flow)
                    .or(&defaults.runtime),
            ))
        });
        self.last = Some((key, Arc::clone(policy)));
        Arc::clone(policy)
    }

    /// Returns an error if a task with `run_on_cancel` has a trigger rule that cannot be met after
    /// a cancellation.
    fn check_clean_up(&self, id: NodeId) -> Result<(), GraphError> {
        let PlannedNode { policy, name, .. } = &self.nodes[id];
        let rule = policy.trigger.unwrap_or_default();
        if !policy.run_on_cancel || may_be_met_after_a_cancel(rule) {
            return Ok(());
        }
        let problem = format!(
            "expected `run_on_cancel` with a trigger rule that can be met after upstreams were cancelled, got \
             {rule}: set `trigger` to `all_done`"
        );
        Err(GraphError::Option {
            task: name.to_string(),
            problem,
        })
    }

    /// Returns the policy of internal nodes, on which options cannot be set.
    fn plain_policy(&mut self) -> Arc<Policy> {
        Arc::clone(
            self.policies
                .entry(0)
                .or_insert_with(|| Arc::new(Policy::from(TaskOptions::NONE))),
        )
    }

    /// Creates the edges of a node from its inputs.
    fn wire(&mut self, id: NodeId, scope: u64) -> Result<(), GraphError> {
        self.check_clean_up(id)?;
        if let Some(problem) = bounds::fault(&self.nodes[id].name, bounds::NAME) {
            return Err(GraphError::LongName { problem });
        }
        let inputs = std::mem::take(&mut self.nodes[id].inputs);
        let mut problem = None;
        for input in &inputs {
            input.for_each_node(&mut |handle, convert| {
                if problem.is_none() {
                    problem = self.take(id, handle, convert.into(), scope).err();
                }
            });
        }
        self.nodes[id].inputs = inputs;
        if let NodeKind::Gather(gather) = &self.nodes[id].kind {
            let (of, takes) = (
                gather.of.clone(),
                match gather.mode {
                    GatherMode::Values => UpstreamUse::Plain,
                    GatherMode::Outcomes => UpstreamUse::Outcome,
                    GatherMode::Done => UpstreamUse::Nothing,
                },
            );
            // the bare elements of a list depend only on the list
            let of = match of {
                Handle::Element {
                    scope,
                    mapping: Some(id),
                } => Handle::Scoped { scope, id },
                node => node,
            };
            problem = problem.or(self.take(id, &of, takes, scope).err());
        }
        problem.map_or(Ok(()), Err)
    }

    fn take(
        &mut self,
        id: NodeId,
        handle: &Handle,
        takes: UpstreamUse,
        scope: u64,
    ) -> Result<(), GraphError> {
        let Some((upstream, reach)) = self.find(id, handle, scope)? else {
            return Ok(());
        };
        let cleans_up = self.nodes[id].policy.run_on_cancel;
        let source = &mut self.nodes[upstream];
        if cleans_up
            && matches!(&source.kind, NodeKind::Gather(gather) if gather.mode == GatherMode::Outcomes)
        {
            // then there are outcomes to take
            source.policy = Arc::new(Policy {
                run_on_cancel: true,
                ..Policy::clone(&source.policy)
            });
        }
        if takes != UpstreamUse::Nothing {
            source.uses += 1;
            source.pinned |= reach == Reach::Into;
        }
        self.edge(id, upstream, takes, reach);
        Ok(())
    }

    /// Adds dependencies to a node. Returns `true` if one of them was created after it.
    fn wait_for(&mut self, id: NodeId, handle: &Handle, scope: u64) -> Result<bool, GraphError> {
        let Some((upstream, reach)) = self.find(id, handle, scope)? else {
            return Ok(false);
        };
        self.edge(id, upstream, UpstreamUse::Nothing, reach);
        Ok(upstream >= id)
    }

    /// Adds an edge, or makes an existing one as strict.
    fn edge(&mut self, id: NodeId, upstream: NodeId, takes: UpstreamUse, reach: Reach) {
        // edges are created node by node, so the last link of an upstream tells whether it already
        // has one to this node
        if let Some(link) = self.nodes[upstream]
            .links
            .last_mut()
            .filter(|link| link.to == id)
        {
            link.takes = link.takes.max(takes);
            let strictest = link.takes;
            if let Some(edge) = self.nodes[id]
                .upstreams
                .iter_mut()
                .rev()
                .find(|edge| edge.node == upstream)
            {
                edge.takes = strictest;
            }
            return;
        }
        self.nodes[id].upstreams.push(Edge {
            node: upstream,
            takes,
            reach,
        });
        self.nodes[upstream].links.push(ReverseEdge {
            to: id,
            takes,
            reach,
        });
    }

    /// Returns the node behind a handle, from the point of view of node `id`. Returns `None` for an
    /// element, which exists whenever its consumer does.
    fn find(
        &self,
        id: NodeId,
        handle: &Handle,
        own: u64,
    ) -> Result<Option<(NodeId, Reach)>, GraphError> {
        let task = || self.nodes[id].name.to_string();
        let region = self.nodes[id].region;
        match handle {
            Handle::Scoped {
                scope,
                id: upstream,
            } if *scope == own && *upstream < self.nodes.next_id() => {
                let source = &self.nodes[*upstream];
                let gathers = |mapping: &NodeId| match &self.nodes[id].kind {
                    NodeKind::Gather(gather) => gather.mapping == *mapping,
                    _ => false,
                };
                let gathered = source.region.filter(gathers);
                if source.region == region {
                    Ok(Some((*upstream, Reach::Same)))
                } else if self.is_within(region, source.region) {
                    Ok(Some((*upstream, Reach::Into)))
                } else if gathered.is_some_and(|mapping| self.nodes[mapping].region == region) {
                    Ok(Some((*upstream, Reach::OutOf)))
                } else {
                    Err(GraphError::OutsideMapping {
                        task: task(),
                        node: source.name.to_string(),
                    })
                }
            }
            Handle::Element { scope, mapping } if *scope == own => {
                match self.is_within(region, *mapping) {
                    true => Ok(None),
                    false => Err(GraphError::OutsideMapping {
                        task: task(),
                        node: "an element".to_owned(),
                    }),
                }
            }
            Handle::Scoped { .. } | Handle::Element { .. } | Handle::Loose(_) => {
                Err(GraphError::ForeignNode { task: task() })
            }
        }
    }

    /// Returns `true` if a region is the same as another, or inside it. All regions are inside the
    /// flow itself.
    fn is_within(&self, mut region: Option<NodeId>, outer: Option<NodeId>) -> bool {
        while region != outer {
            match region.and_then(|mapping| self.nodes.get(mapping)) {
                Some(mapping) => region = mapping.region,
                None => return false,
            }
        }
        true
    }

    /// Assigns a node its number among those with its name.
    fn number(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        if matches!(node.kind, NodeKind::Mapping(_) | NodeKind::Gather(_)) {
            return;
        }
        let same = |(prefix, name, _): &&mut (Option<Arc<str>>, Cow<'static, str>, u32)| {
            name.as_ptr() == node.name.as_ptr() && *name == node.name && *prefix == node.prefix
        };
        if let Some((_, _, uses)) = self.last_name.as_mut().filter(same) {
            *uses += 1;
            node.number = *uses;
            return;
        }
        let key = (node.prefix.clone(), node.name.clone());
        if let Some((prefix, name, uses)) = self.last_name.take() {
            self.names.insert((prefix, name), uses);
        }
        let uses = self.names.get(&key).copied().unwrap_or(0) + 1;
        node.number = uses;
        self.last_name = Some((key.0, key.1, uses));
    }

    /// Names each mapping after its first task.
    fn name_mappings(&mut self, first: NodeId) {
        for id in first.until(self.nodes.next_id()) {
            if matches!(self.nodes[id].kind, NodeKind::Mapping(_)) {
                let members = self.members.get(&id);
                let named = members.and_then(|members| {
                    members
                        .iter()
                        .find(|member| matches!(self.nodes[**member].kind, NodeKind::Task(_)))
                });
                if let Some(member) = named {
                    let name = format!("expand({})", self.nodes[*member].name);
                    self.nodes[id].name = Cow::Owned(name);
                }
            }
        }
    }

    /// Returns the key of the first task of a mapping.
    pub(crate) fn key_of_mapping(&self, mapping: NodeId) -> String {
        let mut members = self
            .members
            .get(&mapping)
            .into_iter()
            .flatten()
            .map(|member| &self.nodes[*member]);
        members
            .find(|member| !member.is_hidden())
            .unwrap_or(&self.nodes[mapping])
            .key()
    }

    /// Converts a problem of a scope to an error, with the names of the nodes.
    fn name_nodes(&self, problem: ScopeProblem) -> GraphError {
        // a node of another run's scope may have an id that this run does not have
        let name = |id: NodeId| match self.nodes.get(id) {
            Some(node) => node.name.to_string(),
            None => format!("node {id}"),
        };
        match problem {
            ScopeProblem::Planned { node, option } => GraphError::Planned {
                task: name(node),
                option,
            },
            ScopeProblem::Foreign { node } => GraphError::ForeignNode { task: name(node) },
            ScopeProblem::Graph(error) => error,
        }
    }

    /// Returns the part of a node that is recorded.
    pub(crate) fn meta(&self, node: NodeId) -> NodeMeta {
        let node = &self.nodes[node];
        let logged = |id: NodeId| self.nodes[id].logged;
        let wiring = node.wiring.as_ref();
        let wiring = wiring.map(|wiring| Box::new(wiring.renamed(logged)));
        NodeMeta {
            prefix: node.prefix.clone(),
            name: node.name.clone(),
            number: node.number,
            region: node.region.map(logged),
            local: node.logged_local,
            hidden: node.is_hidden(),
            wiring,
        }
    }
}

impl PlannedNode {
    /// Returns `true` for an internal node of a mapping, which is not in the user's code.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.kind, NodeKind::Mapping(_) | NodeKind::Gather(_))
    }

    /// Returns the key, without indexes of elements.
    pub(crate) fn key(&self) -> String {
        self.key_of(SmallVec::new()).to_string()
    }

    /// Returns the key of the element with these indexes.
    pub(crate) fn key_of(&self, path: SmallVec<[u32; 2]>) -> InstanceKey {
        InstanceKey {
            prefix: self.prefix.clone(),
            name: self.name.clone(),
            number: self.number,
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Results, TaskBody};

    static TASK: TaskDef = TaskDef::plain(
        "load",
        TaskBody::Blocking(|_| unreachable!("no one runs it")),
    );

    #[test]
    fn an_option_that_comes_too_late_names_the_task() {
        let mut wiring = Wiring::default();
        let mut absorb = |mut scope: Scope| {
            scope.first = wiring.nodes.next_id();
            let absorbed = wiring.absorb(&mut scope, ScopeId::FLOW, &Defaults::default());
            (scope, absorbed)
        };
        let (scope, node) = Scope::new(None)
            .enter(|| Results::<u32>::node(&TASK, Box::new([]), None).named("early"));
        let (scope, node) = (absorb(scope).0, node.unwrap());
        let (scope, _) = scope.enter(|| node.clone().retries(1));
        let (task, option) = ("early".to_owned(), "retries");
        assert_eq!(absorb(scope).1, Err(GraphError::Planned { task, option }));
        let (other, _) = Scope::new(None).enter(|| node.retries(1));
        let task = "early".to_owned();
        assert_eq!(absorb(other).1, Err(GraphError::ForeignNode { task }));
    }
}
