use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::key::{DeploymentKey, DeploymentVersion};
use crate::flow::{FlowCall, Missed};
use crate::schedule::{Schedule, ScheduleRecord, ScheduleUnion, read_legacy};

/// Regular clock adjustments set a clock back by less than this.
pub(crate) const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// What a process serves as one deployment.
#[derive(Clone, Debug)]
pub(crate) struct DeploymentSpec {
    pub(crate) key: DeploymentKey,
    pub(crate) schedules: Vec<Schedule>,
    /// The flow with the deployment's parameters.
    pub(crate) call: Arc<FlowCall>,
}

/// A deployment on record.
#[derive(Clone, Debug)]
pub(crate) struct DeploymentRecord {
    pub(crate) key: DeploymentKey,
    pub(crate) version: DeploymentVersion,
    /// Each tick up to here has its run, or was decided to have none.
    pub(crate) decided: DateTime<Utc>,
    /// What was in force, in the order of time; the last segment still is.
    pub(crate) segments: Vec<Segment>,
    /// Why the segments on record cannot be read, if so. The list is empty then, except for those that
    /// were put in force in their place.
    pub(crate) unreadable: Option<String>,
}

/// The schedules that were in force during a span of time, with their parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) schedules: Vec<ScheduleRecord>,
    pub(crate) parameters: Map<String, Value>,
    /// When these schedules came into force; the same for the parts of a segment that was split.
    pub(crate) since: DateTime<Utc>,
    /// The last instant at which they were in force; `None` if they still are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<DateTime<Utc>>,
    /// Which of its missed ticks get a run, if that was chosen when the flow was unpaused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<Missed>,
    /// Whether it is from an earlier version, which recorded only the parameters of schedules, not
    /// those that the flow was called with.
    #[serde(skip)]
    is_partial: bool,
}

/// The column `segments` as earlier versions left it: each schedule that was ever served, as text,
/// with the microsecond up to which its ticks are decided.
#[derive(Deserialize)]
struct LegacyTexts {
    texts: Vec<(String, i64)>,
}

impl DeploymentSpec {
    fn records(&self) -> Vec<ScheduleRecord> {
        self.schedules.iter().map(Schedule::record).collect()
    }

    fn segment(&self, since: DateTime<Utc>) -> Segment {
        Segment {
            schedules: self.records(),
            parameters: self.call.parameters.clone(),
            since,
            until: None,
            missed: None,
            is_partial: false,
        }
    }

    /// Returns `true` if a segment has the schedules, in any order, and the parameters of this
    /// deployment.
    fn is(&self, segment: &Segment) -> bool {
        let own = self.records();
        let parameters = &segment.parameters;
        own.len() == segment.schedules.len()
            && own.iter().all(|one| segment.schedules.contains(one))
            && match segment.is_partial {
                false => self.call.has(parameters),
                true => self
                    .call
                    .with(parameters)
                    .is_ok_and(|call| self.call.has(&call.parameters)),
            }
    }

    /// Returns `true` if what is in force by a record is what this process serves.
    pub(crate) fn is_in_force(&self, record: &DeploymentRecord) -> bool {
        record.in_force().is_some_and(|segment| self.is(segment))
    }

    /// Puts the deployment in force, and returns its record, and whether that is another one than
    /// before. What another process put in force before ends now, and its undecided ticks stay to be
    /// decided.
    pub(crate) fn put_in_force(
        &self,
        record: Option<DeploymentRecord>,
        now: DateTime<Utc>,
    ) -> (DeploymentRecord, bool) {
        let Some(mut record) = record else {
            let record = DeploymentRecord {
                key: self.key.clone(),
                version: DeploymentVersion::FIRST,
                decided: now,
                segments: vec![self.segment(now)],
                unreadable: None,
            };
            return (record, true);
        };
        // the clock ran ahead in an earlier process: without this, ticks from now until then would
        // count as decided
        let is_set_back = record.latest() - now > SET_BACK;
        if is_set_back {
            record.rewind(now);
        }
        match record.segments.last_mut() {
            Some(last) if self.is(last) => {
                if !is_set_back && !last.is_partial {
                    return (record, false);
                }
                *last = Segment {
                    since: last.since,
                    ..self.segment(now)
                };
            }
            last => {
                match last {
                    Some(last) => last.until = Some(now),
                    // it cannot be read: what it was in force for is not known
                    None => record.decided = now,
                }
                record.segments.push(self.segment(now));
                record.version = record.version.next();
            }
        }
        record.forget();
        (record, true)
    }
}

