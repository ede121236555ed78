//! Checks connections: a client is made of one, and asked whether its service answers.

use std::sync::Arc;
use std::time::Duration;

use super::client_of;
use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{Error, error_text};
use crate::executor::clients::Clients;
use crate::panic;
use crate::runtime::Runtime;
use crate::task::{ClientDef, RequirementKind, TaskEntry};

/// How long a check may take.
const TIME: Duration = Duration::from_secs(30);

impl Runtime {
    /// Connects, and checks whether the service answers ([`Connect::check`](crate::Connect::check)), within
    /// 30 seconds. The client is that of a task of this binary that takes the connection, or else the
    /// library's own for its kind.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such connection, if no client can be made of it, or if the service
    /// does not answer.
    pub async fn check_connection(&self, id: &str) -> Result<(), Error> {
        let problem = |problem: String| Error::Connection {
            id: id.to_owned(),
            problem,
        };
        let clients = &self.host.environment.clients;
        let entry = clients.look_up(EntryKind::Connection, id).await;
        let entry = entry.map_err(|error| problem(error.to_string()))?;
        let connection = Clients::connection_of(id, &entry, None).map_err(problem)?;
        let def = of_task(id).or_else(|| client_of(connection.kind()));
        let Some(def) = def else {
            return Err(problem(
                "no client can be made of it here: no task takes it as one, and the library has none for its kind in this \
                 build"
                    .to_owned(),
            ));
        };
        let connection = Clients::connection_of(id, &entry, Some(&def)).map_err(problem)?;
        let check = async {
            let client = (def.connect)(Arc::clone(connection)).await?;
            (def.check)(client).await
        };
        let checked = panic::answer(TIME, check).await;
        checked.map_err(|error| problem(error_text(&*error)))
    }
}

/// Returns the client that a task of this binary makes of a connection, if it is not the connection
/// itself.
fn of_task(id: &str) -> Option<ClientDef> {
    let itself = (ClientDef::of::<Connection>().id)();
    let tasks = inventory::iter::<TaskEntry>.into_iter();
    tasks
        .flat_map(|TaskEntry(task)| task.requirements)
        .find_map(|requirement| match requirement.kind {
            RequirementKind::Connection(def) if requirement.name == id && (def.id)() != itself => {
                Some(def)
            }
            _ => None,
        })
}
