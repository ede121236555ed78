//! What tasks and flows require of the runtime that runs them: resources, pools, paths in the cache
//! that no other task has, and the connections, variables and secrets that they name.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::clients::EntryError;
use super::host::Host;
use crate::entry::EntryKind;
use crate::error::Error;
use crate::flow::FlowDef;
use crate::graph::build::{Defaults, Wiring};
use crate::scope::{NodeKind, NodeSpec};
use crate::task::{Requirement, TaskDef};

impl Host {
    /// Checks that the resources and pools of tasks exist, and that no other task has the same path
    /// in the cache.
    pub(crate) fn check_specs(
        &self,
        specs: &[NodeSpec],
        defaults: &Defaults,
        held: &[&'static str],
        caches: bool,
    ) -> Result<(), Error> {
        let mut checked: Option<&TaskDef> = None;
        for spec in specs {
            let NodeKind::Task(definition) = &spec.kind else {
                continue;
            };
            let own = spec
                .more
                .as_ref()
                .and_then(|more| more.options.pool.as_ref());
            let pool = own
                .or(definition.options.pool.as_ref())
                .or(defaults.flow.pool.as_ref());
            if let Some(pool) = pool.or(defaults.runtime.pool.as_ref()) {
                self.admission.limits.check(spec.name(), pool)?;
                // the waiting body holds a slot of a pool: waiting for another one could be waiting
                // for itself, or for a body that waits for this one
                if let Some(held) = held.first() {
                    return Err(Error::Options(format!(
                        "task `{}` takes a slot of the pool `{}`, and is awaited in the body of a task that has one of the \
                         pool `{held}`: the two might wait for each other; pass nodes to tasks of a flow instead of awaiting \
                         them in a body",
                        spec.name(),
                        pool.name
                    )));
                }
            }
            if !checked.is_some_and(|checked| std::ptr::eq(checked, *definition)) {
                self.check_resources(definition.name, definition)?;
                if caches {
                    self.check_path(definition)?;
                }
                checked = Some(definition);
            }
        }
        Ok(())
    }

    /// Checks the tasks of a planned flow, including those of its subflows, so that errors are
    /// reported before the run starts.
    pub(crate) fn check_wiring(&self, wiring: &Wiring) -> Result<(), Error> {
        for node in &wiring.nodes {
            let NodeKind::Task(definition) = &node.kind else {
                continue;
            };
            if let Some(pool) = &node.policy.pool {
                self.admission.limits.check(&node.name, pool)?;
            }
            self.check_resources(definition.name, definition)?;
            self.check_path(definition)?;
        }
        Ok(())
    }

    /// Checks that the cached results of a task cannot be mistaken for those of another.
    fn check_path(&self, definition: &'static TaskDef) -> Result<(), Error> {
        if definition.cache.is_none() || self.environment.mock_of(definition).is_some() {
            return Ok(());
        }
        let Some(other) = definition.namesake() else {
            return Ok(());
        };
        let (one, other) = (definition.place(), other.place());
        let (first, second) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Err(Error::DuplicateTask {
            path: definition.path(),
            first,
            second,
        })
    }

    /// Looks up the connections, variables and secrets that a flow declares, and those of its tasks, and
    /// checks that they can be used. A place that cannot be asked now is left to the attempts, which
    /// ask again.
    pub(crate) async fn check_requirements(
        &self,
        flow: &FlowDef,
        tasks: &TasksInNeed,
    ) -> Result<(), Error> {
        let clients = &self.environment.clients;
        let declared = flow.requirements.iter().map(|(kind, name)| async move {
            let needed_by = format!("flow `{}`", flow.name);
            (needed_by, clients.check_declared(*kind, name).await)
        });
        let required = tasks.requirements(self).into_iter();
        let required = required.map(|(task, requirement)| async move {
            (format!("task `{task}`"), clients.check(requirement).await)
        });
        let mut problems = Vec::new();
        let checked = join_all(declared).await.into_iter();
        for (needed_by, checked) in checked.chain(join_all(required).await) {
            match checked {
                Ok(()) => {}
                Err(EntryError::Lookup(error)) => {
                    tracing::debug!(flow = flow.name, "not checked: {error}");
                }
                Err(EntryError::Unusable(problem)) => {
                    problems.push(format!("{needed_by}: {problem}"));
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Requirements {
            flow: flow.name.to_owned(),
            problems,
        })
    }

    /// Checks that the resources of a task exist.
    pub(crate) fn check_resources(
        &self,
        task: &str,
        definition: &'static TaskDef,
    ) -> Result<(), Error> {
        if definition.resources.is_empty() || self.environment.mock_of(definition).is_some() {
            return Ok(());
        }
        self.check_has(task, definition.resources)
    }

    pub(crate) fn check_has(
        &self,
        task: &str,
        resources: &'static [crate::task::Resource],
    ) -> Result<(), Error> {
        match resources
            .iter()
            .find(|resource| !self.environment.resources.has((resource.id)()))
        {
            None => Ok(()),
            Some(missing) => Err(Error::MissingResource {
                task: task.to_owned(),
                resource: missing.name,
                type_name: missing.type_name,
            }),
        }
    }
}

/// The tasks of a flow that take connections, variables or secrets.
#[derive(Debug, Default)]
pub(crate) struct TasksInNeed(Vec<&'static TaskDef>);

impl TasksInNeed {
    /// Returns those among planned nodes.
    pub(crate) fn of(wiring: &Wiring) -> Self {
        let mut tasks = Vec::<&'static TaskDef>::new();
        for node in &wiring.nodes {
            if let NodeKind::Task(task) = &node.kind
                && !task.requirements.is_empty()
                && !tasks.iter().any(|known| std::ptr::eq(*known, *task))
            {
                tasks.push(task);
            }
        }
        Self(tasks)
    }

    /// Returns the requirements of tasks that have no mock, each with the name of its task. One of
    /// several tasks is named once for each.
    fn requirements(&self, host: &Host) -> Vec<(&'static str, &'static Requirement)> {
        let mut named = BTreeSet::<(&str, EntryKind, &str)>::new();
        let tasks = self.0.iter();
        let tasks = tasks.filter(|task| host.environment.mock_of(task).is_none());
        let of_task = |task: &&'static TaskDef| {
            let task = *task;
            task.requirements
                .iter()
                .map(move |requirement| (task.name, requirement))
        };
        tasks
            .flat_map(of_task)
            .filter(|(task, requirement)| {
                named.insert((task, requirement.kind.entry(), requirement.name))
            })
            .collect()
    }
}
