//! `next`: the ticks to come, and what the clocks do to them.

use std::process::ExitCode;

use chrono::{DateTime, Offset as _, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::args;
use super::context::Context;
use super::exit::{Done, Failure};
use super::output::{self, Cell, Table, YELLOW};
use crate::schedule::Schedule;

/// A tick, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Tick {
    at: DateTime<Utc>,
    local: String,
    timezone: &'static str,
    schedule: String,
    clock_change: Option<String>,
}

pub(super) fn next(context: &Context, args: &args::Next) -> Done {
    let flow = context.flow(&args.flow)?;
    let schedules = flow.schedules();
    if schedules.is_empty() {
        let hint = "write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`";
        return Err(Failure::usage(format!("flow `{}` has no schedule", args.flow)).hint(hint));
    }
    let ticks = ticks(&schedules, context.bare().now(), args.ticks);
    if args.format.json {
        output::json(&ticks)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare(0);
    for tick in ticks {
        let schedule = if schedules.len() > 1 { tick.schedule } else { String::new() };
        table.row([tick.local.into(), schedule.into(), Cell::styled(tick.clock_change.unwrap_or_default(), YELLOW)]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// The next ticks of schedules, the earliest first.
fn ticks(schedules: &[Schedule], now: DateTime<Utc>, count: usize) -> Vec<Tick> {
    let mut ticks = Vec::new();
    for schedule in schedules {
        let mut before = schedule.previous(now).unwrap_or(now);
        for at in schedule.after(now).take(count) {
            let zone = schedule.zone();
            ticks.push(Tick {
                at,
                local: at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false),
                timezone: zone.name(),
                schedule: schedule.to_string(),
                clock_change: change(schedule, zone, before, at),
            });
            before = at;
        }
    }
    ticks.sort_by_key(|tick| tick.at);
    ticks.truncate(count);
    ticks
}

/// What the clocks did between two ticks, and to the second of them.
fn change(schedule: &Schedule, zone: Tz, before: DateTime<Utc>, at: DateTime<Utc>) -> Option<String> {
    let offset = |at: DateTime<Utc>| at.with_timezone(&zone).offset().fix();
    let (old, new) = (offset(before), offset(at));
    let changed = (old != new).then(|| {
        let direction = if new.local_minus_utc() > old.local_minus_utc() { "forward" } else { "back" };
        format!("the clocks went {direction}: {old} → {new}")
    });
    // read in UTC, the expression fires at the times that the wall shows, as far as they are there
    let wall = at.with_timezone(&zone).naive_local().and_utc();
    let moved = Schedule::cron(&schedule.name())
        .is_ok_and(|plain| plain.next(wall - TimeDelta::nanoseconds(1)).is_some_and(|next| next != wall));
    match (changed, moved) {
        (Some(changed), true) => Some(format!("{changed}; its time is left out that day, and so it comes right after")),
        (None, true) => Some("its time is left out that day, and so it comes right after".to_owned()),
        (changed, false) => changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(cron: &str, now: &str, count: usize) -> Vec<(String, Option<String>)> {
        let schedule = Schedule::cron(cron).unwrap().timezone(Tz::Europe__Zurich);
        let ticks = ticks(&[schedule], now.parse().unwrap(), count);
        ticks.into_iter().map(|tick| (tick.local, tick.clock_change)).collect()
    }

    #[test]
    fn clock_changes_are_marked() {
        let forward = "the clocks went forward: +01:00 → +02:00";
        let moved = "; its time is left out that day, and so it comes right after";
        let back = "the clocks went back: +02:00 → +01:00";
        let expected = |ticks: &[(&str, Option<&str>)]| -> Vec<(String, Option<String>)> {
            ticks.iter().map(|(local, change)| ((*local).to_owned(), change.map(str::to_owned))).collect()
        };
        assert_eq!(
            changes("30 2 * * *", "2026-03-28T00:00:00Z", 3),
            expected(&[
                ("2026-03-28T02:30:00+01:00", None),
                ("2026-03-29T03:00:00+02:00", Some(&format!("{forward}{moved}"))),
                ("2026-03-30T02:30:00+02:00", None),
            ])
        );
        assert_eq!(
            changes("0 6 * * *", "2026-10-24T12:00:00Z", 2),
            expected(&[("2026-10-25T06:00:00+01:00", Some(back)), ("2026-10-26T06:00:00+01:00", None)])
        );
    }
}
