use chrono::{DateTime, TimeDelta, Utc};

use super::timeline::{Timeline, TimelineSegment};
use crate::flow::Missed;

/// A tick that is noticed later than this counts as missed, as with the misfire threshold of
/// Quartz.
pub(crate) const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// The smallest difference between two instants.
pub(crate) const MOMENT: TimeDelta = TimeDelta::nanoseconds(1);

/// Upper bound on counted ticks: a schedule that ticks every second and was not served for a year
/// has dropped thirty million.
pub(crate) const COUNTED: usize = 10_000;

/// The due ticks of a deployment: those in `(after, until]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueTicks {
    pub(crate) after: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// Ticks from here on are on time.
    pub(crate) on_time: DateTime<Utc>,
}

/// The decision about due ticks: which of them get a run, and which get none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TickDecision {
    /// The spans `(after, until]` whose ticks get their run, in the order of time.
    pub(crate) kept: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    pub(crate) dropped: Option<DroppedTicks>,
}

/// Missed ticks that get no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DroppedTicks {
    pub(crate) first: DateTime<Utc>,
    pub(crate) last: DateTime<Utc>,
    /// The number of ticks, at most [`COUNTED`].
    pub(crate) ticks: usize,
    /// The policy by which the latest of them was dropped.
    pub(crate) policy: Missed,
}

/// Decides which of the due ticks get a run.
pub(crate) fn decide(timeline: &Timeline, due: &DueTicks, policy: Missed) -> TickDecision {
    let DueTicks {
        after,
        until,
        on_time,
    } = *due;
    // the missed ticks are those in `(after, punctual]`
    let punctual = (on_time - MOMENT).clamp(after, until);
    let mut kept = vec![(punctual, until)];
    let mut dropped: Option<DroppedTicks> = None;
    let mut later = Later {
        has_run: timeline.ticks(punctual, until).next().is_some(),
        made_up: 0,
    };
    // from the latest to the earliest: which ticks count as the latest depends on those after them
    for (segment, after, before) in timeline.parts(after, punctual).rev() {
        let policy = segment.missed.unwrap_or(policy);
        let kept_after = later.keep(segment, after, before, until, policy);
        let ticks = || segment.schedules.ticks(after, kept_after);
        if let Some(first) = ticks().next() {
            let last = segment.schedules.up_to(kept_after).unwrap_or(first);
            let count = ticks().take(COUNTED).count();
            dropped = Some(match dropped {
                None => DroppedTicks {
                    first,
                    last,
                    ticks: count,
                    policy,
                },
                Some(later) => DroppedTicks {
                    first,
                    ticks: COUNTED.min(later.ticks + count),
                    ..later
                },
            });
        }
        kept.push((kept_after, before));
    }
    kept.retain(|(after, until)| after < until);
    kept.reverse();
    TickDecision { kept, dropped }
}

/// What is known of the ticks after a segment.
struct Later {
    /// Whether one of them gets a run.
    has_run: bool,
    /// The number of missed ones that get a run because of [`Missed::AtMost`].
    made_up: u32,
}

impl Later {
    /// Returns the instant after which the missed ticks of a segment in `(after, before]` get a run.
    fn keep(
        &mut self,
        segment: &TimelineSegment,
        after: DateTime<Utc>,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        policy: Missed,
    ) -> DateTime<Utc> {
        let kept_after = match policy {
            Missed::All => after,
            Missed::None => before,
            Missed::Within(span) => {
                let oldest = TimeDelta::from_std(span)
                    .ok()
                    .and_then(|span| now.checked_sub_signed(span.checked_add(&MOMENT)?));
                oldest.map_or(after, |oldest| oldest.clamp(after, before))
            }
            Missed::Latest if self.has_run => before,
            Missed::Latest => self.latest(segment, after, before, 1).0,
            Missed::AtMost(runs) => {
                let left = runs.saturating_sub(self.made_up);
                let (kept_after, taken) = self.latest(segment, after, before, left);
                self.made_up += taken;
                kept_after
            }
        };
        self.has_run |= segment.schedules.ticks(kept_after, before).next().is_some();
        kept_after
    }

