use crate::store::{RunRecord, RunTables, TaskRun};
use crate::task::scope::NONE;

/// A node, its frame, and its index there.
pub(super) type Place = (u32, u32, u32);

/// What waits for what in a record: the machinery of mappings is looked through, a flow in the flow waits for its tasks.
#[derive(Clone, Copy)]
pub(super) struct Wiring<'a> {
    record: &'a RunRecord,
    tables: &'a RunTables,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(record: &'a RunRecord) -> Self {
        Self { record, tables: record.tables() }
    }

    pub(super) fn task(&self, place: Place) -> Option<TaskRun<'a>> {
        self.record.at(place)
    }

    /// The keys of all nodes that somebody wrote, those of a mapping without an index.
    pub(super) fn keys(&self) -> Vec<String> {
        self.tables.nodes.iter().filter(|node| !node.hidden).map(|node| node.key(&[])).collect()
    }

    /// The name of the task that a node is a use of, where that is recorded.
    pub(super) fn task_of(&self, node: u32) -> Option<&'a str> {
        self.tables.nodes.get(node as usize)?.wired.as_ref().map(|wired| &*wired.task)
    }

    /// Whether it is recorded what a node waits for.
    pub(super) fn is_known(&self, node: u32) -> bool {
        self.tables.nodes.get(node as usize).is_some_and(|node| node.wired.is_some())
    }

    /// The mapped node of a key whose mapping has no list yet.
    pub(super) fn without_list(&self, key: &str) -> Option<u32> {
        let mut nodes = (0..).zip(&self.tables.nodes);
        nodes.find(|(_, node)| !node.hidden && node.region != NONE && node.key(&[]) == key).map(|(id, _)| id)
    }

    /// What the list of the mapping of a node is made of.
    pub(super) fn list_of(&self, node: u32) -> Vec<Place> {
        let mut found = Vec::new();
        if let Some(node) = self.tables.nodes.get(node as usize) {
            self.look_through((node.region, 0, 0), &mut found);
        }
        found
    }

    /// What a node, or an element of one, waits for.
    pub(super) fn upstreams(&self, place: Place) -> Vec<Place> {
        let mut found = Vec::new();
        let Some(node) = self.tables.nodes.get(place.0 as usize) else { return found };
        for upstream in node.wired.iter().flat_map(|wired| wired.upstreams.iter().copied()) {
            for at in self.reach(place, upstream) {
                self.look_through(at, &mut found);
            }
        }
        let frame = &self.tables.frames[place.1 as usize].meta;
        if frame.unexpanded {
            self.look_through((frame.region, frame.parent.0, frame.parent.1), &mut found);
        }
        if node.region == NONE {
            let prefix = format!("{}/", node.key(&[]));
            let within = (0..).zip(&self.tables.nodes).filter(|(_, node)| node.prefix.as_deref() == Some(&*prefix));
            within.for_each(|(id, node)| match node.region {
                NONE => self.look_through((id, 0, 0), &mut found),
                _ => found.extend(self.all_of(id)),
            });
        }
        found.retain(|at| *at != place);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All elements of a mapped node.
    fn all_of(&self, node: u32) -> Vec<Place> {
        let region = self.tables.nodes[node as usize].region;
        let frames = (0..).zip(&self.tables.frames).filter(|(_, frame)| frame.meta.region == region);
        frames.flat_map(|(frame, table)| (0..table.meta.len).map(move |index| (node, frame, index))).collect()
    }

    /// The instances of an upstream that a node's instance reaches.
    fn reach(&self, (_, frame, index): Place, upstream: u32) -> Vec<Place> {
        let Some(source) = self.tables.nodes.get(upstream as usize) else { return Vec::new() };
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
        let of_mapping = |meta: &crate::store::FrameMeta| meta.region == source.region && meta.parent == (frame, index);
        let frames = (0..).zip(&self.tables.frames).filter(|(_, frame)| of_mapping(&frame.meta));
        let mut reached: Vec<Place> =
            frames.flat_map(|(at, table)| (0..table.meta.len).map(move |of| (upstream, at, of))).collect();
        if reached.is_empty() {
            // its list is not there yet
            reached.push((source.region, frame, index));
        }
        reached
    }

    /// The node itself, or what is behind a mapping's machinery.
    fn look_through(&self, place: Place, into: &mut Vec<Place>) {
        let Some(node) = self.tables.nodes.get(place.0 as usize) else { return };
        if !node.hidden {
            return into.push(place);
        }
        let failed = self.task(place).is_some_and(|task| task.error().is_some()) && node.name.starts_with("expand(");
        if failed && self.task(place).is_some_and(|task| task.state() == crate::state::TaskState::Failed) {
            return into.push(place);
        }
        for upstream in node.wired.iter().flat_map(|wired| wired.upstreams.iter().copied()) {
            // an upstream was made before what takes it, so that this ends
            if upstream < place.0 {
                self.reach(place, upstream).into_iter().for_each(|at| self.look_through(at, into));
            }
        }
    }
}
