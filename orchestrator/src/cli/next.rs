//! `next`: lists the next ticks, with clock changes.

use std::process::ExitCode;

use chrono::{DateTime, NaiveTime, Offset as _, TimeZone as _, Timelike as _, Utc};
use serde::Serialize;

use super::args;
use super::context::CommandContext;
use super::dates::local;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, DIM, Table, TableCell, YELLOW, tell};
use super::selection::{self, UpcomingDeployment};
use super::show::is_paused;
use crate::schedule::{ClockChange, Schedule, ScheduleUnion};

/// A tick, in the form of `--json`.
#[derive(Debug, Serialize)]
struct TickJson {
    at: DateTime<Utc>,
    local: String,
    timezone: &'static str,
    deployment: Option<String>,
    /// The schedules that have it.
    schedule: String,
    clock_change: Option<String>,
}

pub(super) async fn next(context: &CommandContext, args: &args::Next) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let now = context.bare().now();
    let store = context.runtime_if_there().await?;
    let records = selection::records(store.as_ref(), &args.flow).await?;
    let mut deployments = selection::upcoming(&flow, &records, now);
    if let Some(name) = args.deployment.as_deref() {
        let known = deployments.clone();
        deployments.retain(|deployment| deployment.key.name.as_deref() == Some(name));
        if deployments.is_empty() {
            let keys: Vec<_> = known.into_iter().map(|known| known.key).collect();
            return Err(selection::unknown(&flow, name, &keys));
        }
    }
    if deployments.is_empty() {
        let hint = "write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`";
        return Err(
            CommandFailure::usage(format!("flow `{}` has no schedule", args.flow)).hint(hint),
        );
    }
    if is_paused(store.as_ref(), &args.flow).await? {
        tell(format_args!(
            "{0} is paused: its schedules create no runs until `resume {0}`",
            args.flow
        ));
    }
    for UpcomingDeployment { key, schedules, .. } in &deployments {
        if let Err(problem) = schedules {
            tell(format_args!(
                "the ticks of {key} cannot be computed: {problem}"
            ));
        }
    }
    let is_named = |deployment: &UpcomingDeployment| deployment.key.name.is_some();
    let has_names = deployments.len() > 1 || deployments.iter().any(is_named);
    let has_schedules = deployments
        .iter()
        .any(|deployment| deployment.members().count() > 1);
    let ticks = ticks(&deployments, now, args.ticks.into());
    if args.format.json {
        output::json(&ticks)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare(0);
    for tick in ticks {
        let deployment = has_names.then(|| match tick.deployment {
            Some(name) => name.into(),
            None => TableCell::styled("(default)", DIM),
        });
        let schedule = has_schedules.then(|| tick.schedule.into());
        let change = TableCell::styled(tick.clock_change.unwrap_or_default(), YELLOW);
        let cells = [Some(tick.local.into()), deployment, schedule, Some(change)];
        table.row(cells.into_iter().flatten());
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the next ticks of deployments, the earliest first.
fn ticks(deployments: &[UpcomingDeployment], now: DateTime<Utc>, count: usize) -> Vec<TickJson> {
    let mut ticks: Vec<TickJson> = deployments
        .iter()
        .flat_map(|deployment| ticks_of(deployment, now, count))
        .collect();
    ticks.sort_by_key(|tick| tick.at);
    ticks.truncate(count);
    ticks
}

/// Returns the next ticks of a deployment: each once, with all schedules that have it, in the time
/// zone of the first of these.
fn ticks_of(deployment: &UpcomingDeployment, now: DateTime<Utc>, count: usize) -> Vec<TickJson> {
    let union = deployment.union();
    // each schedule with its last tick, from which on clock changes are told
    let mut members: Vec<(&Schedule, ScheduleUnion, DateTime<Utc>)> = deployment
        .members()
        .map(|(schedule, alone)| {
            let before = alone.previous(now).unwrap_or(now);
            (schedule, alone, before)
        })
        .collect();
    let mut ticks = Vec::new();
    for at in union.ticks(now, DateTime::<Utc>::MAX_UTC).take(count) {
        let mut with_tick = Vec::new();
        let mut clock_change = None;
        for (schedule, alone, before) in &mut members {
            if alone.up_to(at) == Some(at) {
                clock_change = clock_change.or_else(|| change(schedule, *before, at));
                *before = at;
                with_tick.push(*schedule);
            }
        }
        let zone = with_tick.first().map_or(union.zone(), |first| first.zone());
        let schedules: Vec<String> = with_tick.iter().map(ToString::to_string).collect();
        ticks.push(TickJson {
            at,
            local: local(at, zone),
            timezone: zone.name(),
            deployment: deployment.key.name.as_deref().map(str::to_owned),
            schedule: schedules.join(" and "),
            clock_change,
        });
    }
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
    use crate::deployment::DeploymentKey;
    use chrono_tz::Tz;

    fn deployment(schedules: Vec<Schedule>, since: DateTime<Utc>) -> UpcomingDeployment {
        let key = DeploymentKey {
            flow: "report".into(),
            name: None,
        };
        UpcomingDeployment {
            key,
            schedules: Ok(schedules),
            since,
        }
    }

    fn changes(cron: &str, now: &str, count: usize) -> Vec<(String, Option<String>)> {
        let schedule = Schedule::cron(cron).unwrap().timezone(Tz::Europe__Zurich);
        let now = now.parse().unwrap();
        let ticks = ticks_of(&deployment(vec![schedule], now), now, count);
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
        let start = DateTime::UNIX_EPOCH;
        assert_eq!(ticks_of(&deployment(vec![last], start), start, 2).len(), 1);
    }
}
