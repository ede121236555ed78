//! The state of an active run, which its conductor and its lanes share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle as Tokio;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::active::StopSignal;
use super::ambient::{AMBIENT, Ambient};
use super::flight::Waits;
use super::hold::{Hold, Thread};
use super::host::Host;
use super::slots::pulse::{Pulse, Watched};
use super::slots::{self, GateKey};
use super::trace::Trace;
use crate::clock::{Clock, in_time};
use crate::error::{Error, GraphError, StoreError, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::flow::FlowDef;
use crate::graph::build::Defaults;
use crate::index::{GateId, IndexVec, NodeId, NodeNumber, ScopeId};
use crate::journal::{CellState, Numbers, TaskEnd, Transition};
use crate::plan::{Ended, Expected, Instance, Opened, Plan, Replay};
use crate::scope::{Kind, Promise, Scope};
use crate::state::TaskState;
use crate::store::RunLog;
use crate::task::{BlockingBody, Body, Context, Input, Place, Resolved, RunFacts, TaskDef};

/// The longest wait of the watchdog for a plan that is in use.
const PATIENCE: Duration = Duration::from_millis(100);

/// An active run.
///
/// All fields except `live` are immutable or synchronize themselves, so that lanes read settings,
/// record and emit events without the lock. `live` guards the decisions: the plan, and the state
/// that must change together with it. Transitions of tasks are recorded under the same lock as the
/// decision ([`flush`](Self::flush)), so that the log has them in the order of the plan.
#[derive(Debug)]
pub(crate) struct RunCore {
    pub(crate) host: Arc<Host>,
    pub(crate) facts: Arc<RunFacts>,
    pub(crate) log: Arc<dyn RunLog>,
    /// The clock of the run and its attempts. It is set to the runtime's clock when the run starts
    /// and is steady from then on: if the system's clock is set meanwhile, the times of the run
    /// stay consistent. Recorded deadlines use the runtime's clock instead, since a later execution
    /// of the run reads them.
    pub(crate) clock: Clock,
    pub(crate) trace: Trace,
    pub(crate) cancel: CancellationToken,
    /// The stop signal of the run. A run that is part of another run's body gets it when that other
    /// run is left; until then it continues with the body.
    pub(crate) stop: StopSignal,
    /// Ends the tasks that clean up after a cancelled run, when their grace period is over or the
    /// process gives the run up.
    pub(crate) grace_over: CancellationToken,
    /// Wakes the conductor.
    pub(crate) wake: Notify,
    /// The number of threads that run async bodies, and with it the number of lanes worth having at
    /// once.
    pub(crate) workers: usize,
    /// Whether this is the run of a task that the body of another task awaits. It takes no slots of
    /// the runtime, since that body holds one: waiting for a second could deadlock.
    pub(crate) nested: bool,
    /// The pools in which the bodies that wait for this run hold slots.
    pub(crate) held: Vec<&'static str>,
    /// The run's flow, and the flows of the runs that wait for it.
    pub(crate) flows: Vec<&'static str>,
    /// Whether a lane panicked, so that the run may never end by itself.
    pub(crate) broken: AtomicBool,
    /// Whether the effects of a transition have to wait for its commit.
    pub(crate) durable: bool,
    /// Whether the run was resumed. If so, the start of an attempt is committed before its body
    /// runs.
    pub(crate) resumed: bool,
    /// Whether cached results are ignored.
    pub(crate) refresh_cache: bool,
    /// Whether the process gave the run up. If so, nothing is recorded any more, since another
    /// process may be executing it. Set while `live` is locked on a store that is not durable, and
    /// otherwise before the hold is dropped.
    pub(crate) released: AtomicBool,
    pub(crate) live: Mutex<Live>,
}

/// The part of a run that is guarded by [`RunCore::live`].
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
    planned: Vec<Transition>,
    /// The pools in which the bodies that wait for this run hold slots.
    held: Vec<&'static str>,
    /// Whether the cache options of tasks apply.
    pub(crate) caches: bool,
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
    /// The same token as [`RunCore::grace_over`].
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
    answers: VecDeque<(NodeId, Arc<Promise>, Resolved)>,
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
    pub(crate) resolved: Resolved,
    /// Whether an earlier execution of the run gave the same answer.
    pub(crate) is_known: bool,
    /// Whether the body awaits other nodes, too, so that the order of answers matters.
    pub(crate) is_one_of_many: bool,
    /// The nodes that bodies have asked for so far, in a run that was re-run.
    pub(crate) known: Option<Box<Numbers>>,
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
        let gate = |node: &crate::graph::build::Planned| {
            let Kind::Task(definition) = &node.kind else {
                return GateId::PLAIN;
            };
            let mocked = host.environment.mock_of(definition).is_some();
            let blocking = matches!(definition.body, Body::Blocking(_)) && !mocked;
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
            Expected::Any if self.plan.catching_up => (None, false),
            Expected::Any => (Some(0), false),
            Expected::Node(node) => (place(node), true),
            Expected::Later => (None, false),
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

impl RunCore {
    pub(crate) fn new(
        host: Arc<Host>,
        log: Arc<dyn RunLog>,
        trace: Trace,
        cancel: CancellationToken,
        mut live: Live,
        ambient: &Ambient,
        refresh_cache: bool,
    ) -> Arc<Self> {
        let workers = Tokio::try_current().map_or(1, |tokio| tokio.metrics().num_workers());
        let durable = log.needs_commits();
        let mut flows = ambient.flows.clone();
        // a task that runs alone does not belong to a flow
        flows.extend(trace.is_recorded.then_some(trace.facts.flow));
        // a task that a body awaits is part of the body's run
        let outer = ambient.hold.clone().filter(|_| !trace.is_recorded);
        let stop = outer.as_ref().map_or_else(
            || host.stop.clone(),
            |outer| StopSignal::at_once(outer.left()),
        );
        live.hold = Some(Hold::new(Arc::clone(&log), outer));
        let clock = trace.clock.clone();
        Arc::new(Self {
            host,
            facts: Arc::clone(&trace.facts),
            log,
            clock,
            trace,
            cancel,
            stop,
            grace_over: live.grace_over.clone(),
            wake: Notify::new(),
            workers,
            nested: ambient.in_task,
            held: ambient.held.clone(),
            flows,
            broken: AtomicBool::new(false),
            durable,
            resumed: live.plan.is_replayed(),
            refresh_cache,
            released: AtomicBool::new(false),
            live: Mutex::new(live),
        })
    }

    /// Returns the context of the bodies of a gate.
    pub(crate) fn ambient(&self, gate: &GateKey, hold: Arc<Hold>) -> Ambient {
        let mut held = self.held.clone();
        held.extend(gate.pool.map(|(name, _)| name));
        Ambient {
            host: Arc::clone(&self.host),
            held,
            flows: self.flows.clone(),
            in_task: true,
            hold: Some(hold),
        }
    }

    /// Creates the pulse of a lane.
    pub(crate) fn lane_pulse(self: &Arc<Self>, gate: &GateKey) -> Arc<Pulse> {
        let queues = self.host.admission.limits.queues(gate, self.nested);
        slots::watch(self.watched(), self.facts.flow, None, queues)
    }

    /// Creates the pulse of a flow's body.
    pub(crate) fn flow_pulse(self: &Arc<Self>, flow: &'static FlowDef) -> Arc<Pulse> {
        slots::watch(self.watched(), flow.name, Some(flow), [None, None])
    }

    /// Wraps a blocking body: it has the context of its lane on its thread, too, and the run's hold
    /// for as long as it runs there.
    pub(crate) fn on_thread(&self, at: Instance, body: BlockingBody) -> BlockingBody {
        let ambient = AMBIENT.try_with(Clone::clone).ok();
        let thread = {
            let live = self.live.lock();
            let hold = live.hold.clone();
            Thread::new(&self.host.active.threads, hold, live.plan.key(at))
        };
        Box::new(move || {
            let _thread = thread;
            match ambient {
                Some(ambient) => AMBIENT.sync_scope(ambient, body),
                None => body(),
            }
        })
    }

    fn watched(self: &Arc<Self>) -> Weak<dyn Watched> {
        let run: Weak<Self> = Arc::downgrade(self);
        run
    }

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
    pub(crate) fn flush(self: &Arc<Self>, live: &mut Live) {
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
            for Opened {
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
                    self.host.services.events.emit(|| Event::Expanded {
                        run: self.facts.id,
                        key: live.plan.wiring.key_of_mapping(mapping),
                        elements: elements as usize,
                    });
                }
            }
            for Ended {
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
                live.retry_at(
                    at,
                    in_time(retry.delay(self.host.services.clock.timestamp())),
                );
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
    pub(crate) fn record_planned(&self, live: &mut Live) -> bool {
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
    pub(crate) fn record(&self, transition: Transition) {
        if !self.released.load(Ordering::Acquire) {
            self.log.record(transition);
        }
    }

    /// Ends all bodies at their next await, including those of clean-up tasks.
    pub(crate) fn end_bodies(&self) {
        self.cancel.cancel();
        self.grace_over.cancel();
    }

    /// Waits until everything recorded so far is committed.
    pub(crate) async fn commit(&self) {
        if self.durable {
            self.check(self.log.commit().wait().await);
        }
    }

    /// Ends the bodies of the run if the store failed: work that cannot be recorded should not be
    /// done.
    pub(crate) fn check(&self, committed: Result<(), StoreError>) {
        if let Err(error) = committed {
            tracing::error!(parent: &self.trace.run, "cannot commit a transition: {error}");
            self.end_bodies();
        }
    }

    pub(crate) fn emit_finished(
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
        self.host.services.events.emit(|| Event::TaskFinished {
            run: self.facts.id,
            key: live.plan.key(at),
            state,
            attempts: u32::from(attempts),
            duration,
            error: error.cloned(),
        });
    }

    /// Returns the span of an attempt.
    pub(crate) fn attempt_span(&self, at: Instance, attempt: u16) -> Span {
        self.trace.attempt(attempt, || {
            let live = self.live.lock();
            (live.plan.key_of(at), live.plan.map_index(at))
        })
    }

    /// Returns the key of a task that runs outside of a recorded run, for its log lines: the span
    /// names the task that awaits it.
    pub(crate) fn loose_key(&self, at: Instance) -> Option<String> {
        (!self.trace.is_recorded).then(|| self.live.lock().plan.key(at))
    }

    /// Returns the context of an attempt, which contains its cancellation token.
    pub(crate) fn context(&self, at: Instance, attempt: u16) -> Arc<Context> {
        let live = self.live.lock();
        let node = &live.plan.wiring.nodes[at.node];
        let place = Place {
            task: node.name.to_string(),
            key: live.plan.key(at),
            map_index: live.plan.map_index(at),
            attempt: u32::from(attempt),
        };
        let token = live.token(at.node).child_token();
        Arc::new(Context::of_task(Arc::clone(&self.facts), place, token))
    }
}

impl Watched for RunCore {
    fn task_at(&self, at: Instance) -> Option<&'static TaskDef> {
        let plan = &self.live.try_lock_for(PATIENCE)?.plan;
        match plan.wiring.nodes.get(at.node)?.kind {
            Kind::Task(task) => Some(task),
            Kind::Flow(_) | Kind::Mapping(_) | Kind::Gather(_) => None,
        }
    }

    fn span_at(&self, at: Instance) -> Span {
        let attempts = self
            .live
            .try_lock_for(PATIENCE)
            .map(|live| live.plan.attempts(at));
        attempts.map_or_else(Span::none, |attempts| self.attempt_span(at, attempts))
    }

    fn span(&self) -> &Span {
        &self.trace.run
    }
}

impl Waits for RunCore {
    fn wake(self: Arc<Self>, at: Instance) {
        let live = &mut *self.live.lock();
        live.plan.retry_now(at);
        self.flush(live);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
