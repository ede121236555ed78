//! The arguments of the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use super::exit;
use crate::log::LogLevel;

/// Run, serve and inspect the flows of this program.
#[derive(Debug, Parser)]
#[command(
    name = "flows",
    max_term_width = 120,
    after_help = exit::HELP,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    /// Store of the runs: `sqlite:PATH` or `memory`; by default the program's own choice,
    /// ORCHESTRATOR_STORE, or `sqlite:.orchestrator/state.db`
    #[arg(long, global = true, value_name = "URL", display_order = 900)]
    pub(super) store: Option<String>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the flows: schedule, next tick, last run
    Flows(Flows),
    /// Show a flow: description, parameters, schedules and tasks
    Show(Show),
    /// Draw the graph of a flow
    Graph(Graph),
    /// Run a flow now, and print its result as JSON
    Run(Run),
    /// Serve flows on their schedules, until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Create the runs of a past range of dates, each at most once
    Backfill(Backfill),
    /// List runs, newest first; or show, cancel or re-run one
    Runs(Runs),
    /// Explain why a run or a task waits, failed, was skipped, re-run or cached
    Why(Why),
    /// List the next ticks of a flow's schedules
    Next(Next),
    /// List the deployments on record, or remove one
    #[command(subcommand)]
    Deployments(Deployments),
    /// Pause the schedules of a flow, in all serving processes
    Pause(Pause),
    /// Resume the schedules of a flow, in all serving processes
    ///
    /// In a program, this is `Runtime::unpause`.
    #[command(visible_alias = "unpause")]
    Resume(Resume),
    /// List, explain or remove cached results
    #[command(subcommand)]
    Cache(Cache),
    /// Check or prune the store
    #[command(subcommand)]
    Db(Db),
    /// List, show, set, test or remove connections
    #[command(subcommand)]
    Conn(Conn),
    /// List, print, set or remove variables
    #[command(subcommand)]
    Var(Var),
    /// List, set or remove secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Print a new key, or seal the connections and secrets of the store anew
    #[command(subcommand)]
    Key(Key),
    /// Check all flows without running them
    Check(Check),
    /// Print completions for a shell
    Completions(Completions),
}

