//! Deployments: which one a command means, what is on record, and what is in force.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{Program, plain};

/// How long the interval of a run is.
fn length(run: &Value) -> TimeDelta {
    let at = |end: &str| -> DateTime<Utc> {
        let text = run["interval"][end].as_str().unwrap();
        text.parse().unwrap()
    };
    at("end") - at("start")
}

/// The latest run, of whatever flow.
fn last_run(program: &Program) -> Value {
    program.json("runs --limit 1 --json")[0].clone()
}

#[test]
fn a_run_belongs_to_the_deployment_that_it_names() {
    let program = Program::that_serves("regions");
    for (typed, expected) in [
        (
            "run greeting",
            "error: flow `greeting` has several deployments and no default one\n  there is `eu`, `us`\n\
             hint: choose one, such as `--deployment eu`\n",
        ),
        (
            "run greeting --deployment asia",
            "error: no deployment `asia` of flow `greeting`\n  there is `eu`, `us`\n\
             hint: `deployments ls greeting` lists those on record\n",
        ),
        (
            "run etl --deployment eu",
            "error: no deployment `eu` of flow `etl`\n  there is the default one\n\
             hint: `deployments ls etl` lists those on record\n",
        ),
        (
            "backfill broken --deployment eu --from 2026-01-01 --to 2026-01-02",
            "error: no deployment `eu` of flow `broken`\n  there is none on record, and the program serves none\n\
             hint: `deployments ls broken` lists those on record\n",
        ),
        (
            "backfill greeting --from 2026-01-01 --to 2026-01-02",
            "error: flow `greeting` has several deployments and no default one\n  there is `eu`, `us`\n\
             hint: choose one, such as `--deployment eu`\n",
        ),
        (
            "next greeting --deployment uss",
            "error: no deployment `uss` of flow `greeting`\n  there is `eu`, `us`\nhint: did you mean `us`?\n",
        ),
        (
            "run greeting --deployment us --date 2026-01-05",
            "error: the flow has 2 ticks on 2026-01-05\n  2026-01-05T12:00, 2026-01-05T12:30\n\
             hint: choose one: `--date 2026-01-05T12:00`\n",
        ),
    ] {
        let _case = crate::support::case(typed);
        let said = program.say(typed);
        assert_eq!((said.code, &*said.err), (2, expected));
    }
    assert!(!program.has_store());
    // it is not on record yet: what the program serves counts
    assert_eq!(
        program.say("run greeting --deployment eu").out,
        "\"hello, Europe\"\n"
    );
    let run = last_run(&program);
    assert_eq!(
        (&run["deployment"], length(&run)),
        (&json!("eu"), TimeDelta::hours(24))
    );
    // the parameters of its schedules, and what is typed
    let us = "run greeting --deployment us --date 2026-01-06";
    assert_eq!(program.say(us).out, "\"hello, America\"\n");
    let run = last_run(&program);
    assert_eq!(
        run["interval"],
        json!({"start": "2026-01-05T12:30:00Z", "end": "2026-01-06T12:00:00Z"})
    );
    let said = program.say(&format!("{us} --param name=Chile"));
    assert_eq!(said.out, "\"hello, Chile\"\n");
    let run = program.say("run greeting --deployment us --detach").out;
    let run = program.json(&format!("runs show {} --json", run.trim()));
    assert_eq!(
        (&run["deployment"], &run["parameters"]),
        (&json!("us"), &json!({"name": "America"}))
    );
    assert_eq!(program.json("deployments ls --json"), json!([]));
}

