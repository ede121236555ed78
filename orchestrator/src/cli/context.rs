//! The program's runtime, its flows, and how it serves them.

use std::path::Path;
use std::sync::Arc;

use serde_json::Map;

use super::exit::CommandFailure;
use super::{names, parameters};
use crate::deployment::{DeploymentKey, DeploymentSpec};
use crate::error::StoreError;
use crate::executor::Host;
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

/// A flow, with the deployments that the program serves.
#[derive(Clone, Debug)]
pub(super) struct ProgramFlow {
    pub(super) definition: &'static FlowDef,
    /// The deployments given to the command line. Without any, the flow's attribute counts.
    pub(super) given: Vec<DeploymentSpec>,
}

/// A deployment that the program serves.
#[derive(Clone, Debug)]
pub(super) struct ProgramDeployment {
    pub(super) key: DeploymentKey,
    pub(super) schedules: Vec<Schedule>,
    /// The flow with the deployment's parameters. `None` if the flow's attribute has the schedule
    /// and a parameter has no value.
    pub(super) call: Option<Arc<FlowCall>>,
}

impl CommandContext {
    /// Returns the runtime on its store, which is created if it does not exist.
    pub(super) async fn runtime(&self) -> Result<Runtime, CommandFailure> {
        let runtime = match (&self.store, self.given()) {
            (None, Some(given)) => given.clone(),
            // not the shared default runtime: this one's store is closed when the command ends
            (None, None) => Runtime::builder().build().await?,
            (Some(url), None) => Runtime::builder().store(url).build().await?,
            (Some(url), Some(given)) => given.on_store(url).await?,
        };
        let host = Host {
            served: self.specs().into(),
            ..(*runtime.host).clone()
        };
        Ok(Runtime {
            host: Arc::new(host),
        })
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
        let runtime = self.runtime().await?;
        let serves = self.served_on(&runtime);
        Ok((runtime, serves))
    }

    /// Returns the program's served flows on a runtime.
    pub(super) fn served_on(&mut self, runtime: &Runtime) -> Vec<Serve> {
        let given = self.given().cloned();
        let mut serves = std::mem::take(&mut self.serve);
        if let Some(given) = given {
            serves
                .iter_mut()
                .for_each(|serve| serve.move_to(&given, runtime));
        }
        serves
    }

    fn given(&self) -> Option<&Runtime> {
        self.runtime
            .as_ref()
            .or_else(|| self.serve.iter().find_map(Serve::host))
    }

    /// Returns the flow with a name.
    pub(super) fn flow(&self, name: &str) -> Result<ProgramFlow, CommandFailure> {
        names::flow(name).map(|definition| self.known(definition))
    }

    /// Returns all flows, sorted by name.
    pub(super) fn flows(&self) -> Vec<ProgramFlow> {
        let mut flows: Vec<ProgramFlow> = registry::flows().map(|flow| self.known(flow)).collect();
        flows.sort_by_key(|flow| {
            (
                flow.definition.name,
                flow.definition.file,
                flow.definition.line,
            )
        });
        flows
    }

    fn known(&self, definition: &'static FlowDef) -> ProgramFlow {
        let mut given = self.specs();
        given.retain(|spec| std::ptr::eq(spec.call.definition, definition));
        ProgramFlow { definition, given }
    }

    /// Returns the deployments given to the command line. `check` reports what is wrong with them.
    fn specs(&self) -> Vec<DeploymentSpec> {
        let mut specs: Vec<DeploymentSpec> = Vec::new();
        for serve in &self.serve {
            let key = DeploymentKey {
                flow: serve.flow().into(),
                name: serve.name().map(Arc::from),
            };
            if let Some(spec) = specs.iter_mut().find(|spec| spec.key == key) {
                spec.schedules.extend_from_slice(serve.schedules());
                continue;
            }
            let call = serve.call();
            let of_schedule = |schedule: &Schedule| call.with(schedule.given_parameters()).ok();
            let with_parameters = serve.schedules().first().and_then(of_schedule);
            specs.push(DeploymentSpec {
                key,
                schedules: serve.schedules().to_vec(),
                call: with_parameters.unwrap_or_else(|| Arc::clone(call)),
            });
        }
        specs
    }
}

impl ProgramFlow {
    /// Returns the deployments that the program serves: those given to the command line, or else
    /// the one of the flow's attribute.
    pub(super) fn deployments(&self) -> Vec<ProgramDeployment> {
        if !self.given.is_empty() {
            let given = self.given.iter().map(|spec| ProgramDeployment {
                key: spec.key.clone(),
                schedules: spec.schedules.clone(),
                call: Some(Arc::clone(&spec.call)),
            });
            return given.collect();
        }
        let of_attribute = self.scheduled().map(|schedule| ProgramDeployment {
            key: self.key(None),
            schedules: vec![schedule],
            call: FlowCall::recall(self.definition, &Map::new()).ok(),
        });
        of_attribute.into_iter().collect()
    }

    /// Returns the schedule of the flow's attribute.
    pub(super) fn scheduled(&self) -> Option<Schedule> {
        Schedule::of_flow(self.definition).and_then(Result::ok)
    }

    /// Returns the identity of a deployment of the flow.
    pub(super) fn key(&self, name: Option<&str>) -> DeploymentKey {
        DeploymentKey {
            flow: self.definition.name.into(),
            name: name.map(Arc::from),
        }
    }

    /// Returns the flow with the parameters of the first deployment given to the command line,
    /// overridden by `--param`.
    pub(super) fn call(
        &self,
        typed: &parameters::ParameterArguments,
    ) -> Result<Arc<FlowCall>, CommandFailure> {
        let given = self.given.first().map(|spec| &spec.call);
        parameters::call(self.definition, given, typed)
    }
}

impl ProgramDeployment {
    /// Returns what is served, if all parameters have values.
    pub(super) fn spec(&self) -> Option<DeploymentSpec> {
        Some(DeploymentSpec {
            key: self.key.clone(),
            schedules: self.schedules.clone(),
            call: self.call.clone()?,
        })
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
