//! Transitions of runs, made up by a seed.

use super::*;

/// A generator of small numbers, deterministic by its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Returns the transitions of a run with a nested mapping, a mapping whose list never came, and
/// tasks that end in all ways.
pub(crate) fn a_long_life(seed: u64, other: RunId) -> Vec<Transition> {
    let mut random = Random(seed);
    let mut transitions = vec![
        Transition::RunStarted { at: time(1_000) },
        Transition::Planned(vec![
            node("first", None, 0),
            node("expand(outer)", None, 1),
            node("expand(inner)", Some(1), 0),
            node("each", Some(2), 0),
            node("of_outer", Some(1), 1),
            NodeMeta {
                prefix: Some("sub/".into()),
                number: 3,
                ..node("in_a_flow", None, 2)
            },
            node("expand(never)", None, 3),
            node("never", Some(6), 0),
        ]),
        Transition::Expanded(expanded(1, (0, 0), 3)),
    ];
    // frames are in the order in which the lists came
    for (outer, len) in [(2, 4), (0, 0), (1, 2)] {
        transitions.push(Transition::Expanded(expanded(2, (1, outer), len)));
    }
    transitions.push(Transition::Expanded(FrameMeta {
        unexpanded: true,
        ..expanded(6, (0, 0), 1)
    }));
    // an async body plans more nodes of the first mapping while it runs, and more of its own
    transitions.push(Transition::Planned(vec![
        node("later", Some(1), 2),
        node("last", None, 4),
    ]));
    transitions.push(Transition::Extended {
        frame: FrameNumber::new(1),
    });
    let cells = [(0, 5), (1, 9), (2, 4), (4, 2), (5, 1)];
    let mut lives: Vec<Vec<Transition>> = cells
        .iter()
        .flat_map(|(frame, cells)| (0..*cells).map(|cell| (*frame, cell)))
        .map(|(frame, cell)| a_life(&mut random, frame, cell, other))
        .collect();
    // interleave the tasks
    while !lives.is_empty() {
        let at = random.below(lives.len() as u64) as usize;
        transitions.push(lives[at].remove(0));
        if random.below(8) == 0 {
            transitions.push(Transition::Awaited {
                node: NodeNumber::new(0),
                known: None,
            });
        }
        lives.retain(|life| !life.is_empty());
    }
    transitions
}

/// How a task of [`a_long_life`] ends.
#[derive(Clone, Copy, Debug)]
enum LifeEnd {
    Success,
    /// A success whose cached result had expired.
    Recomputed,
    CacheHit,
    Fatal,
    TimedOut,
    Skipped,
    /// Only for a task without attempts; such a task does not end otherwise.
    UpstreamFailed,
    Cancelled,
    Open,
}

impl LifeEnd {
    const ALL: [Self; 9] = [
        Self::Success,
        Self::Recomputed,
        Self::CacheHit,
        Self::Fatal,
        Self::TimedOut,
        Self::Skipped,
        Self::UpstreamFailed,
        Self::Cancelled,
        Self::Open,
    ];
}

/// Returns a valid sequence of states of one task.
fn a_life(random: &mut Random, frame: u32, cell: u32, other: RunId) -> Vec<Transition> {
    let mut life = Vec::new();
    let mut step =
        |state, attempts, started: i64, finished: i64, error: Option<TaskError>, note| {
            let state = cell_state(state, started, finished);
            let note = Option::map(note, Box::new);
            life.push(Transition::Task(TaskEnd {
                note,
                error,
                ..TaskEnd::new(row_place(frame, cell), state, attempts)
            }));
        };
    let error = |text: &str, cause| Some(TaskError::new(cause, format!("{text} {frame} {cell}")));
    let mut attempts = 1;
    for _ in 0..random.below(3) {
        let at = 2_000 + random.below(1_000) as i64;
        step(TaskState::Running, attempts, at, 0, None, None);
        if random.below(3) > 0 {
            let due = at + random.below(5_000_000) as i64;
            step(
                TaskState::Retrying,
                attempts,
                at,
                due,
                error("once more", Cause::Failed),
                None,
            );
        }
        attempts += 1;
    }
    let at = 5_000 + random.below(1_000) as i64;
    let created = DateTime::from_timestamp(3, 4_000).unwrap();
    match LifeEnd::ALL[random.below(9) as usize] {
        LifeEnd::Success => step(TaskState::Success, attempts, at, at + 7, None, None),
        LifeEnd::Recomputed => step(
            TaskState::Success,
            attempts,
            at,
            at,
            None,
            Some(CacheNote::Missed(CacheMiss::Expired { created })),
        ),
        LifeEnd::CacheHit => step(
            TaskState::Success,
            attempts - 1,
            at,
            at,
            None,
            Some(CacheNote::Hit {
                run: other,
                created: time(7),
            }),
        ),
        LifeEnd::Fatal => step(
            TaskState::Failed,
            attempts,
            at,
            at + 9,
            error("no", Cause::Fatal),
            None,
        ),
        LifeEnd::TimedOut => {
            let timeout = Cause::TimedOut(Duration::from_millis(1_500));
            step(
                TaskState::Failed,
                attempts,
                at,
                at + 9,
                error("slow", timeout),
                Some(CacheNote::Missed(CacheMiss::Empty)),
            );
        }
        LifeEnd::Skipped => step(
            TaskState::Skipped,
            attempts,
            at,
            at + 1,
            error("nothing to do", Cause::Skipped),
            None,
        ),
        LifeEnd::UpstreamFailed if attempts == 1 => step(
            TaskState::UpstreamFailed,
            0,
            0,
            at,
            error("before it", Cause::UpstreamFailed),
            None,
        ),
        LifeEnd::Cancelled => step(TaskState::Cancelled, attempts, at, at + 2, None, None),
        LifeEnd::UpstreamFailed | LifeEnd::Open => {}
    }
    life
}
