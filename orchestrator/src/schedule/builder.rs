//! The options of a schedule.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::Schedule;
use super::error::ScheduleError;
use super::exceptions::IntoExceptions;
use super::rule::Rule;
use super::{span, times};
use crate::duration::IntoDuration;

/// The maximum jitter: a day.
const LONGEST_JITTER: Duration = Duration::from_secs(24 * 3600);

/// # Options
///
/// An option that is invalid is reported when the flow is served.
impl Schedule {
    /// Moves the firings of [`every`](Self::every) so that one of them, past or future, is at this
    /// instant. The default is the Unix epoch. Does nothing for other schedules.
    ///
    /// It is an error when the flow is served if the instant is not in the years 1 to 9999.
    #[must_use]
    pub fn anchor(mut self, at: DateTime<Utc>) -> Self {
        self.check_year("the anchor of a schedule", at);
        if let Rule::Every { anchor, .. } = &mut self.timing.rule {
            *anchor = at;
        }
        self.changed()
    }

    /// Sets the time zone of a crontab expression, of the days of [`except`](Self::except), and of
    /// the dates of [`fires_between`](Self::fires_between). The default is UTC.
    #[must_use]
    pub fn timezone(mut self, zone: Tz) -> Self {
        self.timing.set_zone(zone);
        self.changed()
    }

    /// Sets the first instant at which it may fire, inclusive. It has no start by default.
    ///
    /// The interval of the first firing still begins at the firing that would have come before:
    /// `start` limits when runs are created, not their intervals.
    ///
    /// It is an error when the flow is served if the instant is not in the years 1 to 9999.
    #[must_use]
    pub fn start(mut self, at: DateTime<Utc>) -> Self {
        self.check_year("the start of a schedule", at);
        self.timing.start = Some(at);
        self.changed()
    }

    /// Sets the last instant at which it may fire, inclusive. It has no end by default. A schedule
    /// that ends before it starts never fires.
    ///
    /// The end limits which runs exist, not when they are created: firings up to it that were
    /// missed, because no process served the schedule or the flow was paused, get their runs
    /// afterwards, according to the policy for [missed runs](crate::Missed). A changed end is in
    /// force from when the flow is served with it.
    ///
    /// It is an error when the flow is served if the instant is not in the years 1 to 9999.
    #[must_use]
    pub fn end(mut self, at: DateTime<Utc>) -> Self {
        self.check_year("the end of a schedule", at);
        self.timing.end = Some(at);
        self.changed()
    }

    /// Leaves out days, or the instants at which another schedule fires as well. Several calls add
    /// up. There are no exceptions by default.
    ///
    /// - **Days** are a [`NaiveDate`](chrono::NaiveDate), a list of them, or a range
    ///   (`first..=last`), in the time zone of this schedule. A firing belongs to its local date,
    ///   even if a clock change moved it there.
    /// - **A schedule** is a [`Schedule`], a crontab expression or a [`Cron`](crate::Cron). It is in
    ///   the time zone of this schedule, unless it has one of its own. Holidays can be given by
    ///   rule: `* * 25 12 *` leaves out each minute of Christmas Day. Its own bounds and exceptions
    ///   hold, [`times`](Self::times) only with a [`start`](Self::start).
    ///
    /// A firing that is left out does not exist: no run is missed, and the interval of the next one
    /// begins at the last firing before. If another schedule leaves out 100,000 firings in a row,
    /// this one has no further firings.
    ///
    /// It is an error when the flow is served if the days of a range are in the wrong order or not
    /// in the years 1 to 9999, or if a text is not a crontab expression.
    ///
    /// # Examples
    ///
    /// ```
    /// # use orchestrator::Schedule;
    /// use chrono::NaiveDate;
    ///
    /// let opening = NaiveDate::from_ymd_opt(2026, 3, 2).unwrap();
    /// let schedule = Schedule::cron("0 6 * * MON-FRI")?
    ///     .except("* * 25,26 12 *")
    ///     .except(opening);
    /// assert_eq!(
    ///     schedule.to_string(),
    ///     "0 6 * * 1-5 except 2026-03-02, when * * 25,26 12 * fires"
    /// );
    /// let next = schedule.next("2026-02-27T12:00:00Z".parse()?);
    /// assert_eq!(next, Some("2026-03-03T06:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn except(mut self, exceptions: impl IntoExceptions) -> Self {
        match exceptions.into_exceptions() {
            Ok(exceptions) => self.timing.add_exceptions(exceptions),
            Err(problem) => self.fail(problem),
        }
        self.changed()
    }

    /// Sets the maximum number of firings, from 1 to 100,000. There is no limit by default.
    ///
    /// They are counted from the [`start`](Self::start), or without one from the time at which the
    /// schedule comes in force: when the flow is first served with it. Until then, the methods of a
    /// schedule without a start do not apply the limit, since they read no clock. Firings that
    /// [`except`](Self::except) leaves out do not count; if another schedule leaves out a million of
    /// them, counting ends, and the schedule with it.
    ///
    /// It is an error when the flow is served if the number is zero or too large.
    ///
    /// # Examples
    ///
    /// ```
    /// # use orchestrator::Schedule;
    /// let trial = Schedule::every("1h")?.start("2026-01-01T06:00:00Z".parse()?).times(3);
    /// assert_eq!(trial.after("2026-01-01T07:00:00Z".parse()?).count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn times(mut self, n: u32) -> Self {
        match (1..=times::MOST).contains(&n) {
            true => self.timing.set_times(n),
            false => self.fail(ScheduleError::Times { times: n }),
        }
        self
    }

    /// Sets the maximum delay between a firing and the creation of its run, at most a day, so that
    /// schedules which fire at the same instant do not all start at once. There is no delay by
    /// default.
    ///
    /// The run's logical date and interval are those of the firing. The delay follows from the
    /// deployment and the firing: it is the same whatever process creates the run. Runs are created
    /// in the order of their firings, so that one may wait for the delay of the one before.
    ///
    /// It is an error when the flow is served if the duration is longer than a day, or if a text is
    /// not a duration.
    #[must_use]
    pub fn jitter(mut self, jitter: impl IntoDuration) -> Self {
        match jitter.into_duration() {
            Ok(jitter) if jitter <= LONGEST_JITTER => self.jitter = jitter,
            Ok(jitter) => self.fail(ScheduleError::Jitter { jitter }),
            Err(problem) => self.fail(ScheduleError::Duration {
                option: "`jitter`",
                problem,
            }),
        }
        self
    }

    /// Sets parameters of the flow for the runs of this schedule, by name. They are checked when
    /// the flow is served.
    #[must_use]
    pub fn parameters(mut self, parameters: Map<String, Value>) -> Self {
        self.parameters = (!parameters.is_empty()).then(|| Arc::new(parameters));
        self
    }

    fn changed(mut self) -> Self {
        self.timing.recount();
        self
    }

    pub(super) fn check_year(&mut self, option: &'static str, at: DateTime<Utc>) {
        if !span::contains(at) {
            self.fail(ScheduleError::Year { option, at });
        }
    }

    /// Keeps the first problem, since builders cannot return errors.
    fn fail(&mut self, problem: ScheduleError) {
        self.problem.get_or_insert_with(|| Arc::new(problem));
    }
}
