//! A run that goes on: its nodes find their recorded rows again, by key and by how they are wired.
//!
//! The log of a run keeps its numbers over the lives of the run. Nodes and frames that are recorded take theirs from the
//! log, new ones get the next. What a node is recorded to have become, it becomes as soon as it is planned; what was
//! under way, or waited for a retry, starts again with the next attempt. Only bodies of flows can see in which order
//! nodes end, and they are told in the recorded order ([`Plan::next_expected`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::frame::Frame;
use super::{End, Instance, Plan, id_of};
use crate::error::{Cause, GraphError, TaskError};
use crate::graph::{NodeKey, NodeMeta};
use crate::state::TaskState;
use crate::store::{Encoded, FrameMeta, History, Numbers, RerunRecord, Row, RunTables, Transition};
use crate::task::scope::{Kind, NONE};

/// So many processes in a row may die with a run before any of its nodes comes to an end: what the last of them was
/// running has failed then.
const CRASHES: u32 = 3;

/// What is recorded of a run that goes on.
#[derive(Debug)]
pub(crate) struct Replay {
    tables: RunTables,
    by_key: HashMap<NodeKey, u32>,
    /// The machinery of mappings, by region and wiring, in the order in which it was planned; but for mappings with
    /// tasks, which are known by those.
    machinery: HashMap<(u32, [u8; 16]), VecDeque<u32>>,
    /// The frames of mappings, by the mapping and the element that it is in.
    opened: HashMap<(u32, u32, u32), u32>,
    results: HashMap<(u32, u32), Encoded>,
    /// The nodes whose ends bodies were told, by what stands before their keys.
    awaited: HashMap<Option<Arc<str>>, VecDeque<u32>>,
    /// The nodes that were planned in this life of the run, by their numbers in the log.
    planned: HashMap<u32, u32>,
    /// The same as numbers, in a run that was run again.
    asked: Numbers,
    /// Nodes that a re-run may find wired otherwise, or not at all: all of what they are is to run again, or they were
    /// planned by a body that knew what is to run again.
    free: HashSet<u32>,
    /// Too many processes died with this run: what was running has failed.
    exhausted: bool,
    /// The first thing that is not as it was.
    pub(super) problem: Option<GraphError>,
}

impl Replay {
    pub(crate) fn new(history: History) -> Self {
        let History {
            tables,
            results,
            told,
            takeovers,
            ..
        } = history;
        let (mut by_key, mut machinery) = (HashMap::new(), HashMap::<_, VecDeque<u32>>::new());
        for (id, node) in (0..)
            .zip(&tables.nodes)
            .filter(|(id, _)| !tables.is_past_node(*id))
        {
            match (node.hidden, &node.wired) {
                (false, _) => {
                    by_key.insert(node.key_in_parts(), id);
                }
                (true, _) if has_members(&tables.nodes, id, |node| node.region) => {}
                (true, Some(wired)) => machinery
                    .entry((node.region, wired.hash))
                    .or_default()
                    .push_back(id),
                (true, None) => {}
            }
        }
        let mut by_prefix = HashMap::<_, VecDeque<u32>>::new();
        for answered in &told.answers {
            if let Some(meta) = tables.nodes.get(answered.node as usize) {
                by_prefix
                    .entry(meta.prefix.clone())
                    .or_default()
                    .push_back(answered.node);
            }
        }
        let mut free = tables.cleared_nodes();
        if tables.reruns.is_some() {
            let nodes = (0..).zip(&tables.nodes);
            free.extend(
                nodes
                    .filter(|(id, node)| told.is_loose(*id, node.prefix.as_ref()))
                    .map(|(id, _)| id),
            );
        }
        Self {
            by_key,
            machinery,
            opened: tables.openings().collect(),
            results,
            awaited: by_prefix,
            planned: HashMap::new(),
            asked: Numbers::default(),
            free,
            exhausted: takeovers >= CRASHES,
            problem: None,
            tables,
        }
    }