#[test]
fn a_run_without_a_name_belongs_to_the_default_deployment_or_to_the_only_one() {
    let program = Program::that_serves("region");
    assert_eq!(program.say("run greeting").out, "\"hello, Europe\"\n");
    assert_eq!(last_run(&program)["deployment"], "eu");
    // unnamed schedules are one deployment: its intervals are those of their union
    let program = Program::that_serves("union");
    assert_eq!(program.say("run greeting").out, "\"hello, world\"\n");
    let run = last_run(&program);
    assert_eq!(
        (&run["deployment"], length(&run)),
        (&json!(null), TimeDelta::hours(12))
    );
    program.say("run greeting --date 2026-01-31T18:00");
    assert_eq!(
        last_run(&program)["interval"],
        json!({"start": "2026-01-31T06:00:00Z", "end": "2026-01-31T18:00:00Z"})
    );
    // the schedule of the attribute gives way to those that the program serves
    let program = Program::that_serves("etl");
    program.say("run etl --date 2026-01-31");
    assert_eq!(last_run(&program)["logical_date"], "2026-01-31T08:00:00Z");
    program.say("run etl --date 2026-01-31 --deployment south");
    let run = last_run(&program);
    assert_eq!(
        (&run["logical_date"], &run["parameters"]["region"]),
        (&json!("2026-01-31T09:00:00Z"), &json!("south"))
    );
}