    /// Returns the instant after which there are at most `most` ticks, and their number.
    fn latest(
        &self,
        segment: &TimelineSegment,
        after: DateTime<Utc>,
        before: DateTime<Utc>,
        most: u32,
    ) -> (DateTime<Utc>, u32) {
        let (mut kept_after, mut taken) = (before, 0);
        while taken < most
            && let Some(tick) = segment.schedules.up_to(kept_after)
            && tick > after
        {
            (kept_after, taken) = (tick - MOMENT, taken + 1);
        }
        (kept_after, taken)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::deployment::samples::{spec, timeline};
    use crate::schedule::Schedule;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}Z").parse().expect(text)
    }

    fn kept(timeline: &Timeline, decision: &TickDecision) -> Vec<DateTime<Utc>> {
        let ticks = |(after, until): &(DateTime<Utc>, DateTime<Utc>)| {
            timeline.ticks(*after, *until).collect::<Vec<_>>()
        };
        decision.kept.iter().flat_map(ticks).collect()
    }

    #[test]
    fn missed_ticks_are_decided_by_policy() {
        let hourly = timeline(
            Schedule::cron("@hourly").expect("it is one"),
            utc("01T09:30:00"),
        );
        let missed = DueTicks {
            after: utc("01T09:30:00"),
            until: utc("01T12:30:00"),
            on_time: utc("01T12:30:00") + MOMENT,
        };
        let also_on_time = DueTicks {
            until: utc("01T13:00:00"),
            on_time: utc("01T12:59:00"),
            ..missed
        };
        let punctual = DueTicks {
            after: utc("01T12:30:00"),
            ..also_on_time
        };
        for (due, policy, runs, dropped) in [
            (
                missed,
                Missed::Latest,
                vec!["01T12:00:00"],
                vec!["01T10:00:00", "01T11:00:00"],
            ),
            (
                missed,
                Missed::All,
                vec!["01T10:00:00", "01T11:00:00", "01T12:00:00"],
                vec![],
            ),
            (
                missed,
                Missed::None,
                vec![],
                vec!["01T10:00:00", "01T11:00:00", "01T12:00:00"],
            ),
            // the tick that is on time is the latest
            (
                also_on_time,
                Missed::Latest,
                vec!["01T13:00:00"],
                vec!["01T10:00:00", "01T11:00:00", "01T12:00:00"],
            ),
            (
                also_on_time,
                Missed::None,
                vec!["01T13:00:00"],
                vec!["01T10:00:00", "01T11:00:00", "01T12:00:00"],
            ),
            (
                missed,
                Missed::Within(Duration::from_secs(90 * 60)),
                vec!["01T11:00:00", "01T12:00:00"],
                vec!["01T10:00:00"],
            ),
            (
                also_on_time,
                Missed::AtMost(2),
                vec!["01T11:00:00", "01T12:00:00", "01T13:00:00"],
                vec!["01T10:00:00"],
            ),
            (
                missed,
                Missed::AtMost(0),
                vec![],
                vec!["01T10:00:00", "01T11:00:00", "01T12:00:00"],
            ),
            (punctual, Missed::Latest, vec!["01T13:00:00"], vec![]),
            (punctual, Missed::All, vec!["01T13:00:00"], vec![]),
            (punctual, Missed::None, vec!["01T13:00:00"], vec![]),
        ] {
            let decision = decide(&hourly, &due, policy);
            let run = kept(&hourly, &decision);
            assert_eq!(
                run,
                runs.into_iter().map(utc).collect::<Vec<_>>(),
                "{policy:?} of {due:?}"
            );
            let expected = dropped
                .first()
                .zip(dropped.last())
                .map(|(first, last)| DroppedTicks {
                    first: utc(first),
                    last: utc(last),
                    ticks: dropped.len(),
                    policy,
                });
            assert_eq!(decision.dropped, expected, "{policy:?} of {due:?}");
        }
    }

    #[test]
    fn a_year_of_seconds_is_decided_at_once() {
        let begin = utc("01T00:00:00") - TimeDelta::days(365);
        let each_second = timeline(Schedule::cron("* * * * * *").expect("it is one"), begin);
        let due = DueTicks {
            after: begin,
            until: utc("01T00:00:00"),
            on_time: utc("01T00:00:00") + MOMENT,
        };
        let decision = decide(&each_second, &due, Missed::Latest);
        assert_eq!(kept(&each_second, &decision).len(), 1);
        assert_eq!(decision.dropped.map(|dropped| dropped.ticks), Some(COUNTED));
    }

    #[test]
    fn what_was_in_force_before_is_decided_along_with_what_is() {
        // hourly until half past eleven, then each quarter of an hour, and asked at 12:05
        let [hourly, quarter] = ["@hourly", "*/15 * * * *"]
            .map(|cron| spec(&[Schedule::cron(cron).expect(cron)], "EU"));
        let (record, _) = hourly.put_in_force(None, utc("01T09:30:00"));
        let (record, _) = quarter.put_in_force(Some(record), utc("01T11:30:00"));
        let (timeline, problems) = Timeline::new(&record, &quarter);
        assert_eq!(problems, [""; 0]);
        let due = DueTicks {
            after: utc("01T09:30:00"),
            until: utc("01T12:05:00"),
            on_time: utc("01T12:04:00"),
        };
        for (policy, runs) in [
            (
                Missed::All,
                &["01T10:00:00", "01T11:00:00", "01T11:45:00", "01T12:00:00"][..],
            ),
            (Missed::Latest, &["01T12:00:00"]),
            (
                Missed::AtMost(3),
                &["01T11:00:00", "01T11:45:00", "01T12:00:00"],
            ),
            (
                Missed::Within(Duration::from_secs(3600 + 300)),
                &["01T11:00:00", "01T11:45:00", "01T12:00:00"],
            ),
            (Missed::None, &[]),
        ] {
            let decision = decide(&timeline, &due, policy);
            let expected: Vec<_> = runs.iter().map(|at| utc(at)).collect();
            assert_eq!(kept(&timeline, &decision), expected, "{policy:?}");
        }
        // the latest tick is one of the earlier segment if the later one has none yet
        let due = DueTicks {
            until: utc("01T11:40:00"),
            on_time: utc("01T11:39:00"),
            ..due
        };
        let decision = decide(&timeline, &due, Missed::Latest);
        assert_eq!(kept(&timeline, &decision), [utc("01T11:00:00")]);
    }

    #[test]
    fn a_choice_at_the_end_of_a_pause_holds_until_then() {
        let hourly = spec(&[Schedule::cron("@hourly").expect("it is one")], "EU");
        let (record, _) = hourly.put_in_force(None, utc("01T09:30:00"));
        for (missed, runs) in [
            (
                Missed::All,
                &["01T10:00:00", "01T11:00:00", "01T13:00:00"][..],
            ),
            (Missed::Latest, &["01T11:00:00", "01T13:00:00"]),
            (Missed::None, &["01T13:00:00"]),
        ] {
            let mut record = record.clone();
            record.choose_missed(missed, utc("01T11:30:00"));
            let (timeline, _) = Timeline::new(&record, &hourly);
            let due = DueTicks {
                after: record.decided,
                until: utc("01T13:30:00"),
                on_time: utc("01T13:29:00"),
            };
            let decision = decide(&timeline, &due, Missed::Latest);
            let expected: Vec<_> = runs.iter().map(|at| utc(at)).collect();
            let kept = kept(&timeline, &decision);
            // without another choice, one that is missed later takes the place of those before
            match missed {
                Missed::Latest => assert_eq!(kept, [utc("01T13:00:00")]),
                _ => assert_eq!(kept, expected, "{missed:?}"),
            }
        }
    }
}