impl Segment {
    /// Returns its schedules.
    ///
    /// # Errors
    ///
    /// Returns the problem if one of them has a timetable that no schedule of this process has, or
    /// cannot be read.
    pub(crate) fn restore(&self) -> Result<ScheduleUnion, String> {
        let schedules = self.schedules.iter().map(ScheduleRecord::restore);
        let schedules = schedules.collect::<Result<_, _>>()?;
        Ok(ScheduleUnion::new(schedules, self.since))
    }
}

impl DeploymentRecord {
    /// Returns the segment that is in force.
    pub(crate) fn in_force(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// Returns the latest instant that it has.
    fn latest(&self) -> DateTime<Utc> {
        let since = self.segments.last().map(|last| last.since);
        since.map_or(self.decided, |since| self.decided.max(since))
    }

    /// Removes what is in force. What is left is the version: if the deployment is served again, a
    /// process that still has the version of before creates no runs.
    pub(crate) fn remove(&mut self) {
        self.segments.clear();
        self.version = self.version.next();
    }

    /// Returns `true` if it was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.segments.is_empty() && self.unreadable.is_none()
    }

    /// Forgets the segments whose ticks are all decided.
    fn forget(&mut self) {
        let decided = self.decided;
        self.segments
            .retain(|segment| segment.until.is_none_or(|until| until > decided));
    }

    /// Takes back what is known of the time after an instant, to which the clock was set back.
    pub(crate) fn rewind(&mut self, to: DateTime<Utc>) {
        self.decided = self.decided.min(to);
        for segment in &mut self.segments {
            segment.since = segment.since.min(to);
            segment.until = segment.until.map(|until| until.min(to));
        }
    }

    /// Sets which of the ticks that were missed until now get a run.
    ///
    /// This is another version: a process that is in the middle of these ticks has decided by
    /// another policy.
    pub(crate) fn choose_missed(&mut self, missed: Missed, now: DateTime<Utc>) {
        self.version = self.version.next();
        if missed == Missed::None {
            self.decided = self.decided.max(now);
        } else if let Some(last) = self.segments.last() {
            let open = last.clone();
            for segment in &mut self.segments {
                segment.missed = Some(missed);
            }
            if let Some(last) = self.segments.last_mut() {
                last.until = Some(now);
            }
            self.segments.push(open);
        }
        self.forget();
    }

    /// Returns the column `segments`.
    pub(crate) fn encode(&self) -> String {
        // cannot fail: these are plain structures of our own
        serde_json::to_string(&self.segments).unwrap_or_default()
    }

