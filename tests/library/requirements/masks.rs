//! A secret that is passed, logged, put into errors, panics and URLs, and returned by a service: it is
//! found nowhere.

use std::path::Path;
use std::process::{Command, Stdio};

use orchestrator::prelude::*;
use orchestrator::{Connection, Secret};

use super::builder;
use crate::support::new_folder;

/// A secret with characters that URLs, `Debug` and JSON write otherwise.
const CANARY: &str = "canary/1 \"two\"+tree";

/// A password, in the form of a URL.
const PASSWORD: &str = "pass%2Fword%20%C3%A9%2F2";

/// What must not be found: parts that no spelling changes.
const TRACES: [&str; 4] = ["canary", "tree", "pass/word", "pass%2Fword"];

/// All files in a folder, with their bytes.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

fn assert_clean(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for trace in TRACES {
        // the name of the secret is no secret
        let text = text
            .replace("secret `canary`", "")
            .replace("\"canary\"", "");
        assert!(!text.contains(trace), "{what} has `{trace}`: {text}");
    }
}

#[test]
fn a_secret_is_nowhere_in_what_a_program_keeps_and_says() {
    let folder = new_folder("masks");
    let say = |typed: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_outside"))
            .args(typed)
            .current_dir(&folder)
            .env("ORCHESTRATOR_SECRET_CANARY", CANARY)
            .env(
                "ORCHESTRATOR_CONN_SERVICE",
                format!("http://postgres:{PASSWORD}@api.example/v1?api_key=canary-of-options"),
            )
            .env("ORCHESTRATOR_LOG", "trace")
            .env("RUST_BACKTRACE", "1")
            .env_remove("ORCHESTRATOR_STORE")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let what = format!("`{}`", typed.join(" "));
        assert_clean(&format!("the output of {what}"), &output.stdout);
        assert_clean(&format!("standard error of {what}"), &output.stderr);
        String::from_utf8(output.stdout).unwrap()
    };
    for how in [
        "logs", "error", "fatal", "skip", "panic", "url", "service", "debug",
    ] {
        say(&["run", "leaking", "--param", &format!("how={how}")]);
    }
    let runs = say(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    let mut errors = String::new();
    for run in runs.as_array().unwrap() {
        let id = run["id"].as_str().unwrap();
        errors += &say(&["runs", "show", id, "--json"]);
        say(&["runs", "show", id]);
        say(&["runs", "logs", id, "--json"]);
        errors += &say(&["runs", "logs", id]);
        say(&["why", id, "--json"]);
        say(&["why", id]);
        say(&["why", id, "leak"]);
    }
    // what was masked is there otherwise
    for expected in [
        "401 for Bearer ***, ***",
        "no rows for *** and ***",
        "http://api.example/rows?***",
        "unknown key *** and ***",
        "asking with *** as ***",
        "Secret(***)",
        // the login is a name that others have, too
        "login: Some(\\\"postgres\\\")",
    ] {
        assert!(errors.contains(expected), "{expected} is not in {errors}");
    }
    for typed in [
        &["flows", "--json"][..],
        &["show", "leaking", "--json"],
        &["graph", "leaking", "--json"],
        &["check", "--json"],
        &["conn", "ls", "--json"],
        &["conn", "show", "service", "--json"],
        &["conn", "show", "service"],
        &["secret", "ls", "--json"],
        &["var", "ls", "--json"],
        &["db", "check", "--json"],
        &["cache", "ls", "--json"],
    ] {
        say(typed);
    }
    let mut kept = Vec::new();
    files(&folder, &mut kept);
    assert!(!kept.is_empty());
    for (file, bytes) in kept {
        assert_clean(&file, &bytes);
    }
}

#[tokio::test]
async fn logs_stay_readable_whatever_a_password_is() -> Result<()> {
    #[task]
    async fn tells(
        #[connection("postgres_default")] db: &Connection,
        #[secret("pin")] pin: &Secret,
    ) -> u32 {
        tracing::info!(
            kind = "postgres",
            pin = pin.expose(),
            "connecting to postgres as {} with 4711 rows",
            db.login().unwrap()
        );
        4711
    }
    #[flow(name = "masks_readable")]
    fn telling() -> Node<u32> {
        tells()
    }
    let runtime = builder()
        .connection(
            "postgres_default",
            "postgres://postgres:postgres@localhost/shop",
        )
        .secret("pin", "4711")
        .build()
        .await?;
    let run = telling().on(&runtime).run().await?;
    let lines = runtime.logs(run.id(), None).await?;
    let line = lines
        .iter()
        .find(|line| line.message.contains("connecting"))
        .unwrap();
    assert_eq!(
        line.message,
        "connecting to postgres as postgres with 4711 rows"
    );
    // a short secret is masked where it is a whole field
    assert_eq!(line.fields["pin"], "***");
    assert_eq!(line.fields["kind"], "postgres");
    Ok(())
}

#[tokio::test]
async fn events_have_no_secrets() -> Result<()> {
    #[task]
    async fn fails(#[secret("token")] token: &Secret) -> Result<u32> {
        Err(format!("403 for {}", token.expose()).into())
    }
    #[flow(name = "masks_events")]
    fn failing() -> Node<u32> {
        fails()
    }
    let runtime = builder().secret("token", "events-token-1").build().await?;
    let mut events = runtime.events();
    failing().on(&runtime).run().await?;
    let mut told = String::new();
    loop {
        match events.next().await {
            None => break,
            Some(event) => {
                told += &format!("{event:?}");
                if let Event::RunFinished { .. } = event {
                    break;
                }
            }
        }
    }
    assert!(
        told.contains("403 for ***") && !told.contains("events-token-1"),
        "{told}"
    );
    Ok(())
}
