//! From what a body wrote down to nodes with keys, edges and policies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{InstanceKey, NodeMeta, Wired, check};
use crate::error::GraphError;
use crate::policy::retry::Policy;
use crate::task::scope::{GatherMode, Handle, Kind, NONE, NodeSpec, Scope};
use crate::task::{Convert, Input, TaskDef, TaskOptions};
use crate::value::OutputType;

/// The planned nodes of a run. It only grows: ids stay.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    pub(crate) nodes: Vec<Planned>,
    /// The nodes of each mapping, by the id of the mapping's node.
    pub(crate) members: HashMap<u32, Vec<u32>>,
    root_members: u32,
    /// How often each name was used.
    names: HashMap<(Option<Arc<str>>, Cow<'static, str>), u32>,
    /// The name that was looked up last, and how often it was used: most nodes have the name of the one before.
    last_name: Option<(Option<Arc<str>>, Cow<'static, str>, u32)>,
    /// The policy of a task that is called without options, for the scope that is being planned.
    policies: HashMap<usize, Arc<Policy>, AddressHash>,
    last: Option<(usize, Arc<Policy>)>,
}

/// Addresses of statics are no input of strangers, and one is looked up for each node.
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

/// A node with its place in the graph.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) prefix: Option<Arc<str>>,
    /// The number of this use of the name, from 1.
    pub(crate) number: u32,
    /// The mapping that it is in, or `NONE`.
    pub(crate) region: u32,
    /// Its place among the nodes of its region.
    pub(crate) local: u32,
    pub(crate) stage: u32,
    /// The scope that it was written down in.
    pub(crate) scope: u32,
    /// Where it stands among the nodes of the flow itself: a mapped node stands where its outermost mapping does.
    pub(crate) order: u32,
    pub(crate) inputs: Box<[Input]>,
    pub(crate) upstreams: SmallVec<[Edge; 3]>,
    pub(crate) links: SmallVec<[Link; 3]>,
    pub(crate) policy: Arc<Policy>,
    /// How many inputs take its value, element by element.
    pub(crate) uses: u32,
    /// Its value may be asked for again by somebody that `uses` does not count.
    pub(crate) pinned: bool,
    pub(crate) allow_failure: bool,
    /// Set by the runtime: a body returned it; the node of that flow, or `NONE` for the run's own caller.
    pub(crate) returned_to: Option<u32>,
    /// Set by the runtime: which limits its body needs.
    pub(crate) gate: u32,
    /// The type of its results, where it is a task.
    pub(crate) output: Option<&'static OutputType>,
    /// How it is wired, in a run that may have to go on.
    pub(crate) wired: Option<Box<Wired>>,
    /// Its number in the run's log, and its place there among the nodes of its region: its own ones, but for a run that
    /// goes on.
    pub(crate) logged: u32,
    pub(crate) logged_local: u32,
    /// It was planned in an earlier life of the run, and is recorded.
    pub(crate) recorded: bool,
}

/// What a node waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) node: u32,
    pub(crate) takes: Takes,
    pub(crate) reach: Reach,
}

/// Who waits for a node: an edge, seen from its other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) to: u32,
    pub(crate) takes: Takes,
    pub(crate) reach: Reach,
}

/// How an edge crosses mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Within one mapping, element by element; or outside of all.
    Same,
    /// Into a mapping: all elements take one result.
    Into,
    /// Out of a mapping: its gather takes all elements.
    OutOf,
}

/// What a node makes of an upstream. Ordered: the strictest use counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Takes {
    /// It only waits for it (`.after`).
    Nothing,
    /// It takes whatever became of it.
    Outcome,
    /// It takes the value where there is one.
    Option,
    /// It takes the value.
    Plain,
}

impl From<Convert> for Takes {
    fn from(convert: Convert) -> Self {
        match convert {
            Convert::Plain => Self::Plain,
            Convert::Option(_) => Self::Option,
            Convert::Outcome(_) | Convert::Outcomes => Self::Outcome,
        }
    }
}

/// The options that hold where a call and its task leave them open: the flow's, then the runtime's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) flow: TaskOptions,
    pub(crate) runtime: TaskOptions,
}

impl Wiring {
    /// Plans what a scope has written down since it was last looked at. `scope` is its number in the run.
    ///
    /// # Errors
    ///
    /// Refuses what is no graph; then nothing of the batch is to be run.
    pub(crate) fn absorb(
        &mut self,
        scope: &mut Scope,
        number: u32,
        defaults: &Defaults,
    ) -> Result<(), GraphError> {
        let first = self.nodes.len();
        let absorbed = match scope.problem.take() {
            Some(problem) => Err(self.name_nodes(problem, scope)),
            None => self.add_all(scope, number, defaults, first),
        };
        if absorbed.is_err() {
            self.forget(first);
        }
        absorbed
    }

