//! What can be read without any run, and without a store.

use super::Program;

#[test]
fn flows_are_listed_without_a_store() {
    let program = Program::new();
    assert_eq!(
        program.text("flows"),
        "FLOW SCHEDULE STATE NEXT LAST RUN FOR\nadaptive\nbroken\ncached\ndecide 0 */6 * * * TIME\nempty\netl 0 6 * * * in Europe/Zurich TIME\n\
         flaky\ngreeting */5 * * * * TIME\ninvoice\nmapped\nnoisy\npooled\nslow\nstuck\nwide\n"
    );
    let flows = program.json("flows --json");
    let etl = flows
        .as_array()
        .unwrap()
        .iter()
        .find(|flow| flow["name"] == "etl")
        .unwrap();
    assert_eq!(
        etl["description"],
        "Loads the customers of a region.\n\nEach day at six."
    );
    assert_eq!(
        etl["schedules"],
        serde_json::json!(["0 6 * * * in Europe/Zurich"])
    );
    assert_eq!(etl["tags"], serde_json::json!(["customers", "daily"]));
    assert_eq!(
        (&etl["paused"], &etl["last_run"]),
        (&false.into(), &serde_json::Value::Null)
    );
    for typed in [
        "show etl",
        "show decide",
        "graph etl",
        "next etl",
        "check",
        "completions fish",
        "--help",
    ] {
        program.say(typed);
    }
    assert!(!program.has_store());
}

#[test]
fn a_flow_is_shown_with_its_parameters_and_tasks() {
    let program = Program::new();
    // the line of the attribute, which is the one before the function
    let mut lines = include_str!("../../cli/pipelines.rs").lines();
    let line = lines.position(|line| line.starts_with("fn etl(")).unwrap();
    assert_eq!(
        program.text("show etl"),
        format!(
            "etl\n  Loads the customers of a region.\n  Each day at six.\ntags customers, daily\n\
             source tests/cli/pipelines.rs:{line}\nschedule 0 6 * * * in Europe/Zurich\n\
             max active runs 1\nparameters\n  region Option<String> optional\ntasks\n  \
             extract Reads the rows of a region.\n  load after extract Adds rows up.\n"
        )
    );
    assert!(
        program
            .text("show invoice")
            .ends_with("tasks\n  known when its parameters are given: `--param NAME=VALUE`\n")
    );
    assert!(
        program
            .text("show invoice -p customer=a -p amount=1")
            .contains("multiply")
    );
    assert!(program.text("show decide").contains("known after a run"));
    // what the program serves it with
    assert!(
        program
            .text("show greeting")
            .contains("name String default \"world\"")
    );
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
    assert!(
        program
            .text("graph etl --format dot")
            .starts_with("digraph \"etl\" {")
    );
    let json = program.json("graph mapped -p numbers=[1] --format json");
    assert_eq!(
        json["edges"][0],
        serde_json::json!({"from": "halve", "to": "total", "parameter": "halves"})
    );
    assert_eq!(json["nodes"][0]["mapped"], true);
    let said = program.say("graph decide");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: flow `decide` has no graph before it runs\n  an `async fn` flow builds its graph while it runs\n\
         hint: `runs show ID` shows the tasks that a run of it had\n"
    );
}

#[test]
fn upcoming_ticks_are_shown_in_their_timezone() {
    let program = Program::new();
    let ticks = program.json("next etl -n 400 --json");
    let ticks = ticks.as_array().unwrap();
    assert_eq!(ticks.len(), 400);
    assert!(
        ticks
            .iter()
            .all(|tick| tick["local"].as_str().unwrap().contains("T06:00:00+0")),
        "{ticks:?}"
    );
    let changes: Vec<&str> = ticks
        .iter()
        .filter_map(|tick| tick["clock_change"].as_str())
        .collect();
    for change in [
        "the clocks went forward: +01:00 → +02:00",
        "the clocks went back: +02:00 → +01:00",
    ] {
        assert!(
            (1..=2).contains(&changes.iter().filter(|told| **told == change).count()),
            "{changes:?}"
        );
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
        said.out.starts_with(
            "error: flow `pooled`: task `query` takes 1 slot(s) of the pool `database`"
        ),
        "{said:?}"
    );
    assert!(
        said.out.ends_with("\n15 flows: 1 error, 4 warnings\n"),
        "{said:?}"
    );
    let found = program.json("check --json");
    assert_eq!(found[0]["severity"], "error");
    assert_eq!(found.as_array().unwrap().len(), 5);
    let program = Program::with_pool();
    assert_eq!(program.say("check").code, 0);
    assert_eq!(program.say("check --strict").code, 1);
}

