//! The command line of a program with flows, one file per command.
//!
//! [`args`] defines the arguments, [`exit`] the exit codes and error messages, and [`output`]
//! prints. Commands ask the runtime or its host, both to read and to make changes, and never the
//! store: so they work next to a serving process.

mod args;
mod backfill;
mod cache;
mod cancel;
mod check;
mod completions;
mod conn;
mod context;
mod dates;
mod db;
mod deployments;
mod entries;
mod exit;
mod flows;
mod graph;
mod key;
mod list;
mod logs;
mod names;
mod next;
mod output;
mod parameters;
mod pause;
mod progress;
mod rerun;
#[cfg(unix)]
mod row;
mod run;
mod runs;
mod secret;
mod selection;
mod serve;
mod show;
mod var;
mod why;

use std::ffi::OsString;
use std::fmt;
use std::future::IntoFuture;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use futures_util::future::BoxFuture;

use crate::runtime::Runtime;
use crate::scheduler::Serve;
use args::{Arguments, Command, RunsCommand};
use context::CommandContext;
use exit::CommandResult;

/// The command line of a program with flows, created by [`cli`]. Awaiting it executes the command
/// and returns the exit code.
///
/// # Commands
///
/// | command | description |
/// | --- | --- |
/// | `flows` | List the flows: schedule, next tick, last run |
/// | `show FLOW` | Show a flow: description, parameters, schedules and tasks |
/// | `graph FLOW --format mermaid\|dot\|json` | Draw the graph of a flow; `--json` is `--format json` |
/// | `run FLOW --param k=v --date … --key …` | Run a flow now, and print its result as JSON |
/// | `serve [FLOW …]` | Serve flows on their schedules, until SIGTERM or Ctrl-C |
/// | `backfill FLOW --from … --to …` | Create the runs of a past range of dates, each at most once |
/// | `runs` | List runs, newest first; or show, cancel or re-run one |
/// | `runs show\|logs\|cancel\|rerun ID` | Show, cancel or re-run one run, or print its logs |
/// | `why ID [TASK]` | Explain why a run or a task waits, failed, was skipped, re-run or cached |
/// | `next FLOW -n 10` | List the next ticks of a flow's schedules, with clock changes marked |
/// | `deployments ls\|rm` | List the deployments on record, or remove one |
/// | `pause FLOW` | Pause the schedules of a flow, in all serving processes: [`Runtime::pause`] |
/// | `resume FLOW --missed …` | Resume the schedules of a flow, in all serving processes: [`Runtime::unpause`] |
/// | `cache ls\|explain\|rm` | List, explain or remove cached results |
/// | `db check\|prune` | Check or prune the store |
/// | `conn ls\|show\|set\|test\|rm` | List, show, set, test or remove connections |
/// | `var ls\|get\|set\|rm` | List, print, set or remove variables |
/// | `secret ls\|set\|rm` | List, set or remove secrets |
/// | `key new\|rotate` | Print a new key, or seal the connections and secrets of the store anew |
/// | `check --strict --allow docs,tags` | Check all flows without running them |
/// | `completions SHELL` | Print completions for a shell: bash, zsh, fish, PowerShell or Elvish |
///
/// Commands that read take `--json`: one document (`runs logs`: one per line), whose shape `--help`
/// of the command describes. All commands work while the program serves in another process.
/// Commands that only read do not create a store. The end of an id, as `runs` shows it, is enough
/// to name a run, and so is its beginning.
///
/// # Deployments
///
/// `run`, `backfill`, `runs`, `next` and `show` take `--deployment NAME`: see
/// [`Serve::named`](crate::Serve::named). Without it, `run` and `backfill` mean the default
/// deployment if it is on record, if the flow's attribute has a schedule, or if the program serves
/// unnamed schedules; otherwise the only one. What is on record comes before what the program
/// serves, which counts also before it is on record. The parameters are those that the program
/// serves the deployment with, or else those on record; `--param` overrides them.
///
/// # Output
///
/// Standard output has the output of the command and nothing else, so that
/// `my-program run etl | jq` works. The output of tasks, flow bodies and their child processes goes
/// to standard error, from the start of the command to the end of the process. `serve` prints
/// nothing of its own and does not redirect standard output; neither do other commands on Windows.
///
/// If standard error is a terminal, its last row shows the progress of a run, and everything else
/// scrolls above it. On Windows, the output of tasks may appear next to the bar. If the process is
/// killed, the terminal stays without its last row: `reset` restores it.
///
/// # Exit codes
///
/// | code | meaning |
/// | --- | --- |
/// | 0 | success |
/// | 1 | the run failed or was cancelled; a tick of the backfill has another run; the check found problems |
/// | 2 | usage error: a wrong command, name or parameter |
/// | 74 | the store failed |
/// | 75 | stopped by a signal, with runs left: they resume when the program serves again |
/// | 128 + n | terminated by a second signal, number n |
///
/// An error is printed to standard error: one line with what failed, one with the reason, and one
/// that begins with `hint:`.
#[must_use = "the command line does nothing until it is awaited"]
pub struct Cli {
    runtime: Option<Runtime>,
    serve: Vec<Serve>,
    args: Option<Vec<OsString>>,
}

