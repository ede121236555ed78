use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::hold::{Count, Thread};
use super::super::mock::Mock;
use super::super::pulse::Pulse;
use crate::clock::Clock;
use crate::task::{Resources, TaskDef};

/// The state that all attempts of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) resources: Resources,
    /// The mocks of tasks, by the addresses of their definitions.
    pub(crate) mocks: HashMap<usize, Mock>,
    /// The threads that run blocking bodies.
    pub(crate) threads: Count,
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

/// The place where an attempt runs, such as a lane of a run.
pub(in crate::runtime) struct Site<'a> {
    pub(in crate::runtime) environment: &'a Environment,
    pub(in crate::runtime) clock: &'a Clock,
    /// Shows the watchdog that the body occupies the thread.
    pub(in crate::runtime) pulse: &'a Arc<Pulse>,
    /// Registers the thread of a blocking body with its run.
    pub(in crate::runtime) enter_thread: &'a dyn Fn() -> Thread,
}
