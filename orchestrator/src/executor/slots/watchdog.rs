//! Warns about bodies that hold others up: those that block a thread of tokio, and those that hold
//! slots for long.
//!
//! Bodies that block every thread of a tokio runtime also stop its timers, so the watchdog has a
//! thread of its own, one per process. It looks at the [`Pulse`] of each lane twice a second. A
//! value that is the same at two looks has been the same in between: lanes read no clock for the
//! watchdog, and store only a few numbers per body. While there are no lanes, the thread is parked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::pulse::{self, Pulse};
use super::queue::SlotQueue;

/// The interval between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// The number of looks in a row without a lane after which the watchdog is parked.
const IDLE_LOOKS: u32 = 20;

/// The time that a body may block its thread without a warning.
const THREAD: Duration = Duration::from_secs(1);

/// The time that a body may hold its slots without a warning while others wait, and the time
/// between two warnings.
const SLOTS: Duration = Duration::from_secs(60);
const SLOTS_AGAIN: Duration = Duration::from_secs(600);

/// The maximum number of tasks in a warning.
const NAMED: usize = 5;

/// Whether the thread is parked. It is spawned when it is first needed.
static PARKED: AtomicBool = AtomicBool::new(true);

/// Unparks the thread if it is parked.
pub(super) fn wake() {
    static THREAD: OnceLock<Option<Thread>> = OnceLock::new();
    if !PARKED.load(Ordering::SeqCst) || !PARKED.swap(false, Ordering::SeqCst) {
        return;
    }
    let thread = THREAD.get_or_init(|| {
        let spawned = thread::Builder::new()
            .name("orchestrator-watchdog".to_owned())
            .spawn(watch);
        let failed = |error| {
            tracing::warn!(
                "cannot spawn the watchdog's thread, bodies that hold others up are not reported: {error}"
            )
        };
        spawned
            .map_err(failed)
            .ok()
            .map(|handle| handle.thread().clone())
    });
    thread.as_ref().inspect(|thread| thread.unpark());
}