#[test]
fn deployments_that_would_not_be_served_are_found() {
    let program = Program::that_serves("faults");
    let checked = program.say("check --allow docs,tags,pool");
    assert_eq!(checked.code, 1, "{checked:?}");
    for problem in [
        "its schedules have different parameters, {\"name\":\"one\"} and {\"name\":\"two\"}: give each of them a name of \
         its own, such as `.named(\"eu\")`",
        "deployment `late`: its schedules are served with different policies for missed ticks or overlap: ",
        "deployment `twice`: `0 6 * * *` is given twice",
        "expected the name of a deployment to be at least one character, got ``",
        "`overlap` has no effect without `max_active_runs`: ",
        "deployment `stuck`: ",
    ] {
        let line = format!("error: flow `greeting`: {problem}");
        assert!(checked.out.contains(&line), "{problem}: {checked:?}");
    }
    assert!(
        checked.out.ends_with("15 flows: 7 errors, 0 warnings\n"),
        "six and the pool that is missing: {checked:?}"
    );
    assert!(!program.has_store());
    for serves in ["regions", "union", "etl", "quick", "own"] {
        let checked = Program::that_serves(serves).say("check --allow docs,tags,pool");
        let only_the_pool = checked.out.ends_with("\n15 flows: 1 error, 0 warnings\n");
        assert!(only_the_pool, "{serves}: {checked:?}");
    }
}

#[test]
fn completion_scripts_are_printed_for_each_shell() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = program.text(&format!("completions {shell}"));
        assert!(
            script.contains("pipelines") && script.contains("backfill"),
            "{shell}"
        );
    }
    program.text("completions zsh --output _pipelines");
    assert!(program.file("_pipelines").exists());
}

#[test]
fn empty_sections_say_none() {
    let program = Program::new();
    assert!(
        program
            .text("show empty")
            .ends_with("parameters\n  none\ntasks\n  none\n")
    );
    let said = program.say("show pooled");
    assert!(
        said.out.ends_with("tasks\n  query  Asks a database.\n"),
        "{said:?}"
    );
    let said = program.say("next etl -n 400");
    assert!(
        said.out
            .lines()
            .any(|line| line.contains("0  the clocks went ")),
        "{said:?}"
    );
}

#[test]
fn async_flow_has_no_graph_before_it_runs() {
    let program = Program::new();
    for typed in ["show adaptive", "show adaptive -p times=2"] {
        let _case = crate::support::case(typed);
        let shown = program.text(typed);
        assert!(
            shown.ends_with(
                "tasks\n  known after a run: an `async fn` flow builds its graph while it runs\n"
            ),
            "{shown}"
        );
    }
    for typed in ["graph adaptive", "graph adaptive -p times=2 --json"] {
        let _case = crate::support::case(typed);
        let said = program.say(typed);
        assert_eq!(said.code, 2);
        assert!(
            said.err
                .starts_with("error: flow `adaptive` has no graph before it runs\n"),
            "{said:?}"
        );
    }
}

#[test]
fn a_graph_is_json_by_either_name() {
    let program = Program::new();
    assert_eq!(
        program.json("graph etl --json"),
        program.json("graph etl --format json")
    );
    assert_eq!(program.say("graph etl --json --format dot").code, 2);
}

#[test]
fn schedule_is_json_by_fields() {
    let schedules = &Program::new().json("show etl --json")["schedules"];
    let expected = serde_json::json!([
        {"deployment": null, "text": "0 6 * * * in Europe/Zurich", "cron": "0 6 * * *", "timezone": "Europe/Zurich",
         "parameters": {}}
    ]);
    assert_eq!(*schedules, expected);
}

#[test]
fn number_of_ticks_is_bounded() {
    let program = Program::new();
    for count in ["0", "10001", "18446744073709551615"] {
        let _case = crate::support::case(format_args!("{count}"));
        let said = program.say(&format!("next etl -n {count}"));
        assert_eq!((said.code, &*said.out), (2, ""), "{said:?}");
    }
    assert_eq!(program.say("next etl -n 10000").out.lines().count(), 10_000);
}

#[test]
fn missing_docs_and_tags_are_one_line_each_and_may_be_allowed() {
    let program = Program::new();
    let said = program.say("check");
    for line in [
        "warning: task `measure`: it takes 1 slot(s) of the pool `sensors`, which the runtime does not have: add it",
        "warning: 1 task without docs (comments `///` above them): `greet`\n",
        "warning: 1 flow without docs (comments `///` above them): `greeting`\n",
        "warning: 1 flow without tags (`#[flow(tags = [\"…\"])]`): `greeting`\n",
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    // it is an error of the flow that has it
    assert!(!said.out.contains("warning: task `query`"), "{said:?}");
    let program = Program::with_pool();
    assert_eq!(program.say("check --strict --allow docs,tags").code, 1);
    let said = program.say("check --strict --allow docs,tags --allow pool");
    assert_eq!(
        (said.code, &*said.out),
        (0, "15 flows: no problems found\n")
    );
    assert_eq!(program.say("check --allow flow").code, 2);
}

#[test]
fn names_of_flows_are_completed() {
    let program = Program::new();
    for shell in ["bash", "zsh"] {
        assert!(
            program
                .say(&format!("completions {shell}"))
                .out
                .contains("invoice"),
            "{shell}"
        );
    }
    // and what is typed is read as ever
    assert!(
        program
            .say("show invoise")
            .err
            .ends_with("hint: did you mean `invoice`?\n")
    );
}

#[test]
fn store_option_comes_after_a_commands_own_options() {
    let help = Program::new().text("runs --help");
    let [store, json] = ["--store", "--json"].map(|option| help.find(option).unwrap());
    assert!(store > json, "{help}");
}
