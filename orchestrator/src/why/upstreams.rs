use std::collections::HashMap;

use crate::store::{RunRecord, RunTables, TaskRun};
use crate::task::scope::NONE;

/// A node, its frame, and its index there.
pub(super) type Place = (u32, u32, u32);

/// What waits for what in a record: the machinery of mappings is looked through, a flow in the flow waits for its tasks.
pub(super) struct Wiring<'a> {
    record: &'a RunRecord,
    tables: &'a RunTables,
    /// The frames that mappings have, by the mapping and the element that it is in.
    opened: HashMap<Place, u32>,
    /// The frames of each mapping.
    frames: HashMap<u32, Vec<u32>>,
    /// The nodes of flows in the flow, by what stands before their keys.
    within: HashMap<&'a str, Vec<u32>>,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(record: &'a RunRecord) -> Self {
        let tables = record.tables();
        let current = || {
            tables
                .openings()
                .filter(|(_, frame)| !tables.is_past_frame(*frame))
        };
        let (mut frames, mut within) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        current().for_each(|((mapping, ..), frame)| frames.entry(mapping).or_default().push(frame));
        // after a re-run, others may stand in for some
        for (id, node) in (0..)
            .zip(&tables.nodes)
            .filter(|(id, _)| !tables.is_past_node(*id))
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

    pub(super) fn task(&self, place: Place) -> Option<TaskRun<'a>> {
        self.record.at(place)
    }

    /// The keys of all nodes that somebody wrote, those of a mapping without an index.
    pub(super) fn keys(&self) -> Vec<String> {
        let nodes = (0..)
            .zip(&self.tables.nodes)
            .filter(|(id, node)| !node.hidden && !self.tables.is_past_node(*id));
        nodes.map(|(_, node)| node.key(&[])).collect()
    }

    /// The name of the task that a node is a use of, where that is recorded.
    pub(super) fn task_of(&self, node: u32) -> Option<&'a str> {
        self.tables
            .nodes
            .get(node as usize)?
            .wired
            .as_ref()
            .map(|wired| &*wired.task)
    }

    /// Whether it is recorded what a node waits for.
    pub(super) fn is_known(&self, node: u32) -> bool {
        self.tables
            .nodes
            .get(node as usize)
            .is_some_and(|node| node.wired.is_some())
    }

    /// The mapped node of a key without indexes.
    pub(super) fn mapped(&self, key: &str) -> Option<u32> {
        let mut nodes = (0..).zip(&self.tables.nodes).filter(|(id, node)| {
            let is_meant = !node.hidden && node.region != NONE && key.contains(&*node.name);
            is_meant && !self.tables.is_past_node(*id) && node.key(&[]) == key
        });
        nodes.next().map(|(id, _)| id)
    }

    /// The mappings that a node is in, the outermost first.
    pub(super) fn mappings(&self, node: u32) -> Vec<u32> {
        let region_of = |node: u32| self.tables.nodes.get(node as usize).map(|node| node.region);
        // what holds others comes before them, so that this ends
        let outer = |inner: &u32| region_of(*inner).filter(|outer| outer < inner);
        let innermost = region_of(node).filter(|region| *region != NONE);
        let mut mappings: Vec<u32> = std::iter::successors(innermost, outer).collect();
        mappings.reverse();
        mappings
    }

    /// What a mapping has in the element that it is in: its frame and how many elements there are, or none where the
    /// list never came; nothing where it is not there yet.
    pub(super) fn opened(&self, mapping: Place) -> Option<(u32, Option<u32>)> {
        let frame = *self.opened.get(&mapping)?;
        let meta = &self.tables.frames[frame as usize].meta;
        Some((frame, (!meta.unexpanded).then_some(meta.len)))
    }

    /// What the list of a mapping is made of.
    pub(super) fn list_of(&self, mapping: Place) -> Vec<Place> {
        let mut found = Vec::new();
        self.look_through(mapping, &mut found);
        found
    }

    /// What a node, or an element of one, waits for.
    pub(super) fn upstreams(&self, place: Place) -> Vec<Place> {
        let mut found = Vec::new();
        let Some(node) = self.tables.nodes.get(place.0 as usize) else {
            return found;
        };
        for upstream in node
            .wired
            .iter()
            .flat_map(|wired| wired.upstreams.iter().copied())
        {
            for at in self.reach(place, self.tables.current_node(upstream)) {
                self.look_through(at, &mut found);
            }
        }
        let frame = &self.tables.frames[place.1 as usize].meta;
        if frame.unexpanded {
            self.look_through((frame.region, frame.parent.0, frame.parent.1), &mut found);
        }
        if node.region == NONE && !self.within.is_empty() {
            let within = self.within.get(&*format!("{}/", node.key(&[])));
            within.into_iter().flatten().for_each(|id| {
                match self.tables.nodes[*id as usize].region {
                    NONE => self.look_through((*id, 0, 0), &mut found),
                    mapping => found.extend(self.all_of(*id, mapping)),
                }
            });
        }
        found.retain(|at| *at != place);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All elements of a mapped node.
    fn all_of(&self, node: u32, mapping: u32) -> impl Iterator<Item = Place> {
        let frames = self.frames.get(&mapping).into_iter().flatten();
        frames.flat_map(move |frame| (0..self.len(*frame)).map(move |index| (node, *frame, index)))
    }

    fn len(&self, frame: u32) -> u32 {
        self.tables.frames[frame as usize].meta.len
    }

    /// The instances of an upstream that a node's instance reaches.
    fn reach(&self, (_, frame, index): Place, upstream: u32) -> Vec<Place> {
        let Some(source) = self.tables.nodes.get(upstream as usize) else {
            return Vec::new();
        };
        // within its mapping, or out of one that it is in
        let (mut at, mut of) = (frame, index);
        loop {
            let meta = &self.tables.frames[at as usize].meta;
            if meta.region == source.region {
                return vec![(upstream, at, of)];
            }
            if at == 0 {
                break;
            }
            (at, of) = meta.parent;
        }
        // all elements of a mapping within
        let mapping = (source.region, frame, index);
        match self.opened.get(&mapping).filter(|at| self.len(**at) > 0) {
            Some(at) => (0..self.len(*at)).map(|of| (upstream, *at, of)).collect(),
            // its list is not there yet, or is empty
            None => vec![mapping],
        }
    }

    /// The node itself, or what is behind a mapping's machinery.
    fn look_through(&self, place: Place, into: &mut Vec<Place>) {
        let Some(node) = self.tables.nodes.get(place.0 as usize) else {
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
            .wired
            .iter()
            .flat_map(|wired| wired.upstreams.iter().copied())
        {
            let current = self.tables.current_node(upstream);
            let is_task = self
                .tables
                .nodes
                .get(current as usize)
                .is_some_and(|node| !node.hidden);
            // machinery was made before what takes it, and what is a task is not looked through, so that this ends
            if current < place.0 || is_task {
                self.reach(place, current)
                    .into_iter()
                    .for_each(|at| self.look_through(at, into));
            }
        }
    }
}
