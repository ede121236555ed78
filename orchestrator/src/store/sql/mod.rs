//! What stores in SQL databases have in common: the rows that records become, and their codes.
//!
//! Nothing here uses a driver or a connection.

pub(crate) mod changes;
pub(crate) mod codes;
pub(crate) mod filter;
pub(crate) mod history;
pub(crate) mod rows;