#[test]
fn what_is_on_record_counts_before_what_the_program_serves() {
    let mut program = Program::that_serves("regions");
    program.put_on_record("greeting", &["0 12 * * *", "30 12 * * 1"]);
    // a program that serves none of it
    program.serves = "nothing";
    let us = "run greeting --deployment us --date 2026-01-06";
    assert_eq!(program.say(us).out, "\"hello, America\"\n");
    assert_eq!(
        last_run(&program)["interval"]["start"],
        "2026-01-05T12:30:00Z"
    );
    let said = program.say(&format!("{us} --param name=Chile"));
    assert_eq!(said.out, "\"hello, Chile\"\n");
    let next = program.json("next greeting -n 30 --json");
    let of = |name: &str| {
        next.as_array()
            .unwrap()
            .iter()
            .find(|tick| tick["deployment"] == name)
    };
    assert_eq!(of("eu").unwrap()["schedule"], "0 6 * * *");
    assert!(of("us").is_some());
    let shown = program.text("show greeting");
    for line in [
        "in force eu: 0 6 * * *, with name = \"Europe\", since TIME\n",
        "in force us: 0 12 * * * and 30 12 * * 1, with name = \"America\", since TIME\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains("\nschedule "), "{shown}");
    assert!(
        program.text("flows").contains(
            "\ngreeting eu: 0 6 * * *; us: 0 12 * * *; us: 30 12 * * 1 TIME success TIME\n"
        )
    );
    // and one that serves one of them otherwise
    program.serves = "moved";
    let eu = "run greeting --deployment eu --date 2026-01-06";
    assert_eq!(program.say(eu).out, "\"hello, Europa\"\n");
    assert_eq!(last_run(&program)["logical_date"], "2026-01-06T06:00:00Z");
    let shown = program.text("show greeting --deployment eu");
    assert!(
        shown.contains(
            "\nschedule eu: 0 7 * * *\nin force eu: 0 6 * * *, with name = \"Europe\", since TIME\n"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("\n  name String default \"Europa\"\n"),
        "{shown}"
    );
    let json = program.json("show greeting --json");
    assert_eq!(
        (
            &json["schedules"][0]["deployment"],
            &json["deployments"][1]["name"]
        ),
        (&json!("eu"), &json!("us"))
    );
    // what is served as it is in force needs no mention
    program.serves = "regions";
    let shown = program.text("show greeting");
    assert!(
        shown.contains("\nschedule us: 0 12 * * *, with name = \"America\"\n")
            && !shown.contains("in force"),
        "{shown}"
    );
    let shown = program.text("show greeting --deployment us");
    assert!(
        shown.contains("default \"America\"") && !shown.contains("eu:"),
        "{shown}"
    );
}

#[test]
fn ticks_are_listed_by_deployment() {
    let program = Program::that_serves("regions");
    let ticks = program.json("next greeting -n 20 --json");
    let ticks = ticks.as_array().unwrap();
    assert!(ticks.is_sorted_by_key(|tick| tick["at"].as_str().unwrap()));
    let of_eu = ticks.iter().filter(|tick| tick["deployment"] == "eu");
    assert!((9..=10).contains(&of_eu.count()), "{ticks:#?}");
    let said = program.text("next greeting -n 20");
    assert!(
        said.lines().any(|line| line == "TIME eu 0 6 * * *")
            && said.lines().any(|line| line == "TIME us 30 12 * * 1"),
        "{said}"
    );
    let only = program.json("next greeting --deployment eu -n 2 --json");
    assert_eq!(
        (&only[0]["deployment"], &only[1]["schedule"]),
        (&json!("eu"), &json!("0 6 * * *"))
    );
    // `flows` shows the earliest of all
    let flows = program.json("flows --json");
    let of_flow = |flow: &&Value| flow["name"] == "greeting";
    let greeting = flows.as_array().unwrap().iter().find(of_flow).unwrap();
    assert_eq!(greeting["next"], ticks[0]["at"]);
    assert_eq!(
        greeting["schedules"],
        json!(["0 6 * * *", "0 12 * * *", "30 12 * * 1"])
    );
    let program = Program::that_serves("etl");
    let said = program.text("next etl -n 2");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["TIME (default)", "TIME south"]);
    // fractions of a second
    let program = Program::that_serves("quick");
    let said = program.say("next greeting -n 2").out;
    assert_eq!(
        said.lines()
            .filter(|line| line.contains(".500+00:00"))
            .count(),
        1,
        "{said}"
    );
}

#[test]
fn deployments_on_record_are_listed_and_removed() {
    let mut program = Program::that_serves("regions");
    let said = program.say("deployments ls");
    assert_eq!(
        (said.code, &*said.out, &*said.err),
        (
            0,
            "",
            "no deployments on record: there is no store `sqlite:.orchestrator/state.db`\n"
        )
    );
    let said = program.say("deployments rm greeting eu");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(!program.has_store());
    program.put_on_record("greeting", &["0 12 * * *", "30 12 * * 1"]);
    assert_eq!(
        program.text("deployments ls"),
        "FLOW DEPLOYMENT SCHEDULES PARAMETERS SINCE NEXT\n\
         decide (default) 0 */6 * * * TIME TIME\n\
         etl (default) 0 6 * * * in Europe/Zurich TIME TIME\n\
         greeting eu 0 6 * * * name = \"Europe\" TIME TIME\n\
         greeting us 0 12 * * *; 30 12 * * 1 name = \"America\" TIME TIME\n"
    );
    let listed = program.json("deployments ls greeting --json");
    assert_eq!(
        (&listed[0]["name"], &listed[1]["parameters"]),
        (&json!("eu"), &json!({"name": "America"}))
    );
    for (typed, expected) in [
        ("deployments ls greting", "error: no flow `greting`\n"),
        (
            "deployments rm greeting",
            "error: no default deployment of flow `greeting` on record\n  there is `eu`, `us`\n\
             hint: name one: `deployments rm greeting NAME`\n",
        ),
        (
            "deployments rm greeting asia",
            "error: no deployment `asia` of flow `greeting` on record\n  there is `eu`, `us`\n\
             hint: `deployments ls greeting` lists them\n",
        ),
        (
            "deployments rm broken",
            "error: no default deployment of flow `broken` on record\n  none of its deployments is\n\
             hint: `deployments ls` lists those of all flows\n",
        ),
        ("deployments rm greting", "error: no flow `greting`\n"),
    ] {
        let _case = crate::support::case(typed);
        let said = program.say(typed);
        assert_eq!((said.code, &*said.out), (2, ""), "{said:?}");
        assert!(said.err.starts_with(expected), "{said:?}");
    }
    let said = program.say("deployments rm greeting eu");
    assert_eq!(
        (said.code, &*said.out, &*said.err),
        (
            0,
            "deployment `eu` of `greeting` is no longer on record; its runs are kept\n",
            "a process that serves it creates no more runs of it until it serves it anew; it is new then: it has missed \
             nothing\n"
        )
    );
    assert_eq!(
        program.text("deployments rm etl"),
        "the default deployment of `etl` is no longer on record; its runs are kept\n"
    );
    program.serves = "nothing";
    let listed = program.json("deployments ls --json");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    // the only one that is left
    assert_eq!(program.say("run greeting").out, "\"hello, America\"\n");
    assert_eq!(last_run(&program)["deployment"], "us");
}

#[test]
fn schedules_given_to_the_command_line_replace_that_of_the_attribute() {
    let program = Program::that_serves("etl");
    program.put_on_record("etl", &["0 8 * * *"]);
    let listed = program.json("deployments ls etl --json");
    let names_and_schedules: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["name"], &one["schedules"]))
        .collect();
    assert_eq!(
        names_and_schedules,
        [
            (&json!(null), &json!(["0 8 * * *"])),
            (&json!("south"), &json!(["0 9 * * *"]))
        ]
    );
    // only what is named
    let program = Program::that_serves("regions");
    let serving = program.start("serve greeting");
    super::eventually("it serves", || {
        program.has_store()
            && program
                .json("deployments ls --json")
                .as_array()
                .unwrap()
                .len()
                == 2
    });
    serving.signal("-TERM");
    let said = serving.end();
    assert!(said.code == 0 && !said.err.contains("flow=etl"), "{said:?}");
}

