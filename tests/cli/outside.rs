//! A program whose flows need connections, variables and secrets: what the tests of those run.

use std::process::ExitCode;

use orchestrator::prelude::*;
use orchestrator::{Connect, Connection, Secret};

/// A client without a server.
struct Warehouse {
    address: String,
}

impl Connect for Warehouse {
    const KINDS: &'static [&'static str] = &["postgres"];

    async fn connect(connection: &Connection) -> Result<Self> {
        let host = connection.host().ok_or("expected a host")?;
        let database = connection.path().ok_or("expected a database")?;
        Ok(Self {
            address: format!("{host}/{database}"),
        })
    }

    async fn check(&self) -> Result<()> {
        match self.address.starts_with("down.") {
            true => Err(format!("{} does not answer", self.address).into()),
            false => Ok(()),
        }
    }
}

/// Scores rows.
#[task]
async fn score(
    rows: u32,
    #[variable("scoring_api_url")] url: &str,
    #[variable("batch_size")] batch: u32,
    #[secret("scoring-api-key")] key: &Secret,
) -> String {
    format!(
        "{rows} rows to {url} in batches of {batch}, with a key of {} bytes",
        key.expose().len()
    )
}

/// Loads scores.
#[task]
async fn load(scores: String, #[connection("warehouse_default")] warehouse: &Warehouse) -> String {
    format!("{scores}, into {}", warehouse.address)
}

/// Scores rows and loads them.
#[flow(tags = ["scores"])]
fn scoring(rows: u32) -> Node<String> {
    load(score(rows))
}

/// Says its secret wherever it can.
#[task(retries = 1)]
async fn leak(
    how: String,
    #[secret("canary")] canary: &Secret,
    #[connection("service")] service: &Connection,
    #[context] context: &Context,
) -> Result<u32> {
    let (secret, password) = (
        canary.expose(),
        service.password().ok_or("expected a password")?.expose(),
    );
    match how.as_str() {
        "logs" => {
            tracing::info!(token = secret, "asking with {secret} as {password}");
            tracing::warn!(request = ?format!("key \"{secret}\""), "{:?}", Some(password));
            tracing::error!(
                attempt = context.attempt(),
                "{}",
                "x".repeat(16_370) + secret
            );
            Ok(1)
        }
        "error" => Err(format!("401 for Bearer {secret}, {password}").into()),
        "fatal" => Err(fatal(format!("401 for Bearer {secret}")).into()),
        "skip" => Err(skip(format!("no rows for {secret}")).into()),
        "panic" => panic!("no rows for {secret} and {password}"),
        "url" => Err(format!(
            "error sending request for url (http://api.example/rows?key={secret}&page=2)"
        )
        .into()),
        "service" => {
            // a service that returns what it was sent, percent-encoded
            let encode = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            };
            let encoded: String = secret.bytes().map(encode).collect();
            let as_form = encoded.replace("%20", "+");
            Err(format!("unknown key {encoded} and {as_form}").into())
        }
        other => Err(format!("{other} is unknown; {service:?} {canary:?}").into()),
    }
}

/// Leaks a secret.
#[flow(tags = ["leaks"])]
fn leaking(how: String) -> Node<u32> {
    leak(how)
}

#[tokio::main]
async fn main() -> ExitCode {
    orchestrator::cli().await
}
