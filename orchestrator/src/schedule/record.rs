use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::Schedule;
use super::convert::IntoSchedule;
use super::error::ScheduleError;
use super::exceptions::{ExceptedSchedule, Exceptions};
use super::rule::Rule;
use super::timing::Timing;

/// A schedule on record, without its parameters. Two schedules that are equal have the same record.
///
/// Options that are not set are left out. A field that a later version has added is an error: a
/// process does not apply a schedule of which it knows only a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleRecord {
    rule: RuleRecord,
    /// The name of the time zone, except for UTC. In an exception also UTC, and nothing if it
    /// follows the other schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<ExceptionsRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jitter: Option<Length>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RuleRecord {
    Cron(String),
    Every {
        period: Length,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor: Option<DateTime<Utc>>,
    },
    Once(DateTime<Utc>),
    /// The identity of a timetable.
    Custom(String),
}

/// A duration of any length, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Length {
    seconds: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    nanoseconds: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionsRecord {
    /// The first and the last day of each range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<(NaiveDate, NaiveDate)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schedules: Vec<ScheduleRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<Duration> for Length {
    fn from(duration: Duration) -> Self {
        Self {
            seconds: duration.as_secs(),
            nanoseconds: duration.subsec_nanos(),
        }
    }
}

impl Length {
    fn restore(self) -> Result<Duration, String> {
        let Self {
            seconds,
            nanoseconds,
        } = self;
        match nanoseconds < 1_000_000_000 {
            true => Ok(Duration::new(seconds, nanoseconds)),
            false => Err(format!(
                "expected less than a second of nanoseconds, got {nanoseconds}"
            )),
        }
    }
}

impl Schedule {
    /// Returns what is kept of it on record.
    pub(crate) fn record(&self) -> ScheduleRecord {
        let zone = Some(self.zone()).filter(|zone| *zone != Tz::UTC);
        self.record_in(zone)
    }

    fn record_in(&self, zone: Option<Tz>) -> ScheduleRecord {
        let timing = &self.timing;
        ScheduleRecord {
            rule: RuleRecord::new(&timing.rule),
            zone: zone.map(|zone| zone.name().to_owned()),
            start: timing.start,
            end: timing.end,
            except: timing.exceptions().map(ExceptionsRecord::new),
            times: timing.times(),
            jitter: Some(self.jitter)
                .filter(|jitter| !jitter.is_zero())
                .map(Length::from),
        }
    }
}

impl ScheduleRecord {
    /// Returns the schedule. Its timetables are those of the known schedules and of their
    /// exceptions, by identity.
    ///
    /// # Errors
    ///
    /// Returns the problem if a time zone or a timetable is unknown, or if a value is invalid.
    pub(crate) fn restore(&self, known: &[Schedule]) -> Result<Schedule, String> {
        let refused = |error: ScheduleError| error.to_string();
        let rule = self.rule.restore(known)?;
        let mut schedule = Schedule::new(rule);
        if let RuleRecord::Once(at) = self.rule {
            schedule = Schedule::once(at);
        }
        if let RuleRecord::Every {
            anchor: Some(anchor),
            ..
        } = self.rule
        {
            schedule = schedule.anchor(anchor);
        }
        if let Some(zone) = &self.zone {
            let unknown = || ScheduleError::Zone { name: zone.clone() };
            schedule = schedule.timezone(zone.parse().map_err(|_| refused(unknown()))?);
        }
        if let Some(start) = self.start {
            schedule = schedule.start(start);
        }
        if let Some(end) = self.end {
            schedule = schedule.end(end);
        }
        if let Some(except) = &self.except {
            for (first, last) in &except.days {
                schedule = schedule.except(*first..=*last);
            }
            for excepted in &except.schedules {
                schedule = schedule.except(excepted.restore(known)?);
            }
        }
        if let Some(times) = self.times {
            schedule = schedule.times(times);
        }
        if let Some(jitter) = self.jitter {
            schedule = schedule.jitter(jitter.restore()?);
        }
        schedule.into_schedule().map_err(refused)
    }
}

impl RuleRecord {
    fn new(rule: &Rule) -> Self {
        match rule {
            Rule::Cron(cron) => Self::Cron(cron.to_string()),
            Rule::Every { period, anchor } => Self::Every {
                period: (*period).into(),
                anchor: Some(*anchor).filter(|anchor| *anchor != DateTime::UNIX_EPOCH),
            },
            Rule::Once(at) => Self::Once(*at),
            Rule::Custom(custom) => Self::Custom(custom.identity().to_owned()),
        }
    }

    fn restore(&self, known: &[Schedule]) -> Result<Rule, String> {
        let of = |schedule: Result<Schedule, ScheduleError>| {
            schedule
                .map(|schedule| schedule.timing.rule)
                .map_err(|error| error.to_string())
        };
        match self {
            Self::Cron(expression) => of(Schedule::cron(expression).map_err(Into::into)),
            Self::Every { period, .. } => of(Schedule::every(period.restore()?)),
            Self::Once(at) => Ok(Rule::Once(*at)),
            Self::Custom(identity) => {
                let rules = known
                    .iter()
                    .find_map(|known| timetable(&known.timing, identity));
                rules.ok_or_else(|| format!("timetable `{identity}` is not known to this process"))
            }
        }
    }
}

/// Returns the rule of the timetable with an identity, if the schedule or one of its exceptions has
/// it.
fn timetable(timing: &Timing, identity: &str) -> Option<Rule> {
    match &timing.rule {
        Rule::Custom(custom) if custom.identity() == identity => Some(timing.rule.clone()),
        _ => timing
            .exceptions()?
            .schedules
            .iter()
            .find_map(|excepted| timetable(&excepted.schedule.timing, identity)),
    }
}

impl ExceptionsRecord {
    fn new(exceptions: &Exceptions) -> Self {
        let record = |excepted: &ExceptedSchedule| {
            let zone = (!excepted.follows_zone).then(|| excepted.schedule.zone());
            excepted.schedule.record_in(zone)
        };
        Self {
            days: exceptions.days.iter().collect(),
            schedules: exceptions.schedules.iter().map(record).collect(),
        }
    }
}
