//! What can be read without any run, and without a store.

use super::Program;

#[test]
fn flows_are_listed_without_a_store() {
    let program = Program::new();
    assert_eq!(
        program.text("flows"),
        "FLOW SCHEDULE STATE NEXT LAST RUN FOR\nbroken\ncached\ndecide 0 */6 * * * TIME\netl 0 6 * * * in Europe/Zurich TIME\n\
         flaky\ngreeting */5 * * * * TIME\ninvoice\nmapped\npooled\nslow\n"
    );
    let flows = program.json("flows --json");
    let etl = flows.as_array().unwrap().iter().find(|flow| flow["name"] == "etl").unwrap();
    assert_eq!(etl["description"], "Loads the customers of a region.\n\nEach day at six.");
    assert_eq!(etl["schedules"], serde_json::json!(["0 6 * * * in Europe/Zurich"]));
    assert_eq!(etl["tags"], serde_json::json!(["customers", "daily"]));
    assert_eq!((&etl["paused"], &etl["last_run"]), (&false.into(), &serde_json::Value::Null));
    for typed in ["show etl", "show decide", "graph etl", "next etl", "check", "completions fish", "--help"] {
        program.say(typed);
    }
    assert!(!program.has_store());
}

#[test]
fn a_flow_is_shown_with_its_parameters_and_tasks() {
    let program = Program::new();
    assert_eq!(
        program.text("show etl"),
        "etl\n  Loads the customers of a region.\n  Each day at six.\ntags customers, daily\n\
         source tests/cli/pipelines.rs:24\nschedule 0 6 * * * in Europe/Zurich\nmax active runs 1\nparameters\n  \
         region Option<String> optional\ntasks\n  extract Reads the rows of a region.\n  \
         load after extract Adds rows up.\n"
    );
    assert!(
        program.text("show invoice").ends_with("tasks\n  known when its parameters are given: `--param NAME=VALUE`\n")
    );
    assert!(program.text("show invoice -p customer=a -p amount=1").contains("multiply"));
    assert!(program.text("show decide").contains("known when it has run"));
    // what the program serves it with
    assert!(program.text("show greeting").contains("name String default \"world\""));
    let json = program.json("show invoice --json");
    assert_eq!(
        json["parameters"][1],
        serde_json::json!({"name": "amount", "type": "u64", "required": true, "default": null})
    );
    assert_eq!(json["tasks"], serde_json::Value::Null);
    assert_eq!(program.json("show etl --json")["tasks"][1]["key"], "load");
}

#[test]
fn a_graph_is_drawn_in_three_languages() {
    let program = Program::new();
    assert!(program.text("graph etl").contains("n0 -->|rows| n1"));
    assert!(program.text("graph etl --format dot").starts_with("digraph \"etl\" {"));
    let json = program.json("graph mapped -p numbers=[1] --format json");
    assert_eq!(json["edges"][0], serde_json::json!({"from": "halve", "to": "total", "parameter": "halves"}));
    assert_eq!(json["nodes"][0]["mapped"], true);
    let said = program.say("graph decide");
    assert_eq!(said.code, 1);
    assert_eq!(
        said.err,
        "error: flow `decide` has no graph before it runs\n  it decides as it goes (`async fn`)\n\
         hint: `runs show ID` shows the tasks that a run of it had\n"
    );
}

#[test]
fn the_ticks_to_come_are_told_in_their_zone() {
    let program = Program::new();
    let ticks = program.json("next etl -n 400 --json");
    let ticks = ticks.as_array().unwrap();
    assert_eq!(ticks.len(), 400);
    assert!(ticks.iter().all(|tick| tick["local"].as_str().unwrap().contains("T06:00:00+0")), "{ticks:?}");
    let changes: Vec<&str> = ticks.iter().filter_map(|tick| tick["clock_change"].as_str()).collect();
    for change in ["the clocks went forward: +01:00 → +02:00", "the clocks went back: +02:00 → +01:00"] {
        assert!((1..=2).contains(&changes.iter().filter(|told| **told == change).count()), "{changes:?}");
    }
    assert_eq!(program.text("next greeting -n 2").lines().count(), 2);
    assert!(program.text("next etl -n 400").contains(changes[0]));
}

#[test]
fn flows_are_checked_without_being_run() {
    let program = Program::new();
    let said = program.say("check");
    assert_eq!(said.code, 1);
    assert!(
        said.out.starts_with("error: flow `pooled`: task `query` takes 1 slot(s) of the pool `database`"),
        "{said:?}"
    );
    assert!(said.out.contains("\nwarning: task `greet`: it has no docs"), "{said:?}");
    assert!(said.out.ends_with("\n10 flow(s): 1 error(s), 3 warning(s)\n"), "{said:?}");
    let found = program.json("check --json");
    assert_eq!(found[0]["severity"], "error");
    assert_eq!(found.as_array().unwrap().len(), 4);
    let program = Program::with_pool();
    assert_eq!(program.say("check").code, 0);
    assert_eq!(program.say("check --strict").code, 1);
}

#[test]
fn shells_are_given_what_they_complete_by() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = program.text(&format!("completions {shell}"));
        assert!(script.contains("pipelines") && script.contains("backfill"), "{shell}");
    }
    program.text("completions zsh --output _pipelines");
    assert!(program.file("_pipelines").exists());
}
