//! Schedules on record as text, as earlier versions kept them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Schedule;
use super::convert::IntoSchedule;

/// Reads the text of a schedule, and its parameters: `0 6 * * * in Europe/Zurich`, `every 15m from
/// 2026-01-01T00:00:00Z {"region":"EU"}`.
///
/// # Errors
///
/// Returns the problem if the text is not that of a schedule.
pub(crate) fn read_legacy(text: &str) -> Result<(Schedule, Map<String, Value>), String> {
    let refused = |problem: String| format!("`{text}` is not a schedule: {problem}");
    let (schedule, parameters) = match text.split_once(" {") {
        Some((schedule, _)) => (schedule, &text[schedule.len() + 1..]),
        None => (text, "{}"),
    };
    let parameters =
        serde_json::from_str(parameters).map_err(|error| refused(error.to_string()))?;
    let schedule = read(schedule).map_err(refused)?;
    Ok((schedule, parameters))
}

fn read(text: &str) -> Result<Schedule, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let options = words
        .iter()
        .position(|word| ["anchored", "in", "from", "until"].contains(word))
        .unwrap_or(words.len());
    let (rule, options) = words.split_at(options);
    let mut schedule = match rule {
        ["every", length] => Schedule::every(period(length)?).map_err(|error| error.to_string())?,
        ["once", "at", at] => Schedule::once(instant(at)?),
        fields => Schedule::cron(&fields.join(" ")).map_err(|error| error.to_string())?,
    };
    let mut rest = options;
    while !rest.is_empty() {
        (schedule, rest) = match rest {
            ["anchored", "at", at, rest @ ..] => (schedule.anchor(instant(at)?), rest),
            ["in", zone, rest @ ..] => {
                let zone = zone
                    .parse()
                    .map_err(|_| format!("there is no time zone `{zone}`"))?;
                (schedule.timezone(zone), rest)
            }
            ["from", at, rest @ ..] => (schedule.start(instant(at)?), rest),
            ["until", at, rest @ ..] => (schedule.end(instant(at)?), rest),
            others => return Err(format!("unknown option `{}`", others.join(" "))),
        };
    }
    schedule.into_schedule().map_err(|error| error.to_string())
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|error| format!("expected an instant, got `{text}`: {error}"))
}

