use std::collections::HashMap;

use crate::index::{FrameNumber, NodeNumber};
use crate::journal::{RunRecord, RunTables, TaskPlace, TaskRun};

/// The dependencies in a record. The internal nodes of mappings are skipped, and a nested flow
/// depends on its tasks.
pub(super) struct RecordedWiring<'a> {
    record: &'a RunRecord,
    tables: &'a RunTables,
    /// The frames of mappings, by the mapping and the element that contains it.
    opened: HashMap<TaskPlace, FrameNumber>,
    /// The frames of each mapping.
    frames: HashMap<NodeNumber, Vec<FrameNumber>>,
    /// The nodes of nested flows, by the prefix of their keys.
    within: HashMap<&'a str, Vec<NodeNumber>>,
}

impl<'a> RecordedWiring<'a> {
    pub(super) fn new(record: &'a RunRecord) -> Self {
        let tables = record.tables();
        let current = || {
            tables
                .openings()
                .filter(|(_, frame)| !tables.is_superseded_frame(*frame))
        };
        let (mut frames, mut within) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        current().for_each(|(opening, frame)| frames.entry(opening.node).or_default().push(frame));
        // after a re-run, some nodes may be replaced by others
        for (id, node) in tables
            .nodes
            .entries()
            .filter(|(id, _)| !tables.is_superseded_node(*id))
        {
            if let Some(prefix) = &node.prefix {
                within.entry(&**prefix).or_default().push(id);
            }
        }
        Self {
            record,
            tables,
            opened: current().collect(),
            frames,
            within,
        }
    }