/// The format of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Format {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// The parameters of a flow.
#[derive(Clone, Debug, Args)]
pub(super) struct Parameters {
    /// Set a parameter of the flow; a value that is not JSON of the parameter's type is taken as
    /// text
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(super) parameters: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Pause {
    /// Name of the flow
    pub(super) flow: String,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Name of the flow
    pub(super) flow: String,
    /// Which of the ticks that it missed until now get a run; by default, each serving process
    /// decides by its own policy
    #[arg(long, value_enum)]
    pub(super) missed: Option<MissedTicks>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MissedTicks {
    /// No tick
    None,
    /// The latest tick
    Latest,
    /// Each tick, the oldest first
    All,
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
    required, default}], resources, requirements: [{kind, name, tasks}], schedules: [{deployment, text, cron, timezone, parameters}], deployments: [{flow, name, \
    schedules, parameters, since, decided, next, unreadable}], paused, \
    max_active_runs, timeout_seconds, tasks: [{key, mapped, flow, trigger, description, tags, requirements: [{kind, name}]}]}; `deployment` and `name` \
    are null for the default deployment, `cron` if a schedule has no expression, `tasks` if they are not known before a \
    run; `deployments` are those on record, as `deployments ls` lists them."
)]
pub(super) struct Show {
    /// Name of the flow
    pub(super) flow: String,
    /// Show only this deployment's schedules, and its parameters
    #[arg(long, value_name = "NAME")]
    pub(super) deployment: Option<String>,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {flow, nodes: [{key, mapped, flow, trigger, description, tags, requirements: [{kind, name}]}], edges: [{from, to, \
    parameter}]}; `from` and `to` are keys, `parameter` is null if a task only waits."
)]
pub(super) struct Graph {
    /// Name of the flow
    pub(super) flow: String,
    /// Language of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(super) format: GraphFormat,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) parameters: Parameters,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum GraphFormat {
    /// Mermaid
    Mermaid,
    /// Graphviz
    Dot,
    /// Nodes and edges, for programs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Name of the flow
    pub(super) flow: String,
    /// Deployment that the run belongs to; by default the default one, or the only one. Its
    /// parameters are the defaults
    #[arg(long, value_name = "NAME")]
    pub(super) deployment: Option<String>,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    /// Logical date of the run: a day (`2026-01-31`: that day's tick of the deployment's schedules,
    /// or the day itself if it has no schedules), or an instant (`2026-01-31T05:00`, in the zone of
    /// the schedules, or with an offset). The interval is that of the tick, or the last complete one
    #[arg(long, value_name = "DATE")]
    pub(super) date: Option<String>,
    /// Key of the run; if the flow already has a run with this key, that run is used
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Leave the run to a serving process, and print its id
    #[arg(long)]
    pub(super) detach: bool,
    /// Recompute cached results
    #[arg(long)]
    pub(super) refresh_cache: bool,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Flows to serve; by default all that have a schedule
    #[arg(value_name = "FLOW")]
    pub(super) flows: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {total, created, resumed, reran, skipped, skipped_because, different: [tick], running, succeeded, \
    failed, unsuccessful: [tick]}, where `skipped_because` counts the skipped ticks by reason, and `different` has those \
    that have another run; with `--dry-run` an array of ticks: {logical_date, action, reason, difference, run, state, \
    manual}. `difference` says what differs, and `manual` is a manual run for the same date that succeeded."
)]
pub(super) struct Backfill {
    /// Name of the flow
    pub(super) flow: String,
    /// First day
    #[arg(long, value_name = "DATE")]
    pub(super) from: NaiveDate,
    /// Last day, inclusive
    #[arg(long, value_name = "DATE")]
    pub(super) to: NaiveDate,
    /// Deployment that the runs belong to; by default the default one, or the only one
    #[arg(long, value_name = "NAME")]
    pub(super) deployment: Option<String>,
    /// Schedule to backfill, instead of those of the deployment
    #[arg(long, value_name = "CRON")]
    pub(super) schedule: Option<String>,
    /// Time zone of `--schedule`
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    pub(super) timezone: Option<String>,
    /// Which existing runs to re-run
    #[arg(long, value_enum, default_value_t = Reprocess::None)]
    pub(super) reprocess: Reprocess,
    /// Maximum number of active runs; by default the flow's own `max_active_runs`, or 10
    #[arg(long, value_name = "N")]
    pub(super) max_active_runs: Option<u32>,
    /// What happens to a tick while that many runs are active
    #[arg(long, value_enum, default_value_t = Overlap::Queue)]
    pub(super) overlap: Overlap,
    /// Take a tick as done if a manual run for the same date, with the same interval and
    /// parameters, succeeded
    #[arg(long)]
    pub(super) adopt_manual: bool,
    /// Run the newest ticks first
    #[arg(long)]
    pub(super) newest_first: bool,
    /// Print what would be done, without doing it
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) parameters: Parameters,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Reprocess {
    /// No run
    None,
    /// Runs that failed or were cancelled
    Failed,
    /// All existing runs
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Overlap {
    /// It waits until a run has ended
    Queue,
    /// It gets no run
    Skip,
    /// It gets no run, unless it is the last one, which waits
    Latest,
    /// The oldest active run is cancelled
    CancelRunning,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {id, flow, kind, deployment, key, state, logical_date, interval: {start, end}, parameters, created_at, \
    started_at, finished_at, error, unreadable}; `deployment` is null for the default one. Without `--json`, RUN is the end of the id, which all commands accept in its place, and AGE the time \
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
    /// Only runs of this flow
    #[arg(long)]
    pub(super) flow: Option<String>,
    /// Only runs of the deployment with this name
    #[arg(long, value_name = "NAME")]
    pub(super) deployment: Option<String>,
    /// Only runs in this state, or in one of several: `failed,cancelled`
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) state: Vec<StateFilter>,
    /// Only runs of this kind, or of one of several
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) kind: Vec<KindFilter>,
    /// Only runs for this day or instant, or a later one; without an offset, in the time zone of
    /// `--flow`'s schedule, or else in UTC
    #[arg(long, value_name = "DATE")]
    pub(super) since: Option<String>,
    /// Only runs for this day or instant, or an earlier one
    #[arg(long, value_name = "DATE")]
    pub(super) until: Option<String>,
    /// Maximum number of runs
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    pub(super) limit: NonZeroUsize,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StateFilter {
    Pending,
    Running,
    Success,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KindFilter {
    Manual,
    Scheduled,
    Backfill,
}

#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// Show a run and its tasks
    Show(RunsShow),
    /// Print the logs of a run
    Logs(RunsLogs),
    /// Cancel runs, whichever process executes them
    Cancel(RunsCancel),
    /// Re-run tasks of a finished run
    Rerun(RunsRerun),
}

#[derive(Debug, Args)]
pub(super) struct OneRun {
    /// Id of the run, or at least 4 characters of its beginning, or of its end as `runs` shows it
    #[arg(value_name = "ID")]
    pub(super) run: String,
}

