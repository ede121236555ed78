//! What can be typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use super::exit;
use crate::log::LogLevel;

/// The flows of this program: run them, serve them, and see what became of them.
#[derive(Debug, Parser)]
#[command(
    name = "flows",
    max_term_width = 120,
    after_help = exit::HELP,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    /// Where runs are kept: `sqlite:PATH` or `memory`; otherwise the program's own choice, ORCHESTRATOR_STORE, or
    /// `sqlite:.orchestrator/state.db`
    #[arg(long, global = true, value_name = "URL", display_order = 900)]
    pub(super) store: Option<String>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the flows: schedule, next tick, last run
    Flows(Flows),
    /// Shows a flow: what it says of itself, its parameters, schedules and tasks
    Show(Show),
    /// Draws the graph of a flow
    Graph(Graph),
    /// Runs a flow now, and prints what it returned as JSON
    Run(Run),
    /// Serves flows by their schedules, until SIGTERM or SIGINT
    Serve(Serve),
    /// Makes the runs of a past range of dates, each at most once
    Backfill(Backfill),
    /// Lists runs, the latest first; or shows one, cancels it, runs it again
    Runs(Runs),
    /// Says why a run, or a task of it, waits, failed, was skipped, ran again, or was cached
    Why(Why),
    /// Lists the next ticks of a flow's schedules
    Next(Next),
    /// Pauses the schedules of a flow, in all processes that serve it
    Pause(OneFlow),
    /// Lets the schedules of a flow go on; in a program that is `Runtime::unpause`
    #[command(visible_alias = "unpause")]
    Resume(OneFlow),
    /// Lists, explains and removes cached results
    #[command(subcommand)]
    Cache(Cache),
    /// Looks at the store as a whole, and tidies it up
    #[command(subcommand)]
    Db(Db),
    /// Checks all flows without running them
    Check(Check),
    /// Prints what a shell needs to complete what is typed
    Completions(Completions),
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Format {
    /// Prints one JSON document instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// What a flow is given.
#[derive(Clone, Debug, Args)]
pub(super) struct Parameters {
    /// Sets a parameter of the flow. The value is JSON; what is none, or none of the parameter's type, is text
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(super) parameters: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct OneFlow {
    /// The flow's name
    pub(super) flow: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {name, description, tags, schedules, paused, next, last_run: {id, state, logical_date}, \
    file, line}; `next` and `last_run` may be null."
)]
pub(super) struct Flows {
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {name, description, tags, crate_name, module, file, line, is_async, parameters: [{name, type, \
    required, default}], resources, schedules: [{text, cron, timezone, parameters}], paused, \
    max_active_runs, timeout_seconds, tasks: [{key, mapped, flow, trigger, description, tags}]}; `cron` is null where a schedule has no \
    expression, `tasks` where they are not known before a run."
)]
pub(super) struct Show {
    /// The flow's name
    pub(super) flow: String,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {flow, nodes: [{key, mapped, flow, trigger, description, tags}], edges: [{from, to, \
    parameter}]}; `from` and `to` are keys, `parameter` is null where a task only waits."
)]
pub(super) struct Graph {
    /// The flow's name
    pub(super) flow: String,
    /// The language of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(super) format: GraphFormat,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) parameters: Parameters,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum GraphFormat {
    /// For Mermaid
    Mermaid,
    /// For Graphviz
    Dot,
    /// For programs: nodes and edges
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The flow's name
    pub(super) flow: String,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    /// What the run is for: a day (`2026-01-31`: that day's tick of the flow's schedule, or the day itself where there is
    /// none), or an instant (`2026-01-31T05:00`, in the schedule's zone, or with an offset)
    #[arg(long, value_name = "DATE")]
    pub(super) date: Option<String>,
    /// There is one run for each flow and key: asked for again, it is the same one
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Leaves the run to a process that serves, and prints its id
    #[arg(long)]
    pub(super) detach: bool,
    /// Computes anew what is cached
    #[arg(long)]
    pub(super) refresh_cache: bool,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The flows; all that have a schedule, where none is named
    #[arg(value_name = "FLOW")]
    pub(super) flows: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {total, created, resumed, reran, skipped, skipped_because, running, succeeded, failed, \
    unsuccessful: [tick]}, where `skipped_because` has how many for each reason; with `--dry-run` an array of ticks: {logical_date, action, reason, run, state}."
)]
pub(super) struct Backfill {
    /// The flow's name
    pub(super) flow: String,
    /// The first day
    #[arg(long, value_name = "DATE")]
    pub(super) from: NaiveDate,
    /// The last day, which is included
    #[arg(long, value_name = "DATE")]
    pub(super) to: NaiveDate,
    /// By which ticks, instead of those of the flow's schedule
    #[arg(long, value_name = "CRON")]
    pub(super) schedule: Option<String>,
    /// The zone of `--schedule`
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    pub(super) timezone: Option<String>,
    /// Which ticks run again that have a run
    #[arg(long, value_enum, default_value_t = Reprocess::None)]
    pub(super) reprocess: Reprocess,
    /// How many runs are under way at once; otherwise the flow's own `max_active_runs`, or 10
    #[arg(long, value_name = "N")]
    pub(super) max_active_runs: Option<u32>,
    /// Begins with the latest tick
    #[arg(long)]
    pub(super) newest_first: bool,
    /// Says what would be done, and does nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Reprocess {
    /// None
    None,
    /// Those whose run failed or was cancelled
    Failed,
    /// All
    All,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {id, flow, kind, key, state, logical_date, interval: {start, end}, parameters, created_at, \
    started_at, finished_at, error}. Without it, RUN is the end of an id, which all commands take for it, and AGE the time \
    since the run was accepted, by which the list is sorted."
)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Runs {
    #[command(subcommand)]
    pub(super) command: Option<RunsCommand>,
    #[command(flatten)]
    pub(super) list: RunsList,
}