    pub(super) fn task(&self, place: TaskPlace) -> Option<TaskRun<'a>> {
        self.record.at(place)
    }

    /// Returns the keys of all nodes that are visible to users; those of a mapping are without an
    /// index.
    pub(super) fn keys(&self) -> Vec<String> {
        let nodes = self
            .tables
            .nodes
            .entries()
            .filter(|(id, node)| !node.hidden && !self.tables.is_superseded_node(*id));
        nodes.map(|(_, node)| node.key(&[])).collect()
    }

    /// The name of the task that a node is a use of, where that is recorded.
    pub(super) fn task_of(&self, node: NodeNumber) -> Option<&'a str> {
        self.tables
            .nodes
            .get(node)?
            .wiring
            .as_ref()
            .map(|wiring| &*wiring.task)
    }

    /// Returns the name of a node.
    pub(super) fn name_of(&self, node: NodeNumber) -> Option<&'a str> {
        self.tables.nodes.get(node).map(|node| &*node.name)
    }

    /// Returns `true` if the dependencies of a node are recorded.
    pub(super) fn is_known(&self, node: NodeNumber) -> bool {
        self.tables
            .nodes
            .get(node)
            .is_some_and(|node| node.wiring.is_some())
    }

    /// Returns the mapped node with a key without indexes.
    pub(super) fn mapped(&self, key: &str) -> Option<NodeNumber> {
        let mut nodes = self.tables.nodes.entries().filter(|(id, node)| {
            let is_meant = !node.hidden && node.region.is_some() && key.contains(&*node.name);
            is_meant && !self.tables.is_superseded_node(*id) && node.key(&[]) == key
        });
        nodes.next().map(|(id, _)| id)
    }

    /// Returns the mappings that contain a node, the outermost first.
    pub(super) fn mappings(&self, node: NodeNumber) -> Vec<NodeNumber> {
        let innermost = self.tables.nodes.get(node).and_then(|node| node.region);
        let mut mappings: Vec<NodeNumber> = self.tables.mappings(innermost).collect();
        mappings.reverse();
        mappings
    }

    /// Returns the frame and the number of elements of a mapping in the element that contains it.
    /// The inner option is `None` if the list was never computed, the outer one if it is not known
    /// yet.
    pub(super) fn opened(&self, mapping: TaskPlace) -> Option<(FrameNumber, Option<u32>)> {
        let frame = *self.opened.get(&mapping)?;
        let meta = &self.tables.frames[frame].meta;
        Some((frame, (!meta.unexpanded).then_some(meta.len)))
    }

    /// Returns the nodes from which the list of a mapping is computed.
    pub(super) fn list_of(&self, mapping: TaskPlace) -> Vec<TaskPlace> {
        let mut found = Vec::new();
        self.look_through(mapping, &mut found);
        found
    }

    /// Returns the dependencies of a node or of one of its elements.
    pub(super) fn upstreams(&self, place: TaskPlace) -> Vec<TaskPlace> {
        let mut found = Vec::new();
        let Some(node) = self.tables.nodes.get(place.node) else {
            return found;
        };
        for upstream in node
            .wiring
            .iter()
            .flat_map(|wiring| wiring.upstreams.iter().copied())
        {
            let Some(upstream) = self.tables.current_node(upstream) else {
                continue;
            };
            for at in self.reach(place, upstream) {
                self.look_through(at, &mut found);
            }
        }
        let frame = &self.tables.frames[place.frame].meta;
        if let Some(mapping) = frame.opening().filter(|_| frame.unexpanded) {
            self.look_through(mapping, &mut found);
        }
        if node.region.is_none() && !self.within.is_empty() {
            let within = self.within.get(&*format!("{}/", node.key(&[])));
            within
                .into_iter()
                .flatten()
                .for_each(|id| match self.tables.nodes[*id].region {
                    None => self.look_through(TaskPlace::in_flow(*id), &mut found),
                    Some(mapping) => found.extend(self.all_of(*id, mapping)),
                });
        }
        found.retain(|at| *at != place);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns all elements of a mapped node.
    fn all_of(&self, node: NodeNumber, mapping: NodeNumber) -> impl Iterator<Item = TaskPlace> {
        let frames = self.frames.get(&mapping).into_iter().flatten();
        frames.flat_map(move |frame| self.all_in(*frame, node))
    }

    /// Returns all elements of a node in one frame.
    fn all_in(
        &self,
        frame: FrameNumber,
        node: NodeNumber,
    ) -> impl Iterator<Item = TaskPlace> + use<> {
        (0..self.len(frame)).map(move |index| TaskPlace { node, frame, index })
    }

    fn len(&self, frame: FrameNumber) -> u32 {
        self.tables.frames[frame].meta.len
    }

    /// Returns the instances of an upstream that a node's instance depends on.
    fn reach(&self, place: TaskPlace, upstream: NodeNumber) -> Vec<TaskPlace> {
        let Some(source) = self.tables.nodes.get(upstream) else {
            return Vec::new();
        };
        // within its mapping, or outside one that contains it
        let mut element = place.element();
        loop {
            let meta = &self.tables.frames[element.frame].meta;
            if meta.region == source.region {
                return vec![element.of(upstream)];
            }
            if element.frame == FrameNumber::FLOW {
                break;
            }
            element = meta.parent;
        }
        // all elements of a mapping within
        let Some(mapping) = source.region.map(|mapping| place.element().of(mapping)) else {
            return Vec::new();
        };
        match self.opened.get(&mapping).filter(|at| self.len(**at) > 0) {
            Some(frame) => self.all_in(*frame, upstream).collect(),
            // its list is not known yet, or is empty
            None => vec![mapping],
        }
    }

    /// Returns the node itself, or the visible nodes behind an internal node of a mapping.
    fn look_through(&self, place: TaskPlace, into: &mut Vec<TaskPlace>) {
        let Some(node) = self.tables.nodes.get(place.node) else {
            return;
        };
        if !node.hidden {
            return into.push(place);
        }
        let failed = self.task(place).is_some_and(|task| task.error().is_some())
            && node.name.starts_with("expand(");
        if failed
            && self
                .task(place)
                .is_some_and(|task| task.state() == crate::state::TaskState::Failed)
        {
            return into.push(place);
        }
        for upstream in node
            .wiring
            .iter()
            .flat_map(|wiring| wiring.upstreams.iter().copied())
        {
            let Some(current) = self.tables.current_node(upstream) else {
                continue;
            };
            let is_task = self
                .tables
                .nodes
                .get(current)
                .is_some_and(|node| !node.hidden);
            // terminates: an internal node is created before its consumers, and tasks are not
            // expanded
            if current < place.node || is_task {
                self.reach(place, current)
                    .into_iter()
                    .for_each(|at| self.look_through(at, into));
            }
        }
    }
}
