use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::schedule::Schedule;

/// Computes which of many schedules is due next. Pure: the time is an argument.
///
/// For each schedule, the ticker knows up to which instant it has handed out ticks. A call of
/// [`due`](Self::due) hands out the ticks between that instant and now. If the clock was set back,
/// these instants are set back with it. Ticks that are handed out twice already have their run.
/// Ticks that were due only because the clock had run ahead come again in their own time.
#[derive(Debug)]
pub(super) struct Ticker {
    entries: Vec<TickerEntry>,
    /// The next tick of each schedule that has one. May contain outdated entries: see
    /// [`TickerEntry::next`].
    heap: BinaryHeap<Reverse<(DateTime<Utc>, usize)>>,
    looked: DateTime<Utc>,
    was_set_back: bool,
}

#[derive(Debug)]
struct TickerEntry {
    schedule: Schedule,
    handed_out: DateTime<Utc>,
    /// Ticks up to this instant count as missed, however soon they are noticed.
    missed: DateTime<Utc>,
    /// The next tick. An entry of the heap with another instant is outdated.
    next: Option<DateTime<Utc>>,
}

/// The due ticks of a schedule: those in `(after, until]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueTicks {
    pub(super) schedule: usize,
    pub(super) after: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    /// Ticks from here on are on time.
    pub(super) on_time: DateTime<Utc>,
}

/// A tick that is noticed later than this counts as missed, as with the misfire threshold of
/// Quartz.
pub(super) const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// The end of a pause is noticed within a second; ticks since then are on time.
const HEARD: TimeDelta = TimeDelta::seconds(2);

/// The smallest difference between two instants.
pub(super) const MOMENT: TimeDelta = TimeDelta::nanoseconds(1);

/// Regular clock adjustments set a clock back by less than this.
pub(super) const SET_BACK: TimeDelta = TimeDelta::seconds(1);

