//! A program that gives its own runtime, and is told to use another store.

use serde_json::json;

use super::{Program, eventually};

const OTHER: &str = "--store sqlite:other.db";

#[test]
fn logs_of_a_run_are_kept_in_its_own_store() {
    let program = Program::with_pool();
    let said = program.say(&format!("{OTHER} run pooled"));
    assert_eq!((said.code, &*said.out), (0, "6\n"), "{said:?}");
    let run = program.json(&format!("{OTHER} runs --json"))[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let logged = program.text(&format!("{OTHER} runs logs {run}"));
    assert!(
        logged.contains("query: asking table=orders\n"),
        "{logged:?}"
    );
    assert_eq!(program.json("runs --json"), json!([]));
}

#[test]
fn another_store_is_served_though_a_flow_is_on_the_runtime_of_the_program() {
    let program = Program::with_pool();
    let mut serving = program.start(&format!("{OTHER} serve"));
    eventually("the program serves", || {
        let is_made = program.file("other.db").exists();
        serving.is_over()
            || is_made
                && program.json(&format!("{OTHER} db check --json"))["counts"]["deployments"] == 3
    });
    if serving.is_over() {
        panic!("{:?}", serving.end());
    }
    let said = program.say(&format!("{OTHER} run pooled --detach"));
    assert_eq!(said.code, 0, "{said:?}");
    let state = || program.json(&format!("{OTHER} runs --flow pooled --json"))[0]["state"].clone();
    eventually("the run is a success", || state() == "success");
    serving.signal("-TERM");
    let said = serving.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("deployment served flow=greeting "),
        "{said:?}"
    );
    assert_eq!(program.json("runs --json"), json!([]));
}
