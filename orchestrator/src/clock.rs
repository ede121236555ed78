//! The source of time.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound as _, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

/// The clock of a runtime. All timestamps come from it; waits inside a process use tokio's clock.
/// It may be set while runs are active: durations do not depend on it.
#[derive(Clone)]
pub struct Clock(ClockSource);

#[derive(Clone)]
enum ClockSource {
    System,
    Tokio {
        start: Timestamp,
        origin: Instant,
    },
    /// The microseconds by which it was set since then.
    Settable {
        start: Timestamp,
        origin: Instant,
        set: Arc<AtomicI64>,
    },
}

impl Clock {
    /// Creates the clock of the system.
    pub fn system() -> Self {
        Self(ClockSource::System)
    }

    /// Creates a clock that shows `start` now and advances with tokio's clock: if that is paused
    /// (`tokio::time::pause`, `#[tokio::test(start_paused = true)]`), advancing it advances this
    /// one.
    ///
    /// A runtime with such a clock does not poll for cancellations by other processes, since that
    /// would advance paused time.
    pub fn tokio(start: DateTime<Utc>) -> Self {
        Self(ClockSource::Tokio {
            start: start.into(),
            origin: Instant::now(),
        })
    }

    /// Creates a clock like [`tokio`](Self::tokio) that can be [shifted](Self::shift), to test how
    /// schedules behave when the system's clock is set.
    pub fn settable(start: DateTime<Utc>) -> Self {
        Self(ClockSource::Settable {
            start: start.into(),
            origin: Instant::now(),
            set: Arc::default(),
        })
    }

    /// Sets a [settable](Self::settable) clock and its clones ahead by a duration, or back if it is
    /// negative. Does nothing for other clocks.
    pub fn shift(&self, by: TimeDelta) {
        if let ClockSource::Settable { set, .. } = &self.0 {
            set.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Creates a clock that shows this one's time now and advances steadily, even if this one is
    /// set. Use it to measure durations.
    pub(crate) fn steady(&self) -> Self {
        Self::settable(self.now())
    }

    /// Sets a [settable](Self::settable) clock and its clones to an instant.
    pub(crate) fn set_to(&self, at: Timestamp) {
        if let ClockSource::Settable { set, .. } = &self.0 {
            set.fetch_add(at.micros_since(self.timestamp()), Ordering::Relaxed);
        }
    }

    /// Creates a clock that shows the system's time now, and advances with tokio's clock.
    pub fn tokio_from_now() -> Self {
        Self::tokio(Self::system().now())
    }

    /// Returns `true` if it shows the system's time.
    pub(crate) fn is_system(&self) -> bool {
        matches!(self.0, ClockSource::System)
    }

    /// Returns `true` if it may be set while the process waits.
    pub(crate) fn may_be_set(&self) -> bool {
        matches!(self.0, ClockSource::System | ClockSource::Settable { .. })
    }

    /// Returns the time, in whole microseconds: a store does not keep more digits, and a resumed
    /// run must find the same time.
    pub fn now(&self) -> DateTime<Utc> {
        let now = self.timestamp();
        let end = if now < Timestamp::EPOCH {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        now.to_datetime().unwrap_or(end)
    }

    /// Returns the time, without going through the calendar.
    pub(crate) fn timestamp(&self) -> Timestamp {
        match &self.0 {
            // called twice per task, and converting to a date would double the cost
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the system's clock"
            )]
            ClockSource::System => Timestamp::from_micros(
                match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
                    Ok(since) => saturating_micros(since),
                    Err(before) => -saturating_micros(before.duration()),
                },
            ),
            ClockSource::Tokio { start, origin } => {
                start.shifted(saturating_micros(origin.elapsed()))
            }
            ClockSource::Settable { start, origin, set } => start
                .shifted(saturating_micros(origin.elapsed()))
                .shifted(set.load(Ordering::Relaxed)),
        }
    }
}

/// The maximum duration of a wait: a hundred years. Instants and timestamps have a limited range,
/// durations from users exceed it (`Duration::MAX` for "never"), and not all platforms support much
/// more.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A timeout, and the instant at which it has passed; `None` if there is no timeout.
pub(crate) type Deadline = Option<(Duration, Instant)>;

