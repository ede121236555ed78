use chrono::{DateTime, Utc};

use super::ticker::{DueTicks, MOMENT};
use crate::flow::Missed;
use crate::schedule::Schedule;

/// The decision about due ticks: which of them get a run, and which get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TickDecision {
    /// The ticks in `(after, until]` get their run.
    pub(super) after: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    pub(super) dropped: Option<DroppedTicks>,
}

/// Missed ticks that get no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DroppedTicks {
    pub(super) first: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
    /// The number of ticks, at most [`COUNTED`].
    pub(super) ticks: usize,
}

/// Upper bound on counted ticks: a schedule that ticks every second and was not served for a year
/// has dropped thirty million.
pub(super) const COUNTED: usize = 10_000;

/// Decides which of the due ticks get a run.
pub(super) fn decide(schedule: &Schedule, due: &DueTicks, policy: Missed) -> TickDecision {
    let DueTicks {
        after,
        until,
        on_time,
        ..
    } = *due;
    // the missed ticks are those in `(after, punctual]`
    let punctual = (on_time - MOMENT).clamp(after, until);
    let ticks = |after: DateTime<Utc>, until: DateTime<Utc>| {
        schedule.after(after).take_while(move |tick| *tick <= until)
    };
    let kept_after = match policy {
        Missed::All => after,
        Missed::None => punctual,
        Missed::Latest if ticks(punctual, until).next().is_some() => punctual,
        Missed::Latest => schedule
            .up_to(until)
            .next()
            .map_or(punctual, |latest| latest - MOMENT)
            .max(after),
    };
    let dropped = ticks(after, kept_after).next().map(|first| DroppedTicks {
        first,
        last: schedule.up_to(kept_after).next().unwrap_or(first),
        ticks: ticks(after, kept_after).take(COUNTED).count(),
    });
    TickDecision {
        after: kept_after,
        until,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}Z").parse().expect(text)
    }

    #[test]
    fn missed_ticks_are_decided_by_policy() {
        let hourly = Schedule::cron("@hourly").expect("it is one");
        let missed = DueTicks {
            schedule: 0,
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
            (punctual, Missed::Latest, vec!["01T13:00:00"], vec![]),
            (punctual, Missed::All, vec!["01T13:00:00"], vec![]),
            (punctual, Missed::None, vec!["01T13:00:00"], vec![]),
        ] {
            let decision = decide(&hourly, &due, policy);
            let run: Vec<_> = hourly
                .after(decision.after)
                .take_while(|tick| *tick <= decision.until)
                .collect();
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
                });
            assert_eq!(decision.dropped, expected, "{policy:?} of {due:?}");
        }
    }

    #[test]
    fn a_year_of_seconds_is_decided_at_once() {
        let each_second = Schedule::cron("* * * * * *").expect("it is one");
        let due = DueTicks {
            schedule: 0,
            after: utc("01T00:00:00") - TimeDelta::days(365),
            until: utc("01T00:00:00"),
            on_time: utc("01T00:00:00") + MOMENT,
        };
        let decision = decide(&each_second, &due, Missed::Latest);
        assert_eq!(
            each_second
                .after(decision.after)
                .take_while(|tick| *tick <= decision.until)
                .count(),
            1
        );
        assert_eq!(decision.dropped.map(|dropped| dropped.ticks), Some(COUNTED));
    }
}
