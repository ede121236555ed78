//! `conn`: lists, shows, sets, tests and removes connections.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult, FAILED};
use super::output::{self, GREEN, RED, Table, TableCell, print, tell};
use super::{args, entries};
use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::Error;
use crate::runtime::EntryInfo;
use crate::secret::Secret;

/// A connection, in the form of `--json`. It has no secrets.
#[derive(Serialize)]
struct ConnectionJson {
    id: String,
    kind: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    login: Option<String>,
    has_password: bool,
    path: Option<String>,
    options: Map<String, Value>,
    expires_at: Option<DateTime<Utc>>,
    /// The places that have it, the winner first.
    places: Vec<String>,
    needed_by: Vec<String>,
    problem: Option<String>,
}

impl ConnectionJson {
    fn new(info: &EntryInfo) -> Self {
        let connection = info.connection();
        let text = |part: Option<&str>| part.map(str::to_owned);
        Self {
            id: info.name.clone(),
            kind: connection.map(|connection| connection.kind().to_owned()),
            host: text(connection.and_then(Connection::shown_host)),
            port: connection.and_then(Connection::port),
            login: text(connection.and_then(Connection::login)),
            has_password: connection.is_some_and(|connection| connection.password().is_some()),
            path: text(connection.and_then(Connection::shown_path)),
            options: connection.map(options).unwrap_or_default(),
            expires_at: connection.and_then(Connection::expires_at),
            places: info.places.clone(),
            needed_by: info.needed_by.clone(),
            problem: info.problem.clone(),
        }
    }
}

/// Returns the options as they may be shown.
fn options(connection: &Connection) -> Map<String, Value> {
    let shown = |name: &str| connection.shown_option(name).unwrap_or_default().into();
    connection
        .options()
        .map(|name| (name.to_owned(), shown(name)))
        .collect()
}

pub(super) async fn conn(context: &CommandContext, command: &args::Conn) -> CommandResult {
    match command {
        args::Conn::Ls(args) => list(context, args).await,
        args::Conn::Show(args) => show(context, args).await,
        args::Conn::Set(args) => set(context, args).await,
        args::Conn::Test(args) => test(context, args).await,
        args::Conn::Rm(args) => {
            entries::remove(context, EntryKind::Connection, &args.id).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(context: &CommandContext, args: &args::EntryLs) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let (infos, problems) = runtime.host.entries(EntryKind::Connection).await;
    entries::tell_problems(&problems);
    if args.format.json {
        output::json(&infos.iter().map(ConnectionJson::new).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if infos.is_empty() {
        tell("no connections: `conn set ID` sets one in the store");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["ID", "KIND", "HOST", "LOGIN", "FROM", "NEEDED BY"]);
    for info in &infos {
        let connection = ConnectionJson::new(info);
        let kind: TableCell = match (&connection.kind, &connection.problem) {
            (Some(kind), _) => kind.clone().into(),
            (None, Some(_)) if !info.places.is_empty() => TableCell::styled("invalid", RED),
            (None, _) => "".into(),
        };
        let host = connection.host.unwrap_or_default();
        let host = match connection.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        table.row([
            info.name.clone().into(),
            kind,
            host.into(),
            connection.login.unwrap_or_default().into(),
            entries::places_cell(info),
            entries::needed_cell(info),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

async fn show(context: &CommandContext, args: &args::ConnShow) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let info = runtime.host.entry(EntryKind::Connection, &args.id).await;
    if info.places.is_empty() && info.problem.is_none() {
        return Err(
            CommandFailure::usage(format!("no connection `{}`", args.id))
                .hint("`conn ls` lists the connections"),
        );
    }
    let shown = ConnectionJson::new(&info);
    if args.format.json {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare(0);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.into(), value.into()]);
        }
    };
    fact("id", Some(shown.id));
    fact("kind", shown.kind);
    fact("host", shown.host);
    fact("port", shown.port.map(|port| port.to_string()));
    fact("login", shown.login);
    fact("password", shown.has_password.then(|| "***".to_owned()));
    fact("path", shown.path);
    for (name, value) in &shown.options {
        fact(name, value.as_str().map(str::to_owned));
    }
    fact("from", Some(shown.places.join(", ")));
    fact(
        "needed by",
        Some(shown.needed_by.join(", ")).filter(|by| !by.is_empty()),
    );
    fact("problem", shown.problem);
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

async fn set(context: &CommandContext, args: &args::ConnSet) -> CommandResult {
    let text = match &args.url {
        None => entries::read_value(&format!(
            "the URI or JSON object of connection `{}`",
            args.id
        ))?,
        Some(url) => {
            let parsed = Connection::parse(&args.id, url);
            if parsed.is_ok_and(|connection| connection.secrets().next().is_some()) {
                return Err(
                    CommandFailure::usage("expected a URL without secrets as an argument")
                        .why("other users of this machine can see arguments, and shells keep them")
                        .hint(format!(
                            "type `conn set {}` alone, and the URL when asked",
                            args.id
                        )),
                );
            }
            Secret::from(url.as_str())
        }
    };
    entries::set(context, EntryKind::Connection, &args.id, &text, args.anyway).await?;
    Ok(ExitCode::SUCCESS)
}

/// The result of a test, in the form of `--json`.
#[derive(Serialize)]
struct TestJson {
    id: String,
    works: bool,
    problem: Option<String>,
}

async fn test(context: &CommandContext, args: &args::ConnTest) -> CommandResult {
    let runtime = entries::runtime(context).await?;
    let id = &args.id;
    let problem = match runtime.check_connection(id).await {
        Ok(()) => None,
        Err(Error::Connection { problem, .. }) => Some(problem),
        Err(error) => return Err(error.into()),
    };
    let works = problem.is_none();
    if args.format.json {
        let id = id.clone();
        output::json(&TestJson { id, works, problem })?;
    } else {
        match problem {
            None => print(format_args!("{GREEN}connection `{id}` works{GREEN:#}\n"))?,
            Some(problem) => print(format_args!(
                "{RED}connection `{id}` does not work{RED:#}: {problem}\n"
            ))?,
        }
    }
    Ok(match works {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}
