//! What attempts need of their process, and of the place where they run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::clients::Clients;
use super::super::slots::pulse::Pulse;
use super::mock::Mock;
use crate::clock::Clock;
use crate::task::{BlockingBody, Resources, TaskDef};

/// The state that all attempts of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) resources: Resources,
    /// Connections, variables and secrets.
    pub(crate) clients: Arc<Clients>,
    /// The mocks of tasks, by the addresses of their definitions.
    pub(crate) mocks: HashMap<usize, Mock>,
    /// The time that a body that checks for its cancellation may take to end after it.
    pub(crate) grace: Duration,
}

impl Environment {
    /// Returns the mock of a task, if it has one.
    pub(crate) fn mock_of(&self, task: &'static TaskDef) -> Option<&Mock> {
        if self.mocks.is_empty() {
            None
        } else {
            self.mocks.get(&std::ptr::from_ref(task).addr())
        }
    }

    /// Replaces a task's body with a mock.
    pub(crate) fn mock(&mut self, task: &'static TaskDef, mock: Mock) {
        self.mocks.insert(std::ptr::from_ref(task).addr(), mock);
    }
}

/// What the thread of a blocking body keeps of its run.
pub(crate) type ThreadGuard = Box<dyn Send>;

/// The place where an attempt runs, such as a lane of a run.
pub(crate) struct Site<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) clock: &'a Clock,
    /// Shows the watchdog that the body occupies the thread.
    pub(crate) pulse: &'a Arc<Pulse>,
    /// Prepares a blocking body for its thread. The thread drops the guard when it has returned the
    /// body's slots.
    pub(crate) on_thread: &'a (dyn Fn(BlockingBody) -> (BlockingBody, ThreadGuard) + Sync),
}