#[test]
fn runs_are_listed_with_their_deployments() {
    let program = Program::that_serves("regions");
    program.say("run etl");
    let runs = program.text("runs");
    assert!(
        runs.starts_with("RUN FLOW KIND STATE "),
        "no column without a name: {runs}"
    );
    program.say("run greeting --deployment eu");
    program.say("run greeting --deployment us");
    let runs = program.text("runs");
    assert!(
        runs.starts_with(
            "RUN FLOW DEPLOYMENT KIND STATE AGE FOR TOOK ERROR\nID greeting us manual success "
        ),
        "{runs}"
    );
    assert!(runs.contains("\nID etl manual success "), "{runs}");
    let runs = program.json("runs --deployment eu --json");
    assert_eq!(
        (runs.as_array().unwrap().len(), &runs[0]["deployment"]),
        (1, &json!("eu"))
    );
    assert_eq!(program.json("runs --deployment asia --json"), json!([]));
    let run = program.latest("greeting");
    let shown = program.text(&format!("runs show {run}"));
    assert!(
        shown.contains("\nflow greeting\ndeployment us\nstate success\n"),
        "{shown}"
    );
    let shown = program.text(&format!("runs show {}", program.latest("etl")));
    assert!(!shown.contains("deployment"), "{shown}");
}

#[test]
fn timetables_of_the_program_are_known_by_their_identity() {
    let mut program = Program::that_serves("own");
    program.put_on_record("greeting", &["a quarter past"]);
    assert_eq!(program.say("run greeting").out, "\"hello, world\"\n");
    assert_eq!(length(&last_run(&program)), TimeDelta::hours(1));
    program.serves = "nothing";
    let said = program.say("run greeting");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err
            .starts_with("error: the schedules of flow `greeting` cannot be computed\n  ")
            && said.err.contains("\nhint: serve it anew, "),
        "{said:?}"
    );
    let said = program.say("next greeting");
    assert!(
        said.out.is_empty()
            && said
                .err
                .starts_with("the ticks of flow `greeting` cannot be computed: "),
        "{said:?}"
    );
    let listed = plain(&program.say("deployments ls greeting").out);
    assert!(
        listed.contains("greeting (default) unreadable: "),
        "{listed}"
    );
}
