//! Gets ready what a task requires from outside, before its body is called: names are looked up, and
//! clients are made. That is a part of the attempt, with its timeout and its span.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::super::slots::Slots;
use super::{Attempt, Site};
use crate::error::TaskError;
use crate::panic::Fragile;
use crate::task::{Args, PreparedRequirements, TakenClient};

/// A body that waits for what it requires.
pub(crate) struct Preparation {
    pub(super) future: Fragile<BoxFuture<'static, PreparationResult>>,
    pub(super) args: Args,
    pub(super) slots: Option<Slots>,
}

/// What the task requires, and the clients in it.
type PreparationResult = Result<(PreparedRequirements, Vec<TakenClient>), TaskError>;

impl Attempt {
    /// Returns what the task requires, if it is at hand.
    pub(super) fn prepared(
        &mut self,
        site: &Site<'_>,
    ) -> Option<Result<PreparedRequirements, TaskError>> {
        let requirements = self.task.requirements;
        if requirements.is_empty() || site.environment.mock_of(self.task).is_some() {
            return Some(Ok(PreparedRequirements::new()));
        }
        self.taken.clear();
        let clients = &site.environment.clients;
        clients.at_hand(requirements, &self.variables, &mut self.taken)
    }

    /// Begins to get ready what the task requires.
    pub(super) fn prepare(&self, args: Args, slots: Option<Slots>, site: &Site<'_>) -> Preparation {
        let (task, variables) = (self.task, Arc::clone(&self.variables));
        let clients = Arc::clone(&site.environment.clients);
        let future: BoxFuture<'static, _> =
            Box::pin(async move { clients.prepare(task.requirements, &variables).await });
        Preparation {
            future: Fragile::new(future),
            args,
            slots,
        }
    }
}
