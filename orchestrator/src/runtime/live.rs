//! A run under way: what its conductor and its lanes share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
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
use super::lane;
use super::limits::GateKey;
use super::mock::Mock;
use super::plan::{Ended, Expected, Instance, Opened, Plan, Replay};
use super::trace::Trace;
use crate::clock::micros_between;
use crate::error::{Error, GraphError, StoreError, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::graph::build::{Defaults, Wiring};
use crate::state::TaskState;
use crate::store::{Numbers, Row, RunLog, TaskEnd, Transition};
use crate::task::scope::{Kind, NONE, NodeSpec, Promise, Scope};
use crate::task::{Body, Context, Place, Resolved, RunFacts, TaskDef};

/// A run under way.
#[derive(Debug)]
pub(super) struct RunCore {
    pub(super) runtime: Arc<Inner>,
    pub(super) facts: Arc<RunFacts>,
    pub(super) log: Arc<dyn RunLog>,
    pub(super) trace: Trace,
    pub(super) cancel: CancellationToken,
    /// Tells the conductor that there is something for it to see to.
    pub(super) wake: Notify,
    /// How many threads run async bodies: as many lanes are worth having at once.
    pub(super) workers: usize,
    /// The run of a task that the body of another awaits: it takes no slots of the runtime, since that body has one.
    pub(super) nested: bool,
    /// The pools of which the bodies have slots that wait for this run.
    pub(super) held: Vec<&'static str>,
    /// Its flow, and those of the runs that wait for it.
    pub(super) flows: Vec<&'static str>,
    /// A lane panicked: the run cannot be trusted to come to its end.
    pub(super) broken: AtomicBool,
    /// Whether what depends on a transition has to wait for a commit.
    pub(super) durable: bool,
    /// Whether it goes on after its process died: then an attempt's start is committed before its body runs.
    pub(super) resumed: bool,
    /// Whether it refuses what is cached.
    pub(super) refresh_cache: bool,
    /// The process gave the run up: nothing is recorded of it any more.
    pub(super) released: AtomicBool,
    pub(super) live: Mutex<Live>,
}

/// The part of it that changes.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) plan: Plan,
    gate_numbers: HashMap<GateKey, u32>,
    pub(super) gates: Vec<Gate>,
    /// The flow itself, then the flows that it called.
    pub(super) scopes: Vec<ScopeState>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    /// Nodes that are flows, and may start.
    pub(super) flows: Vec<u32>,
    /// What was planned and has yet to be recorded.
    planned: Vec<Transition>,
    /// The pools of which bodies that wait for this run have slots.
    held: Vec<&'static str>,
    /// Whether results of tasks that say so are cached.
    pub(super) caches: bool,
    /// The process stops: what is running may end, and nothing starts.
    pub(super) draining: bool,
    /// The run goes on, and needs something that this runtime does not have.
    pub(super) lacks: Option<String>,
    /// The run goes on, and is not what was recorded.
    pub(super) problem: Option<GraphError>,
}

/// Bodies that take the same slots.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) key: Arc<GateKey>,
    /// A lane was spawned and has not begun.
    pub(super) starting: bool,
    /// Lanes that are polling bodies, or looking for some.
    pub(super) active: usize,
}

/// A flow in the run.
#[derive(Debug)]
pub(super) struct ScopeState {
    pub(super) defaults: Defaults,
    pub(super) cancel: CancellationToken,
    /// The flow that called it.
    pub(super) parent: Option<u32>,
    /// What stands before the keys of its nodes.
    pub(super) prefix: Option<Arc<str>>,
    /// What its body is to be told, one at a time, so that it asks for the same in the same order when it is run again.
    answers: VecDeque<(u32, Arc<Promise>, Resolved)>,
    /// How many nodes its body awaits, or awaited without taking the answer.
    awaiting: usize,
    /// Wakes its body.
    pub(super) waker: Option<Waker>,
}

