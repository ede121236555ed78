//! The state of an active run, which its conductor and its lanes share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::Inner;
use super::hold::Hold;
use super::lane;
use super::limits::GateKey;
use super::stop::StopSignal;
use super::trace::Trace;
use crate::clock::{Clock, in_time};
use crate::error::{Error, GraphError, StoreError, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::graph::build::{Defaults, Wiring};
use crate::index::{GateId, IndexVec, NodeId, NodeNumber, ScopeId};
use crate::journal::{CellState, NumberSet, TaskEnd, Transition};
use crate::plan::{EndedInstance, Instance, NextDelivery, OpenedMapping, Plan, Replay};
use crate::scope::{NodeKind, NodeSpec, Promise, Scope};
use crate::state::TaskState;
use crate::store::RunLog;
use crate::task::{BodyPlace, Context, Input, NodeOutcome, RunFacts, TaskBody, TaskDef};

/// An active run.
///
/// All fields except `live` are immutable or synchronize themselves, so that lanes read settings,
/// record and emit events without the lock. `live` guards the decisions: the plan, and the state
/// that must change together with it. Transitions of tasks are recorded under the same lock as the
/// decision ([`flush`](Self::flush)), so that the log has them in the order of the plan.
#[derive(Debug)]
pub(super) struct RunCore {
    pub(super) runtime: Arc<Inner>,
    pub(super) facts: Arc<RunFacts>,
    pub(super) log: Arc<dyn RunLog>,
    /// The clock of the run and its attempts. It is set to the runtime's clock when the run starts
    /// and is steady from then on: if the system's clock is set meanwhile, the times of the run
    /// stay consistent. Recorded deadlines use the runtime's clock instead, since a later execution
    /// of the run reads them.
    pub(super) clock: Clock,
    pub(super) trace: Trace,
    pub(super) cancel: CancellationToken,
    /// The stop signal of the run. A run that is part of another run's body gets it when that other
    /// run is left; until then it continues with the body.
    pub(super) stop: StopSignal,
    /// Ends the tasks that clean up after a cancelled run, when their grace period is over or the
    /// process gives the run up.
    pub(super) grace_over: CancellationToken,
    /// Wakes the conductor.
    pub(super) wake: Notify,
    /// The number of threads that run async bodies, and with it the number of lanes worth having at
    /// once.
    pub(super) workers: usize,
    /// Whether this is the run of a task that the body of another task awaits. It takes no slots of
    /// the runtime, since that body holds one: waiting for a second could deadlock.
    pub(super) nested: bool,
    /// The pools in which the bodies that wait for this run hold slots.
    pub(super) held: Vec<&'static str>,
    /// The run's flow, and the flows of the runs that wait for it.
    pub(super) flows: Vec<&'static str>,
    /// Whether a lane panicked, so that the run may never end by itself.
    pub(super) broken: AtomicBool,
    /// Whether the effects of a transition have to wait for its commit.
    pub(super) durable: bool,
    /// Whether the run was resumed. If so, the start of an attempt is committed before its body
    /// runs.
    pub(super) resumed: bool,
    /// Whether cached results are ignored.
    pub(super) refresh_cache: bool,
    /// Whether the process gave the run up. If so, nothing is recorded any more, since another
    /// process may be executing it. Set while `live` is locked on a store that is not durable, and
    /// otherwise before the hold is dropped.
    pub(super) released: AtomicBool,
    pub(super) live: Mutex<Live>,
}

/// The part of a run that is guarded by [`RunCore::live`].
///
/// The lock is held for synchronous steps only, never across an await. Task bodies, and the `Clone`
/// and `Drop` of values, must not run under it: they are user code, which could stall all lanes of
/// the run, or deadlock by using the run. Values that the plan drops are therefore collected as
/// garbage, and dropped after the lock is released. Only the function of a subflow is called under
/// the lock, since the nodes that it adds are planned in the same step.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) plan: Plan,
    gate_ids: HashMap<GateKey, GateId>,
    pub(super) gates: IndexVec<GateId, Gate>,
    /// The run's own flow, then its subflows.
    pub(super) scopes: IndexVec<ScopeId, ScopeState>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    /// Instances whose results another process was found computing, until they are looked up again.
    pub(super) computed_elsewhere: HashSet<Instance>,
    /// Subflow nodes that may start.
    pub(super) flows: Vec<NodeId>,
    /// Transitions of planned nodes that are not recorded yet.
    planned: Vec<Transition>,
    /// The pools in which the bodies that wait for this run hold slots.
    held: Vec<&'static str>,
    /// Whether the cache options of tasks apply.
    pub(super) caches: bool,
    /// Whether the process is stopping: running bodies may end, and nothing starts.
    pub(super) draining: bool,
    /// Whether a suspect is being tried, or still runs after its trial. If so, the conductor is
    /// woken at each end.
    pub(super) on_trial: bool,
    /// The hold that lanes and threads share; `None` once the process gave the run up.
    pub(super) hold: Option<Arc<Hold>>,
    /// Whether a grace period of clean-up tasks waits for the other bodies to end. If so, the
    /// conductor is woken at each end.
    pub(super) winding_down: bool,
    /// The same token as [`RunCore::grace_over`].
    pub(super) grace_over: CancellationToken,
    /// What a resumed run needs and this runtime lacks.
    pub(super) lacks: Option<String>,
    /// How a resumed run differs from its record.
    pub(super) problem: Option<GraphError>,
}