    /// Takes back the nodes from `first` on.
    pub(crate) fn forget(&mut self, first: usize) {
        let kept = |id: &u32| (*id as usize) < first;
        for node in self.nodes.drain(first..) {
            self.root_members -= u32::from(node.region == NONE);
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
        number: u32,
        defaults: &Defaults,
        first: usize,
    ) -> Result<(), GraphError> {
        debug_assert_eq!(scope.first as usize, first);
        self.nodes.reserve(scope.specs.len());
        self.last = None;
        self.policies.clear();
        let mut afters = Vec::new();
        for (id, spec) in (scope.first..).zip(scope.specs.drain(..)) {
            afters.extend(self.add(id, spec, scope.prefix.as_ref(), number, defaults));
        }
        let (mut afters, mut forward) = (afters.into_iter().peekable(), false);
        for id in first..self.nodes.len() {
            self.wire(id, scope.id)?;
            while let Some((_, handles)) = afters.next_if(|(of, _)| *of as usize == id) {
                for handle in handles {
                    forward |= self.wait_for(id, &handle, scope.id)?;
                }
            }
        }
        if forward {
            check::acyclic(self, first)?;
        }
        for id in first..self.nodes.len() {
            self.number(id);
        }
        scope.first = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.name_mappings(first);
        Ok(())
    }

    /// Adds a node without its edges; gives back what it only waits for.
    fn add(
        &mut self,
        id: u32,
        spec: NodeSpec,
        prefix: Option<&Arc<str>>,
        scope: u32,
        defaults: &Defaults,
    ) -> Option<(u32, Vec<Handle>)> {
        let NodeSpec {
            kind,
            region,
            stage,
            inputs,
            output,
            more,
        } = spec;
        let mut name = match &kind {
            Kind::Task(definition) => Cow::Borrowed(definition.name),
            Kind::Flow(call) => Cow::Borrowed(call.definition.name),
            Kind::Mapping(_) => Cow::Borrowed("expand()"),
            Kind::Gather(_) => Cow::Borrowed("gather"),
        };
        let policy = match (&kind, &more) {
            (Kind::Task(definition), Some(more)) => {
                let options = more
                    .options
                    .clone()
                    .or(&definition.options)
                    .or(&defaults.flow)
                    .or(&defaults.runtime);
                Arc::new(Policy::from(options))
            }
            (Kind::Task(definition), None) => self.policy(definition, defaults),
            (_, Some(more)) => Arc::new(Policy::from(more.options.clone())),
            (_, None) => self.plain_policy(),
        };
        let local = match region {
            NONE => {
                self.root_members += 1;
                self.root_members - 1
            }
            mapping => {
                let members = self.members.entry(mapping).or_default();
                members.push(id);
                u32::try_from(members.len() - 1).unwrap_or(NONE)
            }
        };
        let order = self
            .nodes
            .get(region as usize)
            .map_or(id, |mapping| mapping.order);
        let (mut after, mut allow_failure) = (None, false);
        if let Some(more) = more {
            allow_failure = more.allow_failure;
            if let Some(given) = more.name {
                name = Cow::Owned(given);
            }
            after = (!more.after.is_empty()).then_some((id, more.after));
        }
        self.nodes.push(Planned {
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
            gate: 0,
            wired: None,
            logged: id,
            logged_local: local,
            recorded: false,
        });
        after
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

    /// The policy of what nobody can set options on.
    fn plain_policy(&mut self) -> Arc<Policy> {
        Arc::clone(
            self.policies
                .entry(0)
                .or_insert_with(|| Arc::new(Policy::from(TaskOptions::NONE))),
        )
    }

    /// Makes the edges of a node from what its inputs take.
    fn wire(&mut self, id: usize, scope: u64) -> Result<(), GraphError> {
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
        if let Kind::Gather(gather) = &self.nodes[id].kind {
            let (of, takes) = (
                gather.of.clone(),
                match gather.mode {
                    GatherMode::Values => Takes::Plain,
                    GatherMode::Outcomes => Takes::Outcome,
                    GatherMode::Done => Takes::Nothing,
                },
            );
            // of the bare elements of a list there is nothing to wait for but the list
            let of = match of {
                Handle::Element { scope, mapping } => Handle::Scoped { scope, id: mapping },
                node => node,
            };
            problem = problem.or(self.take(id, &of, takes, scope).err());
        }
        problem.map_or(Ok(()), Err)
    }

    fn take(
        &mut self,
        id: usize,
        handle: &Handle,
        takes: Takes,
        scope: u64,
    ) -> Result<(), GraphError> {
        let Some((upstream, reach)) = self.find(id, handle, scope)? else {
            return Ok(());
        };
        let source = &mut self.nodes[upstream as usize];
        if takes != Takes::Nothing {
            source.uses += 1;
            source.pinned |= reach == Reach::Into;
        }
        self.edge(id, upstream, takes, reach);
        Ok(())
    }

    /// Lets a node wait; says whether it waits for one that was made after it.
    fn wait_for(&mut self, id: usize, handle: &Handle, scope: u64) -> Result<bool, GraphError> {
        let Some((upstream, reach)) = self.find(id, handle, scope)? else {
            return Ok(false);
        };
        self.edge(id, upstream, Takes::Nothing, reach);
        Ok(upstream as usize >= id)
    }

    /// Adds an edge, or makes the one that is there as strict.
    fn edge(&mut self, id: usize, upstream: u32, takes: Takes, reach: Reach) {
        let to = u32::try_from(id).unwrap_or(NONE);
        // edges are made node by node: the last link of an upstream tells whether there is one to this node
        if let Some(link) = self.nodes[upstream as usize]
            .links
            .last_mut()
            .filter(|link| link.to == to)
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
        self.nodes[upstream as usize]
            .links
            .push(Link { to, takes, reach });
    }

    /// The node behind a handle, as node `id` may reach it; none for an element, which is there when its user is.
    fn find(
        &self,
        id: usize,
        handle: &Handle,
        own: u64,
    ) -> Result<Option<(u32, Reach)>, GraphError> {
        let task = || self.nodes[id].name.to_string();
        let region = self.nodes[id].region;
        match handle {
            Handle::Scoped {
                scope,
                id: upstream,
            } if *scope == own && (*upstream as usize) < self.nodes.len() => {
                let source = &self.nodes[*upstream as usize];
                let gathered = matches!(&self.nodes[id].kind, Kind::Gather(gather) if gather.mapping == source.region);
                if source.region == region {
                    Ok(Some((*upstream, Reach::Same)))
                } else if self.is_within(region, source.region) {
                    Ok(Some((*upstream, Reach::Into)))
                } else if gathered && self.nodes[source.region as usize].region == region {
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

    /// Whether a region is another, or inside it.
    pub(crate) fn is_within(&self, mut region: u32, outer: u32) -> bool {
        loop {
            if region == outer {
                return true;
            }
            match self.nodes.get(region as usize) {
                Some(mapping) => region = mapping.region,
                None => return false,
            }
        }
    }

    /// Gives a node its number among those of its name.
    fn number(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        if matches!(node.kind, Kind::Mapping(_) | Kind::Gather(_)) {
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

    /// Calls each mapping by its first task.
    fn name_mappings(&mut self, first: usize) {
        for id in first..self.nodes.len() {
            if matches!(self.nodes[id].kind, Kind::Mapping(_)) {
                let members = self.members.get(&u32::try_from(id).unwrap_or(NONE));
                let named = members.and_then(|members| {
                    members
                        .iter()
                        .find(|member| matches!(self.nodes[**member as usize].kind, Kind::Task(_)))
                });
                if let Some(member) = named {
                    let name = format!("expand({})", self.nodes[*member as usize].name);
                    self.nodes[id].name = Cow::Owned(name);
                }
            }
        }
    }

    /// The key of the first task of a mapping.
    pub(crate) fn key_of_mapping(&self, mapping: u32) -> String {
        let mut members = self
            .members
            .get(&mapping)
            .into_iter()
            .flatten()
            .map(|member| &self.nodes[*member as usize]);
        members
            .find(|member| !member.is_hidden())
            .unwrap_or(&self.nodes[mapping as usize])
            .key()
    }

    /// A scope knows planned nodes only by their ids: here they have names.
    fn name_nodes(&self, problem: GraphError, scope: &Scope) -> GraphError {
        let named = |task: String| {
            let id = task
                .strip_prefix("node ")
                .and_then(|id| id.parse::<usize>().ok());
            match id {
                Some(id) if id < scope.first as usize => self.nodes[id].name.to_string(),
                _ => task,
            }
        };
        match problem {
            GraphError::Planned { task, option } => GraphError::Planned {
                task: named(task),
                option,
            },
            GraphError::ForeignNode { task } => GraphError::ForeignNode { task: named(task) },
            other => other,
        }
    }

    /// What is recorded of a node.
    pub(crate) fn meta(&self, node: u32) -> NodeMeta {
        let node = &self.nodes[node as usize];
        let logged = |id: u32| self.nodes.get(id as usize).map_or(NONE, |node| node.logged);
        let wired = node.wired.clone().map(|mut wired| {
            wired
                .upstreams
                .iter_mut()
                .for_each(|upstream| *upstream = logged(*upstream));
            wired
        });
        NodeMeta {
            prefix: node.prefix.clone(),
            name: node.name.clone(),
            number: node.number,
            region: logged(node.region),
            local: node.logged_local,
            hidden: node.is_hidden(),
            wired,
        }
    }
}

impl Planned {
    /// Whether it is a part of a mapping's machinery, which nobody wrote.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.kind, Kind::Mapping(_) | Kind::Gather(_))
    }

    /// The key, without indexes of elements.
    pub(crate) fn key(&self) -> String {
        self.key_of(SmallVec::new()).to_string()
    }

    /// The key, for the element that the indexes lead to.
    pub(crate) fn key_of(&self, path: SmallVec<[u32; 2]>) -> InstanceKey {
        InstanceKey {
            prefix: self.prefix.clone(),
            name: self.name.clone(),
            number: self.number,
            path,
        }
    }
}
