//! `next`: lists the next ticks, with clock changes.

use std::process::ExitCode;

use chrono::{DateTime, NaiveTime, Offset as _, TimeZone as _, Timelike as _, Utc};
use serde::Serialize;

use super::args;
use super::context::CommandContext;
use super::dates::local;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, Table, TableCell, YELLOW, tell};
use super::show::is_paused;
use crate::schedule::{ClockChange, Schedule};

/// A tick, in the form of `--json`.
#[derive(Debug, Serialize)]
struct TickJson {
    at: DateTime<Utc>,
    local: String,
    timezone: &'static str,
    schedule: String,
    clock_change: Option<String>,
}

pub(super) async fn next(context: &CommandContext, args: &args::Next) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let schedules = flow.schedules();
    if schedules.is_empty() {
        let hint = "write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`";
        return Err(
            CommandFailure::usage(format!("flow `{}` has no schedule", args.flow)).hint(hint),
        );
    }
    if is_paused(context, &args.flow).await? {
        tell(format_args!(
            "{0} is paused: its schedules create no runs until `resume {0}`",
            args.flow
        ));
    }
    let ticks = ticks(&schedules, context.bare().now(), args.ticks.into());
    if args.format.json {
        output::json(&ticks)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare(0);
    for tick in ticks {
        let change = TableCell::styled(tick.clock_change.unwrap_or_default(), YELLOW);
        match schedules.len() {
            1 => table.row([tick.local.into(), change]),
            _ => table.row([tick.local.into(), tick.schedule.into(), change]),
        }
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the next ticks of schedules, the earliest first.
fn ticks(schedules: &[Schedule], now: DateTime<Utc>, count: usize) -> Vec<TickJson> {
    let mut ticks = Vec::new();
    for schedule in schedules {
        let mut before = schedule.previous(now).unwrap_or(now);
        for at in schedule.after(now).take(count) {
            let zone = schedule.zone();
            ticks.push(TickJson {
                at,
                local: local(at, zone),
                timezone: zone.name(),
                schedule: schedule.to_string(),
                clock_change: change(schedule, before, at),
            });
            before = at;
        }
    }
    ticks.sort_by_key(|tick| tick.at);
    ticks.truncate(count);
    ticks
}

/// Describes the clock change between two ticks, and its effect on the second.
fn change(schedule: &Schedule, before: DateTime<Utc>, at: DateTime<Utc>) -> Option<String> {
    let zone = schedule.zone();
    let [old, new] = [before, at].map(|at| zone.offset_from_utc_datetime(&at.naive_utc()).fix());
    let changed = (old != new).then(|| {
        let direction = if new.local_minus_utc() > old.local_minus_utc() {
            "forward"
        } else {
            "back"
        };
        format!("the clocks went {direction}: {old} → {new}")
    });
    let time = |time: NaiveTime| {
        time.format(if time.second() == 0 {
            "%H:%M"
        } else {
            "%H:%M:%S"
        })
    };
    let moved = schedule.clock_change(at).map(|change| match change {
        ClockChange::LeftOut(left_out) => format!(
            "{} is skipped that day, so the tick comes right after",
            time(left_out)
        ),
        ClockChange::First(twice) => format!("{} occurs twice: this is the first", time(twice)),
        ClockChange::Second(twice) => format!("{} occurs twice: this is the second", time(twice)),
    });
    let said: Vec<String> = changed.into_iter().chain(moved).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn changes(cron: &str, now: &str, count: usize) -> Vec<(String, Option<String>)> {
        let schedule = Schedule::cron(cron).unwrap().timezone(Tz::Europe__Zurich);
        let ticks = ticks(&[schedule], now.parse().unwrap(), count);
        ticks
            .into_iter()
            .map(|tick| (tick.local, tick.clock_change))
            .collect()
    }

    #[test]
    fn clock_changes_are_marked() {
        let forward = "the clocks went forward: +01:00 → +02:00";
        let moved = "; 02:30 is skipped that day, so the tick comes right after";
        let back = "the clocks went back: +02:00 → +01:00";
        let expected = |ticks: &[(&str, Option<&str>)]| -> Vec<(String, Option<String>)> {
            ticks
                .iter()
                .map(|(local, change)| ((*local).to_owned(), change.map(str::to_owned)))
                .collect()
        };
        assert_eq!(
            changes("30 2 * * *", "2026-03-28T00:00:00Z", 3),
            expected(&[
                ("2026-03-28T02:30:00+01:00", None),
                (
                    "2026-03-29T03:00:00+02:00",
                    Some(&format!("{forward}{moved}"))
                ),
                ("2026-03-30T02:30:00+02:00", None),
            ])
        );
        assert_eq!(
            changes("0 6 * * *", "2026-10-24T12:00:00Z", 2),
            expected(&[
                ("2026-10-25T06:00:00+01:00", Some(back)),
                ("2026-10-26T06:00:00+01:00", None)
            ])
        );
        let first = "02:30 occurs twice: this is the first";
        assert_eq!(
            changes("30 2 * * *", "2027-10-30T12:00:00Z", 2),
            expected(&[
                ("2027-10-31T02:30:00+02:00", Some(first)),
                ("2027-11-01T02:30:00+01:00", Some(back))
            ])
        );
        let second = format!("{back}; 02:30 occurs twice: this is the second");
        assert_eq!(
            changes("30 * * * *", "2027-10-31T00:00:00Z", 3),
            expected(&[
                ("2027-10-31T02:30:00+02:00", Some(first)),
                ("2027-10-31T02:30:00+01:00", Some(&second)),
                ("2027-10-31T03:30:00+01:00", None)
            ])
        );
    }

    #[test]
    fn the_calendar_has_an_end() {
        let end = "9999-12-31T23:59:59Z".parse().unwrap();
        let last = Schedule::once(end).timezone(Tz::Europe__Zurich);
        assert_eq!(ticks(&[last], DateTime::UNIX_EPOCH, 2).len(), 1);
    }
}
