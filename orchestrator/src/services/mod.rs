//! The clients that come with the library, each behind a feature: what a connection becomes in a task
//! ([`Connect`](crate::Connect)).
//!
//! | file | contents |
//! | --- | --- |
//! | `postgres/` | [`Postgres`](crate::Postgres): a pool of connections to PostgreSQL; what `sslmode` checks |
//! | `s3` | [`S3`](crate::S3): the buckets of S3 and of services that speak its protocol |
//! | `http/` | [`Http`](crate::Http): requests below a base URL; errors of statuses |
//! | `options` | the options of a connection, read and refused |
//! | `check` | whether services answer |
//! | `tls` | TLS, in one way for all: rustls with `ring` |
//!
//! The protocols are those of the ecosystem's crates. A client refuses an option that it does not know:
//! one that is spelled wrong would otherwise be one that is not there. It never puts a password into an
//! error.

mod check;
#[cfg(feature = "http")]
mod http;
#[cfg(any(feature = "http", feature = "postgres", feature = "s3"))]
mod options;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "s3")]
mod s3;
#[cfg(any(feature = "http", feature = "postgres", feature = "s3"))]
mod tls;

#[cfg(feature = "http")]
pub use http::{Http, StatusError, error_for_status};
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "s3")]
pub use s3::S3;

use crate::task::ClientDef;

/// The clients of this build.
const CLIENTS: &[ClientDef] = &[
    #[cfg(feature = "http")]
    ClientDef::of::<Http>(),
    #[cfg(feature = "postgres")]
    ClientDef::of::<Postgres>(),
    #[cfg(feature = "s3")]
    ClientDef::of::<S3>(),
];

/// Returns the library's own client for connections of a kind, if this build has one.
fn client_of(kind: &str) -> Option<ClientDef> {
    CLIENTS.iter().find(|client| client.takes(kind)).copied()
}
