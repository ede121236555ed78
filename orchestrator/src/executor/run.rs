//! The state of an active run, which its conductor and its lanes share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle as Tokio;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::active::StopSignal;
use super::ambient::{AMBIENT, Ambient};
use super::attempt::ThreadGuard;
use super::flight::FlightClient;
use super::hold::{Hold, Thread};
use super::host::Host;
use super::live::Live;
use super::slots::pulse::{Pulse, Watched};
use super::slots::{self, GateKey};
use super::trace::Trace;
use crate::clock::{Clock, in_time};
use crate::error::StoreError;
use crate::failpoint;
use crate::flow::FlowDef;
use crate::journal::{CellState, TaskEnd, Transition};
use crate::plan::{EndedInstance, Instance, OpenedMapping};
use crate::scope::NodeKind;
use crate::store::RunLog;
use crate::task::{BlockingBody, BodyPlace, Context, RunFacts, TaskDef};

/// The longest wait of the watchdog for a plan that is in use.
const PATIENCE: Duration = Duration::from_millis(100);

/// An active run.
///
/// All fields except `live` are immutable or synchronize themselves, so that lanes read settings,
/// record and emit events without the lock. `live` guards the decisions: the plan, and the state
/// that must change together with it. Transitions of tasks are recorded under the same lock as the
/// decision ([`flush`](Self::flush)), so that the log has them in the order of the plan.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    pub(crate) host: Arc<Host>,
    /// The tokio runtime that executes the run. Lanes are spawned on it from wherever the run is
    /// woken: a host may serve several tokio runtimes, and another one may be shutting down.
    pub(crate) tokio: Tokio,
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

impl ActiveRun {
    /// Creates the state of a run that is executed on the host of `ambient`.
    pub(crate) fn new(
        tokio: Tokio,
        log: Arc<dyn RunLog>,
        trace: Trace,
        cancel: CancellationToken,
        mut live: Live,
        ambient: &Ambient,
        refresh_cache: bool,
    ) -> Arc<Self> {
        let host = &ambient.host;
        let workers = tokio.metrics().num_workers();
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
            host: Arc::clone(host),
            tokio,
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

    /// Waits until the run is cancelled or stopped.
    pub(crate) async fn given_up(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = self.stop.soft.cancelled() => {}
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

    /// Prepares a blocking body for its thread: it has the context of its lane there, too. Returns
    /// the run's hold, which the thread keeps.
    pub(crate) fn on_thread(
        &self,
        at: Instance,
        body: BlockingBody,
    ) -> (BlockingBody, ThreadGuard) {
        let ambient = AMBIENT.try_with(Clone::clone).ok();
        let thread = {
            let live = self.live.lock();
            let hold = live.hold.clone();
            Thread::new(&self.host.active.threads, hold, live.plan.key(at))
        };
        let body: BlockingBody = match ambient {
            Some(ambient) => Box::new(move || AMBIENT.sync_scope(ambient, body)),
            None => body,
        };
        (body, Box::new(thread))
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
                    self.emit_opened(live, mapping, elements);
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
                self.emit_task_end(live, at, state, attempts, Duration::ZERO, error.as_ref());
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

    /// Records that the cancellation of the run was requested, unless the run ends early already.
    ///
    /// Attempts notice a request when the conductor does, or before it. Their ends are therefore
    /// recorded after the request, whichever notices it first: otherwise, if the process died in
    /// between, the run would be resumed as one that was not cancelled, with cancelled tasks.
    pub(crate) fn record_cancelling(&self, live: &mut Live) {
        if !std::mem::replace(&mut live.is_ending, true) {
            self.record(Transition::Cancelling);
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

    /// Returns the span of an attempt.
    pub(crate) fn attempt_span(&self, at: Instance, attempt: u16) -> Span {
        self.trace.attempt(|| self.live.lock().origin(at, attempt))
    }

    /// Returns the context of an attempt, which contains its cancellation token.
    pub(crate) fn context(&self, at: Instance, attempt: u16) -> Arc<Context> {
        let live = self.live.lock();
        let node = &live.plan.wiring.nodes[at.node];
        let place = BodyPlace {
            task: node.name.to_string(),
            key: live.plan.key(at),
            map_index: live.plan.map_index(at),
            attempt: u32::from(attempt),
        };
        let token = live.token(at.node).child_token();
        let lookup = Arc::clone(&self.host.environment.clients) as _;
        Arc::new(Context::of_task(
            Arc::clone(&self.facts),
            place,
            token,
            lookup,
        ))
    }
}

impl Watched for ActiveRun {
    fn task_at(&self, at: Instance) -> Option<&'static TaskDef> {
        let plan = &self.live.try_lock_for(PATIENCE)?.plan;
        match plan.wiring.nodes.get(at.node)?.kind {
            NodeKind::Task(task) => Some(task),
            NodeKind::Flow(_) | NodeKind::Mapping(_) | NodeKind::Gather(_) => None,
        }
    }

    fn span_at(&self, at: Instance) -> Span {
        let live = self.live.try_lock_for(PATIENCE);
        let origin = live.map(|live| live.origin(at, live.plan.attempts(at)));
        origin.map_or_else(Span::none, |origin| self.trace.attempt(|| origin))
    }

    fn span(&self) -> &Span {
        &self.trace.run
    }
}

impl FlightClient for ActiveRun {
    fn wake(self: Arc<Self>, at: Instance) {
        let live = &mut *self.live.lock();
        live.plan.retry_now(at);
        self.flush(live);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
