use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::deployment::{DueTicks, MOMENT, ON_TIME, SET_BACK, Timeline};

/// Computes which of many deployments is due next. Pure: the time is an argument.
///
/// For each deployment, the ticker knows up to which tick it has handed them out. A call of
/// [`due`](Self::due) hands out the ticks between that and now. If the clock was set back, these
/// instants are set back with it. Ticks that are handed out twice already have their run. Ticks that
/// were due only because the clock had run ahead come again in their own time.
#[derive(Debug)]
pub(super) struct Ticker {
    entries: Vec<TickerEntry>,
    /// When each deployment with a further tick is due next. May contain outdated entries: see
    /// [`TickerEntry::next`].
    heap: BinaryHeap<Reverse<(DateTime<Utc>, usize)>>,
    looked: DateTime<Utc>,
    was_set_back: bool,
}

#[derive(Debug)]
struct TickerEntry {
    timeline: Timeline,
    handed_out: DateTime<Utc>,
    /// Ticks up to this instant count as missed, however soon they are noticed: they were held back
    /// by a pause.
    missed: DateTime<Utc>,
    /// When the next tick is due. An entry of the heap with another instant is outdated.
    next: Option<DateTime<Utc>>,
}

/// The end of a pause is noticed within a second; ticks since then are on time.
const HEARD: TimeDelta = TimeDelta::seconds(2);

impl TickerEntry {
    fn new(timeline: Timeline, decided: DateTime<Utc>, missed: DateTime<Utc>) -> Self {
        let mut entry = Self {
            timeline,
            handed_out: decided,
            missed,
            next: None,
        };
        entry.hand_out(decided);
        entry
    }

    fn hand_out(&mut self, up_to: DateTime<Utc>) {
        self.handed_out = up_to;
        let next = self.timeline.next(up_to);
        self.next = next.map(|tick| self.timeline.due(tick));
    }

    /// Hands out the ticks that are due.
    fn due(&mut self, now: DateTime<Utc>) -> DueTicks {
        let jitter = self.timeline.longest_jitter();
        let until = self.timeline.last_due(self.handed_out, now);
        let recent = now
            .checked_sub_signed(ON_TIME + jitter)
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        let not_missed = self
            .missed
            .checked_add_signed(MOMENT)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        let due = DueTicks {
            after: self.handed_out,
            until,
            on_time: recent.max(not_missed),
        };
        self.hand_out(until);
        due
    }
}