impl ScopeState {
    pub(super) fn new(
        defaults: Defaults,
        cancel: CancellationToken,
        parent: Option<u32>,
        prefix: Option<Arc<str>>,
    ) -> Self {
        Self {
            defaults,
            cancel,
            parent,
            prefix,
            answers: VecDeque::new(),
            awaiting: 0,
            waker: None,
        }
    }
}

/// What the body of a flow is to be told.
#[derive(Debug)]
pub(super) struct Answer {
    /// The node, by its number in the run's log.
    pub(super) node: u32,
    pub(super) promise: Arc<Promise>,
    pub(super) resolved: Resolved,
    /// It was told before, in an earlier life of the run.
    pub(super) is_known: bool,
    /// Whether the body awaits other nodes, too, so that it matters which comes first.
    pub(super) is_one_of_many: bool,
    /// What bodies have asked for by now, in a run that was run again.
    pub(super) asked: Option<Box<Numbers>>,
}

/// The time of a retry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Instant,
    frame: u32,
    node: u32,
    index: u32,
}

impl Timer {
    fn instance(&self) -> Instance {
        Instance {
            frame: self.frame,
            node: self.node,
            index: self.index,
        }
    }
}

/// Why nodes cannot be planned.
#[derive(Debug)]
pub(super) enum Refusal {
    Graph(GraphError),
    Runtime(Error),
}

impl Live {
    pub(super) fn new(held: &[&'static str], durable: bool, replay: Option<Replay>) -> Self {
        let plain = Gate {
            key: Arc::new(GateKey::PLAIN),
            starting: false,
            active: 0,
        };
        Self {
            plan: Plan::new(durable, replay),
            gate_numbers: HashMap::from([(GateKey::PLAIN, 0)]),
            gates: vec![plain],
            scopes: Vec::new(),
            timers: BinaryHeap::new(),
            flows: Vec::new(),
            planned: Vec::new(),
            held: held.to_vec(),
            caches: true,
            draining: false,
            lacks: None,
            problem: None,
        }
    }

    /// Plans what the body of a flow has written down, and checks that the runtime can run it.
    pub(super) fn absorb(
        &mut self,
        runtime: &Inner,
        scope: &mut Scope,
        number: u32,
    ) -> Result<(), Refusal> {
        if scope.specs.is_empty()
            && scope.problem.is_none()
            && scope.waits.is_empty()
            && scope.limits.is_empty()
        {
            return Ok(());
        }
        let first = self.plan.wiring.nodes.len();
        if scope.problem.is_none() {
            let defaults = &self.scopes[number as usize].defaults;
            if let Err(error) = runtime.check_specs(&scope.specs, defaults, &self.held) {
                // what this runtime lacks is no failure of a run that another began
                self.lacks = self.plan.is_replayed().then(|| error.to_string());
                return Err(Refusal::Runtime(error));
            }
        }
        let caches = self.caches;
        let Self {
            plan,
            gate_numbers,
            gates,
            scopes,
            ..
        } = self;
        let gate = |node: &crate::graph::build::Planned| {
            let Kind::Task(definition) = &node.kind else {
                return 0;
            };
            let mocked = runtime.mock_of(definition).is_some();
            let blocking = matches!(definition.body, Body::Blocking(_)) && !mocked;
            let cached = definition.cache.is_some() && !mocked && caches;
            let pool = node.policy.pool.as_ref();
            if !blocking && !cached && pool.is_none() {
                return 0;
            }
            *gate_numbers
                .entry(GateKey::new(blocking, pool, cached))
                .or_insert_with_key(|key| {
                    gates.push(Gate {
                        key: Arc::new(key.clone()),
                        starting: false,
                        active: 0,
                    });
                    super::plan::id_of(gates.len() - 1)
                })
        };
        plan.absorb(scope, number, &scopes[number as usize].defaults, gate)
            .map_err(Refusal::Graph)?;
        let new = plan.new_metas(first);
        if !new.is_empty() {
            self.planned.push(Transition::Planned(new));
        }
        self.scopes[number as usize].awaiting += scope.waits.len();
        self.plan.wait(scope.waits.drain(..));
        Ok(())
    }

    /// The next thing that the body of a flow of the run is to be told.
    pub(super) fn answer(&mut self, number: u32) -> Option<Answer> {
        let ScopeState {
            answers,
            prefix,
            awaiting,
            ..
        } = &mut self.scopes[number as usize];
        if answers.is_empty() {
            return None;
        }
        let place = |node| answers.iter().position(|(of, _, _)| *of == node);
        let (next, is_known) = match self
            .plan
            .next_expected(prefix.as_ref(), |node| place(node).is_some())
        {
            Expected::Any => (Some(0), false),
            Expected::Node(node) => (place(node), true),
            Expected::Later => (None, false),
        };
        let (node, promise, resolved) = answers.remove(next?)?;
        let is_one_of_many = *awaiting > 1;
        *awaiting = awaiting.saturating_sub(1);
        let node = self.plan.wiring.nodes[node as usize].logged;
        Some(Answer {
            node,
            promise,
            resolved,
            is_known,
            is_one_of_many,
            asked: self.plan.asked(),
        })
    }

    /// Tries a node again later.
    pub(super) fn retry_at(&mut self, at: Instance, time: Instant) {
        let Instance { frame, node, index } = at;
        self.timers.push(Reverse(Timer {
            at: time,
            frame,
            node,
            index,
        }));
    }

    /// A flow of the run, and the flows that it called, and so on.
    pub(super) fn family(&self, flow: u32) -> Vec<u32> {
        let mut family = vec![flow];
        for (number, scope) in (0..).zip(&self.scopes) {
            if scope.parent.is_some_and(|parent| family.contains(&parent)) {
                family.push(number);
            }
        }
        family
    }

    /// The next thing that time will bring.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse(timer)| timer.at)
    }

