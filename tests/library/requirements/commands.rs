//! The command line: connections, variables, secrets and keys.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::new_folder;

/// The program, in a folder that no other test has.
struct Program {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Program {
    fn new() -> Self {
        Self {
            folder: new_folder("outside"),
            environment: Vec::new(),
        }
    }

    /// With a key for the store.
    fn with_key() -> Self {
        let mut program = Self::new();
        let key = program.key();
        program.set("ORCHESTRATOR_KEY", &key);
        program
    }

    fn key(&self) -> String {
        self.ok(&["key", "new"]).trim().to_owned()
    }

    fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.retain(|(set, _)| *set != variable);
        self.environment.push((variable, value.to_owned()));
    }

    fn say(&self, typed: &[&str], input: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outside"));
        for (variable, _) in std::env::vars() {
            if variable.starts_with("ORCHESTRATOR_") || variable.starts_with("AIRFLOW_") {
                command.env_remove(variable);
            }
        }
        let environment = self.environment.iter();
        let mut child = command
            .args(typed)
            .current_dir(&self.folder)
            .envs(environment.map(|(variable, value)| (*variable, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // a command that fails at once does not read it
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What a command prints that goes well.
    fn ok(&self, typed: &[&str]) -> String {
        self.ok_with(typed, "")
    }

    fn ok_with(&self, typed: &[&str], input: &str) -> String {
        let said = self.say(typed, input);
        assert_eq!(said.code, 0, "{typed:?}: {said:?}");
        said.out
    }

    fn json(&self, typed: &[&str]) -> Value {
        serde_json::from_str(&self.ok(typed)).unwrap()
    }

    /// What a command says that is refused.
    fn refused(&self, typed: &[&str], input: &str) -> String {
        let said = self.say(typed, input);
        assert_eq!(said.code, 2, "{typed:?}: {said:?}");
        said.err
    }
}

#[test]
fn what_is_set_in_the_store_is_used_by_runs() {
    let program = Program::with_key();
    let warehouse =
        "postgres://loader:p%2Fw%20d-long@db.example:5433/dwh?sslmode=require&api_key=k-2";
    let said = program.ok_with(
        &["conn", "set", "warehouse_default"],
        &format!("{warehouse}\n"),
    );
    assert!(
        said.starts_with("connection `warehouse_default` is set in "),
        "{said}"
    );
    program.ok(&["var", "set", "scoring_api_url", "http://localhost:1"]);
    program.ok_with(&["var", "set", "batch_size"], "500\n");
    program.ok_with(&["secret", "set", "scoring-api-key"], "k-123456\n");
    let printed = program.ok(&["run", "scoring", "--param", "rows=7"]);
    let expected = "7 rows to http://localhost:1 in batches of 500, with a key of 8 bytes, into db.example/dwh";
    assert_eq!(printed.trim(), format!("\"{expected}\""));
    // shown without secrets
    let shown = program.ok(&["conn", "show", "warehouse_default"]);
    assert!(
        shown.contains("loader") && shown.contains("***") && shown.contains("require"),
        "{shown}"
    );
    assert!(
        !shown.contains("p/w") && !shown.contains("p%2Fw") && !shown.contains("k-2"),
        "{shown}"
    );
    assert_eq!(
        program.json(&["conn", "show", "warehouse_default", "--json"]),
        json!({
            "id": "warehouse_default", "kind": "postgres", "host": "db.example", "port": 5433, "login": "loader",
            "has_password": true, "path": "dwh", "options": { "sslmode": "require", "api_key": "***" }, "expires_at": null,
            "places": ["the store"], "needed_by": ["load"], "problem": null,
        })
    );
    assert_eq!(program.ok(&["var", "get", "batch_size"]), "500\n");
    assert_eq!(
        program.json(&["secret", "ls", "--json"]),
        json!([
            { "name": "canary", "places": [], "needed_by": ["leak"] },
            { "name": "scoring-api-key", "places": ["the store"], "needed_by": ["score"] },
        ])
    );
    let listed = program.ok(&["conn", "ls"]);
    assert!(
        listed.contains("warehouse_default") && listed.contains("service"),
        "{listed}"
    );
    assert!(listed.contains("not found"), "{listed}");
    // nothing of it is readable in the store
    let mut kept = std::fs::read(program.folder.join(".orchestrator/state.db")).unwrap();
    kept.extend(
        std::fs::read(program.folder.join(".orchestrator/state.db-wal")).unwrap_or_default(),
    );
    let kept = String::from_utf8_lossy(&kept);
    for secret in ["k-123456", "p%2Fw", "p/w d-long", "db.example:5433"] {
        assert!(!kept.contains(secret), "{secret} is in the store");
    }
    for typed in [
        ["conn", "rm", "warehouse_default"],
        ["var", "rm", "batch_size"],
        ["secret", "rm", "scoring-api-key"],
    ] {
        program.ok(&typed);
        let refused = program.refused(&typed, "");
        assert!(refused.contains(&format!("`{}`", typed[2])), "{refused}");
    }
}

#[test]
fn what_is_needed_and_not_there_is_told() {
    let program = Program::new();
    let said = program.say(&["run", "scoring", "--param", "rows=7"], "");
    assert_eq!(said.code, 1, "{said:?}");
    for expected in [
        "flow `scoring` needs what is not there",
        "task `score`: secret `scoring-api-key` is not found; looked in the runtime, ORCHESTRATOR_SECRET_SCORING_API_KEY",
        "the store (off: neither `ORCHESTRATOR_KEY` nor `ORCHESTRATOR_KEY_FILE` is set)",
        "task `load`: connection `warehouse_default` is not found",
    ] {
        assert!(said.err.contains(expected), "{expected}: {said:?}");
    }
    let lines = said.err.lines().filter(|line| line.starts_with("  task"));
    assert_eq!(lines.count(), 4, "one line each: {said:?}");
    let checked = program.say(&["check", "--json"], "");
    assert_eq!(
        checked.code, 0,
        "flows with parameters are not checked whole: {checked:?}"
    );
    let found: Value = serde_json::from_str(&checked.out).unwrap();
    let kinds: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["kind"])
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "requirement").count(),
        6,
        "{found}"
    );
    let shown = program.json(&["show", "scoring", "--param", "rows=1", "--json"]);
    assert_eq!(
        shown["requirements"],
        json!([
            { "kind": "connection", "name": "warehouse_default", "tasks": ["load"] },
            { "kind": "variable", "name": "batch_size", "tasks": ["score"] },
            { "kind": "variable", "name": "scoring_api_url", "tasks": ["score"] },
            { "kind": "secret", "name": "scoring-api-key", "tasks": ["score"] },
        ])
    );
}

#[test]
fn weak_secrets_are_found_by_check() {
    let mut program = Program::new();
    program.set("ORCHESTRATOR_SECRET_SCORING_API_KEY", "short");
    program.set(
        "ORCHESTRATOR_CONN_WAREHOUSE_DEFAULT",
        "postgres://postgres:postgres@db.example/dwh",
    );
    let found = program.json(&["check", "--json"]);
    let weak: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["kind"] == "secret")
        .map(|found| found["problem"].as_str().unwrap())
        .collect();
    assert_eq!(weak.len(), 2, "{found}");
    assert!(
        weak.iter()
            .any(|problem| problem.contains("fewer than 8 bytes")),
        "{weak:?}"
    );
    assert!(
        weak.iter()
            .any(|problem| problem.contains("is a part of, a login")),
        "{weak:?}"
    );
}