/// Waits until a deadline has passed, and returns its timeout. Without a deadline, it waits forever.
pub(crate) async fn passed(deadline: Deadline) -> Duration {
    match deadline {
        Some((timeout, at)) => {
            tokio::time::sleep_until(at).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

/// Waits until an instant. Without one, it waits forever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Returns the instant after a delay from now. Every wait with a duration from the user goes
/// through this function.
pub(crate) fn in_time(delay: Duration) -> Instant {
    Instant::now() + delay.min(LONGEST)
}

/// Truncates an instant to microseconds, the precision of stores.
pub(crate) fn kept(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

/// Returns a duration in microseconds, or the largest number if it is longer than that.
pub(crate) fn saturating_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// An instant, in whole microseconds since 1970.
///
/// An `Option<Timestamp>` is as large as a `Timestamp`, so optional instants do not make a million
/// rows larger.
// The microseconds with their sign bit flipped: the unsigned numbers are then in the order of time,
// and the one instant that is given up to represent `None` is `i64::MIN`, which no calendar
// reaches. Without the flip it would be the beginning of 1970, at which tests start their clocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(NonZeroU64);

impl Timestamp {
    /// The first instant.
    pub(crate) const MIN: Self = Self(NonZeroU64::MIN);

    /// The beginning of 1970.
    pub(crate) const EPOCH: Self = Self::from_micros(0);

    /// Creates an instant from microseconds since 1970. `i64::MIN` becomes [`MIN`](Self::MIN), the
    /// microsecond after it.
    pub(crate) const fn from_micros(micros: i64) -> Self {
        match NonZeroU64::new(micros.cast_unsigned() ^ SIGN) {
            Some(flipped) => Self(flipped),
            None => Self::MIN,
        }
    }

    /// Returns the microseconds since 1970.
    pub(crate) const fn micros(self) -> i64 {
        (self.0.get() ^ SIGN).cast_signed()
    }

    /// Returns the instant as a date, or `None` if the calendar does not reach it.
    pub(crate) fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.micros())
    }

    /// Returns the instant a delay after this one. Long delays are cut short, as by [`in_time`].
    pub(crate) fn after(self, delay: Duration) -> Self {
        self.shifted(saturating_micros(delay.min(LONGEST)))
    }

    /// Returns the instant some microseconds after this one, or before it if they are negative.
    pub(crate) fn shifted(self, micros: i64) -> Self {
        Self::from_micros(self.micros().saturating_add(micros))
    }

    /// Returns the time from `earlier` to this instant; zero if the clock was set back in between.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros_since(earlier)).unwrap_or(0))
    }

    /// Returns the microseconds from `earlier` to this instant, negative if the clock was set back
    /// in between.
    pub(crate) fn micros_since(self, earlier: Self) -> i64 {
        self.micros().saturating_sub(earlier.micros())
    }
}

const SIGN: u64 = 1 << 63;

/// Truncates to microseconds.
impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self::from_micros(at.timestamp_micros())
    }
}

// a plain number, the format of existing files
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.micros().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from_micros)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_datetime() {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "Timestamp({})", self.micros()),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ClockSource::System => f.write_str("Clock(system)"),
            ClockSource::Tokio { .. } => write!(f, "Clock(tokio, {})", self.now()),
            ClockSource::Settable { .. } => write!(f, "Clock(settable, {})", self.now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [i64; 9] = [
        i64::MIN + 1,
        -8_000_000_000_000_000_000,
        -1_000_000,
        -1,
        0,
        1,
        1_767_225_600_123_456,
        8_000_000_000_000_000_000,
        i64::MAX,
    ];

    #[test]
    fn timestamps_have_the_order_of_their_microseconds() {
        assert!(ALL.map(Timestamp::from_micros).is_sorted());
        assert_eq!(
            ALL.map(|micros| Timestamp::from_micros(micros).micros()),
            ALL
        );
        assert_eq!(Timestamp::from_micros(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.micros(), i64::MIN + 1);
        assert_eq!(Timestamp::EPOCH.micros(), 0);
    }

    #[test]
    fn a_missing_timestamp_takes_no_memory() {
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<i64>());
    }

    #[test]
    fn timestamps_saturate() {
        let [first, .., last] = ALL.map(Timestamp::from_micros);
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(first.shifted(i64::MIN), first);
        assert_eq!(last.micros_since(first), i64::MAX);
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!(
            Timestamp::EPOCH.after(Duration::MAX),
            Timestamp::EPOCH.after(LONGEST)
        );
    }

    #[test]
    fn timestamps_become_dates_and_back() {
        for at in [
            DateTime::UNIX_EPOCH,
            DateTime::<Utc>::MIN_UTC,
            Clock::system().now(),
        ] {
            assert_eq!(Timestamp::from(at).to_datetime(), Some(kept(at)));
        }
        assert_eq!(Timestamp::MIN.to_datetime(), None);
        assert_eq!(Timestamp::from_micros(i64::MAX).to_datetime(), None);
    }

    #[test]
    fn a_timestamp_is_stored_as_its_microseconds() {
        for micros in ALL {
            let bytes = rmp_serde::to_vec(&micros).unwrap();
            let at: Timestamp = rmp_serde::from_slice(&bytes).unwrap();
            assert_eq!(at.micros(), micros);
            assert_eq!(rmp_serde::to_vec(&at).unwrap(), bytes);
        }
    }
}