/// Reads a period: `1h30m`, or with less than a millisecond as `Debug` writes it: `1.5µs`. It may
/// be longer than one that is read from users.
fn period(text: &str) -> Result<Duration, String> {
    let refused = || format!("expected a period, got `{text}`");
    let mut nanoseconds = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(refused)?;
        let (number, tail) = rest.split_at(number);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit);
        let length: u128 = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "µs" => 1_000,
            "ns" => 1,
            _ => return Err(refused()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: u128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| refused())?;
        let parts = u32::try_from(fraction.len())
            .ok()
            .and_then(|digits| 10_u128.checked_pow(digits))
            .ok_or_else(refused)?;
        nanoseconds = digits
            .checked_mul(length)
            .filter(|product| product.is_multiple_of(parts))
            .and_then(|product| nanoseconds.checked_add(product / parts))
            .ok_or_else(refused)?;
        rest = after;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).map_err(|_| refused())?;
    let nanoseconds = u32::try_from(nanoseconds % 1_000_000_000).map_err(|_| refused())?;
    Ok(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use chrono_tz::Tz;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    /// The parts of a schedule of earlier versions, and the text that these kept of them.
    #[derive(Clone, Debug)]
    struct Earlier {
        rule: Rule,
        zone: Tz,
        start: Option<DateTime<Utc>>,
        end: Option<DateTime<Utc>>,
    }

    #[derive(Clone, Debug)]
    enum Rule {
        Cron(&'static str),
        Every(Duration, DateTime<Utc>),
        Once(DateTime<Utc>),
    }

    impl Earlier {
        fn text(&self) -> String {
            let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            let mut text = match &self.rule {
                Rule::Cron(cron) => (*cron).to_owned(),
                Rule::Every(period, _) => format!("every {}", in_units(*period)),
                Rule::Once(at) => format!("once at {}", instant(*at)),
            };
            if let Rule::Every(_, anchor) = self.rule
                && anchor != DateTime::UNIX_EPOCH
            {
                text.push_str(&format!(" anchored at {}", instant(anchor)));
            }
            if self.zone != Tz::UTC {
                text.push_str(&format!(" in {}", self.zone));
            }
            if let Some(start) = self.start {
                text.push_str(&format!(" from {}", instant(start)));
            }
            if let Some(end) = self.end {
                text.push_str(&format!(" until {}", instant(end)));
            }
            text
        }

        fn schedule(&self) -> Schedule {
            let mut schedule = match &self.rule {
                Rule::Cron(cron) => Schedule::cron(cron).unwrap(),
                Rule::Every(period, anchor) => Schedule::every(*period).unwrap().anchor(*anchor),
                Rule::Once(at) => Schedule::once(*at),
            };
            schedule = schedule.timezone(self.zone);
            if let Some(start) = self.start {
                schedule = schedule.start(start);
            }
            if let Some(end) = self.end {
                schedule = schedule.end(end);
            }
            schedule
        }
    }

    fn in_units(period: Duration) -> String {
        if !period.subsec_nanos().is_multiple_of(1_000_000) {
            return format!("{period:?}");
        }
        let mut rest = period.as_millis();
        let mut written = String::new();
        for (unit, length) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ] {
            if rest >= length {
                written.push_str(&format!("{}{unit}", rest / length));
                rest %= length;
            }
        }
        written
    }

    #[test]
    fn text_of_earlier_versions_is_read() {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let six = Schedule::cron("0 6 * * *").unwrap();
        let every = |nanoseconds| Schedule::every(Duration::from_nanos(nanoseconds)).unwrap();
        for (text, schedule) in [
            ("0 6 * * *", six.clone()),
            ("30 0 6 * * *", Schedule::cron("30 0 6 * * *").unwrap()),
            (
                "0 6 * * * in America/New_York",
                six.timezone(Tz::America__New_York),
            ),
            (
                "every 15m from 2026-01-01T00:00:00Z until 2026-01-01T00:00:00Z",
                every(900_000_000_000).start(at).end(at),
            ),
            ("every 1d1h1m1s1ms", every(90_061_001_000_000)),
            ("every 1.5µs", every(1_500)),
            ("every 1.0005ms", every(1_000_500)),
            ("every 2.000000001s", every(2_000_000_001)),
            (
                "every 15m anchored at 2026-01-01T00:00:00Z",
                every(900_000_000_000).anchor(at),
            ),
            (
                "every 18446744073709551615.999999999s",
                Schedule::every(Duration::MAX).unwrap(),
            ),
            ("once at 2026-01-01T00:00:00Z", Schedule::once(at)),
        ] {
            assert_eq!(
                read_legacy(text),
                Ok((schedule.clone(), Map::new())),
                "{text}"
            );
            let with_parameters = format!(r#"{text} {{"region":"in {{EU}} from"}}"#);
            let parameters = Map::from_iter([("region".to_owned(), Value::from("in {EU} from"))]);
            assert_eq!(read_legacy(&with_parameters), Ok((schedule, parameters)));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for (text, problem) in [
            ("", "is not a schedule"),
            ("0 6 * *", "is not a schedule"),
            ("0 6 * * * in Mars/Base", "no time zone `Mars/Base`"),
            ("every 5parsecs", "expected a period, got `5parsecs`"),
            ("every 0.5ns", "expected a period"),
            ("every", "is not a schedule"),
            ("once at noon", "expected an instant, got `noon`"),
            ("0 6 * * * from", "unknown option `from`"),
            ("0 6 * * * {1}", "is not a schedule"),
            ("0 6 * * * {} in UTC", "is not a schedule"),
        ] {
            let error = read_legacy(text).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    fn instant() -> impl Strategy<Value = DateTime<Utc>> {
        (-10_000_000_000_i64..200_000_000_000, 0..1_000_000_000_u32)
            .prop_map(|(second, nanosecond)| DateTime::from_timestamp(second, nanosecond).unwrap())
    }

    fn earlier() -> impl Strategy<Value = Earlier> {
        let crons = [
            "0 6 * * *",
            "*/5 9-17 * * 1-5",
            "0 0 29 2 *",
            "1,2 */5 * * * *",
        ];
        let rule = prop_oneof![
            prop::sample::select(crons.to_vec()).prop_map(Rule::Cron),
            (1..u64::MAX, instant())
                .prop_map(|(period, anchor)| Rule::Every(Duration::from_nanos(period), anchor)),
            (1..u64::MAX, Just(DateTime::UNIX_EPOCH))
                .prop_map(|(period, anchor)| Rule::Every(Duration::from_millis(period), anchor)),
            instant().prop_map(Rule::Once),
        ];
        let zone = prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec());
        (rule, zone, option::of(instant()), option::of(instant())).prop_map(
            |(rule, zone, start, end)| Earlier {
                rule,
                zone,
                start,
                end,
            },
        )
    }

    proptest! {
        #[test]
        fn every_text_of_earlier_versions_is_read(earlier in earlier()) {
            let read = read_legacy(&earlier.text());
            prop_assert_eq!(read, Ok((earlier.schedule(), Map::new())));
        }
    }
}