/// Creates the command line of this program, to be awaited in `main`.
///
/// # Examples
///
/// ```no_run
/// use orchestrator::prelude::*;
/// use std::process::ExitCode;
///
/// #[task]
/// async fn count(table: &str) -> u64 { table.len() as u64 }
///
/// /// Counts a table.
/// #[flow(schedule = "0 6 * * *")]
/// fn nightly_table(table: Option<String>) -> Node<u64> { count(table.unwrap_or("orders".into())) }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     orchestrator::cli().await
/// }
/// ```
pub fn cli() -> Cli {
    Cli {
        runtime: None,
        serve: Vec::new(),
        args: None,
    }
}

impl Cli {
    /// Sets the runtime, with its store, pools and resources.
    ///
    /// By default, commands that need a runtime create the [default one](Runtime::default_runtime).
    /// `--store` overrides its store.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets the flows to serve, in addition to those with a schedule in their attribute.
    ///
    /// The schedules given here replace that of the flow's attribute, also if they are
    /// [named](Serve::named). The parameters given here are the defaults of the deployment's runs.
    /// Commands that draw a flow take those of the first deployment given.
    pub fn serve(mut self, flows: impl IntoIterator<Item = Serve>) -> Self {
        self.serve.extend(flows);
        self
    }

    /// Sets the arguments, without the program's name. The default is the arguments of the process;
    /// this method is meant for tests.
    pub fn args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.args = Some(args.into_iter().map(OsString::from).collect());
        self
    }

    async fn act(self) -> ExitCode {
        let program = context::program();
        let typed = self
            .args
            .unwrap_or_else(|| std::env::args_os().skip(1).collect());
        let command = Arguments::command().bin_name(program.clone());
        let matches =
            command.try_get_matches_from(std::iter::once(OsString::from(&program)).chain(typed));
        let Arguments { store, command } = match matches
            .and_then(|matches| Arguments::from_arg_matches(&matches))
        {
            Ok(arguments) => arguments,
            Err(error)
                if error.use_stderr()
                    && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
            {
                let failure = exit::CommandFailure::from(&error);
                output::failure(&failure);
                return ExitCode::from(failure.code);
            }
            Err(help) => {
                // fails if the pipe was closed, which is not an error
                let _ = help.print();
                return u8::try_from(help.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
            }
        };
        // `serve` prints nothing that the output of tasks could get mixed with
        if !matches!(command, Command::Serve(_)) {
            output::keep_for_documents();
        }
        let context = CommandContext {
            runtime: self.runtime,
            store,
            serve: self.serve,
            program,
        };
        match dispatch(context, command).await {
            Ok(code) => code,
            Err(failure) if failure.unread => ExitCode::SUCCESS,
            Err(failure) => {
                output::failure(&failure);
                ExitCode::from(failure.code)
            }
        }
    }
}

async fn dispatch(context: CommandContext, command: Command) -> CommandResult {
    match command {
        Command::Flows(args) => flows::flows(&context, &args).await,
        Command::Show(args) => show::show(&context, &args).await,
        Command::Graph(args) => graph::graph(&context, &args),
        Command::Run(args) => run::run(&context, &args).await,
        Command::Serve(args) => serve::serve(context, &args).await,
        Command::Backfill(args) => backfill::backfill(&context, &args).await,
        Command::Runs(args) => match args.command {
            None => list::list(&context, &args.list).await,
            Some(RunsCommand::Show(args)) => runs::show(&context, &args).await,
            Some(RunsCommand::Logs(args)) => logs::logs(&context, &args).await,
            Some(RunsCommand::Cancel(args)) => cancel::cancel(&context, &args).await,
            Some(RunsCommand::Rerun(args)) => rerun::rerun(&context, &args).await,
        },
        Command::Why(args) => why::why(&context, &args).await,
        Command::Next(args) => next::next(&context, &args).await,
        Command::Deployments(command) => deployments::deployments(&context, &command).await,
        Command::Pause(args) => pause::pause(&context, &args).await,
        Command::Resume(args) => pause::resume(&context, &args).await,
        Command::Cache(command) => cache::cache(&context, &command).await,
        Command::Db(command) => db::db(&context, &command).await,
        Command::Conn(command) => conn::conn(&context, &command).await,
        Command::Var(command) => var::var(&context, &command).await,
        Command::Secret(command) => secret::secret(&context, &command).await,
        Command::Key(command) => key::key(&context, &command).await,
        Command::Check(args) => check::check(context, &args).await,
        Command::Completions(args) => completions::completions(&context, &args),
    }
}

impl IntoFuture for Cli {
    type Output = ExitCode;
    type IntoFuture = BoxFuture<'static, ExitCode>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.act())
    }
}

impl fmt::Debug for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cli")
            .field("serve", &self.serve)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}