    /// Makes retries ready whose time has come.
    pub(super) fn due(&mut self, now: Instant) {
        while self
            .timers
            .peek()
            .is_some_and(|Reverse(timer)| timer.at <= now)
        {
            if let Some(Reverse(timer)) = self.timers.pop() {
                self.plan.retry_now(timer.instance());
            }
        }
    }
}

impl Inner {
    /// What runs in a task's place, if anything does.
    pub(super) fn mock_of(&self, definition: &'static TaskDef) -> Option<&Mock> {
        if self.mocks.is_empty() {
            None
        } else {
            self.mocks.get(&std::ptr::from_ref(definition).addr())
        }
    }

    /// Refuses tasks whose resources or pools are not there.
    fn check_specs(
        &self,
        specs: &[NodeSpec],
        defaults: &Defaults,
        held: &[&'static str],
    ) -> Result<(), Error> {
        let mut checked: Option<&TaskDef> = None;
        for spec in specs {
            let Kind::Task(definition) = &spec.kind else {
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
                // with a slot in hand, waiting for another may be waiting for oneself, or for one who waits for this
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
                checked = Some(definition);
            }
        }
        Ok(())
    }

    /// Refuses the tasks of flows in the flow as those of the flow itself: what is known before the run is said before.
    pub(super) fn check_wiring(&self, wiring: &Wiring) -> Result<(), Error> {
        for node in &wiring.nodes {
            let Kind::Task(definition) = &node.kind else {
                continue;
            };
            if let Some(pool) = &node.policy.pool {
                self.limits.check(&node.name, pool)?;
            }
            self.check_resources(definition.name, definition)?;
        }
        Ok(())
    }

    /// Refuses a task whose resources are not there.
    pub(super) fn check_resources(
        &self,
        task: &str,
        definition: &'static TaskDef,
    ) -> Result<(), Error> {
        if definition.resources.is_empty() || self.mock_of(definition).is_some() {
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
            .find(|resource| !self.resources.has((resource.id)()))
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
    /// Records and passes on what the plan has to tell. Called with the plan in hand, so that the record is in order.
    pub(super) fn flush(self: &Arc<Self>, live: &mut Live) {
        let mut recorded = self.record_planned(live);
        let mut wake = live.plan.is_done() || (live.draining && !live.plan.is_busy());
        if let Some(problem) = live.plan.take_problem() {
            live.problem.get_or_insert(problem);
            wake = true;
        }
        if let Some(outbox) = live.plan.take_outbox() {
            let now = self.runtime.clock.micros();
            recorded |= !(outbox.extended.is_empty()
                && outbox.opened.is_empty()
                && outbox.ended.is_empty());
            for frame in outbox.extended.into_iter().filter(|frame| *frame != NONE) {
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
                    self.runtime.events.emit(|| Event::Expanded {
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
                if !live.plan.is_changed && place.frame != NONE {
                    let row = Row {
                        started: 0,
                        finished: now,
                        error,
                        attempts,
                        state,
                        ..Row::PENDING
                    };
                    self.record(Transition::Task(TaskEnd::new(place.frame, place.cell, row)));
                }
            }
            wake |= !(outbox.flows.is_empty() && outbox.due.is_empty());
            live.flows.extend(outbox.flows);
            for (at, due) in outbox.due {
                live.retry_at(at, Instant::now() + micros_between(now, due));
            }
            for (node, promise, resolved) in outbox.answers {
                let scope = &mut live.scopes[live.plan.wiring.nodes[node as usize].scope as usize];
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
        for gate in 0..live.plan.gates() {
            self.staff(live, gate);
        }
    }

    /// Records nodes before what becomes of them.
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

    /// Waits until what was recorded is there for good.
    pub(super) async fn commit(&self) {
        if self.durable {
            self.check(self.log.commit().wait().await);
        }
    }

    /// A run whose store fails comes to its end: what cannot be kept is not to be done.
    pub(super) fn check(&self, committed: Result<(), StoreError>) {
        if let Err(error) = committed {
            tracing::error!(parent: &self.trace.run, "the store refused a transition: {error}");
            self.cancel.cancel();
        }
    }

    /// Spawns a lane for a gate, if there is work for one more. The lane does the same when it begins.
    pub(super) fn staff(self: &Arc<Self>, live: &mut Live, gate: u32) {
        let wanted = live.plan.has_ready(gate) && !live.draining;
        let state = &mut live.gates[gate as usize];
        if !wanted || state.starting || state.active >= self.workers {
            return;
        }
        state.starting = true;
        tokio::spawn(lane::run(Arc::clone(self), gate));
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
        // what gathers a mapping is nobody's task
        if live.plan.wiring.nodes[at.node as usize].is_hidden() {
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

    /// The span of an attempt.
    pub(super) fn span(&self, at: Instance, attempt: u16) -> Span {
        self.trace.attempt(attempt, || {
            let live = self.live.lock();
            (live.plan.key_of(at), live.plan.map_index(at))
        })
    }

    /// The key of a task that is no node of a recorded run: what is said of it is told under that of another.
    pub(super) fn loose_key(&self, at: Instance) -> Option<String> {
        (!self.trace.is_recorded).then(|| self.live.lock().plan.key(at))
    }

    /// The context of an attempt, and what cancels it.
    pub(super) fn context(&self, at: Instance, attempt: u16) -> Arc<Context> {
        let live = self.live.lock();
        let node = &live.plan.wiring.nodes[at.node as usize];
        let place = Place {
            task: node.name.to_string(),
            key: live.plan.key(at),
            map_index: live.plan.map_index(at),
            attempt: u32::from(attempt),
        };
        let token = live.scopes[node.scope as usize].cancel.child_token();
        Arc::new(Context::of_task(Arc::clone(&self.facts), place, token))
    }
}