impl Ticker {
    /// Creates a ticker of schedules, each with the instant up to which its ticks are decided.
    /// Ticks between that instant and now were missed.
    pub(super) fn new(
        schedules: impl IntoIterator<Item = (Schedule, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> Self {
        let entries = schedules.into_iter().map(|(schedule, decided)| {
            let next = schedule.next(decided.min(now));
            TickerEntry {
                schedule,
                handed_out: decided.min(now),
                missed: now,
                next,
            }
        });
        let mut ticker = Self {
            entries: entries.collect(),
            heap: BinaryHeap::new(),
            looked: now,
            was_set_back: false,
        };
        ticker.heap = ticker.places().collect();
        ticker
    }

    fn places(&self) -> impl Iterator<Item = Reverse<(DateTime<Utc>, usize)>> {
        let next = |(at, entry): (usize, &TickerEntry)| Some(Reverse((entry.next?, at)));
        self.entries.iter().enumerate().filter_map(next)
    }

    /// Returns the instant of the next tick.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns `true` if the clock was found set back since the last call.
    pub(super) fn was_set_back(&mut self) -> bool {
        std::mem::take(&mut self.was_set_back)
    }

    /// Hands out the due ticks, the earliest first.
    pub(super) fn due(&mut self, now: DateTime<Utc>) -> Vec<DueTicks> {
        if self.looked - now > SET_BACK {
            self.set_back(now);
        }
        self.looked = self.looked.max(now);
        let mut due = Vec::new();
        while let Some(Reverse((at, schedule))) = self.heap.peek().copied()
            && at <= now
        {
            self.heap.pop();
            let entry = &mut self.entries[schedule];
            if entry.next != Some(at) {
                continue;
            }
            let recent = now
                .checked_sub_signed(ON_TIME)
                .unwrap_or(DateTime::<Utc>::MIN_UTC);
            let not_missed = entry
                .missed
                .checked_add_signed(MOMENT)
                .unwrap_or(DateTime::<Utc>::MAX_UTC);
            let on_time = recent.max(not_missed);
            due.push(DueTicks {
                schedule,
                after: entry.handed_out,
                until: now,
                on_time,
            });
            self.hand_out(schedule, now);
        }
        due
    }

    /// Rewinds a schedule, so that its ticks after `to` are handed out again. Those up to now count
    /// as missed, except those of the last [`HEARD`].
    pub(super) fn rewind(&mut self, schedule: usize, to: DateTime<Utc>, now: DateTime<Utc>) {
        self.entries[schedule].missed = now.checked_sub_signed(HEARD).unwrap_or(now);
        self.hand_out(schedule, to.min(now));
    }

    fn hand_out(&mut self, schedule: usize, up_to: DateTime<Utc>) {
        let entry = &mut self.entries[schedule];
        entry.handed_out = up_to;
        entry.next = entry.schedule.next(up_to);
        self.heap
            .extend(entry.next.map(|next| Reverse((next, schedule))));
    }

    fn set_back(&mut self, now: DateTime<Utc>) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.handed_out > now)
        {
            (entry.handed_out, entry.missed) = (now, entry.missed.min(now));
            entry.next = entry.schedule.next(now);
        }
        self.heap = self.places().collect();
        (self.looked, self.was_set_back) = (now, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-{text}Z").parse().expect(text)
    }

    fn ticker(cron: &str, decided: &str, now: &str) -> Ticker {
        Ticker::new(
            [(Schedule::cron(cron).expect(cron), utc(decided))],
            utc(now),
        )
    }

    fn ticks(due: &[DueTicks]) -> Vec<DateTime<Utc>> {
        let hourly = Schedule::cron("@hourly").expect("it is one");
        due.iter()
            .flat_map(|due| {
                hourly
                    .after(due.after)
                    .take_while(|tick| *tick <= due.until)
            })
            .collect()
    }

    #[test]
    fn only_ticks_since_the_last_decision_are_handed_out() {
        let mut ticker = ticker("@hourly", "03-01T09:00:00", "03-01T12:30:00");
        assert_eq!(ticker.next(), Some(utc("03-01T10:00:00")));
        let due = ticker.due(utc("03-01T12:30:00"));
        assert_eq!(
            ticks(&due),
            ["03-01T10:00:00", "03-01T11:00:00", "03-01T12:00:00"].map(utc)
        );
        assert!(
            due[0].on_time > utc("03-01T12:30:00"),
            "all of that was missed"
        );
        assert_eq!(ticker.due(utc("03-01T12:59:59")), []);
        let due = ticker.due(utc("03-01T13:00:00"));
        assert_eq!(ticks(&due), [utc("03-01T13:00:00")]);
        assert!(due[0].on_time < utc("03-01T13:00:00"));
    }

    #[test]
    fn a_clock_that_jumps_a_day_ahead_and_back_loses_nothing() {
        let mut ticker = ticker("@hourly", "03-01T09:30:00", "03-01T09:30:00");
        let ahead = ticker.due(utc("03-02T09:30:00"));
        assert_eq!(ticks(&ahead).len(), 24);
        assert!(
            ahead[0].on_time > utc("03-02T09:00:00"),
            "what is more than a minute late was missed"
        );
        // the clock is set back again: each hour of the day comes in its own time
        let mut seen = Vec::new();
        let mut now = utc("03-01T09:31:00");
        while now < utc("03-02T12:00:00") {
            seen.extend(ticks(&ticker.due(now)));
            now += TimeDelta::minutes(10);
        }
        let hours: Vec<_> = (10..36)
            .map(|hour| utc("03-01T00:00:00") + TimeDelta::hours(hour))
            .collect();
        assert_eq!(seen, hours);
    }

    #[test]
    fn a_clock_that_is_adjusted_a_little_hands_nothing_out_twice() {
        let mut ticker = ticker("@hourly", "03-01T09:30:00", "03-01T09:30:00");
        assert_eq!(ticker.due(utc("03-01T10:00:00.100")).len(), 1);
        assert_eq!(ticker.due(utc("03-01T09:59:59.900")), []);
        assert_eq!(ticker.due(utc("03-01T10:00:00.100")), []);
        assert_eq!(ticker.next(), Some(utc("03-01T11:00:00")));
    }

    #[test]
    fn rewound_ticks_were_missed() {
        let mut ticker = ticker("@hourly", "03-01T09:30:00", "03-01T09:30:00");
        assert_eq!(ticker.due(utc("03-01T10:00:00")).len(), 1);
        ticker.rewind(0, utc("03-01T09:30:00"), utc("03-01T10:00:30"));
        let due = ticker.due(utc("03-01T10:00:30"));
        assert_eq!(ticks(&due), [utc("03-01T10:00:00")]);
        assert!(due[0].on_time > utc("03-01T10:00:00"));
        // its former entry in the heap is outdated
        assert_eq!(
            ticks(&ticker.due(utc("03-01T11:00:00"))),
            [utc("03-01T11:00:00")]
        );
    }

    #[test]
    fn of_many_schedules_the_earliest_comes_first() {
        let at = |minute: i64| utc("03-01T10:00:00") + TimeDelta::minutes(minute);
        let once = |minute: i64| (Schedule::once(at(minute)), at(-1));
        let mut ticker = Ticker::new([30, 10, 20, 10].map(once), at(-1));
        assert_eq!(ticker.next(), Some(at(10)));
        let order = |due: Vec<DueTicks>| due.iter().map(|due| due.schedule).collect::<Vec<_>>();
        assert_eq!(order(ticker.due(at(10))), [1, 3]);
        assert_eq!(order(ticker.due(at(40))), [2, 0]);
        assert_eq!(ticker.next(), None);
    }
}
