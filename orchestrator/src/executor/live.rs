//! The part of an active run that changes: its plan, and what changes with it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hold::Hold;
use super::host::Host;
use super::slots::GateKey;
use crate::capture::TaskOrigin;
use crate::error::{Error, GraphError};
use crate::graph::build::Defaults;
use crate::index::{GateId, IndexVec, NodeId, NodeNumber, ScopeId};
use crate::journal::{NumberSet, Transition};
use crate::plan::{Instance, NextDelivery, Plan, Replay};
use crate::scope::{NodeKind, Promise, Scope};
use crate::task::{Input, NodeOutcome, TaskBody};

/// The part of a run that is guarded by [`ActiveRun::live`](super::run::ActiveRun::live).
///
/// The lock is held for synchronous steps only, never across an await. Task bodies, and the `Clone`
/// and `Drop` of values, must not run under it: they are user code, which could stall all lanes of
/// the run, or deadlock by using the run. Values that the plan drops are therefore collected as
/// garbage, and dropped after the lock is released. Only the function of a subflow is called under
/// the lock, since the nodes that it adds are planned in the same step.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) plan: Plan,
    gate_ids: HashMap<GateKey, GateId>,
    pub(crate) gates: IndexVec<GateId, Gate>,
    /// The run's own flow, then its subflows.
    pub(crate) scopes: IndexVec<ScopeId, ScopeState>,
    pub(crate) timers: BinaryHeap<Reverse<Timer>>,
    /// Instances whose results another process was found computing, until they are looked up again.
    pub(crate) computed_elsewhere: HashSet<Instance>,
    /// Subflow nodes that may start.
    pub(crate) flows: Vec<NodeId>,
    /// Transitions of planned nodes that are not recorded yet.
    pub(crate) planned: Vec<Transition>,
    /// The pools in which the bodies that wait for this run hold slots.
    held: Vec<&'static str>,
    /// Whether the cache options of tasks apply.
    pub(crate) caches: bool,
    /// Whether the run ends before its tasks do. If that was requested, the request is recorded.
    pub(crate) is_ending: bool,
    /// Whether the process is stopping: running bodies may end, and nothing starts.
    pub(crate) draining: bool,
    /// Whether a suspect is being tried, or still runs after its trial. If so, the conductor is
    /// woken at each end.
    pub(crate) on_trial: bool,
    /// The hold that lanes and threads share; `None` once the process gave the run up.
    pub(crate) hold: Option<Arc<Hold>>,
    /// Whether a grace period of clean-up tasks waits for the other bodies to end. If so, the
    /// conductor is woken at each end.
    pub(crate) winding_down: bool,
    /// The same token as [`ActiveRun::grace_over`](super::run::ActiveRun::grace_over).
    pub(crate) grace_over: CancellationToken,
    /// What a resumed run needs and this runtime lacks.
    pub(crate) lacks: Option<String>,
    /// How a resumed run differs from its record.
    pub(crate) problem: Option<GraphError>,
}

/// Bodies that take the same slots.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) key: Arc<GateKey>,
    /// Whether a lane was spawned that has not begun.
    pub(crate) starting: bool,
    /// The number of lanes that are polling bodies or looking for work.
    pub(crate) active: usize,
    /// The number of pieces of work that a lane takes at once, if it takes batches.
    pub(crate) batch: usize,
}

impl Gate {
    fn new(key: GateKey) -> Self {
        Self {
            key: Arc::new(key),
            starting: false,
            active: 0,
            batch: 1,
        }
    }
}

/// A flow or subflow of the run.
#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) defaults: Defaults,
    pub(crate) cancel: CancellationToken,
    /// Ends the flow's clean-up tasks when their grace period is over.
    pub(crate) grace_over: CancellationToken,
    /// The flow that called it.
    pub(crate) parent: Option<ScopeId>,
    /// The prefix of the keys of its nodes.
    pub(crate) prefix: Option<Arc<str>>,
    /// Answers for its body. They are given one at a time, so that a body that runs again asks for
    /// the same nodes in the same order.
    pub(crate) answers: VecDeque<(NodeId, Arc<Promise>, NodeOutcome)>,
    /// The number of nodes that its body awaits, or awaited without taking the answer.
    awaiting: usize,
    /// Whether its body got an answer that no earlier execution of the run gave.
    pub(crate) has_moved_on: bool,
    /// The waker of its body.
    pub(crate) waker: Option<Waker>,
}

