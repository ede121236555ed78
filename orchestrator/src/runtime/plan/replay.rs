//! A run that goes on: its nodes find their recorded rows again, by key and by how they are wired.
//!
//! The log of a run keeps its numbers over the lives of the run. Nodes and frames that are recorded take theirs from the
//! log, new ones get the next. What a node is recorded to have become, it becomes as soon as it is planned; what was
//! under way, or waited for a retry, starts again with the next attempt. Only bodies of flows can see in which order
//! nodes end, and they are told in the recorded order ([`Plan::next_expected`]).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::frame::Frame;
use super::{End, Instance, Plan, id_of};
use crate::error::{Cause, GraphError, TaskError};
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::state::TaskState;
use crate::store::{Encoded, FrameMeta, History, Row};
use crate::task::scope::{Kind, NONE};

/// So many processes in a row may die with a run before any of its nodes comes to an end: what the last of them was
/// running has failed then.
const CRASHES: u32 = 3;

/// The key of a node without indexes, in parts.
type Key = (Option<Arc<str>>, Cow<'static, str>, u32);

/// What is recorded of a run that goes on.
#[derive(Debug)]
pub(crate) struct Replay {
    run: RunId,
    nodes: Vec<NodeMeta>,
    by_key: HashMap<Key, u32>,
    /// The machinery of mappings, by region and wiring, in the order in which it was planned; but for mappings with
    /// tasks, which are known by those.
    machinery: HashMap<(u32, [u8; 16]), VecDeque<u32>>,
    frames: Vec<RecordedFrame>,
    /// The frames of mappings, by the mapping and the element that it is in.
    opened: HashMap<(u32, u32, u32), u32>,
    results: HashMap<(u32, u32), Encoded>,
    /// The nodes whose ends bodies were told, by what stands before their keys.
    awaited: HashMap<Option<Arc<str>>, VecDeque<u32>>,
    /// The nodes that were planned in this life of the run, by their numbers in the log.
    planned: HashMap<u32, u32>,
    /// How many nodes of each region are logged.
    members: HashMap<u32, u32>,
    /// Too many processes died with this run: what was running has failed.
    exhausted: bool,
    /// The first thing that is not as it was.
    pub(super) problem: Option<GraphError>,
}

#[derive(Debug)]
struct RecordedFrame {
    len: u32,
    unexpanded: bool,
    rows: Vec<Row>,
}

impl Replay {
    pub(crate) fn new(history: History) -> Self {
        let History { tables, results, awaited, takeovers, .. } = history;
        let (mut by_key, mut machinery) = (HashMap::new(), HashMap::<_, VecDeque<u32>>::new());
        let mut members = HashMap::new();
        for (id, node) in (0..).zip(&tables.nodes) {
            *members.entry(node.region).or_default() += 1;
            match (node.hidden, &node.wired) {
                (false, _) => {
                    by_key.insert((node.prefix.clone(), node.name.clone(), node.number), id);
                }
                (true, _) if has_members(&tables.nodes, id, |node| node.region) => {}
                (true, Some(wired)) => machinery.entry((node.region, wired.hash)).or_default().push_back(id),
                (true, None) => {}
            }
        }
        let mut opened = HashMap::new();
        for (id, frame) in (0..).zip(&tables.frames).skip(1) {
            let FrameMeta { region, parent, .. } = frame.meta;
            opened.insert((region, parent.0, parent.1), id);
        }
        let mut by_prefix = HashMap::<_, VecDeque<u32>>::new();
        for node in awaited {
            if let Some(meta) = tables.nodes.get(node as usize) {
                by_prefix.entry(meta.prefix.clone()).or_default().push_back(node);
            }
        }
        let frames = tables.frames.into_iter();
        Self {
            run: tables.head.id,
            nodes: tables.nodes,
            by_key,
            machinery,
            frames: frames
                .map(|frame| RecordedFrame { len: frame.meta.len, unexpanded: frame.meta.unexpanded, rows: frame.rows })
                .collect(),
            opened,
            results,
            awaited: by_prefix,
            planned: HashMap::new(),
            members,
            exhausted: takeovers >= CRASHES,
            problem: None,
        }
    }

    /// The number of a node that was not recorded before, and its place among the nodes of its region.
    fn add(&mut self, meta: NodeMeta) -> (u32, u32) {
        let members = self.members.entry(meta.region).or_default();
        let local = *members;
        *members += 1;
        self.nodes.push(NodeMeta { local, ..meta });
        (id_of(self.nodes.len() - 1), local)
    }

    /// What a recorded node was.
    fn describe(&self, node: u32) -> String {
        let meta = &self.nodes[node as usize];
        match &meta.wired {
            Some(wired) => {
                let keys = wired.upstreams.iter().filter_map(|upstream| self.nodes.get(*upstream as usize));
                let keys: Vec<String> = keys.map(|meta| meta.key(&[])).collect();
                format!("`{}({})`", wired.task, keys.join(", "))
            }
            None => format!("`{}`", meta.name),
        }
    }
}

/// Whether a node is a mapping whose closure made nodes: the first of them comes right after it.
fn has_members<N>(nodes: &[N], id: u32, region: impl Fn(&N) -> u32) -> bool {
    nodes.get(id as usize + 1).is_some_and(|next| region(next) == id)
}

impl Plan {
    /// Numbers the nodes from `first` on as the log does; recorded ones must be wired as they were.
    pub(super) fn match_nodes(&mut self, first: usize) -> Result<(), GraphError> {
        let Some(mut replay) = self.replay.take() else { return Ok(()) };
        let matched = self.match_with(&mut replay, first);
        self.replay = Some(replay);
        matched
    }

    fn match_with(&mut self, replay: &mut Replay, first: usize) -> Result<(), GraphError> {
        let mut found: HashMap<u32, u32> = HashMap::new();
        for id in first..self.wiring.nodes.len() {
            let node = &self.wiring.nodes[id];
            let key = (node.prefix.clone(), node.name.clone(), node.number);
            let recorded = (!node.is_hidden()).then(|| replay.by_key.get(&key).copied()).flatten();
            let Some(recorded) = recorded else { continue };
            self.check_wiring(replay, id, recorded)?;
            found.insert(id_of(id), recorded);
            // a mapping is known by its tasks
            let (mut mapping, mut theirs) = (node.region, replay.nodes[recorded as usize].region);
            while mapping != NONE && theirs != NONE {
                found.insert(mapping, theirs);
                mapping = self.wiring.nodes[mapping as usize].region;
                theirs = replay.nodes[theirs as usize].region;
            }
        }
        for id in first..self.wiring.nodes.len() {
            let node = &self.wiring.nodes[id];
            let region = self.wiring.nodes.get(node.region as usize).map_or(NONE, |mapping| mapping.logged);
            let mut recorded = found.get(&id_of(id)).copied();
            let by_wiring = node.is_hidden() && !has_members(&self.wiring.nodes, id_of(id), |node| node.region);
            if let (None, true, Some(wired)) = (recorded, by_wiring, &node.wired) {
                recorded = replay.machinery.get_mut(&(region, wired.hash)).and_then(VecDeque::pop_front);
            }
            let (logged, local) = match recorded {
                Some(recorded) => (recorded, replay.nodes[recorded as usize].local),
                None => replay.add(self.wiring.meta(id_of(id))),
            };
            replay.planned.insert(logged, id_of(id));
            let node = &mut self.wiring.nodes[id];
            (node.logged, node.logged_local, node.recorded) = (logged, local, recorded.is_some());
        }
        Ok(())
    }

    fn check_wiring(&self, replay: &Replay, id: usize, recorded: u32) -> Result<(), GraphError> {
        let node = &self.wiring.nodes[id];
        let (Some(own), Some(theirs)) = (&node.wired, &replay.nodes[recorded as usize].wired) else { return Ok(()) };
        if own.hash == theirs.hash {
            return Ok(());
        }
        let keys = own.upstreams.iter().map(|upstream| self.wiring.nodes[*upstream as usize].key());
        let asked = format!("`{}({})`", own.task, keys.collect::<Vec<_>>().join(", "));
        let recorded = replay.describe(recorded);
        let asked = if asked == recorded { "it with other inputs".to_owned() } else { asked };
        Err(GraphError::Changed { run: replay.run, key: node.key(), recorded, asked })
    }

    /// What is to be recorded of the nodes from `first` on.
    pub(crate) fn new_metas(&self, first: usize) -> Vec<NodeMeta> {
        let new = (first..self.wiring.nodes.len()).filter(|id| !self.wiring.nodes[*id].recorded);
        new.map(|id| self.wiring.meta(id_of(id))).collect()
    }

    /// Numbers a new frame as the log does. Gives what is to be recorded of it.
    pub(super) fn log_frame(&mut self, frame: &mut Frame, id: u32, meta: FrameMeta) -> Option<FrameMeta> {
        let Some(replay) = &mut self.replay else {
            frame.logged = id;
            return Some(meta);
        };
        let known = replay.opened.get(&(meta.region, meta.parent.0, meta.parent.1)).copied();
        let expanded = known.is_some_and(|known| !replay.frames[known as usize].unexpanded);
        if meta.parent.0 == NONE || (expanded && meta.unexpanded) {
            // the list came before and does not now, since the run comes to its end first: its rows end with the run
            frame.logged = NONE;
            return None;
        }
        if let Some(known) = known {
            frame.logged = known;
            let recorded = replay.frames[known as usize].len;
            if recorded != meta.len && replay.problem.is_none() {
                replay.problem = Some(GraphError::Changed {
                    run: replay.run,
                    key: self.wiring.key_of_mapping(frame.region),
                    recorded: format!("a mapping of {recorded} elements"),
                    asked: format!("one of {} elements", meta.len),
                });
            }
            // nodes that were planned since have no rows in it
            self.outbox.extended.push(known);
            return None;
        }
        frame.logged = id_of(replay.frames.len());
        replay.frames.push(RecordedFrame { len: meta.len, unexpanded: meta.unexpanded, rows: Vec::new() });
        Some(meta)
    }

    /// Lets a node be what it is recorded to have become, in all elements of a frame.
    pub(super) fn replay_column(&mut self, frame: u32, node: u32) {
        let planned = &self.wiring.nodes[node as usize];
        if !planned.recorded || !matches!(planned.kind, Kind::Task(_)) {
            return;
        }
        let Some(mut replay) = self.replay.take() else { return };
        let len = self.frames[frame as usize].len;
        let logged = self.frames[frame as usize].logged as usize;
        let is_there = replay.frames.get(logged).is_some_and(|recorded| recorded.len == len);
        if is_there && !self.frames[frame as usize].unexpanded {
            for index in 0..len {
                let at = Instance { frame, node, index };
                let cell = self.row_of(at).cell as usize;
                if let Some(row) = replay.frames[logged].rows.get(cell).cloned() {
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
        if let Some(end) = self.end_of(replay, at, row) {
            return self.settle(at, end, true);
        }
        if row.state == TaskState::Pending {
            return;
        }
        self.cell_mut(at).attempts = row.attempts;
        if row.state == TaskState::Running && replay.exhausted {
            let text = format!("its process died while it ran, {CRASHES} times in a row with nothing else done");
            return self.settle(at, End::Failed(TaskError::new(Cause::Crashed, text)), false);
        }
        let crashes = row.crashes + u16::from(row.state == TaskState::Running);
        if crashes > 0 {
            self.crashes.insert(at, crashes);
        }
        if row.state == TaskState::Retrying {
            self.due.insert(at, row.finished);
        }
    }

    /// What an instance is recorded to have become, where that is final: also what its upstreams decided, since it cannot
    /// be seen any more which of them came first.
    fn end_of(&mut self, replay: &mut Replay, at: Instance, row: &Row) -> Option<End> {
        let error = || row.error.clone().unwrap_or_else(|| TaskError::new(Cause::Failed, "failed"));
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
        if !node.recorded || !matches!(node.kind, Kind::Task(_)) || frame.unexpanded || self.cell(at).is_ended() {
            return None;
        }
        let mut replay = self.replay.take()?;
        let recorded = replay.frames.get(frame.logged as usize).filter(|recorded| recorded.len == frame.len);
        let row = recorded.and_then(|recorded| recorded.rows.get(self.row_of(at).cell as usize)).cloned();
        let end = row.and_then(|row| self.end_of(&mut replay, at, &row));
        self.replay = Some(replay);
        end
    }

    fn recorded_result(&self, replay: &mut Replay, at: Instance) -> End {
        let node = &self.wiring.nodes[at.node as usize];
        let place = self.row_of(at);
        let theirs = replay.nodes[node.logged as usize].wired.as_ref().map(|wired| Arc::clone(&wired.output));
        let (Some(output), Some(bytes)) = (node.output, replay.results.remove(&(place.frame, place.cell))) else {
            return End::Failed(TaskError::new(Cause::Failed, "its result is not kept any more"));
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
        let problem = GraphError::ChangedOutput { run: replay.run, key: self.key(at), returns, recorded };
        let error = TaskError::new(Cause::Fatal, problem.to_string());
        replay.problem.get_or_insert(problem);
        End::Failed(error)
    }

    /// The node whose end the body with a prefix is to be told next, as it was before; `Err` where it may be any.
    /// What the body does not await any more is passed over.
    pub(crate) fn next_expected(&mut self, prefix: Option<&Arc<str>>, is_here: impl Fn(u32) -> bool) -> Expected {
        let Some(replay) = &mut self.replay else { return Expected::Any };
        let Some(queue) = replay.awaited.get_mut(&prefix.cloned()) else { return Expected::Any };
        while let Some(logged) = queue.front().copied() {
            match replay.planned.get(&logged).copied() {
                Some(node) if is_here(node) => {
                    queue.pop_front();
                    return Expected::Node(node);
                }
                // it has not ended, or has just now
                Some(node)
                    if self.waits.contains_key(&node) || self.outbox.answers.iter().any(|(of, ..)| *of == node) =>
                {
                    return Expected::Later;
                }
                _ => queue.pop_front(),
            };
        }
        Expected::Any
    }

    /// Whether a mapping was left without its list, as recorded.
    pub(super) fn was_left(&self, at: Instance) -> bool {
        let Some(replay) = &self.replay else { return false };
        let parent = self.frames[at.frame as usize].logged;
        let known = replay.opened.get(&(self.wiring.nodes[at.node as usize].logged, parent, at.index));
        known.is_some_and(|known| replay.frames[*known as usize].unexpanded)
    }

    /// Whether a flow in the flow is recorded to have taken too long.
    pub(crate) fn took_too_long(&self, node: u32) -> bool {
        let Some(replay) = self.replay.as_ref().filter(|_| self.wiring.nodes[node as usize].recorded) else {
            return false;
        };
        let cell = self.row_of(Instance { frame: 0, node, index: 0 }).cell;
        let row = replay.frames[0].rows.get(cell as usize).filter(|row| row.state == TaskState::Failed);
        row.and_then(|row| row.error.as_ref()).is_some_and(TaskError::is_timeout)
    }

    /// A node of the flow itself that was recorded, and that the flow does not ask for any more.
    pub(crate) fn forgotten(&mut self) -> Option<GraphError> {
        let replay = self.replay.as_ref()?;
        let is_forgotten =
            |(id, node): &(u32, &NodeMeta)| !node.hidden && node.prefix.is_none() && !replay.planned.contains_key(id);
        let (id, node) = (0..).zip(&replay.nodes).find(is_forgotten)?;
        let (run, key, recorded) = (replay.run, node.key(&[]), replay.describe(id));
        self.is_changed = true;
        Some(GraphError::Changed { run, key, recorded, asked: "nothing of that name".to_owned() })
    }

    /// What is not as it was recorded.
    pub(crate) fn take_problem(&mut self) -> Option<GraphError> {
        let problem = self.replay.as_mut().and_then(|replay| replay.problem.take());
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
    if noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
