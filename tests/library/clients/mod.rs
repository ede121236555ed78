//! The clients that come with the library, with real servers. Those of PostgreSQL and S3 are started by
//! `.ci/servers`; without it, their tests are left out.

mod http;
mod postgres;
mod s3;

use std::error::Error;

use orchestrator::{BoxError, Connect, Connection};

/// Makes a client of the text of a connection.
async fn connect<T: Connect>(text: &str) -> Result<T, BoxError> {
    T::connect(&Connection::parse("service", text)?).await
}

/// The text of an error that making a client ends with, and of its sources.
async fn refusal<T: Connect>(text: &str) -> String {
    match connect::<T>(text).await {
        Ok(_) => panic!("it connected"),
        Err(error) => chain(&*error),
    }
}

/// The text of an error and of its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