    /// The number of a node that was not recorded before, and its place among the nodes of its region.
    fn add(&mut self, meta: NodeMeta) -> (u32, u32) {
        let local = match meta.region {
            NONE => id_of(self.tables.frames[0].rows.len()),
            region => self.tables.members.get(&region).copied().unwrap_or(0),
        };
        self.tables
            .apply(Transition::Planned(vec![NodeMeta { local, ..meta }]));
        (id_of(self.tables.nodes.len() - 1), local)
    }

    /// The row of an instance, as it is recorded.
    fn row(&self, frame: u32, cell: u32) -> Option<&Row> {
        self.tables
            .frames
            .get(frame as usize)?
            .rows
            .get(cell as usize)
    }

    /// Whether the list of a mapping is worked out again, since what it comes from is.
    fn is_list_cleared(&self, FrameMeta { region, parent, .. }: &FrameMeta) -> bool {
        let (Some(mapping), Some(frame)) = (
            self.tables.nodes.get(*region as usize),
            self.tables.frames.get(parent.0 as usize),
        ) else {
            return false;
        };
        self.row(parent.0, mapping.local * frame.meta.len + parent.1)
            .is_some_and(|row| row.cleared)
    }

    /// Whether the elements of a frame may be others than those that are recorded: their list comes anew, or never came,
    /// and some of them are to run again, or there are none.
    fn may_be_replaced(&self, frame: u32) -> bool {
        let frame = &self.tables.frames[frame as usize];
        let is_free = frame.meta.unexpanded || self.is_list_cleared(&frame.meta);
        self.tables.reruns.is_some()
            && is_free
            && (frame.rows.is_empty() || frame.rows.iter().any(|row| row.cleared))
    }

    /// What a recorded node was.
    fn describe(&self, node: u32) -> String {
        let meta = &self.tables.nodes[node as usize];
        match &meta.wired {
            Some(wired) => {
                let keys = wired
                    .upstreams
                    .iter()
                    .filter_map(|upstream| self.tables.nodes.get(*upstream as usize));
                let keys: Vec<String> = keys.map(|meta| meta.key(&[])).collect();
                format!("`{}({})`", wired.task, keys.join(", "))
            }
            None => format!("`{}`", meta.name),
        }
    }
}

/// Whether a node is a mapping whose closure made nodes: the first of them comes right after it.
fn has_members<N>(nodes: &[N], id: u32, region: impl Fn(&N) -> u32) -> bool {
    nodes
        .get(id as usize + 1)
        .is_some_and(|next| region(next) == id)
}

impl Plan {
    /// Numbers the nodes from `first` on as the log does; recorded ones must be wired as they were.
    pub(super) fn match_nodes(&mut self, first: usize) -> Result<(), GraphError> {
        let Some(mut replay) = self.replay.take() else {
            return Ok(());
        };
        let matched = self.match_with(&mut replay, first);
        self.replay = Some(replay);
        matched
    }

