use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock, Weak};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::span::{self, EARLIEST, LATEST};
use crate::panic::{Fragile, catch};

/// The maximum length of the identity of a timetable, in bytes.
const IDENTITY: usize = 4 << 10;

/// A rule of one's own for when runs are due, for [`Schedule::custom`](super::Schedule::custom).
///
/// A timetable must be pure: the same question always has the same answer, and the answers of
/// [`after`](Self::after) and [`before`](Self::before) fit together. It reads no clock, and what it
/// knows does not change while a process serves it. Its methods are called often, and have to
/// return soon.
///
/// It is asked about instants of the years 1 to 9999, down to the nanosecond, and about those right
/// before and after these years. What it returns beyond them is not an instant of the schedule.
///
/// # Panics
///
/// A timetable that panics, or returns an instant on the wrong side of the one it was asked about,
/// ends the schedule: the schedule has no further runs, and the reason is logged once. If that
/// happens before a flow is served, serving it is an error.
///
/// # Examples
///
/// The close of trading, on Mondays to Fridays except for holidays:
///
/// ```
/// use chrono::{DateTime, Datelike, Days, NaiveDate, Utc, Weekday};
/// use orchestrator::{Schedule, Timetable};
///
/// struct TradingDays {
///     holidays: Vec<NaiveDate>,
/// }
///
/// impl TradingDays {
///     fn is_open(&self, day: NaiveDate) -> bool {
///         !matches!(day.weekday(), Weekday::Sat | Weekday::Sun) && !self.holidays.contains(&day)
///     }
///
///     fn close(day: NaiveDate) -> DateTime<Utc> {
///         day.and_hms_opt(17, 0, 0).expect("a time of day").and_utc()
///     }
/// }
///
/// impl Timetable for TradingDays {
///     fn identity(&self) -> String {
///         "trading days of 2026, 17:00 UTC".into()
///     }
///
///     fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         let mut day = instant.date_naive();
///         while !self.is_open(day) || Self::close(day) <= instant {
///             day = day.checked_add_days(Days::new(1))?;
///         }
///         Some(Self::close(day))
///     }
///
///     fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         let mut day = instant.date_naive();
///         while !self.is_open(day) || Self::close(day) >= instant {
///             day = day.checked_sub_days(Days::new(1))?;
///         }
///         Some(Self::close(day))
///     }
/// }
///
/// let new_year = "2026-01-01".parse()?;
/// let schedule = Schedule::custom(TradingDays { holidays: vec![new_year] });
/// let next = schedule.next("2025-12-31T20:00:00Z".parse()?);
/// assert_eq!(next, Some("2026-01-02T17:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a timetable",
    label = "expected a type that implements `Timetable`",
    note = "implement `identity`, `after` and `before`; for crontab expressions, periods and instants, use `Schedule::cron`, `Schedule::every` and `Schedule::once`"
)]
pub trait Timetable: Send + Sync + 'static {
    /// Returns the text that stands for it on record, at most 4 KiB.
    ///
    /// Another text is another schedule: put into it what the answers depend on, such as the version
    /// of a list of holidays. If it stays the same, a changed rule continues the schedule of before.
    fn identity(&self) -> String;

    /// Returns the first instant after this one, excluding the instant itself.
    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>>;

    /// Returns the last instant before this one, excluding the instant itself.
    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>>;
}

/// The timetables of the schedules that this process has, by identity: what is on record of a
/// schedule has the identity alone.
static KNOWN: LazyLock<Mutex<HashMap<String, Vec<Weak<Guarded>>>>> = LazyLock::new(Mutex::default);

/// A timetable of the user, guarded: it is asked until it has a fault.
#[derive(Clone)]
pub(super) struct Custom(Arc<Guarded>);

struct Guarded {
    identity: String,
    timetable: Fragile<Box<dyn Timetable>>,
    fault: OnceLock<Fault>,
}

/// The problem that ended a timetable.
struct Fault {
    text: String,
    /// The instant from which on there are no further ticks: those before it were answered.
    from: DateTime<Utc>,
}

