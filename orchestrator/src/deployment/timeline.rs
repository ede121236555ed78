use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::key::DeploymentKey;
use super::record::{DeploymentRecord, DeploymentSpec, Segment};
use crate::flow::{FlowCall, Missed};
use crate::schedule::ScheduleUnion;

/// The ticks of a deployment, past and future: those of what was in force before, and then of what
/// is in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    key: DeploymentKey,
    segments: Arc<[TimelineSegment]>,
    jitter: Duration,
}

/// What was in force for a span of time, ready to be executed.
#[derive(Clone, Debug)]
pub(crate) struct TimelineSegment {
    pub(crate) schedules: ScheduleUnion,
    /// The flow with the parameters that were in force.
    pub(crate) call: Arc<FlowCall>,
    until: Option<DateTime<Utc>>,
    pub(crate) missed: Option<Missed>,
}

impl Timeline {
    /// Creates the timeline of a record for a process that serves what is in force. Also returns
    /// what is not as it was recorded.
    pub(crate) fn new(record: &DeploymentRecord, spec: &DeploymentSpec) -> (Self, Vec<String>) {
        let lost = |problem| {
            format!("the missed ticks of the previous schedules are not known: {problem}")
        };
        let mut problems: Vec<String> = record.unreadable.iter().map(lost).collect();
        let mut segments = Vec::new();
        if let Some((last, past)) = record.segments.split_last() {
            for segment in past {
                segments.push(restore(segment, spec, &mut problems));
            }
            segments.push(TimelineSegment {
                schedules: ScheduleUnion::new(spec.schedules.clone(), last.since),
                call: Arc::clone(&spec.call),
                until: None,
                missed: None,
            });
        }
        let longest = segments
            .iter()
            .map(|segment| segment.schedules.longest_jitter());
        let timeline = Self {
            key: spec.key.clone(),
            jitter: longest.max().unwrap_or_default(),
            segments: segments.into(),
        };
        (timeline, problems)
    }

    /// Takes back what is known of the time after an instant, to which the clock was set back, like
    /// [`DeploymentRecord::rewind`].
    pub(crate) fn rewind(&mut self, to: DateTime<Utc>) {
        let rewound = |segment: &TimelineSegment| TimelineSegment {
            until: segment.until.map(|until| until.min(to)),
            ..segment.clone()
        };
        if self.segments.iter().any(|segment| segment.until > Some(to)) {
            self.segments = self.segments.iter().map(rewound).collect();
        }
    }

    /// Returns the last tick after an instant whose run is due by now. Without one, returns the
    /// latest instant after which no tick was looked for. A tick is never due before an earlier one,
    /// whatever their jitter.
    pub(crate) fn last_due(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let jitter = self.longest_jitter();
        let certainly = now.checked_sub_signed(jitter).unwrap_or(now).max(after);
        if jitter.is_zero() {
            return certainly;
        }
        self.ticks(certainly, now)
            .take_while(|tick| self.due(*tick) <= now)
            .last()
            .unwrap_or(certainly)
    }

    /// Returns the segment that is in force.
    pub(crate) fn in_force(&self) -> Option<&TimelineSegment> {
        self.segments.last()
    }

    /// Returns the segments that have a part in `(after, until]`, in the order of time, each with
    /// that part.
    pub(crate) fn parts(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl DoubleEndedIterator<Item = (&TimelineSegment, DateTime<Utc>, DateTime<Utc>)> {
        let segments = &self.segments;
        (0..segments.len()).filter_map(move |at| {
            let begin = match at {
                0 => after,
                _ => segments[at - 1].until.map_or(after, |end| end.max(after)),
            };
            let end = segments[at].until.map_or(until, |end| end.min(until));
            (begin < end).then_some((&segments[at], begin, end))
        })
    }

    /// Returns the ticks in `(after, until]`, in order.
    pub(crate) fn ticks(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        self.parts(after, until)
            .flat_map(|(segment, after, until)| segment.schedules.ticks(after, until))
    }

    /// Returns the first tick after an instant.
    pub(crate) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.parts(after, DateTime::<Utc>::MAX_UTC)
            .find_map(|(segment, after, until)| {
                segment.schedules.next(after).filter(|tick| *tick <= until)
            })
    }

    /// Returns the maximum delay of [`due`](Self::due).
    pub(crate) fn longest_jitter(&self) -> TimeDelta {
        TimeDelta::from_std(self.jitter).unwrap_or_default()
    }

    /// Returns when the run of a tick is to be created: the tick itself, or later by its jitter,
    /// which is the same in every process.
    pub(crate) fn due(&self, tick: DateTime<Utc>) -> DateTime<Utc> {
        if self.jitter.is_zero() {
            return tick;
        }
        let just_before = tick - super::MOMENT;
        let jitter = self
            .parts(just_before, tick)
            .next()
            .map_or(Duration::ZERO, |(segment, ..)| {
                segment.schedules.jitter(tick)
            });
        let milliseconds = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.key.flow.as_bytes());
        hasher.update(&[0]);
        hasher.update(self.key.column().as_bytes());
        hasher.update(&tick.timestamp_micros().to_le_bytes());
        let hash = hasher.finalize();
        let chance = hash
            .as_bytes()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let delay = chance % milliseconds.saturating_add(1);
        tick.checked_add_signed(TimeDelta::milliseconds(i64::try_from(delay).unwrap_or(0)))
            .unwrap_or(tick)
    }
}

/// Restores a past segment. It has no schedules, but keeps its place, if its ticks cannot be computed
/// here.
fn restore(
    segment: &Segment,
    spec: &DeploymentSpec,
    problems: &mut Vec<String>,
) -> TimelineSegment {
    let schedules = segment.restore().unwrap_or_else(|problem| {
        problems.push(format!(
            "the missed ticks of the previous schedules cannot be computed: {problem}"
        ));
        ScheduleUnion::new(Vec::new(), segment.since)
    });
    let call = spec.call.with(&segment.parameters).unwrap_or_else(|problem| {
        problems.push(format!(
            "the previous parameters do not fit the flow any more, so missed ticks get the present ones: {problem}"
        ));
        Arc::clone(&spec.call)
    });
    TimelineSegment {
        schedules,
        call,
        until: segment.until,
        missed: segment.missed,
    }
}