    fn match_with(&mut self, replay: &mut Replay, first: usize) -> Result<(), GraphError> {
        let mut found: HashMap<u32, u32> = HashMap::new();
        for id in first..self.wiring.nodes.len() {
            let node = &self.wiring.nodes[id];
            let key = (node.prefix.clone(), node.name.clone(), node.number);
            let recorded = (!node.is_hidden())
                .then(|| replay.by_key.get(&key).copied())
                .flatten();
            let Some(recorded) = recorded else { continue };
            if !self.check_wiring(replay, id, recorded)? {
                continue;
            }
            found.insert(id_of(id), recorded);
            // a mapping is known by its tasks
            let (mut mapping, mut theirs) =
                (node.region, replay.tables.nodes[recorded as usize].region);
            while mapping != NONE && theirs != NONE {
                found.insert(mapping, theirs);
                mapping = self.wiring.nodes[mapping as usize].region;
                theirs = replay.tables.nodes[theirs as usize].region;
            }
        }
        for id in first..self.wiring.nodes.len() {
            let node = &self.wiring.nodes[id];
            let region = self
                .wiring
                .nodes
                .get(node.region as usize)
                .map_or(NONE, |mapping| mapping.logged);
            let mut recorded = found.get(&id_of(id)).copied();
            let by_wiring =
                node.is_hidden() && !has_members(&self.wiring.nodes, id_of(id), |node| node.region);
            if let (None, true, Some(wired)) = (recorded, by_wiring, &node.wired) {
                recorded = replay
                    .machinery
                    .get_mut(&(region, wired.hash))
                    .and_then(VecDeque::pop_front);
            }
            let (logged, local) = match recorded {
                Some(recorded) => (recorded, replay.tables.nodes[recorded as usize].local),
                None => replay.add(self.wiring.meta(id_of(id))),
            };
            replay.planned.insert(logged, id_of(id));
            if replay.tables.reruns.is_some() {
                replay.asked.add(logged);
            }
            let node = &mut self.wiring.nodes[id];
            (node.logged, node.logged_local, node.recorded) = (logged, local, recorded.is_some());
        }
        Ok(())
    }

    /// Whether a node is the recorded one. Where it is not, it must be free to be another.
    fn check_wiring(&self, replay: &Replay, id: usize, recorded: u32) -> Result<bool, GraphError> {
        let node = &self.wiring.nodes[id];
        let (own, theirs) = (&node.wired, &replay.tables.nodes[recorded as usize].wired);
        if let (Some(own), Some(theirs)) = (own, theirs)
            && own.hash == theirs.hash
        {
            return Ok(true);
        }
        let is_free = replay.free.contains(&recorded);
        let (Some(own), false) = (own, is_free) else {
            return Ok(!is_free);
        };
        let keys = own
            .upstreams
            .iter()
            .map(|upstream| self.wiring.nodes[*upstream as usize].key());
        let asked = format!("`{}({})`", own.task, keys.collect::<Vec<_>>().join(", "));
        let recorded = replay.describe(recorded);
        let asked = if asked == recorded {
            "it with other inputs".to_owned()
        } else {
            asked
        };
        Err(GraphError::Changed {
            run: replay.tables.head.id,
            key: node.key(),
            recorded,
            asked,
        })
    }

    /// What is to be recorded of the nodes from `first` on.
    pub(crate) fn new_metas(&self, first: usize) -> Vec<NodeMeta> {
        let new = (first..self.wiring.nodes.len()).filter(|id| !self.wiring.nodes[*id].recorded);
        new.map(|id| self.wiring.meta(id_of(id))).collect()
    }

    /// Numbers a new frame as the log does. Gives what is to be recorded of it.
    pub(super) fn log_frame(
        &mut self,
        frame: &mut Frame,
        id: u32,
        meta: FrameMeta,
    ) -> Option<FrameMeta> {
        let Some(replay) = &mut self.replay else {
            frame.logged = id;
            return Some(meta);
        };
        let mut known = replay
            .opened
            .get(&(meta.region, meta.parent.0, meta.parent.1))
            .copied();
        let recorded = known.map(|known| &replay.tables.frames[known as usize].meta);
        let differs = recorded.is_some_and(|recorded| {
            (recorded.len, recorded.unexpanded) != (meta.len, meta.unexpanded)
        });
        let expanded = recorded.is_some_and(|recorded| !recorded.unexpanded);
        if differs && known.is_some_and(|known| replay.may_be_replaced(known)) {
            known = None;
        } else if meta.parent.0 == NONE || (expanded && meta.unexpanded) {
            // the list came before and does not now, since the run comes to its end first: its rows end with the run
            frame.logged = NONE;
            return None;
        }
        if let Some(known) = known {
            frame.logged = known;
            let recorded = replay.tables.frames[known as usize].meta.len;
            if recorded != meta.len && replay.problem.is_none() {
                replay.problem = Some(GraphError::Changed {
                    run: replay.tables.head.id,
                    key: self.wiring.key_of_mapping(frame.region),
                    recorded: format!("a mapping of {recorded} elements"),
                    asked: format!("one of {} elements", meta.len),
                });
            }
            // nodes that were planned since have no rows in it
            self.log_extended(known);
            return None;
        }
        frame.logged = id_of(replay.tables.frames.len());
        replay.tables.apply(Transition::Expanded(meta.clone()));
        Some(meta)
    }

