//! What the commands for connections, variables and secrets have in common.

use std::io::{self, IsTerminal as _, Read as _};

use super::context::CommandContext;
use super::exit::{CommandFailure, USAGE};
use super::names;
use super::output::{DIM, RED, TableCell, print, tell};
use crate::entry::EntryKind;
use crate::mask;
use crate::runtime::entries::SetEntryError;
use crate::runtime::{EntryInfo, Runtime};
use crate::secret::{Secret, drop_newline};

/// The maximum length of a value, in bytes.
const MOST: u64 = 1 << 20;

/// Returns the runtime to look names up with. Does not create a store.
pub(super) async fn runtime(context: &CommandContext) -> Result<Runtime, CommandFailure> {
    let runtime = context.runtime_if_there().await?;
    Ok(runtime.unwrap_or_else(|| context.bare()))
}

/// Returns the cell of the places.
pub(super) fn places_cell(info: &EntryInfo) -> TableCell {
    match (&info.places[..], &info.problem) {
        ([], None) => TableCell::styled("not found", RED),
        ([], Some(problem)) => TableCell::styled(problem.clone(), RED),
        ([winner], _) => winner.clone().into(),
        ([winner, others @ ..], _) => format!("{winner}; also {}", others.join(", ")).into(),
    }
}

/// Returns the cell of what needs an entry.
pub(super) fn needed_cell(info: &EntryInfo) -> TableCell {
    match info.needed_by.is_empty() {
        true => TableCell::styled("nothing here", DIM),
        false => info.needed_by.join(", ").into(),
    }
}

/// Tells which places could not be asked.
pub(super) fn tell_problems(problems: &[String]) {
    for problem in problems {
        tell(format_args!("not asked: {problem}"));
    }
}

/// Reads a value from standard input, or a hidden one from a terminal. One newline at its end is
/// dropped.
pub(super) fn read_value(what: &str) -> Result<Secret, CommandFailure> {
    if io::stdin().is_terminal() {
        let read = rpassword::prompt_password(format!("{what}: "))?;
        return Ok(read.into());
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(MOST + 1).read_to_string(&mut text);
    if let Err(error) = read {
        let failure = CommandFailure::usage(format!("cannot read {what} from standard input"));
        return Err(failure.why(error.to_string()));
    }
    if text.len() as u64 > MOST {
        return Err(CommandFailure::usage(format!(
            "expected {what} of at most {MOST} bytes"
        )));
    }
    drop_newline(&mut text);
    if text.is_empty() {
        return Err(CommandFailure::usage(format!(
            "expected {what} on standard input, got nothing"
        )));
    }
    Ok(text.into())
}

/// Sets an entry of the store.
pub(super) async fn set(
    context: &CommandContext,
    kind: EntryKind,
    name: &str,
    text: &Secret,
    anyway: bool,
) -> Result<(), CommandFailure> {
    if let Some(problem) = orchestrator_grammar::names::fault(name) {
        return Err(CommandFailure::usage(format!("no {kind} can have this name")).why(problem));
    }
    let runtime = context.runtime().await?;
    let set = runtime.host.set_entry(kind, name, text, anyway).await;
    set.map_err(|error| refused(&format!("{kind} `{name}` is not set"), error))?;
    print(format_args!(
        "{kind} `{name}` is set in {}\n",
        names::store(context)
    ))?;
    if kind == EntryKind::Secret
        && let Some(weakness) = mask::weakness(text.expose())
    {
        tell(format_args!("it is a weak secret: {weakness}"));
    }
    Ok(())
}

/// Returns the failure of a command that sets or seals entries.
pub(super) fn refused(what: &str, error: SetEntryError) -> CommandFailure {
    let why = error.to_string();
    match error {
        SetEntryError::Store(error) => error.into(),
        SetEntryError::Invalid(_) => CommandFailure::usage(what).why(why),
        SetEntryError::Shadowed(_) => CommandFailure::usage(what)
            .why(why)
            .hint("change it there, or set it in the store, too, with `--anyway`"),
        SetEntryError::Off(..) => CommandFailure::new(USAGE, what).why(why).hint(
            "`key new` prints a key: keep it as ORCHESTRATOR_KEY in the environment of all processes, or use the environment or \
             a folder of files instead of the store",
        ),
    }
}

/// Removes an entry from the store.
pub(super) async fn remove(
    context: &CommandContext,
    kind: EntryKind,
    name: &str,
) -> Result<(), CommandFailure> {
    let runtime = context.runtime_if_there().await?;
    let is_removed = match &runtime {
        Some(runtime) => runtime.remove_entry(kind, name).await?,
        None => false,
    };
    if is_removed {
        return print(format_args!(
            "{kind} `{name}` is removed from {}\n",
            names::store(context)
        ));
    }
    let failure = CommandFailure::usage(format!(
        "no {kind} `{name}`{}",
        names::looked_in(context, runtime.is_some())
    ));
    let elsewhere = self::runtime(context).await?.host.entry(kind, name).await;
    Err(match elsewhere.places.first() {
        Some(place) => failure.why(format!("it comes from {place}: remove it there")),
        None => failure,
    })
}