impl Custom {
    pub(super) fn new(timetable: impl Timetable) -> Self {
        let (identity, fault) = match catch(|| timetable.identity()) {
            Ok(identity) if identity.trim().is_empty() => {
                (identity, Some("its `identity` is empty".to_owned()))
            }
            Ok(mut identity) if identity.len() > IDENTITY => {
                let length = identity.len();
                identity.truncate(identity.floor_char_boundary(40));
                let fault =
                    format!("its `identity` has {length} bytes, at most {IDENTITY} are kept");
                (identity, Some(fault))
            }
            Ok(identity) => (identity, None),
            Err(panicked) => {
                let fault = format!("its `identity` failed: {panicked}");
                ("a timetable without an identity".to_owned(), Some(fault))
            }
        };
        let custom = Self(Arc::new(Guarded {
            identity,
            timetable: Fragile::new(Box::new(timetable)),
            fault: OnceLock::new(),
        }));
        if let Some(fault) = fault {
            custom.fail(&fault, DateTime::<Utc>::MIN_UTC);
        }
        let mut known = KNOWN.lock();
        known.retain(|_, timetables| {
            timetables.retain(|timetable| timetable.strong_count() > 0);
            !timetables.is_empty()
        });
        let same = known.entry(custom.identity().to_owned()).or_default();
        same.push(Arc::downgrade(&custom.0));
        custom
    }

    /// Returns the timetable with an identity that was made last, if a schedule of this process still
    /// has it.
    pub(super) fn known(identity: &str) -> Option<Self> {
        let known = KNOWN.lock();
        let mut timetables = known.get(identity)?.iter().rev();
        timetables.find_map(Weak::upgrade).map(Self)
    }

    pub(super) fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Returns the problem that ended it.
    pub(super) fn fault(&self) -> Option<&str> {
        self.0.fault.get().map(|fault| fault.text.as_str())
    }

    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let fire = self.ask("after", after, after, |timetable| timetable.after(after))?;
        if fire <= after {
            self.fail_at(
                "after",
                after,
                &format!("returned {}", span::text(fire)),
                after,
            );
            return None;
        }
        Some(fire).filter(|fire| *fire <= LATEST)
    }

    pub(super) fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let begin = DateTime::<Utc>::MIN_UTC;
        let fire = self.ask("before", before, begin, |timetable| {
            timetable.before(before)
        })?;
        if fire >= before {
            let begin = DateTime::<Utc>::MIN_UTC;
            self.fail_at(
                "before",
                before,
                &format!("returned {}", span::text(fire)),
                begin,
            );
            return None;
        }
        Some(fire).filter(|fire| *fire >= EARLIEST)
    }

    fn ask(
        &self,
        method: &str,
        about: DateTime<Utc>,
        ends_from: DateTime<Utc>,
        question: impl FnOnce(&dyn Timetable) -> Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        // what was answered before the fault is asked about again: ticks that are due stay due
        if self.0.fault.get().is_some_and(|fault| fault.from <= about) {
            return None;
        }
        match catch(|| question(&**self.0.timetable)) {
            Ok(answer) => answer,
            Err(panicked) => {
                self.fail_at(method, about, &format!("failed: {panicked}"), ends_from);
                None
            }
        }
    }

    fn fail_at(&self, method: &str, about: DateTime<Utc>, problem: &str, ends_from: DateTime<Utc>) {
        let problem = format!("`{method}` of {} {problem}", span::text(about));
        self.fail(&problem, ends_from);
    }

    fn fail(&self, problem: &str, from: DateTime<Utc>) {
        let timetable = self.identity();
        let text = format!("timetable `{timetable}`: {problem}");
        if self.0.fault.set(Fault { text, from }).is_ok() {
            tracing::error!(timetable, problem, "timetable failed, its schedule ends");
        }
    }
}