    /// More nodes of a mapping were planned than a frame has rows for.
    pub(super) fn log_extended(&mut self, logged: u32) {
        if let Some(replay) = self.replay.as_mut().filter(|_| logged != NONE) {
            replay.tables.apply(Transition::Extended { frame: logged });
        }
        self.outbox.extended.push(logged);
    }

    /// Lets a node be what it is recorded to have become, in all elements of a frame.
    pub(super) fn replay_column(&mut self, frame: u32, node: u32) {
        if self.wiring.nodes[node as usize].is_hidden() {
            return;
        }
        let Some(mut replay) = self.replay.take() else {
            return;
        };
        if !self.wiring.nodes[node as usize].recorded && replay.tables.reruns.is_none() {
            self.replay = Some(replay);
            return;
        }
        let len = self.frames[frame as usize].len;
        let logged = self.frames[frame as usize].logged;
        let is_there = replay
            .tables
            .frames
            .get(logged as usize)
            .is_some_and(|recorded| recorded.meta.len == len);
        if is_there && !self.frames[frame as usize].unexpanded {
            for index in 0..len {
                let at = Instance { frame, node, index };
                if let Some(row) = replay.row(logged, self.row_of(at).cell).cloned() {
                    self.replay_row(&mut replay, at, &row);
                }
            }
        }
        self.replay = Some(replay);
    }

    fn replay_row(&mut self, replay: &mut Replay, at: Instance, row: &Row) {
        if self.cell(at).is_ended() {
            return;
        }
        if matches!(self.wiring.nodes[at.node as usize].kind, Kind::Flow(_)) {
            // its body is called in each life of the run, which is no attempt of its own
            self.cell_mut(at).attempts =
                row.attempts - u16::from(row.state.is_final() && row.attempts > 0);
            return;
        }
        if let Some(end) = self.end_of(replay, at, row) {
            return self.settle(at, end, true);
        }
        if row.cleared {
            self.cleared.insert(at);
        }
        self.cell_mut(at).attempts = row.attempts;
        if row.state == TaskState::Running && replay.exhausted {
            let text = format!(
                "its process died while it ran, {CRASHES} times in a row with nothing else done"
            );
            return self.settle(at, End::Failed(TaskError::new(Cause::Crashed, text)), false);
        }
        let uncounted = row.uncounted + u16::from(row.state == TaskState::Running);
        if uncounted > 0 {
            self.uncounted.insert(at, uncounted);
        }
        if row.state == TaskState::Retrying {
            self.due.insert(at, row.finished);
        }
    }

    /// What an instance is recorded to have become, where that is final: also what its upstreams decided, since it cannot
    /// be seen any more which of them came first.
    fn end_of(&mut self, replay: &mut Replay, at: Instance, row: &Row) -> Option<End> {
        let error = || {
            row.error
                .clone()
                .unwrap_or_else(|| TaskError::new(Cause::Failed, "failed"))
        };
        let end = match row.state {
            TaskState::Success => self.recorded_result(replay, at),
            TaskState::Failed => End::Failed(error()),
            TaskState::Skipped => End::Skipped(error()),
            TaskState::UpstreamFailed => End::UpstreamFailed(error()),
            TaskState::Cancelled => {
                // flows in the flow are cancelled on their own
                self.was_cancelled |= self.wiring.nodes[at.node as usize].scope == 0;
                End::Cancelled
            }
            TaskState::Pending | TaskState::Running | TaskState::Retrying => return None,
        };
        self.cell_mut(at).attempts = row.attempts;
        Some(end)
    }