/// Bodies that take the same slots.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) key: Arc<GateKey>,
    /// Whether a lane was spawned that has not begun.
    pub(super) starting: bool,
    /// The number of lanes that are polling bodies or looking for work.
    pub(super) active: usize,
    /// The number of pieces of work that a lane takes at once, if it takes batches.
    pub(super) batch: usize,
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
pub(super) struct ScopeState {
    pub(super) defaults: Defaults,
    pub(super) cancel: CancellationToken,
    /// Ends the flow's clean-up tasks when their grace period is over.
    pub(super) grace_over: CancellationToken,
    /// The flow that called it.
    pub(super) parent: Option<ScopeId>,
    /// The prefix of the keys of its nodes.
    pub(super) prefix: Option<Arc<str>>,
    /// Answers for its body. They are given one at a time, so that a body that runs again asks for
    /// the same nodes in the same order.
    answers: VecDeque<(NodeId, Arc<Promise>, NodeOutcome)>,
    /// The number of nodes that its body awaits, or awaited without taking the answer.
    awaiting: usize,
    /// Whether its body got an answer that no earlier execution of the run gave.
    pub(super) has_moved_on: bool,
    /// The waker of its body.
    pub(super) waker: Option<Waker>,
}

impl ScopeState {
    pub(super) fn new(
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
pub(super) struct Answer {
    /// The node's number in the run's log.
    pub(super) node: NodeNumber,
    pub(super) promise: Arc<Promise>,
    pub(super) resolved: NodeOutcome,
    /// Whether an earlier execution of the run gave the same answer.
    pub(super) is_known: bool,
    /// Whether the body awaits other nodes, too, so that the order of answers matters.
    pub(super) is_one_of_many: bool,
    /// The nodes that bodies have asked for so far, in a run that was re-run.
    pub(super) known: Option<Box<NumberSet>>,
}

/// A scheduled retry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Instant,
    instance: Instance,
}

/// The reason why nodes cannot be planned.
#[derive(Debug)]
pub(super) enum Refusal {
    Graph(GraphError),
    Runtime(Error),
}

impl Live {
    pub(super) fn new(held: &[&'static str], durable: bool, replay: Option<Replay>) -> Self {
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
    pub(super) fn absorb(
        &mut self,
        runtime: &Inner,
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
            if let Err(error) = runtime.check_specs(&scope.specs, defaults, &self.held, self.caches)
            {
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
            let mocked = runtime.environment.mock_of(definition).is_some();
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
    pub(super) fn answer(&mut self, number: ScopeId) -> Option<Answer> {
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
    pub(super) fn token(&self, node: NodeId) -> &CancellationToken {
        let node = &self.plan.wiring.nodes[node];
        let scope = &self.scopes[node.scope];
        if node.policy.run_on_cancel {
            &scope.grace_over
        } else {
            &scope.cancel
        }
    }

    /// Ends the clean-up tasks of the given cancelled flows, or of all flows.
    pub(super) fn end_grace(&mut self, scopes: Option<&[ScopeId]>) {
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
    pub(super) fn follow_output(&mut self, flow: ScopeId, node: NodeId, output: Option<&Input>) {
        if self.plan.has_unknown_starts() && !self.has_moved_on(flow) {
            self.plan.follow_output(node, output);
        }
    }

    /// Schedules a retry of a node.
    pub(super) fn retry_at(&mut self, at: Instance, time: Instant) {
        self.timers.push(Reverse(Timer {
            at: time,
            instance: at,
        }));
    }

    /// Returns a flow of the run and all flows below it.
    pub(super) fn family(&self, flow: ScopeId) -> Vec<ScopeId> {
        let mut family = vec![flow];
        for (number, scope) in self.scopes.entries() {
            if scope.parent.is_some_and(|parent| family.contains(&parent)) {
                family.push(number);
            }
        }
        family
    }

    /// Returns the instant of the next timer.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse(timer)| timer.at)
    }

    /// Makes the retries ready that are due.
    pub(super) fn due(&mut self, now: Instant) {
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

impl Inner {
    /// Checks that the resources and pools of tasks exist, and that no other task has the same path
    /// in the cache.
    fn check_specs(
        &self,
        specs: &[NodeSpec],
        defaults: &Defaults,
        held: &[&'static str],
        caches: bool,
    ) -> Result<(), Error> {
        let mut checked: Option<&TaskDef> = None;
        for spec in specs {
            let NodeKind::Task(definition) = &spec.kind else {
                continue;
            };
            let own = spec
                .more
                .as_ref()
                .and_then(|more| more.options.pool.as_ref());
            let pool = own
                .or(definition.options.pool.as_ref())
                .or(defaults.flow.pool.as_ref());
            if let Some(pool) = pool.or(defaults.runtime.pool.as_ref()) {
                self.limits.check(spec.name(), pool)?;
                // the waiting body holds a slot of a pool: waiting for another one could be waiting
                // for itself, or for a body that waits for this one
                if let Some(held) = held.first() {
                    return Err(Error::Options(format!(
                        "task `{}` takes a slot of the pool `{}`, and is awaited in the body of a task that has one of the \
                         pool `{held}`: the two might wait for each other; pass nodes to tasks of a flow instead of awaiting \
                         them in a body",
                        spec.name(),
                        pool.name
                    )));
                }
            }
            if !checked.is_some_and(|checked| std::ptr::eq(checked, *definition)) {
                self.check_resources(definition.name, definition)?;
                if caches {
                    self.check_path(definition)?;
                }
                checked = Some(definition);
            }
        }
        Ok(())
    }

    /// Checks the tasks of a planned flow, including those of its subflows, so that errors are
    /// reported before the run starts.
    pub(super) fn check_wiring(&self, wiring: &Wiring) -> Result<(), Error> {
        for node in &wiring.nodes {
            let NodeKind::Task(definition) = &node.kind else {
                continue;
            };
            if let Some(pool) = &node.policy.pool {
                self.limits.check(&node.name, pool)?;
            }
            self.check_resources(definition.name, definition)?;
            self.check_path(definition)?;
        }
        Ok(())
    }

    /// Checks that the cached results of a task cannot be mistaken for those of another.
    fn check_path(&self, definition: &'static TaskDef) -> Result<(), Error> {
        if definition.cache.is_none() || self.environment.mock_of(definition).is_some() {
            return Ok(());
        }
        let Some(other) = definition.namesake() else {
            return Ok(());
        };
        let (one, other) = (definition.place(), other.place());
        let (first, second) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Err(Error::DuplicateTask {
            path: definition.path(),
            first,
            second,
        })
    }

    /// Checks that the resources of a task exist.
    pub(super) fn check_resources(
        &self,
        task: &str,
        definition: &'static TaskDef,
    ) -> Result<(), Error> {
        if definition.resources.is_empty() || self.environment.mock_of(definition).is_some() {
            return Ok(());
        }
        self.check_has(task, definition.resources)
    }

    pub(super) fn check_has(
        &self,
        task: &str,
        resources: &'static [crate::task::Resource],
    ) -> Result<(), Error> {
        match resources
            .iter()
            .find(|resource| !self.environment.resources.has((resource.id)()))
        {
            None => Ok(()),
            Some(missing) => Err(Error::MissingResource {
                task: task.to_owned(),
                resource: missing.name,
                type_name: missing.type_name,
            }),
        }
    }
}

impl RunCore {
    /// Records and publishes everything that the plan has decided since the last call.
    ///
    /// Called after a change of the plan and before the lock is released: in between, another
    /// thread could record a later decision first, and a replay of the log would see them in the
    /// wrong order. The order within a call:
    ///
    /// 1. Planned nodes are recorded first. All other transitions refer to their rows.
    /// 2. Mappings are recorded before ends: an opened mapping creates the rows of its elements,
    ///    and an element may be skipped or cancelled in the same call.
    /// 3. Ends are recorded before answers are queued and promises fulfilled. A fulfilled promise
    ///    is visible to its body without the lock, and whatever the body records next must come
    ///    after the end that it has seen.
    /// 4. Timers, subflows and answers are set before the conductor is woken, which looks for them.
    ///    `notify_one` keeps the notification if the conductor is not waiting yet, so none is lost.
    /// 5. The commit is requested once, after all records, so that they share a transaction.
    /// 6. Lanes are spawned last. A new lane takes the lock first, so it starts after the caller
    ///    has released it, and finds all of the above.
    pub(super) fn flush(self: &Arc<Self>, live: &mut Live) {
        let mut recorded = self.record_planned(live);
        let mut wake =
            live.plan.is_done() || live.winding_down || (live.draining && !live.plan.is_busy());
        wake |= live.on_trial || live.plan.wants_trial() || live.plan.is_held_up();
        if let Some(problem) = live.plan.take_problem() {
            live.problem.get_or_insert(problem);
            wake = true;
        }
        if let Some(outbox) = live.plan.take_outbox() {
            let now = self.clock.timestamp();
            recorded |= !(outbox.extended.is_empty()
                && outbox.opened.is_empty()
                && outbox.ended.is_empty());
            for frame in outbox.extended {
                self.record(Transition::Extended { frame });
            }
            for OpenedMapping {
                mapping,
                elements,
                meta,
            } in outbox.opened
            {
                if let Some(meta) = meta {
                    self.record(Transition::Expanded(meta));
                    failpoint::hit("mapping-opened");
                }
                if let Some(elements) = elements {
                    self.runtime.events.emit(|| Event::Expanded {
                        run: self.facts.id,
                        key: live.plan.wiring.key_of_mapping(mapping),
                        elements: elements as usize,
                    });
                }
            }
            for EndedInstance {
                at,
                place,
                state,
                attempts,
                error,
            } in outbox.ended
            {
                self.emit_finished(live, at, state, attempts, Duration::ZERO, error.as_ref());
                if let Some(place) = place.filter(|_| !live.plan.is_changed) {
                    let state = CellState::Ended {
                        state,
                        started: None,
                        at: now,
                    };
                    self.record(Transition::Task(TaskEnd {
                        error,
                        ..TaskEnd::new(place, state, attempts)
                    }));
                }
            }
            wake |= !(outbox.flows.is_empty() && outbox.due.is_empty());
            live.flows.extend(outbox.flows);
            for (at, retry) in outbox.due {
                live.retry_at(at, in_time(retry.delay(self.runtime.clock.timestamp())));
            }
            for (node, promise, resolved) in outbox.answers {
                let scope = &mut live.scopes[live.plan.wiring.nodes[node].scope];
                scope.answers.push_back((node, promise, resolved));
                if let Some(waker) = scope.waker.take() {
                    waker.wake();
                }
            }
            for (promise, resolved) in outbox.promises {
                promise.fulfil(resolved);
            }
        }
        if recorded {
            self.log.commit_soon();
        }
        if wake {
            self.wake.notify_one();
        }
        for gate in live.plan.gates() {
            self.staff(live, gate);
        }
    }

    /// Records planned nodes, which must come before their transitions. Returns `true` if there
    /// were any.
    pub(super) fn record_planned(&self, live: &mut Live) -> bool {
        let any = !live.planned.is_empty();
        live.planned
            .drain(..)
            .for_each(|transition| self.record(transition));
        if any {
            failpoint::hit("planned");
        }
        any
    }

    /// Records a transition, unless the process gave the run up.
    pub(super) fn record(&self, transition: Transition) {
        if !self.released.load(Ordering::Acquire) {
            self.log.record(transition);
        }
    }

    /// Ends all bodies at their next await, including those of clean-up tasks.
    pub(super) fn end_bodies(&self) {
        self.cancel.cancel();
        self.grace_over.cancel();
    }

    /// Waits until everything recorded so far is committed.
    pub(super) async fn commit(&self) {
        if self.durable {
            self.check(self.log.commit().wait().await);
        }
    }

    /// Ends the bodies of the run if the store failed: work that cannot be recorded should not be
    /// done.
    pub(super) fn check(&self, committed: Result<(), StoreError>) {
        if let Err(error) = committed {
            tracing::error!(parent: &self.trace.run, "cannot commit a transition: {error}");
            self.end_bodies();
        }
    }

    /// Spawns a lane for a gate if there is work for another one. One lane at a time is starting;
    /// it calls this function when it begins, so that lanes are added for as long as there is work.
    pub(super) fn staff(self: &Arc<Self>, live: &mut Live, gate: GateId) {
        let wanted = live.plan.has_ready(gate) && !live.draining;
        let state = &mut live.gates[gate];
        if !wanted || state.starting || state.active >= self.workers {
            return;
        }
        let Some(hold) = &live.hold else { return };
        state.starting = true;
        tokio::spawn(lane::run(Arc::clone(self), gate, Arc::clone(hold)));
    }

    pub(super) fn emit_finished(
        &self,
        live: &Live,
        at: Instance,
        state: TaskState,
        attempts: u16,
        duration: Duration,
        error: Option<&TaskError>,
    ) {
        // the gather of a mapping is not a task of the user's
        if live.plan.wiring.nodes[at.node].is_hidden() {
            return;
        }
        self.runtime.events.emit(|| Event::TaskFinished {
            run: self.facts.id,
            key: live.plan.key(at),
            state,
            attempts: u32::from(attempts),
            duration,
            error: error.cloned(),
        });
    }

    /// Returns the span of an attempt.
    pub(super) fn span(&self, at: Instance, attempt: u16) -> Span {
        self.trace.attempt(attempt, || {
            let live = self.live.lock();
            (live.plan.key_of(at), live.plan.map_index(at))
        })
    }

    /// Returns the key of a task that runs outside of a recorded run, for its log lines: the span
    /// names the task that awaits it.
    pub(super) fn loose_key(&self, at: Instance) -> Option<String> {
        (!self.trace.is_recorded).then(|| self.live.lock().plan.key(at))
    }

    /// Returns the context of an attempt, which contains its cancellation token.
    pub(super) fn context(&self, at: Instance, attempt: u16) -> Arc<Context> {
        let live = self.live.lock();
        let node = &live.plan.wiring.nodes[at.node];
        let place = BodyPlace {
            task: node.name.to_string(),
            key: live.plan.key(at),
            map_index: live.plan.map_index(at),
            attempt: u32::from(attempt),
        };
        let token = live.token(at.node).child_token();
        Arc::new(Context::of_task(Arc::clone(&self.facts), place, token))
    }
}