    /// Reads the columns of a record.
    pub(crate) fn decode(
        key: DeploymentKey,
        version: DeploymentVersion,
        decided: DateTime<Utc>,
        segments: &str,
    ) -> Self {
        let (segments, unreadable) = match read(segments, decided) {
            Ok(segments) => (segments, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        Self {
            key,
            version,
            decided,
            segments,
            unreadable,
        }
    }
}

/// Reads the column `segments`.
fn read(column: &str, decided: DateTime<Utc>) -> Result<Vec<Segment>, String> {
    let problem = |error: serde_json::Error| error.to_string();
    // not as an untagged enum, whose error would not say what is wrong
    if column.starts_with('{') {
        let LegacyTexts { texts } = serde_json::from_str(column).map_err(problem)?;
        return Ok(vec![legacy(&texts, decided)?]);
    }
    let segments: Vec<Segment> = serde_json::from_str(column).map_err(problem)?;
    Ok(segments)
}

/// Returns what was in force by the records of earlier versions, which had each schedule that was
/// ever served. A schedule is taken to have been in force until the latest decision if no tick of
/// it is undecided until then: others were served before, and no longer.
fn legacy(texts: &[(String, i64)], decided: DateTime<Utc>) -> Result<Segment, String> {
    let mut in_force = Vec::new();
    let mut parameters = None;
    let mut sorted: Vec<_> = texts.iter().collect();
    sorted.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    for (text, at) in sorted {
        let (schedule, given) = read_legacy(text)?;
        let at = DateTime::from_timestamp_micros(*at)
            .ok_or_else(|| format!("`{text}` is decided up to {at}, which is not a valid time"))?;
        let has_passed = schedule.next(at).is_some_and(|tick| tick <= decided);
        if !has_passed && *parameters.get_or_insert_with(|| given.clone()) == given {
            in_force.push(schedule.record());
        }
    }
    Ok(Segment {
        schedules: in_force,
        parameters: parameters.unwrap_or_default(),
        since: decided,
        until: None,
        missed: None,
        is_partial: true,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::spec;
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}:00Z").parse().expect(text)
    }

    fn cron(text: &str) -> Schedule {
        Schedule::cron(text).expect(text)
    }

    /// Returns each segment's schedules and its end.
    fn segments(record: &DeploymentRecord) -> Vec<(String, Option<DateTime<Utc>>)> {
        let segment = |segment: &Segment| {
            let schedules = segment.schedules.iter();
            let texts = schedules.map(|one| one.restore().expect("it is whole").to_string());
            (texts.collect::<Vec<_>>().join(", "), segment.until)
        };
        record.segments.iter().map(segment).collect()
    }

    fn reread(record: &DeploymentRecord) -> DeploymentRecord {
        let read = DeploymentRecord::decode(
            record.key.clone(),
            record.version,
            record.decided,
            &record.encode(),
        );
        assert_eq!(read.segments, record.segments);
        read
    }

    #[test]
    fn other_schedules_come_into_force_now_and_the_earlier_ones_end() {
        let (hourly, daily) = (
            spec(&[cron("@hourly")], "EU"),
            spec(&[cron("@daily")], "EU"),
        );
        let (record, has_changed) = hourly.put_in_force(None, utc("01T10:30"));
        assert!(has_changed);
        assert_eq!(record.decided, utc("01T10:30"));
        assert_eq!(segments(&record), [("0 * * * *".to_owned(), None)]);
        let (same, has_changed) = hourly.put_in_force(Some(reread(&record)), utc("01T12:30"));
        assert!(!has_changed);
        assert_eq!(same.version, record.version);
        let (other, has_changed) = daily.put_in_force(Some(same), utc("01T12:30"));
        assert!(has_changed && daily.is_in_force(&other) && !hourly.is_in_force(&other));
        assert_eq!(other.version, record.version.next());
        // the ticks of the earlier schedule until now are yet to be decided
        assert_eq!(other.decided, utc("01T10:30"));
        let ended = ("0 * * * *".to_owned(), Some(utc("01T12:30")));
        let in_force = ("0 0 * * *".to_owned(), None);
        assert_eq!(segments(&reread(&other)), [ended, in_force.clone()]);
        // once they are, what was in force before is forgotten
        let settled = DeploymentRecord {
            decided: utc("01T13:00"),
            ..other
        };
        let (back, _) = hourly.put_in_force(Some(settled), utc("02T00:00"));
        assert_eq!(
            segments(&back),
            [
                (in_force.0, Some(utc("02T00:00"))),
                ("0 * * * *".to_owned(), None)
            ]
        );
    }

    #[test]
    fn what_is_served_is_told_from_what_is_in_force() {
        let now = utc("01T10:30");
        let zurich = cron("@daily").timezone(chrono_tz::Europe::Zurich);
        let base = [cron("@daily"), cron("@hourly")];
        let (record, _) = spec(&base, "EU").put_in_force(None, now);
        for (is_same, schedules, region) in [
            (true, vec![cron("@daily"), cron("@hourly")], "EU"),
            (true, vec![cron("@hourly"), cron("@daily")], "EU"),
            (false, vec![cron("@daily"), cron("@hourly")], "US"),
            (false, vec![cron("@daily")], "EU"),
            (false, vec![zurich, cron("@hourly")], "EU"),
            (
                false,
                vec![cron("@daily").end(utc("31T00:00")), cron("@hourly")],
                "EU",
            ),
            (
                false,
                vec![cron("@daily").start(utc("01T00:00")), cron("@hourly")],
                "EU",
            ),
        ] {
            let spec = spec(&schedules, region);
            assert_eq!(
                spec.is_in_force(&record),
                is_same,
                "{schedules:?} in {region}"
            );
            let (_, has_changed) = spec.put_in_force(Some(record.clone()), now);
            assert_eq!(has_changed, !is_same, "{schedules:?} in {region}");
        }
    }

    #[test]
    fn a_clock_that_ran_ahead_is_forgotten() {
        let (hourly, daily) = (
            spec(&[cron("@hourly")], "EU"),
            spec(&[cron("@daily")], "EU"),
        );
        let (record, _) = hourly.put_in_force(None, utc("03T10:30"));
        let (record, _) = daily.put_in_force(Some(record), utc("04T10:30"));
        let now = utc("01T10:30");
        let (record, has_changed) = daily.put_in_force(Some(record), now);
        assert!(has_changed);
        assert_eq!(record.decided, now);
        assert_eq!(segments(&record), [("0 0 * * *".to_owned(), None)]);
        assert_eq!(record.segments[0].since, now);
    }

    #[test]
    fn records_of_earlier_versions_are_taken_over() {
        let micros = |text: &str| utc(text).timestamp_micros();
        let decode = |texts: &[(&str, &str)]| {
            let texts: Vec<_> = texts
                .iter()
                .map(|(text, decided)| (*text, micros(decided)))
                .collect();
            let decided = texts
                .iter()
                .map(|(_, decided)| *decided)
                .max()
                .expect("some");
            let json = serde_json::json!({ "texts": texts }).to_string();
            DeploymentRecord::decode(
                spec(&[], "EU").key,
                DeploymentVersion::new(0),
                DateTime::from_timestamp_micros(decided).expect("valid"),
                &json,
            )
        };
        // the daily one was served later, so the hourly one is no longer in force
        let record = decode(&[("0 * * * *", "01T10:00"), ("0 6 * * *", "20T06:00")]);
        assert_eq!(segments(&record), [("0 6 * * *".to_owned(), None)]);
        // both were served together
        let record = decode(&[("0 * * * *", "20T06:00"), ("0 6 * * *", "20T06:00")]);
        assert_eq!(record.segments[0].schedules.len(), 2);
        // with the parameters of the schedule alone
        let text = "0 6 * * * in Europe/Zurich {\"region\":\"EU\"}";
        let record = decode(&[(text, "20T05:00")]);
        let zurich = cron("0 6 * * *").timezone(chrono_tz::Europe::Zurich);
        let (eu, us) = (
            spec(std::slice::from_ref(&zurich), "EU"),
            spec(&[zurich], "US"),
        );
        assert!(eu.is_in_force(&record) && !us.is_in_force(&record));
        let (same, has_changed) = eu.put_in_force(Some(record), utc("20T07:00"));
        assert!(has_changed, "it is rewritten in today's form");
        assert_eq!(same.version, DeploymentVersion::new(0));
        assert_eq!(same.decided, utc("20T05:00"));
        reread(&same);
    }

    #[test]
    fn a_record_that_cannot_be_read_says_so_and_is_replaced() {
        let daily = spec(&[cron("@daily")], "EU");
        for text in ["", "{}", "[{\"schedules\": 1}]"] {
            let version = DeploymentVersion::new(7);
            let record =
                DeploymentRecord::decode(daily.key.clone(), version, utc("01T00:00"), text);
            assert!(record.unreadable.is_some(), "{text}");
            let (record, _) = daily.put_in_force(Some(record), utc("05T00:00"));
            assert_eq!(record.version, version.next());
            assert_eq!(record.decided, utc("05T00:00"));
            assert!(
                record.unreadable.is_some(),
                "it is said what was lost: {text}"
            );
            assert_eq!(reread(&record).unreadable, None);
        }
    }
}