    /// What an instance is recorded to have become, for when something else is about to be decided of it.
    pub(super) fn recorded_end(&mut self, at: Instance) -> Option<End> {
        self.replay.as_ref()?;
        let node = &self.wiring.nodes[at.node as usize];
        let frame = &self.frames[at.frame as usize];
        if !node.recorded
            || !matches!(node.kind, Kind::Task(_))
            || frame.unexpanded
            || self.cell(at).is_ended()
        {
            return None;
        }
        let mut replay = self.replay.take()?;
        let recorded = replay.tables.frames.get(frame.logged as usize);
        let recorded = recorded.filter(|recorded| recorded.meta.len == frame.len);
        let row = recorded
            .and_then(|recorded| recorded.rows.get(self.row_of(at).cell as usize))
            .cloned();
        let end = row.and_then(|row| self.end_of(&mut replay, at, &row));
        self.replay = Some(replay);
        end
    }

    fn recorded_result(&self, replay: &mut Replay, at: Instance) -> End {
        let node = &self.wiring.nodes[at.node as usize];
        let place = self.row_of(at);
        let theirs = replay.tables.nodes[node.logged as usize]
            .wired
            .as_ref()
            .map(|wired| Arc::clone(&wired.output));
        let (Some(output), Some(bytes)) = (
            node.output,
            replay.results.remove(&(place.frame, place.cell)),
        ) else {
            return End::Failed(TaskError::new(
                Cause::Failed,
                "its result is not kept any more",
            ));
        };
        let own = output.name();
        let recorded = match theirs {
            Some(theirs) if *theirs != *own => format!("{} `{theirs}`", article(&theirs)),
            _ => match output.decode(&bytes.0) {
                Ok(value) => return End::Success(value),
                Err(error) => format!("another (it cannot be read back: {error})"),
            },
        };
        let returns = format!("{} `{own}`", article(&own));
        let problem = GraphError::ChangedOutput {
            run: replay.tables.head.id,
            key: self.key(at),
            returns,
            recorded,
        };
        let error = TaskError::new(Cause::Fatal, problem.to_string());
        replay.problem.get_or_insert(problem);
        End::Failed(error)
    }

    /// The node whose end the body with a prefix is to be told next, as it was before; `Err` where it may be any.
    /// What the body does not await any more is passed over.
    pub(crate) fn next_expected(
        &mut self,
        prefix: Option<&Arc<str>>,
        is_here: impl Fn(u32) -> bool,
    ) -> Expected {
        let Some(replay) = &mut self.replay else {
            return Expected::Any;
        };
        let Some(queue) = replay.awaited.get_mut(&prefix.cloned()) else {
            return Expected::Any;
        };
        while let Some(logged) = queue.front().copied() {
            match replay.planned.get(&logged).copied() {
                Some(node) if is_here(node) => {
                    queue.pop_front();
                    return Expected::Node(node);
                }
                // it has not ended, or has just now
                Some(node)
                    if self.waits.contains_key(&node)
                        || self.outbox.answers.iter().any(|(of, ..)| *of == node) =>
                {
                    return Expected::Later;
                }
                _ => queue.pop_front(),
            };
        }
        Expected::Any
    }

    /// How a mapping ends that was left without its list, as recorded.
    pub(super) fn was_left(&self, at: Instance) -> Option<End> {
        let (replay, known) = self.opened_before(at)?;
        let frame = &replay.tables.frames[known as usize];
        if !frame.meta.unexpanded || replay.may_be_replaced(known) {
            return None;
        }
        let row = frame.rows.first();
        let error = row.and_then(|row| row.error.clone());
        Some(match (row.map(|row| row.state), error) {
            (Some(TaskState::Skipped), Some(error)) => End::Skipped(error),
            (Some(TaskState::UpstreamFailed), Some(error)) => End::UpstreamFailed(error),
            _ => End::Cancelled,
        })
    }