/// Timetables are equal if their identities are.
impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.identity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::TimeDelta;
    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::super::random::Shifts;
    use super::super::{Schedule, ScheduleUnion};
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Answers by functions of the instant.
    struct By {
        identity: fn() -> String,
        after: fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
        before: fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
    }

    const HOUR: TimeDelta = TimeDelta::hours(1);

    const GOOD: By = By {
        identity: || "hours".to_owned(),
        after: |at| at.checked_add_signed(HOUR),
        before: |at| at.checked_sub_signed(HOUR),
    };

    impl Timetable for By {
        fn identity(&self) -> String {
            (self.identity)()
        }

        fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
            (self.after)(instant)
        }

        fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
            (self.before)(instant)
        }
    }

    /// Counts the events of a subscriber.
    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn custom_schedule_fires_by_its_timetable() {
        let schedule = Schedule::custom(Shifts);
        let at = utc("2026-01-01T00:00:00Z");
        let fires: Vec<_> = schedule.after(at).take(2).collect();
        let expected = ["2026-01-02T00:00:00Z", "2026-01-03T12:00:00Z"].map(utc);
        assert_eq!(fires, expected);
        let interval = schedule.interval_of(fires[1]);
        assert_eq!(interval.start, fires[0]);
        assert_eq!(schedule.to_string(), "shifts of 36 hours");
        assert_eq!(schedule, Schedule::custom(Shifts));
        assert_ne!(schedule, Schedule::custom(GOOD));
        let bounded = schedule.start(fires[0]).end(fires[1]);
        assert_eq!(bounded.after(at).collect::<Vec<_>>(), expected);
        let first = bounded.times(1);
        assert_eq!(first.after(at).collect::<Vec<_>>(), expected[..1]);
    }

    #[test]
    fn timetable_that_fails_ends_its_schedule() {
        fn next(schedule: &Schedule) -> Option<DateTime<Utc>> {
            schedule.next(utc("2026-01-01T00:00:00Z"))
        }
        fn previous(schedule: &Schedule) -> Option<DateTime<Utc>> {
            schedule.previous(utc("2026-01-01T00:00:00Z"))
        }
        type Ask = fn(&Schedule) -> Option<DateTime<Utc>>;
        let cases: [(By, Ask, &str); 8] = [
            (
                By {
                    after: Some,
                    ..GOOD
                },
                next,
                "timetable `hours`: `after` of 2026-01-01T00:00:00Z returned 2026-01-01T00:00:00Z",
            ),
            (
                By {
                    after: |at| Some(at - HOUR),
                    ..GOOD
                },
                next,
                "timetable `hours`: `after` of 2026-01-01T00:00:00Z returned 2025-12-31T23:00:00Z",
            ),
            (
                By {
                    before: Some,
                    ..GOOD
                },
                previous,
                "timetable `hours`: `before` of 2026-01-01T00:00:00Z returned 2026-01-01T00:00:00Z",
            ),
            (
                By {
                    before: |_| panic!("no such day"),
                    ..GOOD
                },
                previous,
                "no such day",
            ),
            (
                By {
                    after: |_| panic!("no such day"),
                    ..GOOD
                },
                next,
                "no such day",
            ),
            (
                By {
                    identity: || panic!("no name"),
                    ..GOOD
                },
                next,
                "no name",
            ),
            (
                By {
                    identity: String::new,
                    ..GOOD
                },
                next,
                "timetable ``: its `identity` is empty",
            ),
            (
                By {
                    identity: || "x".repeat(5_000),
                    ..GOOD
                },
                next,
                "its `identity` has 5000 bytes, at most 4096 are kept",
            ),
        ];
        for (timetable, ask, problem) in cases {
            let count = Arc::<AtomicUsize>::default();
            let subscriber = tracing_subscriber::registry().with(Count(count.clone()));
            tracing::subscriber::with_default(subscriber, || {
                let schedule = Schedule::custom(timetable);
                let copy = schedule.clone();
                assert_eq!(ask(&schedule), None, "{problem}");
                let fault = copy.fault().expect(problem);
                assert!(fault.contains(problem), "{fault}");
                assert_eq!((next(&copy), previous(&copy)), (None, None), "{problem}");
                assert!(!copy.timing.has(utc("2026-01-01T01:00:00Z")), "{problem}");
            });
            assert_eq!(count.load(Ordering::Relaxed), 1, "{problem}");
        }
        assert_eq!(Schedule::custom(GOOD).fault(), None);
    }

    #[test]
    fn failed_exception_ends_the_schedule_that_has_it() {
        let failing = Schedule::custom(By {
            after: Some,
            ..GOOD
        });
        let schedule = Schedule::cron("@hourly").unwrap().except(&failing);
        let at = utc("2026-01-01T00:00:00Z");
        assert_eq!(schedule.fault(), None);
        assert_eq!((schedule.next(at), schedule.previous(at)), (None, None));
        assert!(schedule.fault().is_some());
        let daily = Schedule::cron("@daily").unwrap();
        let union = ScheduleUnion::new(vec![schedule, daily], at);
        assert!(union.fault().is_some());
        assert_eq!(union.next(at), Some(utc("2026-01-02T00:00:00Z")));
    }

    #[test]
    fn timetable_has_no_instants_beyond_the_year_9999() {
        let schedule = Schedule::custom(GOOD);
        assert_eq!(schedule.next(LATEST), None);
        assert_eq!(schedule.next(LATEST - HOUR), Some(LATEST));
        assert_eq!(schedule.next(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(schedule.previous(EARLIEST), None);
        assert_eq!(schedule.previous(EARLIEST + HOUR), Some(EARLIEST));
        assert_eq!(schedule.previous(DateTime::<Utc>::MIN_UTC), None);
        assert!(schedule.previous(DateTime::<Utc>::MAX_UTC).is_some());
        assert!(schedule.next(DateTime::<Utc>::MIN_UTC).is_some());
        assert_eq!(schedule.fault(), None);
    }
}
