//! What tasks and flows require of the runtime that runs them: resources, pools, and paths in the
//! cache that no other task has.

use super::host::Host;
use crate::error::Error;
use crate::graph::build::{Defaults, Wiring};
use crate::scope::{NodeKind, NodeSpec};
use crate::task::TaskDef;

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
