//! `backfill`: creates the runs of a past range of dates.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orchestrator_grammar::similar::nearest;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Map;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::output::{self, exact, halt, plural, print, tell};
use super::parameters::ParameterArguments;
use super::progress::{self, Bar, Tenths};
use super::selection::{self, SelectedDeployment};
use crate::flow::Overlap;
use crate::log::LogLevel;
use crate::schedule::Schedule;
use crate::scheduler::{Backfill, BackfillTick, Backfilled, Reprocess, TickAction};

/// The maximum number of ticks listed that were not successful, or that have another run.
const NAMED: usize = 10;

pub(super) async fn backfill(context: &CommandContext, args: &args::Backfill) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let store = context.runtime_if_there().await?;
    let records = selection::records(store.as_ref(), &args.flow).await?;
    let name = args.deployment.as_deref();
    let deployment = selection::select(&flow, records, name, context.bare().now())?;
    let schedules = schedules(&deployment, args)?;
    let call = deployment.call(&ParameterArguments::from(&args.parameters))?;
    if args.from > args.to {
        let what = format!(
            "expected the first date not to be after the last, got {} and {}",
            args.from, args.to
        );
        return Err(CommandFailure::usage(what).hint("swap `--from` and `--to`"));
    }
    let runtime = match store {
        Some(runtime) => runtime,
        None => context.runtime().await?,
    };
    // of hundreds of runs, only those that need attention
    progress::with_logs(LogLevel::Warn);
    let dates = args.from..=args.to;
    let mut backfill = Backfill::of(&runtime, call, deployment.name(), schedules, dates)
        .reprocess(args.reprocess.into())
        .adopt_manual(args.adopt_manual)
        .overlap(args.overlap.into())
        .newest_first(args.newest_first);
    if let Some(runs) = args.max_active_runs {
        backfill = backfill.max_active_runs(runs);
    }
    let plan = backfill.dry_run().await?;
    if args.dry_run {
        let is_different = |tick: &&BackfillTick| tick.action == TickAction::Different;
        let different = plan.ticks().iter().filter(is_different).count();
        match args.format.json {
            true => output::json(&plan.ticks())?,
            false => print(plan)?,
        }
        if different > 0 {
            tell(format_args!(
                "{} {} another run: {DIFFERENT}",
                plural(different as u64, "tick"),
                have(different)
            ));
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

/// Returns the schedules to backfill: that of `--schedule`, or else those of the deployment.
fn schedules(
    deployment: &SelectedDeployment<'_>,
    args: &args::Backfill,
) -> Result<Vec<Schedule>, CommandFailure> {
    if let Some(cron) = &args.schedule {
        return schedule(cron, args.timezone.as_deref()).map(|schedule| vec![schedule]);
    }
    let union = deployment.schedules()?;
    if union.schedules().is_empty() {
        return Err(
            CommandFailure::usage(format!("flow `{}` has no schedule", args.flow)).hint(
                "give one with `--schedule \"0 6 * * *\"`, and `--timezone` if it is not UTC",
            ),
        );
    }
    // their parameters are those of the call, which `--param` overrides
    let without_parameters = |schedule: &Schedule| schedule.clone().parameters(Map::new());
    Ok(union.schedules().iter().map(without_parameters).collect())
}

fn schedule(cron: &str, timezone: Option<&str>) -> Result<Schedule, CommandFailure> {
    let refused = |error: crate::schedule::CronError| {
        CommandFailure::usage(format!("`{cron}` is not a crontab expression"))
            .why(error.to_string())
    };
    let schedule = Schedule::cron(cron).map_err(refused)?;
    let Some(zone) = timezone else {
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

impl From<args::Overlap> for Overlap {
    fn from(overlap: args::Overlap) -> Self {
        match overlap {
            args::Overlap::Queue => Self::Queue,
            args::Overlap::Skip => Self::Skip,
            args::Overlap::Latest => Self::Latest,
            args::Overlap::CancelRunning => Self::CancelRunning,
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
        let finished = done.skipped() + done.different() + done.succeeded() + failed;
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

/// What to do about ticks that have another run.
const DIFFERENT: &str =
    "a tick has one run: use the schedule and the parameters of that run, or leave its date out";

fn report(flow: &str, done: &Backfilled, json: bool) -> CommandResult {
    let (failed, different) = (done.unsuccessful().len(), done.different());
    if json {
        output::json(&BackfillJson { done, failed })?;
    } else {
        print(format_args!("{}\n", summary(done)))?;
        for (reason, ticks) in done.skipped_because() {
            tell(format_args!("  {ticks} skipped: {reason}"));
        }
    }
    for tick in done.unsuccessful().iter().take(NAMED) {
        let run = tick.run.map(|run| run.to_string()).unwrap_or_default();
        let state = tick.state.map(|state| state.as_str()).unwrap_or_default();
        tell(format_args!("  {} {state} {run}", exact(tick.logical_date)));
    }
    for tick in done.different_ticks().iter().take(NAMED) {
        let run = tick.run.map(|run| run.to_string()).unwrap_or_default();
        let difference = tick.difference.as_deref().unwrap_or_default();
        let date = exact(tick.logical_date);
        tell(format_args!("  {date} different {run}: {difference}"));
    }
    let not_listed = different.saturating_sub(NAMED);
    if not_listed > 0 {
        tell(format_args!(
            "  and {} more",
            output::grouped(not_listed as u64)
        ));
    }
    let mut problems = Vec::new();
    if failed > 0 {
        problems.push(format!("{} did not succeed", plural(failed as u64, "run")));
    }
    if different > 0 {
        let ticks = plural(different as u64, "tick");
        problems.push(format!("{ticks} {} another run", have(different)));
    }
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!("of the backfill of `{flow}`, {}", problems.join(", and "));
    let failure = CommandFailure::new(FAILED, what);
    Err(match failed {
        0 => failure.hint(DIFFERENT),
        _ => failure.hint(
            "`why ID` explains each; the same command with `--reprocess failed` re-runs them",
        ),
    })
}

/// Summarizes a backfill: `31 ticks: 30 created, 1 skipped, 30 succeeded, 0 failed`.
fn summary(done: &Backfilled) -> String {
    let mut summary = format!(
        "{}: {} created",
        plural(done.total() as u64, "tick"),
        done.created()
    );
    for (count, word) in [(done.resumed(), "resumed"), (done.reran(), "rerun")] {
        if count > 0 {
            summary.push_str(&format!(", {count} {word}"));
        }
    }
    summary.push_str(&format!(", {} skipped", done.skipped()));
    if done.different() > 0 {
        summary.push_str(&format!(", {} different", done.different()));
    }
    let (succeeded, failed) = (done.succeeded(), done.unsuccessful().len());
    summary.push_str(&format!(", {succeeded} succeeded, {failed} failed"));
    summary
}

/// Returns the verb for a number of ticks.
fn have(ticks: usize) -> &'static str {
    if ticks == 1 { "has" } else { "have" }
}
