use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::Schedule;
use super::convert::IntoSchedule;
use super::custom::Custom;
use super::error::ScheduleError;
use super::exceptions::{ExceptedSchedule, Exceptions};
use super::rule::Rule;

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
    /// Returns the schedule. Its timetables are those of the schedules of this process, by identity.
    ///
    /// # Errors
    ///
    /// Returns the problem if a time zone or a timetable is unknown, or if a value is invalid.
    pub(crate) fn restore(&self) -> Result<Schedule, String> {
        let refused = |error: ScheduleError| error.to_string();
        let rule = self.rule.restore()?;
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
                schedule = schedule.except(excepted.restore()?);
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

    fn restore(&self) -> Result<Rule, String> {
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
                let known = Custom::known(identity).map(Rule::Custom);
                known.ok_or_else(|| format!("timetable `{identity}` is not known to this process"))
            }
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::random::{self, Shifts, ZONES};
    use super::*;
    use crate::Timetable;

    fn read(json: &str) -> Result<Schedule, String> {
        let record: ScheduleRecord =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        record.restore()
    }

    #[test]
    fn record_has_only_what_is_set() {
        let at = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let day = NaiveDate::from_ymd_opt(2026, 12, 25).unwrap();
        let six = Schedule::cron("0 6 * * *").unwrap();
        for (schedule, json) in [
            (six.clone(), r#"{"rule":{"cron":"0 6 * * *"}}"#),
            (
                six.clone().timezone(Tz::UTC),
                r#"{"rule":{"cron":"0 6 * * *"}}"#,
            ),
            (
                Schedule::every(Duration::new(900, 1)).unwrap().anchor(at),
                r#"{"rule":{"every":{"period":{"seconds":900,"nanoseconds":1},"anchor":"2026-01-01T00:00:00.500Z"}}}"#,
            ),
            (
                Schedule::every(Duration::MAX).unwrap(),
                r#"{"rule":{"every":{"period":{"seconds":18446744073709551615,"nanoseconds":999999999}}}}"#,
            ),
            (
                Schedule::once(at).jitter("5m"),
                r#"{"rule":{"once":"2026-01-01T00:00:00.500Z"},"jitter":{"seconds":300}}"#,
            ),
            (
                six.timezone(Tz::Europe__Zurich)
                    .start(at)
                    .end(at)
                    .except(day)
                    .except("* * 1 1 *")
                    .except(Schedule::cron("@weekly").unwrap().timezone(Tz::UTC))
                    .times(3),
                r#"{"rule":{"cron":"0 6 * * *"},"zone":"Europe/Zurich","start":"2026-01-01T00:00:00.500Z","end":"2026-01-01T00:00:00.500Z","except":{"days":[["2026-12-25","2026-12-25"]],"schedules":[{"rule":{"cron":"* * 1 1 *"}},{"rule":{"cron":"0 0 * * 0"},"zone":"UTC"}]},"times":3}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&schedule.record()).unwrap(), json);
            assert_eq!(read(json), Ok(schedule), "{json}");
        }
    }

    #[test]
    fn timetable_is_that_of_a_schedule_of_this_process() {
        struct Own;
        impl Timetable for Own {
            fn identity(&self) -> String {
                "a timetable of one test".to_owned()
            }

            fn after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
                None
            }

            fn before(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
                None
            }
        }
        let custom = Schedule::custom(Own).jitter("1m");
        let outer = Schedule::cron("@hourly").unwrap().except(&custom);
        let records = [custom.record(), outer.record()];
        for (record, schedule) in records.iter().zip([&custom, &outer]) {
            assert_eq!(record.restore().as_ref(), Ok(schedule));
        }
        drop(Schedule::custom(Own));
        assert!(
            records[0].restore().is_ok(),
            "others of the name still have it"
        );
        drop(custom);
        assert!(records[0].restore().is_ok(), "the other one still has it");
        drop(outer);
        let unknown = "timetable `a timetable of one test` is not known to this process";
        for record in records {
            assert_eq!(record.restore().unwrap_err(), unknown);
        }
    }

    #[test]
    fn unreadable_record_names_the_problem() {
        for (json, problem) in [
            (
                r#"{"rule":{"cron":"0 6 * * *"},"zone":"Mars/Base"}"#,
                "got `Mars/Base`",
            ),
            (
                r#"{"rule":{"cron":"0 6 * * *"},"week":true}"#,
                "unknown field `week`",
            ),
            (r#"{"rule":{"lunar":1}}"#, "unknown variant `lunar`"),
            (r#"{"rule":{"cron":"0 25 * * *"}}"#, "expected 0 to 23"),
            (
                r#"{"rule":{"every":{"period":{"seconds":0}}}}"#,
                "greater than zero",
            ),
            (
                r#"{"rule":{"every":{"period":{"seconds":1,"nanoseconds":1000000000}}}}"#,
                "less than a second of nanoseconds",
            ),
            (r#"{"rule":{"cron":"0 6 * * *"},"times":0}"#, "1 to 100000"),
            (
                r#"{"rule":{"once":"+10000-01-01T00:00:00Z"}}"#,
                "years 1 to 9999",
            ),
            (
                r#"{"rule":{"cron":"0 6 * * *"},"except":{"days":[["2026-01-02","2026-01-01"]]}}"#,
                "in order",
            ),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(problem), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn schedule_is_restored_from_its_record(
            schedule in (0..ZONES.len()).prop_flat_map(random::schedule),
        ) {
            let json = serde_json::to_string(&schedule.record()).unwrap();
            let record: ScheduleRecord = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&record, &schedule.record());
            let _known = Schedule::custom(Shifts);
            let restored = record.restore();
            prop_assert_eq!(restored.as_ref().map(Schedule::record), Ok(record));
            prop_assert_eq!(restored.as_ref().map(ToString::to_string), Ok(schedule.to_string()));
            prop_assert_eq!(restored, Ok(schedule));
        }
    }
}
