//! The program's runtime, its flows, and how it serves them.

use std::path::Path;
use std::sync::Arc;

use super::exit::CommandFailure;
use super::{names, parameters};
use crate::error::StoreError;
use crate::flow::{FlowCall, FlowDef, registry};
use crate::runtime::{Runtime, default_store};
use crate::schedule::Schedule;
use crate::scheduler::Serve;
use crate::store;

/// The context of a command: the program's own settings and `--store`.
#[derive(Debug)]
pub(super) struct CommandContext {
    pub(super) runtime: Option<Runtime>,
    /// The value of `--store`.
    pub(super) store: Option<String>,
    pub(super) serve: Vec<Serve>,
    /// The program's name.
    pub(super) program: String,
}

/// A flow, with the ways in which the program serves it.
#[derive(Clone, Debug)]
pub(super) struct ProgramFlow<'a> {
    pub(super) definition: &'static FlowDef,
    pub(super) serve: Vec<&'a Serve>,
}

impl CommandContext {
    /// Returns the runtime on its store, which is created if it does not exist.
    pub(super) async fn runtime(&self) -> Result<Runtime, CommandFailure> {
        match (&self.store, self.given()) {
            (None, Some(given)) => Ok(given.clone()),
            // not the shared default runtime: this one's store is closed when the command ends
            (None, None) => Ok(Runtime::builder().build().await?),
            (Some(url), None) => Ok(Runtime::builder().store(url).build().await?),
            (Some(url), Some(given)) => Ok(given.on_store(url).await?),
        }
    }

    /// Returns the runtime if its store exists.
    pub(super) async fn runtime_if_there(&self) -> Result<Option<Runtime>, CommandFailure> {
        let there = self.url()?.is_none_or(|url| store::exists(&url));
        if there {
            self.runtime().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Returns the store's URL, or `None` if the program has set a runtime, which is on a store
    /// already.
    pub(super) fn url(&self) -> Result<Option<String>, StoreError> {
        match (&self.store, self.given()) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(_)) => Ok(None),
            (None, None) => default_store().map(Some),
        }
    }

    /// Returns a runtime for questions that do not need the store: limits, resources, the time.
    pub(super) fn bare(&self) -> Runtime {
        self.given()
            .unwrap_or_else(|| Runtime::of_loose_tasks())
            .clone()
    }

    /// Returns the runtime, and the program's served flows on it.
    pub(super) async fn served(&mut self) -> Result<(Runtime, Vec<Serve>), CommandFailure> {
        let (runtime, given) = (self.runtime().await?, self.given().cloned());
        let mut serves = std::mem::take(&mut self.serve);
        if let Some(given) = given {
            serves
                .iter_mut()
                .for_each(|serve| serve.move_to(&given, &runtime));
        }
        Ok((runtime, serves))
    }

    fn given(&self) -> Option<&Runtime> {
        self.runtime
            .as_ref()
            .or_else(|| self.serve.iter().find_map(Serve::host))
    }

    /// Returns the flow with a name.
    pub(super) fn flow(&self, name: &str) -> Result<ProgramFlow<'_>, CommandFailure> {
        names::flow(name).map(|definition| self.known(definition))
    }

    /// Returns all flows, sorted by name.
    pub(super) fn flows(&self) -> Vec<ProgramFlow<'_>> {
        let mut flows: Vec<ProgramFlow<'_>> =
            registry::flows().map(|flow| self.known(flow)).collect();
        flows.sort_by_key(|flow| {
            (
                flow.definition.name,
                flow.definition.file,
                flow.definition.line,
            )
        });
        flows
    }

    fn known(&self, definition: &'static FlowDef) -> ProgramFlow<'_> {
        let serves = |serve: &&Serve| std::ptr::eq(serve.call().definition, definition);
        ProgramFlow {
            definition,
            serve: self.serve.iter().filter(serves).collect(),
        }
    }
}

impl ProgramFlow<'_> {
    /// Returns the schedules on which the program serves the flow, or else that of its attribute.
    pub(super) fn schedules(&self) -> Vec<Schedule> {
        match self.serve.is_empty() {
            true => Schedule::of_flow(self.definition)
                .and_then(Result::ok)
                .into_iter()
                .collect(),
            false => self
                .serve
                .iter()
                .flat_map(|serve| serve.schedules().iter().cloned())
                .collect(),
        }
    }

    /// Returns the flow with the parameters that the program serves it with, overridden by
    /// `--param`.
    pub(super) fn call(
        &self,
        typed: &parameters::ParameterArguments,
    ) -> Result<Arc<FlowCall>, CommandFailure> {
        let given = self.serve.first().map(|serve| serve.call());
        let overrides = typed.of(self.definition)?;
        let call = match given {
            Some(given) => given.with(&overrides),
            None => FlowCall::recall(self.definition, &overrides),
        };
        let call = call.map_err(|problem| parameters::refused(self.definition, problem))?;
        match call.fault() {
            Some(problem) => Err(parameters::refused(self.definition, problem)),
            None => Ok(call),
        }
    }
}

/// Returns the name under which the program was started.
pub(super) fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().map_or_else(
        || "flows".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
