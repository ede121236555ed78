//! The command line of a program with flows: a file a command.
//!
//! [`args`] is what can be typed; [`exit`] how commands end; [`output`] prints. What commands read comes from the
//! runtime's public side; what they change goes the same ways as in a program: so they work beside a process that
//! serves.

mod args;
mod backfill;
mod cache;
mod cancel;
mod check;
mod completions;
mod context;
mod dates;
mod db;
mod exit;
mod flows;
mod graph;
mod list;
mod logs;
mod names;
mod next;
mod output;
mod parameters;
mod pause;
mod progress;
mod rerun;
mod run;
mod runs;
mod serve;
mod show;
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
use context::Context;
use exit::Done;

/// The command line of a program with flows: what [`cli`] gives. Awaited, it does what was typed, and gives the exit code.
///
/// # Commands
///
/// | command | what it does |
/// | --- | --- |
/// | `flows` | lists the flows: schedule, next tick, last run |
/// | `show FLOW` | docs, parameters with types and defaults, schedules, tasks |
/// | `graph FLOW --format mermaid\|dot\|json` | draws the graph; `--json` is `--format json` |
/// | `run FLOW --param k=v --date … --key …` | runs it now, and prints what it returned as JSON |
/// | `serve [FLOW …]` | serves flows by their schedules |
/// | `backfill FLOW --from … --to …` | makes the runs of a past range of dates |
/// | `runs` | lists runs, by flow, state, kind and date |
/// | `runs show\|logs\|cancel\|rerun ID` | sees to one run |
/// | `why ID [TASK]` | the recorded reasons: why it waits, failed, was skipped, ran again, was cached |
/// | `next FLOW -n 10` | the next ticks, with clock changes marked |
/// | `pause\|resume FLOW` | pauses the schedules of a flow, in all processes: [`Runtime::pause`], [`Runtime::unpause`] |
/// | `cache ls\|explain\|rm` | sees to cached results |
/// | `db check\|prune` | sees to the store |
/// | `check --strict --allow docs,tags` | looks at all flows without running them |
/// | `completions SHELL` | for bash, zsh, fish, PowerShell and Elvish |
///
/// Commands that read take `--json`: one document (`runs logs`: one a line), whose shape each command's `--help` tells.
/// Where the program serves elsewhere, all of this works beside it. Commands that only read make no store. Of an id, the end
/// is enough, as `runs` shows it, and so is the beginning.
///
/// # Exit codes
///
/// | code | meaning |
/// | --- | --- |
/// | 0 | it went well |
/// | 1 | the run failed or was cancelled; the check found something |
/// | 2 | what was typed is wrong: a command, a name, a parameter |
/// | 74 | the store failed |
/// | 75 | stopped by a signal, with runs left: they go on when the program serves again |
/// | 128 + n | cut short by a second signal, of number n |
///
/// An error is a line of what, one of why, and one that begins with `hint:`, on standard error.
#[must_use = "the command line does nothing until it is awaited"]
pub struct Cli {
    runtime: Option<Runtime>,
    serve: Vec<Serve>,
    args: Option<Vec<OsString>>,
}

/// The command line of this program: `main` awaits it.
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
    /// Sets the runtime, with its store, pools and resources: otherwise the [default one](Runtime::default_runtime), which
    /// is made by commands that need it. `--store` names another store for it.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets what is served, beside the flows with a schedule in their attribute. What a flow is given here is what its
    /// parameters are by default, in all commands, and its schedules are those given here. Of a flow that is given more
    /// than once, the first gives the parameters.
    pub fn serve(mut self, flows: impl IntoIterator<Item = Serve>) -> Self {
        self.serve.extend(flows);
        self
    }

    /// Sets what was typed, without the program's name: for tests. Otherwise it is what the process was started with.
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
                let failure = exit::Failure::from(&error);
                output::failure(&failure);
                return ExitCode::from(failure.code);
            }
            Err(help) => {
                // whoever closed the pipe has seen enough
                let _ = help.print();
                return u8::try_from(help.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
            }
        };
        let context = Context {
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

async fn dispatch(context: Context, command: Command) -> Done {
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
        Command::Pause(args) => pause::pause(&context, &args, true).await,
        Command::Resume(args) => pause::pause(&context, &args, false).await,
        Command::Cache(command) => cache::cache(&context, &command).await,
        Command::Db(command) => db::db(&context, &command).await,
        Command::Check(args) => check::check(&context, &args),
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
