//! Where the time comes from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio::time::Instant;

/// The clock of a runtime. All timestamps come from it; waits inside a process are tokio's.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Tokio {
        start_micros: i64,
        origin: Instant,
    },
    /// And by how many microseconds it was set since.
    Settable {
        start_micros: i64,
        origin: Instant,
        set: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` now and goes on with tokio's clock: where that is paused
    /// (`tokio::time::pause`, `#[tokio::test(start_paused = true)]`), moving it moves this one. A runtime with such a clock
    /// does not hear, once a second, what other processes want cancelled: that would move paused time.
    pub fn tokio(start: DateTime<Utc>) -> Self {
        Self(Source::Tokio {
            start_micros: start.timestamp_micros(),
            origin: Instant::now(),
        })
    }

    /// A clock like [`tokio`](Self::tokio) that can be [shifted](Self::shift): for tests of what becomes of schedules where
    /// somebody sets the system's clock.
    pub fn settable(start: DateTime<Utc>) -> Self {
        let (start_micros, origin) = (start.timestamp_micros(), Instant::now());
        Self(Source::Settable {
            start_micros,
            origin,
            set: Arc::default(),
        })
    }

    /// Sets a [settable](Self::settable) clock and its clones ahead by so much, or back where it is negative. Other clocks stay as they are.
    pub fn shift(&self, by: TimeDelta) {
        if let Source::Settable { set, .. } = &self.0 {
            set.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// A clock that shows the system's time now, and goes on with tokio's clock.
    pub fn tokio_from_now() -> Self {
        Self::tokio(Self::system().now())
    }

    /// Whether it shows the system's time.
    pub(crate) fn is_system(&self) -> bool {
        matches!(self.0, Source::System)
    }

    /// Whether it may be set while the process waits.
    pub(crate) fn may_be_set(&self) -> bool {
        matches!(self.0, Source::System | Source::Settable { .. })
    }

    /// The time, in whole microseconds: a store keeps no more, and a run that goes on is to find the same.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros()).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The time in microseconds since 1970.
    pub(crate) fn micros(&self) -> i64 {
        match &self.0 {
            // read twice a task: by way of the calendar it takes twice the time
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the system's clock"
            )]
            Source::System => match std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
            {
                Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
            },
            Source::Tokio {
                start_micros,
                origin,
            } => start_micros.saturating_add(passed(origin)),
            Source::Settable {
                start_micros,
                origin,
                set,
            } => start_micros
                .saturating_add(passed(origin))
                .saturating_add(set.load(Ordering::Relaxed)),
        }
    }
}

/// An instant as stores keep it: to the microsecond.
pub(crate) fn kept(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

/// The microseconds by tokio's clock since an instant.
fn passed(origin: &Instant) -> i64 {
    i64::try_from(origin.elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// The time from one reading in microseconds to another; nothing where the clock was set back.
pub(crate) fn micros_between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock(system)"),
            Source::Tokio { .. } => write!(f, "Clock(tokio, {})", self.now()),
            Source::Settable { .. } => write!(f, "Clock(settable, {})", self.now()),
        }
    }
}