/// Looks for as long as the process lives.
fn watch() {
    let (mut looks, mut idle) = (Looks::default(), 0);
    loop {
        let pulses = pulse::all();
        looks
            .look(&pulses, Instant::now())
            .iter()
            .for_each(Finding::tell);
        idle = if pulses.is_empty() { idle + 1 } else { 0 };
        drop(pulses);
        if idle < IDLE_LOOKS {
            thread::park_timeout(LOOK);
            continue;
        }
        PARKED.store(true, Ordering::SeqCst);
        // checked after the flag is set: a lane that came earlier saw it unset and did not unpark
        // the thread
        if pulse::all().is_empty() {
            thread::park();
        }
        PARKED.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

/// The observations so far.
#[derive(Debug, Default)]
struct Looks {
    pulses: HashMap<usize, PulseHistory>,
    queues: HashMap<usize, Contention>,
    /// The source locations of the tasks and flows that were reported for blocking their threads.
    named: HashSet<(&'static str, u32)>,
}

/// The counters of a pulse, each with the time since when it has not changed.
#[derive(Debug)]
struct PulseHistory {
    pulse: Weak<Pulse>,
    polls: (u64, Instant),
    bodies: (u64, Instant),
}

/// Slots that bodies wait for.
#[derive(Debug)]
struct Contention {
    since: Instant,
    told: Option<Instant>,
}

/// One or more bodies that hold others up.
#[derive(Debug)]
enum Finding {
    KeepsThread {
        pulse: Arc<Pulse>,
        bodies: u64,
        what: String,
        place: String,
    },
    HoldSlots {
        queue: Arc<SlotQueue>,
        held: usize,
        tasks: String,
    },
}

impl Looks {
    fn look(&mut self, pulses: &[Arc<Pulse>], now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.pulses.retain(|_, seen| seen.pulse.strong_count() > 0);
        for pulse in pulses {
            let (polls, bodies) = (
                pulse.polls.load(Ordering::Relaxed),
                pulse.bodies.load(Ordering::Relaxed),
            );
            let new = || PulseHistory {
                pulse: Arc::downgrade(pulse),
                polls: (polls, now),
                bodies: (bodies, now),
            };
            let seen = self
                .pulses
                .entry(Arc::as_ptr(pulse).addr())
                .or_insert_with(new);
            if seen.polls.0 != polls {
                seen.polls = (polls, now);
            }
            if seen.bodies.0 != bodies || !pulse.has_slots() {
                seen.bodies = (bodies, now);
            }
            if polls % 2 == 1 && now - seen.polls.1 >= THREAD {
                findings.extend(keeps_thread(pulse, bodies, &mut self.named));
            }
        }
        findings.extend(self.held_slots(pulses, now));
        findings
    }

    /// Finds queues whose slots are held for long while bodies wait for them.
    fn held_slots(&mut self, pulses: &[Arc<Pulse>], now: Instant) -> Vec<Finding> {
        let queues = pulses
            .iter()
            .flat_map(|pulse| pulse.queues.iter().flatten());
        let queues: HashMap<usize, &Arc<SlotQueue>> = queues
            .map(|queue| (Arc::as_ptr(queue).addr(), queue))
            .filter(|(_, queue)| queue.has_waiters())
            .collect();
        self.queues.retain(|queue, _| queues.contains_key(queue));
        let mut findings = Vec::new();
        for (id, queue) in queues {
            let contended = self.queues.entry(id).or_insert(Contention {
                since: now,
                told: None,
            });
            if now - contended.since < SLOTS
                || contended.told.is_some_and(|told| now - told < SLOTS_AGAIN)
            {
                continue;
            }
            let of_queue = |pulse: &&Arc<Pulse>| {
                pulse
                    .queues
                    .iter()
                    .flatten()
                    .any(|own| Arc::ptr_eq(own, queue))
            };
            let mut tasks = BTreeMap::<_, usize>::new();
            for pulse in pulses.iter().filter(of_queue) {
                let Some(seen) = self.pulses.get(&Arc::as_ptr(pulse).addr()) else {
                    continue;
                };
                if pulse.has_slots() && now - seen.bodies.1 >= SLOTS {
                    let task = pulse.task(seen.bodies.0).map_or("?", |task| task.name);
                    *tasks.entry((task, pulse.flow)).or_default() += 1;
                }
            }
            let held = tasks.values().sum();
            if held > 0 {
                contended.told = Some(now);
                findings.push(Finding::HoldSlots {
                    queue: Arc::clone(queue),
                    held,
                    tasks: in_words(&tasks),
                });
            }
        }
        findings
    }
}

/// Reports a body that blocks its thread, once for each task and flow.
fn keeps_thread(
    pulse: &Arc<Pulse>,
    bodies: u64,
    named: &mut HashSet<(&'static str, u32)>,
) -> Option<Finding> {
    let (file, line, what) = match pulse.body {
        Some(flow) => (flow.file, flow.line, format!("flow `{}`", flow.name)),
        None => {
            let task = pulse.task(bodies)?;
            (task.file, task.line, format!("task `{}`", task.name))
        }
    };
    let (pulse, place) = (Arc::clone(pulse), format!("{file}:{line}"));
    named.insert((file, line)).then_some(Finding::KeepsThread {
        pulse,
        bodies,
        what,
        place,
    })
}

/// Formats tasks by name and flow, those that hold the most slots first.
fn in_words(tasks: &BTreeMap<(&'static str, &'static str), usize>) -> String {
    let mut sorted: Vec<_> = tasks.iter().collect();
    sorted.sort_by_key(|(_, held)| std::cmp::Reverse(**held));
    let named = sorted
        .iter()
        .take(NAMED)
        .map(|((task, flow), held)| format!("`{task}` of flow `{flow}` ({held})"));
    let mut words = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = sorted.len().checked_sub(NAMED).filter(|more| *more > 0) {
        words.push_str(&format!(" and {more} more tasks"));
    }
    words
}

impl Finding {
    fn tell(&self) {
        match self {
            Self::KeepsThread { pulse, bodies, what, place } => pulse.say(*bodies, || {
                tracing::warn!(
                    at = place,
                    "the body of {what} has kept its thread for over a second, and what else runs there waits: make it a \
                     plain `fn` task, which has a thread of its own, or call `spawn_blocking` in it"
                );
            }),
            Self::HoldSlots { queue, held, tasks } => {
                let (slots, what) = (queue.slots(), queue.what());
                tracing::warn!(
                    "bodies wait for one of the {slots} slots of {what}, {held} of which have been held for over a minute: \
                     {tasks}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::index::NodeId;
    use crate::plan::Instance;
    use crate::task::{TaskBody, TaskDef, TaskOptions};
    use crate::value::ResultComparison;

    fn pulse(flow: &'static str, queue: Option<&Arc<SlotQueue>>) -> Arc<Pulse> {
        Pulse::without_run(flow, [None, queue.cloned()]).of_thread(&BLOCKS)
    }

    /// Returns the findings of a period, by their times in milliseconds.
    fn findings(
        looks: &mut Looks,
        pulses: &[Arc<Pulse>],
        from: Instant,
        times: &[u64],
    ) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for time in times {
            for finding in looks.look(pulses, from + Duration::from_millis(*time)) {
                found.push((
                    *time,
                    match finding {
                        Finding::KeepsThread { what, .. } => what,
                        Finding::HoldSlots { held, tasks, .. } => format!("{held}: {tasks}"),
                    },
                ));
            }
        }
        found
    }

    static BLOCKS: TaskDef = TaskDef {
        name: "blocks",
        crate_name: "shop",
        module: "shop",
        file: "shop.rs",
        line: 7,
        description: "",
        tags: &[],
        parameters: &[],
        resources: &[],
        requirements: &[],
        options: TaskOptions::NONE,
        body: TaskBody::Async(|_| Box::pin(std::future::pending())),
        cooperative: false,
        cache: None,
        same: ResultComparison::new(),
    };

    #[test]
    fn a_body_that_keeps_its_thread_is_named_once() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        let (one, two) = (pulse("shop", None), pulse("shop", None));
        for pulse in [&one, &two] {
            pulse.begin(Instance {
                index: 2,
                ..Instance::in_flow(NodeId::new(1))
            });
        }
        let pulses = [Arc::clone(&one), Arc::clone(&two)];
        // its body is polled again and again, and yields the thread
        for time in (0..10).map(|look| look * 500) {
            one.poll(|| ());
            assert_eq!(findings(&mut looks, &pulses, start, &[time]), []);
        }
        let found = one.poll(|| {
            findings(
                &mut looks,
                &pulses,
                start,
                &[5_000, 5_500, 6_000, 6_500, 9_000],
            )
        });
        assert_eq!(found, [(6_000, "task `blocks`".to_owned())]);
        assert_eq!(
            two.poll(|| findings(&mut looks, &pulses, start, &[10_000, 12_000])),
            []
        );
    }

    #[test]
    fn bodies_that_hold_slots_for_a_minute_while_others_wait_are_named_and_again_each_ten() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        let queue = SlotQueue::shared("blocking bodies", 2);
        let slots: Vec<_> = (0..2)
            .map(|_| queue.acquire("shop", 1).now_or_never().unwrap())
            .collect();
        let pulses = [
            pulse("shop", Some(&queue)),
            pulse("shop", Some(&queue)),
            pulse("shop", Some(&queue)),
        ];
        for holder in &pulses[..2] {
            holder.take_slots();
        }
        let minutes = |from: u64, to: u64| {
            (from * 2..to * 2)
                .map(|half| half * 30_000)
                .collect::<Vec<_>>()
        };
        // holding a slot is fine as long as no body waits for it
        assert_eq!(findings(&mut looks, &pulses, start, &minutes(0, 60)), []);
        let mut waits = Box::pin(queue.acquire("shop", 1));
        assert!((&mut waits).now_or_never().is_none());
        let named = |minutes: u64, held: usize| {
            (
                minutes * 60_000,
                format!("{held}: `blocks` of flow `shop` ({held})"),
            )
        };
        assert_eq!(
            findings(&mut looks, &pulses, start, &minutes(60, 80)),
            [named(61, 2), named(71, 2)]
        );
        assert_eq!(findings(&mut looks, &pulses, start, &minutes(80, 81)), []);
        // one of them has another body now
        pulses[0].begin(Instance::in_flow(NodeId::MIN));
        assert_eq!(
            findings(&mut looks, &pulses, start, &minutes(81, 82)),
            [named(81, 1)]
        );
        drop(waits);
        assert_eq!(findings(&mut looks, &pulses, start, &minutes(82, 100)), []);
        drop(slots);
    }
}