#[derive(Debug, Args)]
#[group(required = true)]
pub(super) struct RunsCancel {
    /// Ids of the runs, or at least 4 characters of their beginnings, or of their ends as `runs`
    /// shows them
    #[arg(value_name = "ID", conflicts_with_all = ["flow", "kind"])]
    pub(super) runs: Vec<String>,
    /// Cancel all unfinished runs of this flow
    #[arg(long)]
    pub(super) flow: Option<String>,
    /// Cancel all unfinished runs of this kind; with `--flow`, only those of that flow
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) kind: Vec<KindFilter>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: that of `runs` for one run, and {output, pruned, reruns: [{at, what}], tasks: [{key, state, attempts, \
    crashes, started_at, finished_at, next_attempt_at, cached_from, error}]}; with `--attempts` also {attempts: [{key, \
    number, state, started_at, finished_at, error}]}. With `--json`, no elements are left out."
)]
pub(super) struct RunsShow {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// Show each attempt, too; TOOK of a task is that of its last attempt
    #[arg(long)]
    pub(super) attempts: bool,
    /// Show each element of mappings; by default only the first ones that did not succeed are
    /// listed
    #[arg(long)]
    pub(super) all: bool,
    /// Only this task, with each of its elements
    #[arg(long, value_name = "KEY")]
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: a document per line: {number, at, level, target, message, fields, run, task, attempt, map_index}."
)]
pub(super) struct RunsLogs {
    #[command(flatten)]
    pub(super) run: OneRun,
    /// Only lines of this task and of its elements
    #[arg(long, value_name = "KEY")]
    pub(super) task: Option<String>,
    /// Only lines of this level or a more severe one
    #[arg(long, value_enum, default_value_t = Level::Trace)]
    pub(super) level: Level,
    /// Follow the logs until the run has finished
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Print each line as a JSON document of its own
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
    /// Re-run the failed tasks and everything downstream of them (default)
    #[arg(long)]
    pub(super) failed: bool,
    /// Re-run all tasks
    #[arg(long)]
    pub(super) all: bool,
    /// Re-run this task and everything downstream of it
    #[arg(long, value_name = "TASK")]
    pub(super) from: Option<String>,
    /// Re-run this task alone
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
    /// Key of the task, such as `score` or `score[7]`; by default the run as a whole is explained
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {at, local, timezone, deployment, schedule, clock_change}; `deployment` is null for the \
    default one, `clock_change` if the clocks do not change."
)]
pub(super) struct Next {
    /// Name of the flow
    pub(super) flow: String,
    /// Only ticks of this deployment
    #[arg(long, value_name = "NAME")]
    pub(super) deployment: Option<String>,
    /// Number of ticks, at most 10,000
    #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) ticks: u16,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Deployments {
    /// List the deployments on record, with what is in force for each
    Ls(DeploymentsLs),
    /// Remove a deployment from the record; its runs are kept
    ///
    /// Manual runs no longer belong to it. If it is served again, it is new: it has missed nothing.
    /// A process that serves it creates no more runs of it until it serves it anew.
    Rm(DeploymentsRm),
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {flow, name, schedules, parameters, since, decided, next, unreadable}; `name` is null for \
    the default deployment. `since` tells when the schedules and parameters came into force, `decided` up to when each \
    tick has its run or will have none, `unreadable` why the record cannot be read, if so."
)]
pub(super) struct DeploymentsLs {
    /// Only deployments of this flow
    pub(super) flow: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct DeploymentsRm {
    /// Name of the flow
    pub(super) flow: String,
    /// Name of the deployment; by default the default one
    pub(super) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// List cached results
    Ls(CacheLs),
    /// Explain why the result of a task in a run was cached, or not
    Explain(CacheExplain),
    /// Remove cached results
    Rm(CacheRm),
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: an array of {key, task, inputs, run, created_at, expires_at, size}.")]
pub(super) struct CacheLs {
    /// Only results of this task
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
    /// Key of the task, such as `score` or `score[7]`
    pub(super) task: String,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct CacheRm {
    /// Remove the result with this key, or with a key that begins with it
    pub(super) key: Option<String>,
    /// Remove the results of this task
    #[arg(long)]
    pub(super) task: Option<String>,
    /// Remove expired results
    #[arg(long)]
    pub(super) expired: bool,
    /// Remove all cached results
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Read the whole store, and check that it is intact
    Check(DbCheck),
    /// Delete old records
    Prune(DbPrune),
}

#[derive(Debug, Args)]
pub(super) struct DbPrune {
    /// Delete the task records of runs that finished longer ago than this (`7d`, `12h`); the
    /// default is the retention of the program's runtime, or 30 days. Cached results are pruned by
    /// their own age and size
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) older_than: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: {store, schema, size, counts, problems, unreadable_runs}.")]
pub(super) struct DbCheck {
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: an array of {severity: error|warning, kind: flow|pool|docs|tags, flow, task, problem, place}."
)]
pub(super) struct Check {
    /// Fail on warnings, too, unless their kind is allowed
    #[arg(long)]
    pub(super) strict: bool,
    /// Ignore warnings of these kinds
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub(super) allow: Vec<FindingKind>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Conn {
    /// List the connections: where each comes from, and what needs it
    #[command(
        after_help = "JSON: an array of {id, kind, host, port, login, has_password, path, options, expires_at, places, \
        needed_by, problem}; secrets are never shown, `places` has the one that counts first."
    )]
    Ls(EntryLs),
    /// Show a connection, without its secrets
    Show(ConnShow),
    /// Set a connection in the store
    ///
    /// It is read from standard input, or asked for on a terminal: a URI such as
    /// `postgres://login:password@host:5432/database?option=value`, or a JSON object.
    Set(ConnSet),
    /// Connect, and check whether the service answers
    Test(ConnTest),
    /// Remove a connection from the store
    Rm(ConnRm),
}

/// The options of commands that list names.
#[derive(Debug, Args)]
pub(super) struct EntryLs {
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "JSON: {id, kind, host, port, login, has_password, path, options, expires_at, places, needed_by, problem}."
)]
pub(super) struct ConnShow {
    /// Id of the connection
    pub(super) id: String,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct ConnSet {
    /// Id of the connection
    pub(super) id: String,
    /// Connection without secrets; one with secrets is read from standard input
    pub(super) url: Option<String>,
    /// Set it even if the environment of this process has it, which comes first
    #[arg(long)]
    pub(super) anyway: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: {id, works, problem}.")]
pub(super) struct ConnTest {
    /// Id of the connection
    pub(super) id: String,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct ConnRm {
    /// Id of the connection
    pub(super) id: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Var {
    /// List the variables: where each comes from, and what needs it
    #[command(
        after_help = "JSON: an array of {name, value, places, needed_by}; `places` has the one that counts first."
    )]
    Ls(EntryLs),
    /// Print the value of a variable
    Get(VarGet),
    /// Set a variable in the store
    Set(VarSet),
    /// Remove a variable from the store
    Rm(NamedEntry),
}

#[derive(Debug, Args)]
#[command(after_help = "JSON: {name, value, places, needed_by}.")]
pub(super) struct VarGet {
    /// Name of the variable
    pub(super) name: String,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct VarSet {
    /// Name of the variable
    pub(super) name: String,
    /// Value, as text or JSON; read from standard input if it is left out
    pub(super) value: Option<String>,
    /// Set it even if the environment of this process has it, which comes first
    #[arg(long)]
    pub(super) anyway: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// List the secrets: where each comes from, and what needs it
    #[command(
        after_help = "JSON: an array of {name, places, needed_by}; `places` has the one that counts first."
    )]
    Ls(EntryLs),
    /// Set a secret in the store
    ///
    /// It is read from standard input, or asked for on a terminal; never an argument, which other
    /// users of the machine could see.
    Set(SecretSet),
    /// Remove a secret from the store
    Rm(NamedEntry),
}

#[derive(Debug, Args)]
pub(super) struct SecretSet {
    /// Name of the secret
    pub(super) name: String,
    /// Set it even if the environment of this process has it, which comes first
    #[arg(long)]
    pub(super) anyway: bool,
}

#[derive(Debug, Args)]
pub(super) struct NamedEntry {
    /// Name of the entry
    pub(super) name: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Print a new key, for the variable ORCHESTRATOR_KEY
    New,
    /// Seal the connections and secrets of the store anew, with the first of several keys
    ///
    /// To change the key: put the new one before the old one in ORCHESTRATOR_KEY, separated by a comma,
    /// in all processes; run this; then take the old one away.
    Rotate,
}

/// The kinds of findings of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum FindingKind {
    /// Problems that keep a flow from running: these are errors, and never allowed
    #[value(skip)]
    Flow,
    /// Pools that tasks need and the runtime lacks
    Pool,
    /// Connections, variables and secrets that tasks need and that are not found
    Requirement,
    /// Secrets that are too weak to be masked in logs and errors
    Secret,
    /// Flows and tasks without docs
    Docs,
    /// Flows without tags
    Tags,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell to complete for
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
    /// File to write to, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn command_line_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