impl Ticker {
    /// Creates a ticker of deployments, each with the instant up to which its ticks are decided.
    pub(super) fn new(
        deployments: impl IntoIterator<Item = (Timeline, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> Self {
        let entries = deployments.into_iter().map(|(timeline, decided)| {
            TickerEntry::new(timeline, decided.min(now), DateTime::<Utc>::MIN_UTC)
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

    /// Returns the instant at which a deployment is due next.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns `true` if the clock was found set back since the last call.
    pub(super) fn was_set_back(&mut self) -> bool {
        std::mem::take(&mut self.was_set_back)
    }

    /// Hands out the due ticks, each with the index of its deployment, the earliest first.
    pub(super) fn due(&mut self, now: DateTime<Utc>) -> Vec<(usize, DueTicks)> {
        if self.looked - now > SET_BACK {
            self.set_back(now);
        }
        self.looked = self.looked.max(now);
        let mut due = Vec::new();
        while let Some(Reverse((at, place))) = self.heap.peek().copied()
            && at <= now
        {
            self.heap.pop();
            let entry = &mut self.entries[place];
            if entry.next != Some(at) {
                continue;
            }
            due.push((place, entry.due(now)));
            self.heap
                .extend(entry.next.map(|next| Reverse((next, place))));
        }
        due
    }

    /// Rewinds a deployment, so that its ticks after `to` are handed out again. Those up to now count
    /// as missed, except those of the last [`HEARD`].
    pub(super) fn rewind(
        &mut self,
        place: usize,
        timeline: Timeline,
        to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let heard = now.checked_sub_signed(HEARD).unwrap_or(now);
        let missed = timeline.last_due(DateTime::<Utc>::MIN_UTC, heard);
        let entry = TickerEntry::new(timeline, to.min(now), missed);
        self.heap
            .extend(entry.next.map(|next| Reverse((next, place))));
        self.entries[place] = entry;
    }

    fn set_back(&mut self, now: DateTime<Utc>) {
        for entry in &mut self.entries {
            // an edit that came while the clock ran ahead is in force from now on
            entry.timeline.rewind(now);
            entry.missed = entry.missed.min(now);
            entry.hand_out(entry.handed_out.min(now));
        }
        self.heap = self.places().collect();
        (self.looked, self.was_set_back) = (now, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::samples::timeline;
    use crate::schedule::Schedule;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-{text}Z").parse().expect(text)
    }

    fn ticker(cron: &str, decided: &str, now: &str) -> Ticker {
        let schedule = Schedule::cron(cron).expect(cron);
        Ticker::new([(timeline(schedule, utc(decided)), utc(decided))], utc(now))
    }

    fn ticks(due: &[(usize, DueTicks)]) -> Vec<DateTime<Utc>> {
        let hourly = Schedule::cron("@hourly").expect("it is one");
        due.iter()
            .flat_map(|(_, due)| {
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
        assert_eq!(
            due[0].1.on_time,
            utc("03-01T12:29:00"),
            "what was noticed within a minute is on time, also after a restart"
        );
        assert_eq!(ticker.due(utc("03-01T12:59:59")), []);
        let due = ticker.due(utc("03-01T13:00:00"));
        assert_eq!(ticks(&due), [utc("03-01T13:00:00")]);
        assert!(due[0].1.on_time < utc("03-01T13:00:00"));
    }

    #[test]
    fn a_clock_that_jumps_a_day_ahead_and_back_loses_nothing() {
        let mut ticker = ticker("@hourly", "03-01T09:30:00", "03-01T09:30:00");
        let ahead = ticker.due(utc("03-02T09:30:00"));
        assert_eq!(ticks(&ahead).len(), 24);
        assert!(
            ahead[0].1.on_time > utc("03-02T09:00:00"),
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
        let hourly = timeline(
            Schedule::cron("@hourly").expect("it is one"),
            utc("03-01T09:30:00"),
        );
        ticker.rewind(0, hourly, utc("03-01T09:30:00"), utc("03-01T10:00:30"));
        let due = ticker.due(utc("03-01T10:00:30"));
        assert_eq!(ticks(&due), [utc("03-01T10:00:00")]);
        assert!(due[0].1.on_time > utc("03-01T10:00:00"));
        // its former entry in the heap is outdated
        assert_eq!(
            ticks(&ticker.due(utc("03-01T11:00:00"))),
            [utc("03-01T11:00:00")]
        );
    }

    #[test]
    fn rewound_tick_that_was_not_due_yet_was_not_missed() {
        let hourly = Schedule::cron("@hourly").expect("it is one").jitter("40m");
        let start = utc("03-01T09:30:00");
        let timeline = timeline(hourly, start);
        let is_late = |tick: &DateTime<Utc>| timeline.due(*tick) - *tick > TimeDelta::minutes(20);
        let tick = timeline
            .ticks(start, start + TimeDelta::days(9))
            .find(is_late);
        let tick = tick.expect("one of them is");
        let before = tick - TimeDelta::hours(1);
        let mut ticker = Ticker::new([(timeline.clone(), before)], before);
        let now = tick + TimeDelta::minutes(10);
        ticker.rewind(0, timeline.clone(), before - TimeDelta::minutes(1), now);
        let [(0, due)] = ticker.due(now)[..] else {
            panic!("the tick before was held back");
        };
        assert!(due.until < tick && before < due.on_time);
        let [(0, due)] = ticker.due(timeline.due(tick))[..] else {
            panic!("it is due");
        };
        assert!(due.until == tick && due.on_time <= tick, "{due:?}");
    }

    #[test]
    fn of_many_schedules_the_earliest_comes_first() {
        let at = |minute: i64| utc("03-01T10:00:00") + TimeDelta::minutes(minute);
        let once = |minute: i64| (timeline(Schedule::once(at(minute)), at(-1)), at(-1));
        let mut ticker = Ticker::new([30, 10, 20, 10].map(once), at(-1));
        assert_eq!(ticker.next(), Some(at(10)));
        let order = |due: Vec<(usize, DueTicks)>| due.iter().map(|due| due.0).collect::<Vec<_>>();
        assert_eq!(order(ticker.due(at(10))), [1, 3]);
        assert_eq!(order(ticker.due(at(40))), [2, 0]);
        assert_eq!(ticker.next(), None);
    }

    #[test]
    fn jitter_delays_ticks_and_keeps_their_order() {
        let minutely = Schedule::cron("* * * * *").expect("it is one").jitter("5m");
        let start = utc("03-01T10:00:00");
        let mut all: Vec<Vec<DateTime<Utc>>> = Vec::new();
        // the same for a tick whatever process makes it, and however often it looks
        for step in [1, 7, 1000] {
            let timeline = timeline(minutely.clone(), start);
            let mut ticker = Ticker::new([(timeline.clone(), start)], start);
            let (mut seen, mut now) = (Vec::new(), start);
            while now < start + TimeDelta::hours(2) {
                now += TimeDelta::seconds(step);
                for (_, due) in ticker.due(now) {
                    for tick in timeline.ticks(due.after, due.until) {
                        assert!(timeline.due(tick) <= now);
                        assert!(step > 60 || tick >= due.on_time);
                        seen.push(tick);
                    }
                }
            }
            assert!(seen.is_sorted());
            seen.truncate(90);
            all.push(seen);
        }
        assert_eq!(all[0].len(), 90);
        assert!(all.iter().all(|seen| *seen == all[0]));
        let timeline = timeline(minutely, start);
        let delays: Vec<_> = all[0]
            .iter()
            .map(|tick| timeline.due(*tick) - *tick)
            .collect();
        assert!(delays.iter().all(|delay| *delay <= TimeDelta::minutes(5)));
        assert!(delays.iter().max() > Some(&TimeDelta::minutes(4)));
    }
}