impl ScopeState {
    pub(crate) fn new(
        defaults: Defaults,
        cancel: CancellationToken,
        grace_over: CancellationToken,
        parent: Option<ScopeId>,
        prefix: Option<Arc<str>>,
    ) -> Self {
        let (answers, awaiting, has_moved_on) = (VecDeque::new(), 0, false);
        Self {
            defaults,
            cancel,
            grace_over,
            parent,
            prefix,
            answers,
            awaiting,
            has_moved_on,
            waker: None,
        }
    }
}

/// An answer for the body of a flow.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The node's number in the run's log.
    pub(crate) node: NodeNumber,
    pub(crate) promise: Arc<Promise>,
    pub(crate) resolved: NodeOutcome,
    /// Whether an earlier execution of the run gave the same answer.
    pub(crate) is_known: bool,
    /// Whether the body awaits other nodes, too, so that the order of answers matters.
    pub(crate) is_one_of_many: bool,
    /// The nodes that bodies have asked for so far, in a run that was re-run.
    pub(crate) known: Option<Box<NumberSet>>,
}

/// A scheduled retry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Instant,
    instance: Instance,
}

/// The reason why nodes cannot be planned.
#[derive(Debug)]
pub(crate) enum Refusal {
    Graph(GraphError),
    Runtime(Error),
}