#[test]
fn places_come_in_their_order() {
    let mut program = Program::with_key();
    let from = |program: &Program| {
        let shown = program.json(&["var", "get", "batch_size", "--json"]);
        (shown["value"].clone(), shown["places"].clone())
    };
    program.ok(&["var", "set", "batch_size", "1"]);
    assert_eq!(from(&program), (json!("1"), json!(["the store"])));
    let folder = program.folder.join("secrets");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("batch_size"), "2\n").unwrap();
    program.set("ORCHESTRATOR_SECRETS", folder.to_str().unwrap());
    let file = folder.join("batch_size").display().to_string();
    assert_eq!(from(&program), (json!("2"), json!([file, "the store"])));
    program.set("AIRFLOW_VAR_BATCH_SIZE", "3");
    program.set("ORCHESTRATOR_VAR_BATCH_SIZE", "4");
    assert_eq!(
        from(&program),
        (
            json!("4"),
            json!([
                "ORCHESTRATOR_VAR_BATCH_SIZE",
                "AIRFLOW_VAR_BATCH_SIZE",
                file,
                "the store"
            ])
        )
    );
    let listed = program.ok(&["var", "ls"]);
    assert!(
        listed.contains("ORCHESTRATOR_VAR_BATCH_SIZE; also AIRFLOW_VAR_BATCH_SIZE"),
        "{listed}"
    );
    // what would not be seen is not set by mistake
    let refused = program.refused(&["var", "set", "batch_size", "5"], "");
    assert!(
        refused.contains("ORCHESTRATOR_VAR_BATCH_SIZE has it, and comes before the store")
            && refused.contains("--anyway"),
        "{refused}"
    );
    program.ok(&["var", "set", "batch_size", "5", "--anyway"]);
}

