//! The statements of the store in SQLite, by subject: functions of a connection, which the store
//! calls within its transactions and on its readers.

pub(super) mod cache;
pub(super) mod changes;
pub(super) mod deployments;
pub(super) mod history;
pub(super) mod lines;
pub(super) mod ownership;
pub(super) mod prune;
pub(super) mod runs;
pub(super) mod serving;
pub(super) mod upkeep;
pub(super) mod vault;
