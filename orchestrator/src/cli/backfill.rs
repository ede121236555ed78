//! `backfill`: creates the runs of a past range of dates.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orchestrator_grammar::similar::nearest;
use parking_lot::Mutex;
use serde::Serialize;

use super::args;
use super::context::{CommandContext, ProgramFlow};
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::output::{self, halt, instant, plural, print, tell};
use super::parameters::ParameterArguments;
use super::progress::{self, Bar, Tenths};
use crate::log::LogLevel;
use crate::schedule::Schedule;
use crate::scheduler::{Backfill, Backfilled, Reprocess};

/// The maximum number of unsuccessful ticks listed.
const NAMED: usize = 10;

pub(super) async fn backfill(context: &CommandContext, args: &args::Backfill) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let schedule = schedule(&flow, args)?;
    let call = flow.call(&ParameterArguments::from(&args.parameters))?;
    if args.from > args.to {
        let what = format!(
            "expected the first date not to be after the last, got {} and {}",
            args.from, args.to
        );
        return Err(CommandFailure::usage(what).hint("swap `--from` and `--to`"));
    }
    let runtime = context.runtime().await?;
    // of hundreds of runs, only those that need attention
    progress::with_logs(LogLevel::Warn);
    let mut backfill = Backfill::of(&runtime, call, None, vec![schedule], args.from..=args.to)
        .reprocess(args.reprocess.into())
        .newest_first(args.newest_first);
    if let Some(runs) = args.max_active_runs {
        backfill = backfill.max_active_runs(runs);
    }
    let plan = backfill.dry_run().await?;
    if args.dry_run {
        match args.format.json {
            true => output::json(&plan.ticks())?,
            false => print(plan)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let shown = Arc::new(BackfillDisplay::new(plan.ticks().len()));
    let showing = Arc::clone(&shown);
    let backfill = backfill.on_progress(move |done| showing.tell(done));
    let done = runtime.until_halt(backfill.run()).await;
    if let Some(bar) = &shown.bar {
        bar.end();
    }
    match done {
        Ok(done) => report(&args.flow, &done?, args.format.json),
        Err(halted) => {
            if !shown.is_done.load(Ordering::Relaxed) {
                tell("the backfill was left unfinished: run the same command again to continue it");
            }
            Ok(halt(halted))
        }
    }
}

fn schedule(flow: &ProgramFlow<'_>, args: &args::Backfill) -> Result<Schedule, CommandFailure> {
    let name = flow.definition.name;
    let Some(cron) = &args.schedule else {
        let mut schedules = flow.schedules();
        return match schedules.len() {
            1 => Ok(schedules.remove(0)),
            0 => Err(
                CommandFailure::usage(format!("flow `{name}` has no schedule")).hint(
                    "give one with `--schedule \"0 6 * * *\"`, and `--timezone` if it is not UTC",
                ),
            ),
            _ => Err(CommandFailure::usage(format!(
                "flow `{name}` has {} schedules",
                schedules.len()
            ))
            .why(
                schedules
                    .iter()
                    .map(|schedule| format!("`{schedule}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            )
            .hint("choose one with `--schedule CRON`, and `--timezone` if it is not UTC")),
        };
    };
    let refused = |error: crate::schedule::CronError| {
        CommandFailure::usage(format!("`{cron}` is not a crontab expression"))
            .why(error.to_string())
    };
    let schedule = Schedule::cron(cron).map_err(refused)?;
    let Some(zone) = &args.timezone else {
        return Ok(schedule);
    };
    let zone = zone.parse().map_err(|_| {
        let meant = nearest(zone, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let hint = meant.map_or_else(
            || "an IANA name, such as `Europe/Zurich`".to_owned(),
            |zone| format!("did you mean `{zone}`?"),
        );
        CommandFailure::usage(format!("no time zone `{zone}`")).hint(hint)
    })?;
    Ok(schedule.timezone(zone))
}

impl From<args::Reprocess> for Reprocess {
    fn from(reprocess: args::Reprocess) -> Self {
        match reprocess {
            args::Reprocess::None => Self::None,
            args::Reprocess::Failed => Self::Failed,
            args::Reprocess::All => Self::All,
        }
    }
}

/// The progress in text form.
struct BackfillDisplay {
    bar: Option<Bar>,
    tenths: Mutex<Tenths>,
    is_done: AtomicBool,
}

impl BackfillDisplay {
    fn new(ticks: usize) -> Self {
        Self {
            bar: Bar::new(ticks),
            tenths: Mutex::new(Tenths::new(ticks)),
            is_done: AtomicBool::new(false),
        }
    }

    fn tell(&self, done: &Backfilled) {
        let failed = done.unsuccessful().len();
        let finished = done.skipped() + done.succeeded() + failed;
        self.is_done
            .store(finished == done.total(), Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.set(
                    finished,
                    done.total(),
                    format!("{} running, {failed} failed", done.running()),
                );
            }
            None => {
                if let Some(percent) = self.tenths.lock().reached(finished) {
                    let ticks = plural(done.total() as u64, "tick");
                    tell(format_args!(
                        "{percent}%: {finished} of {ticks}, {failed} failed"
                    ));
                }
            }
        }
    }
}

/// The final document of `--json`.
#[derive(Serialize)]
struct BackfillJson<'a> {
    #[serde(flatten)]
    done: &'a Backfilled,
    failed: usize,
}

fn report(flow: &str, done: &Backfilled, json: bool) -> CommandResult {
    let failed = done.unsuccessful().len();
    if json {
        output::json(&BackfillJson { done, failed })?;
    } else {
        let mut others = String::new();
        for (count, word) in [(done.resumed(), "resumed"), (done.reran(), "rerun")] {
            if count > 0 {
                others.push_str(&format!("{count} {word}, "));
            }
        }
        print(format_args!(
            "{}: {} created, {others}{} skipped, {} succeeded, {failed} failed\n",
            plural(done.total() as u64, "tick"),
            done.created(),
            done.skipped(),
            done.succeeded(),
        ))?;
        for (reason, ticks) in done.skipped_because() {
            tell(format_args!("  {ticks} skipped: {reason}"));
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    for tick in done.unsuccessful().iter().take(NAMED) {
        let run = tick.run.map(|run| run.to_string()).unwrap_or_default();
        let state = tick.state.map(|state| state.as_str()).unwrap_or_default();
        tell(format_args!(
            "  {} {state} {run}",
            instant(tick.logical_date)
        ));
    }
    Err(CommandFailure::new(
        FAILED,
        format!(
            "of the backfill of `{flow}`, {} did not succeed",
            plural(failed as u64, "run")
        ),
    )
    .hint("`why ID` explains each; the same command with `--reprocess failed` re-runs them"))
}