    /// How many elements a mapping has that keep what they are recorded to have become, though the list that they came
    /// from is worked out again.
    pub(super) fn kept_length(&self, at: Instance) -> Option<u32> {
        let (replay, known) = self.opened_before(at)?;
        let meta = &replay.tables.frames[known as usize].meta;
        let is_kept =
            !meta.unexpanded && replay.is_list_cleared(meta) && !replay.may_be_replaced(known);
        is_kept.then_some(meta.len)
    }

    /// The recorded frame of a mapping's elements.
    fn opened_before(&self, at: Instance) -> Option<(&Replay, u32)> {
        let replay = self.replay.as_ref()?;
        let parent = self.frames[at.frame as usize].logged;
        let known =
            replay
                .opened
                .get(&(self.wiring.nodes[at.node as usize].logged, parent, at.index));
        known.map(|known| (&**replay, *known))
    }

    /// The last time that the run was run again.
    pub(crate) fn rerun(&self) -> Option<RerunRecord> {
        self.replay
            .as_ref()?
            .tables
            .reruns
            .as_ref()?
            .last()
            .cloned()
    }

    /// What bodies have asked for in this life of a run that was run again.
    pub(crate) fn asked(&self) -> Option<Box<Numbers>> {
        let replay = self
            .replay
            .as_ref()
            .filter(|replay| replay.tables.reruns.is_some())?;
        Some(Box::new(replay.asked.clone()))
    }

    /// Whether a recorded node was planned in this life of the run.
    pub(crate) fn is_planned(&self, logged: u32) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.planned.contains_key(&logged))
    }

    /// Whether a re-run asked for an instance, so that no cached result will do.
    pub(crate) fn is_cleared(&self, at: Instance) -> bool {
        self.cleared.contains(&at)
    }

    /// Whether a flow in the flow is recorded to have taken too long.
    pub(crate) fn took_too_long(&self, node: u32) -> bool {
        let Some(replay) = self
            .replay
            .as_ref()
            .filter(|_| self.wiring.nodes[node as usize].recorded)
        else {
            return false;
        };
        let cell = self
            .row_of(Instance {
                frame: 0,
                node,
                index: 0,
            })
            .cell;
        let row = replay
            .row(0, cell)
            .filter(|row| row.state == TaskState::Failed);
        row.and_then(|row| row.error.as_ref())
            .is_some_and(TaskError::is_timeout)
    }

    /// A node of the flow itself that was recorded, and that the flow does not ask for any more.
    pub(crate) fn forgotten(&mut self) -> Option<GraphError> {
        let replay = self.replay.as_ref()?;
        let is_forgotten = |(id, node): &(u32, &NodeMeta)| {
            !node.hidden
                && node.prefix.is_none()
                && !replay.planned.contains_key(id)
                && !replay.free.contains(id)
                && !replay.tables.is_past_node(*id)
        };
        let (id, node) = (0..).zip(&replay.tables.nodes).find(is_forgotten)?;
        let (run, key, recorded) = (replay.tables.head.id, node.key(&[]), replay.describe(id));
        self.is_changed = true;
        Some(GraphError::Changed {
            run,
            key,
            recorded,
            asked: "nothing of that name".to_owned(),
        })
    }

    /// What is not as it was recorded.
    pub(crate) fn take_problem(&mut self) -> Option<GraphError> {
        let problem = self
            .replay
            .as_mut()
            .and_then(|replay| replay.problem.take());
        self.is_changed |= problem.is_some();
        problem
    }
}

/// Whose end a body is to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    Node(u32),
    /// It awaits one whose end is not here yet.
    Later,
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