impl Live {
    pub(crate) fn new(held: &[&'static str], durable: bool, replay: Option<Replay>) -> Self {
        Self {
            plan: Plan::new(durable, replay),
            gate_ids: HashMap::from([(GateKey::PLAIN, GateId::PLAIN)]),
            gates: IndexVec::from(vec![Gate::new(GateKey::PLAIN)]),
            scopes: IndexVec::default(),
            timers: BinaryHeap::new(),
            computed_elsewhere: HashSet::new(),
            flows: Vec::new(),
            planned: Vec::new(),
            held: held.to_vec(),
            caches: true,
            is_ending: false,
            draining: false,
            on_trial: false,
            hold: None,
            winding_down: false,
            grace_over: CancellationToken::new(),
            lacks: None,
            problem: None,
        }
    }

    /// Plans the nodes that the body of a flow has added, and checks that the runtime can run them.
    pub(crate) fn absorb(
        &mut self,
        host: &Host,
        scope: &mut Scope,
        number: ScopeId,
    ) -> Result<(), Refusal> {
        if scope.specs.is_empty()
            && scope.problem.is_none()
            && scope.waits.is_empty()
            && scope.limits.is_empty()
        {
            return Ok(());
        }
        let first = self.plan.wiring.nodes.next_id();
        if scope.problem.is_none() {
            let defaults = &self.scopes[number].defaults;
            if let Err(error) = host.check_specs(&scope.specs, defaults, &self.held, self.caches) {
                // if this runtime lacks something, a resumed run must not fail: another runtime may
                // have it
                self.lacks = self.plan.is_replayed().then(|| error.to_string());
                return Err(Refusal::Runtime(error));
            }
        }
        let caches = self.caches;
        let Self {
            plan,
            gate_ids,
            gates,
            scopes,
            ..
        } = self;
        let gate = |node: &crate::graph::build::PlannedNode| {
            let NodeKind::Task(definition) = &node.kind else {
                return GateId::PLAIN;
            };
            let mocked = host.environment.mock_of(definition).is_some();
            let blocking = matches!(definition.body, TaskBody::Blocking(_)) && !mocked;
            let cached = definition.cache.is_some() && !mocked && caches;
            let pool = node.policy.pool.as_ref();
            if !blocking && !cached && pool.is_none() {
                return GateId::PLAIN;
            }
            *gate_ids
                .entry(GateKey::new(blocking, pool, cached))
                .or_insert_with_key(|key| gates.push(Gate::new(key.clone())))
        };
        plan.absorb(scope, number, &scopes[number].defaults, gate)
            .map_err(Refusal::Graph)?;
        let new = plan.new_metas(first);
        if !new.is_empty() {
            self.planned.push(Transition::Planned(new));
        }
        if self.has_moved_on(number) {
            self.plan.mark_unseen(first);
        }
        self.scopes[number].awaiting += scope.waits.len();
        self.plan.wait(scope.waits.drain(..));
        Ok(())
    }

    /// Returns the next answer for the body of a flow of the run.
    pub(crate) fn answer(&mut self, number: ScopeId) -> Option<Answer> {
        let ScopeState {
            answers,
            prefix,
            awaiting,
            has_moved_on,
            ..
        } = &mut self.scopes[number];
        if answers.is_empty() {
            return None;
        }
        let place = |node| answers.iter().position(|(of, _, _)| *of == node);
        let (next, is_known) = match self
            .plan
            .next_expected(prefix.as_ref(), |node| place(node).is_some())
        {
            // answers that were not given before the run was cancelled are not given any more
            NextDelivery::Any if self.plan.catching_up => (None, false),
            NextDelivery::Any => (Some(0), false),
            NextDelivery::Node(node) => (place(node), true),
            NextDelivery::Later => (None, false),
        };
        let (node, promise, resolved) = answers.remove(next?)?;
        let is_one_of_many = *awaiting > 1;
        *awaiting = awaiting.saturating_sub(1);
        *has_moved_on |= !self.plan.was_recorded(node);
        let node = self.plan.wiring.nodes[node].logged;
        Some(Answer {
            node,
            promise,
            resolved,
            is_known,
            is_one_of_many,
            known: self.plan.known_nodes(),
        })
    }

    /// Returns `true` if the body of a flow, or of one that called it, got an answer that no
    /// earlier execution of the run gave.
    fn has_moved_on(&self, flow: ScopeId) -> bool {
        let mut callers = std::iter::successors(Some(flow), |flow| self.scopes[*flow].parent);
        self.plan.has_unknown_starts() && callers.any(|flow| self.scopes[flow].has_moved_on)
    }

    /// Returns the token that cancels the attempts of a node: that of its flow or, for a clean-up
    /// task, that of the grace period after the cancellation.
    pub(crate) fn token(&self, node: NodeId) -> &CancellationToken {
        let node = &self.plan.wiring.nodes[node];
        let scope = &self.scopes[node.scope];
        if node.policy.run_on_cancel {
            &scope.grace_over
        } else {
            &scope.cancel
        }
    }

    /// Returns what log lines tell of an attempt.
    pub(crate) fn origin(&self, at: Instance, attempt: u16) -> TaskOrigin {
        TaskOrigin {
            key: self.plan.key_of(at),
            attempt: u32::from(attempt),
            map_index: self.plan.map_index(at),
        }
    }

    /// Ends the clean-up tasks of the given cancelled flows, or of all flows.
    pub(crate) fn end_grace(&mut self, scopes: Option<&[ScopeId]>) {
        let Some(scopes) = scopes else {
            self.grace_over.cancel();
            return self.plan.end_grace(None);
        };
        for scope in scopes {
            self.scopes[*scope].grace_over.cancel();
            self.plan.end_grace(Some(*scope));
        }
    }

    /// Notes the output of a subflow before the subflow ends.
    pub(crate) fn follow_output(&mut self, flow: ScopeId, node: NodeId, output: Option<&Input>) {
        if self.plan.has_unknown_starts() && !self.has_moved_on(flow) {
            self.plan.follow_output(node, output);
        }
    }

    /// Schedules a retry of a node.
    pub(crate) fn retry_at(&mut self, at: Instance, time: Instant) {
        self.timers.push(Reverse(Timer {
            at: time,
            instance: at,
        }));
    }

    /// Returns a flow of the run and all flows below it.
    pub(crate) fn family(&self, flow: ScopeId) -> Vec<ScopeId> {
        let mut family = vec![flow];
        for (number, scope) in self.scopes.entries() {
            if scope.parent.is_some_and(|parent| family.contains(&parent)) {
                family.push(number);
            }
        }
        family
    }

    /// Returns the instant of the next timer.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse(timer)| timer.at)
    }

    /// Makes the retries ready that are due.
    pub(crate) fn due(&mut self, now: Instant) {
        while self
            .timers
            .peek()
            .is_some_and(|Reverse(timer)| timer.at <= now)
        {
            if let Some(Reverse(timer)) = self.timers.pop() {
                self.plan.retry_now(timer.instance);
            }
        }
    }
}