#[derive(Debug, Args)]
pub(super) struct RunsList {
    /// Only those of a flow
    #[arg(long)]
    pub(super) flow: Option<String>,
    /// Only those in a state, or in one of several: `failed,cancelled`
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) state: Vec<State>,
    /// Only those of a kind, or of one of several
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) kind: Vec<Kind>,
    /// Only those for this day or instant, or a later one; without an offset in the zone of `--flow`'s schedule, or else
    /// in UTC
    #[arg(long, value_name = "DATE")]
    pub(super) since: Option<String>,
    /// Only those for this day or instant, or an earlier one
    #[arg(long, value_name = "DATE")]
    pub(super) until: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    pub(super) limit: NonZeroUsize,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum State {
    Pending,
    Running,
    Success,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    Manual,
    Scheduled,
    Backfill,
}

#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// Shows a run and its tasks
    Show(RunsShow),
    /// Prints what the tasks of a run logged
    Logs(RunsLogs),
    /// Asks for the ends of runs, whichever process executes them
    Cancel(RunsCancel),
    /// Runs tasks of a run again that is final
    Rerun(RunsRerun),
}

#[derive(Debug, Args)]
pub(super) struct OneRun {
    /// The run's id, or at least 4 characters of its beginning, or of its end as `runs` shows it
    #[arg(value_name = "ID")]
    pub(super) run: String,
}

