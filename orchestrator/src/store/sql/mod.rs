//! What stores in SQL databases have in common: the rows that records become, and what rows say.
//!
//! Nothing here uses a driver or a connection. A store of such a database has its own connections
//! and transactions, and statements that need its own words; its tables are those of
//! `sqlite/migrations/`.
//!
//! | file | what is there |
//! | --- | --- |
//! | [`codes`] | codes of states in columns, and conditions on them for statements |
//! | [`rows`] | the bodies of rows, encoded and decoded |
//! | [`changes`] | what each transition of a run changes in the tables |
//! | [`history`] | what the rows of a run add up to; refuses rows that contradict each other |
//! | [`statements`] | statements that SQLite and PostgreSQL share |
//! | [`filter`] | filters of runs as conditions of statements |

pub(crate) mod changes;
pub(crate) mod codes;
pub(crate) mod filter;
pub(crate) mod history;
pub(crate) mod rows;
pub(crate) mod statements;