#[test]
fn secrets_are_never_arguments() {
    let program = Program::with_key();
    let refused = program.refused(&["secret", "set", "canary", "k-123456"], "");
    assert!(refused.contains("unexpected argument"), "{refused}");
    let url = "postgres://me:pass-word@db.example/dwh";
    let refused = program.refused(&["conn", "set", "service", url], "");
    assert!(
        refused.contains("expected a URL without secrets as an argument"),
        "{refused}"
    );
    assert!(!refused.contains("pass-word"), "{refused}");
    program.ok(&["conn", "set", "service", "http://api.example/v1"]);
    for (typed, input, problem) in [
        (
            &["secret", "set", "canary"][..],
            "",
            "expected secret `canary` on standard input, got nothing",
        ),
        (&["secret", "set", "a b"], "k-1", "letters, digits"),
        (&["conn", "set", "service"], "no-connection", "is not set"),
    ] {
        let refused = program.refused(typed, input);
        assert!(refused.contains(problem), "{refused}");
    }
    assert!(
        !program
            .refused(&["conn", "set", "service"], "no-connection")
            .contains("no-connection")
    );
}

#[test]
fn without_a_key_nothing_is_sealed() {
    let mut program = Program::new();
    let refused = program.refused(&["secret", "set", "canary"], "k-123456");
    assert!(
        refused.contains("the store keeps no secrets: neither `ORCHESTRATOR_KEY`")
            && refused.contains("key new"),
        "{refused}"
    );
    program.set("ORCHESTRATOR_KEY", "not a key");
    let refused = program.refused(&["secret", "set", "canary"], "k-123456");
    assert!(
        refused.contains("32 bytes in base64") && !refused.contains("not a key"),
        "{refused}"
    );
}

#[test]
fn a_key_is_rotated() {
    let mut program = Program::with_key();
    let old = program.environment[0].1.clone();
    program.ok_with(&["secret", "set", "scoring-api-key"], "k-123456");
    program.ok_with(
        &["conn", "set", "service"],
        "http://me:long-password@api.example",
    );
    program.ok(&["var", "set", "batch_size", "1"]);
    let new = program.key();
    assert_ne!(old, new);
    program.set("ORCHESTRATOR_KEY", &new);
    let said = program.say(&["conn", "test", "service"], "");
    assert!(
        said.out.contains("`ORCHESTRATOR_KEY` does not have"),
        "{said:?}"
    );
    let refused = program.refused(&["key", "rotate"], "");
    assert!(refused.contains("nothing was sealed anew"), "{refused}");
    program.set("ORCHESTRATOR_KEY", &format!("{new},{old}"));
    assert_eq!(
        program.ok(&["key", "rotate"]),
        "2 of 2 sealed entries sealed anew with the first key\n"
    );
    program.set("ORCHESTRATOR_KEY", &new);
    let shown = program.json(&["conn", "show", "service", "--json"]);
    assert_eq!(shown["host"], "api.example");
    assert_eq!(
        program.ok(&["key", "rotate"]),
        "0 of 2 sealed entries sealed anew with the first key\n"
    );
}

#[test]
fn a_connection_is_tested_with_the_client_of_its_task() {
    let mut program = Program::new();
    program.set(
        "ORCHESTRATOR_CONN_WAREHOUSE_DEFAULT",
        "postgres://db.example/dwh",
    );
    let said = program.ok(&["conn", "test", "warehouse_default"]);
    assert_eq!(said, "connection `warehouse_default` works\n");
    for (url, problem) in [
        (
            "postgres://down.example/dwh",
            "down.example/dwh does not answer",
        ),
        ("postgres://db.example", "expected a database"),
        (
            "mysql://db.example/dwh",
            "expected the kind `postgres`, got `mysql`",
        ),
        ("nothing", "expected a URI"),
    ] {
        program.set("ORCHESTRATOR_CONN_WAREHOUSE_DEFAULT", url);
        let said = program.say(&["conn", "test", "warehouse_default", "--json"], "");
        assert_eq!(said.code, 1, "{said:?}");
        let told: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(told["works"], false);
        assert!(
            told["problem"].as_str().unwrap().contains(problem),
            "{told}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_before_a_run() {
    let mut program = Program::new();
    let folder = program.folder.join("secrets");
    std::fs::create_dir_all(folder.join("canary")).unwrap();
    program.set("ORCHESTRATOR_SECRETS", folder.to_str().unwrap());
    program.set(
        "ORCHESTRATOR_CONN_SERVICE",
        "http://me:long-password@api.example",
    );
    let said = program.say(&["run", "leaking", "--param", "how=error"], "");
    assert_eq!(said.code, 1, "{said:?}");
    let expected = format!(
        "task `leak`: secret `canary` cannot be looked up in {}: ",
        folder.join("canary").display()
    );
    assert!(said.err.contains(&expected), "{said:?}");
    assert_eq!(program.json(&["runs", "--json"]), json!([]));
}
