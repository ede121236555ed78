//! What the program has: its runtime, its flows, and how it serves them.

use std::path::Path;
use std::sync::Arc;

use super::exit::Failure;
use super::{names, parameters};
use crate::error::StoreError;
use crate::flow::{FlowCall, FlowDef, registry};
use crate::runtime::{Runtime, default_store};
use crate::schedule::Schedule;
use crate::scheduler::Serve;
use crate::store;

/// What the program has, beside what was typed.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) runtime: Option<Runtime>,
    /// The store that was typed.
    pub(super) store: Option<String>,
    pub(super) serve: Vec<Serve>,
    /// The program's name.
    pub(super) program: String,
}

/// A flow, with how the program serves it.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    pub(super) definition: &'static FlowDef,
    pub(super) serve: Vec<&'a Serve>,
}

impl Context {
    /// The runtime on its store, which is made where it is not there.
    pub(super) async fn runtime(&self) -> Result<Runtime, Failure> {
        match (&self.store, self.given()) {
            (None, Some(given)) => Ok(given.clone()),
            // not the one that is shared: this one's store is closed where the command ends
            (None, None) => Ok(Runtime::builder().build().await?),
            (Some(url), None) => Ok(Runtime::builder().store(url).build().await?),
            (Some(url), Some(given)) => Ok(given.on_store(url).await?),
        }
    }

    /// The runtime, where its store is there already.
    pub(super) async fn runtime_if_there(&self) -> Result<Option<Runtime>, Failure> {
        let there = self.url()?.is_none_or(|url| store::exists(&url));
        if there {
            self.runtime().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// The store's URL; none where the program has a runtime, which is on a store already.
    pub(super) fn url(&self) -> Result<Option<String>, StoreError> {
        match (&self.store, self.given()) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(_)) => Ok(None),
            (None, None) => default_store().map(Some),
        }
    }

    /// What can be asked without any store: limits, resources, the time.
    pub(super) fn bare(&self) -> Runtime {
        self.given()
            .unwrap_or_else(|| Runtime::of_loose_tasks())
            .clone()
    }

    /// The runtime, and what the program serves, on it.
    pub(super) async fn served(&mut self) -> Result<(Runtime, Vec<Serve>), Failure> {
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

    /// The flow of a name.
    pub(super) fn flow(&self, name: &str) -> Result<Known<'_>, Failure> {
        names::flow(name).map(|definition| self.known(definition))
    }

    /// All flows, by name.
    pub(super) fn flows(&self) -> Vec<Known<'_>> {
        let mut flows: Vec<Known<'_>> = registry::flows().map(|flow| self.known(flow)).collect();
        flows.sort_by_key(|flow| {
            (
                flow.definition.name,
                flow.definition.file,
                flow.definition.line,
            )
        });
        flows
    }

    fn known(&self, definition: &'static FlowDef) -> Known<'_> {
        let serves = |serve: &&Serve| std::ptr::eq(serve.call().definition, definition);
        Known {
            definition,
            serve: self.serve.iter().filter(serves).collect(),
        }
    }
}

impl Known<'_> {
    /// The schedules: those that the program serves it by, or else that of its attribute.
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

    /// The flow with the parameters that the program serves it with, overridden by those that were typed.
    pub(super) fn call(&self, typed: &parameters::Typed) -> Result<Arc<FlowCall>, Failure> {
        let given = self.serve.first().map(|serve| serve.call());
        let overrides = typed.of(self.definition)?;
        let call = match given {
            Some(given) => given.with(&overrides),
            None => FlowCall::recall(self.definition, &overrides),
        };
        let call = call.map_err(|problem| parameters::refused(self.definition, problem))?;
        match &call.problem {
            Some(problem) => Err(parameters::refused(self.definition, problem.clone())),
            None => Ok(call),
        }
    }
}

/// The name that the program was started by.
pub(super) fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().map_or_else(
        || "flows".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