#[derive(Debug, Args)]
#[group(required = true)]
pub(super) struct RunsCancel {
    /// The runs' ids, or of each at least 4 characters of its beginning, or of its end as `runs` shows it
    #[arg(value_name = "ID", conflicts_with_all = ["flow", "kind"])]
    pub(super) runs: Vec<String>,
    /// All of a flow that are not final
    #[arg(long)]
    pub(super) flow: Option<String>,
    /// All of a kind that are not final; with `--flow`, those of that flow
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) kind: Vec<Kind>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: that of `runs` for one run, and {output, pruned, reruns: [{at, what}], tasks: [{key, state, attempts, \
    crashes, started_at, finished_at, next_attempt_at, cached_from, error}]}; with `--attempts` also {attempts: [{key, \
    number, state, started_at, finished_at, error}]}. There, no elements are left out."
)]
pub(super) struct RunsShow {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// Shows each attempt, too: TOOK of a task is its last one's
    #[arg(long)]
    pub(super) attempts: bool,
    /// Shows each element of mappings, of which only the first that are no success are listed otherwise
    #[arg(long)]
    pub(super) all: bool,
    /// Only a task, with each of its elements
    #[arg(long, value_name = "KEY")]
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: a document a line: {number, at, level, target, message, fields, run, task, attempt, map_index}."
)]
pub(super) struct RunsLogs {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// Only those of a task, and of its elements
    #[arg(long, value_name = "KEY")]
    pub(super) task: Option<String>,
    /// Only those of this level, or a graver one
    #[arg(long, value_enum, default_value_t = Level::Trace)]
    pub(super) level: Level,
    /// Goes on until the run is final
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Prints each line as a JSON document of its own
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct RunsRerun {
    #[command(flatten)]
    pub(super) run: OneRun,
    #[command(flatten)]
    pub(super) what: RerunWhat,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct RerunWhat {
    /// What failed, and what hangs on it: the default
    #[arg(long)]
    pub(super) failed: bool,
    /// All of it
    #[arg(long)]
    pub(super) all: bool,
    /// A task, and what hangs on it
    #[arg(long, value_name = "TASK")]
    pub(super) from: Option<String>,
    /// A task alone
    #[arg(long, value_name = "TASK")]
    pub(super) only: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {run, task, state, reasons: [{kind, text}], causes: [the same again]}; `task` is null for the run as a \
    whole."
)]
pub(super) struct Why {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// The task's key, as `score` or `score[7]`; the run as a whole, where none is given
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {at, local, timezone, schedule, clock_change}; `clock_change` is null where the clocks do \
    nothing."
)]
pub(super) struct Next {
    /// The flow's name
    pub(super) flow: String,
    /// How many ticks: at most 10,000
    #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) ticks: u16,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Lists cached results
    Ls(CacheLs),
    /// Says why the result of a task in a run was cached, or not
    Explain(CacheExplain),
    /// Removes cached results
    Rm(CacheRm),
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: an array of {key, task, inputs, run, created_at, expires_at, size}.")]
pub(super) struct CacheLs {
    /// Only those of a task
    #[arg(long)]
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {run, task, cache: hit|miss|none, reason, from_run, computed_at, key, no_entry, others: \
    [{differs_in: code|inputs, and what `cache ls` shows}]}."
)]
pub(super) struct CacheExplain {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// The task's key, as `score` or `score[7]`
    pub(super) task: String,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct CacheRm {
    /// That of a key, or of the beginning of one
    pub(super) key: Option<String>,
    /// Those of a task
    #[arg(long)]
    pub(super) task: Option<String>,
    /// Those that have expired
    #[arg(long)]
    pub(super) expired: bool,
    /// All
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Reads the whole store, and says whether it is sound
    Check(DbCheck),
    /// Deletes what is too old to be kept
    Prune(DbPrune),
}

#[derive(Debug, Args)]
pub(super) struct DbPrune {
    /// Of runs that ended longer ago than this (`7d`, `12h`), what is known of their tasks; by default what the program's
    /// runtime is told to keep, or 30 days. What is cached goes by its own age and size
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) older_than: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: {store, schema, size, counts, problems}.")]
pub(super) struct DbCheck {
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {severity: error|warning, kind: flow|pool|docs|tags, flow, task, problem, place}."
)]
pub(super) struct Check {
    /// Fails where there are warnings, too: of the kinds that are not allowed
    #[arg(long)]
    pub(super) strict: bool,
    /// Says nothing of warnings of these kinds
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub(super) allow: Vec<Finding>,
    #[command(flatten)]
    pub(super) format: Format,
}

/// What `check` finds something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finding {
    /// What keeps a flow from running: this is an error, and never allowed
    #[value(skip)]
    Flow,
    /// Pools of tasks that the runtime lacks
    Pool,
    /// Flows and tasks without docs
    Docs,
    /// Flows without tags
    Tags,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
    /// The file that it is written to, instead of being printed
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn what_can_be_typed_is_without_contradictions() {
        Arguments::command().debug_assert();
    }
}
