//! `run`: what a flow returned on standard output, how far it is on standard error.

use serde_json::json;

use super::{Program, path, plain};

#[test]
fn run_prints_the_output_of_its_flow() {
    let program = Program::new();
    let said = program.say("run etl");
    assert_eq!((said.code, &*said.out), (0, "10\n"));
    assert_eq!(
        plain(&said.err),
        "run ID of etl\nextract: success TOOK\nload: success TOOK\nrun ID of `etl`: success after TOOK\n"
    );
    assert_eq!(program.say("run decide").out, "42\n");
    assert_eq!(program.say("run greeting").out, "\"hello, world\"\n");
    let runs = program.json("runs --json");
    assert_eq!(runs[2]["flow"], "etl");
    assert_eq!(
        (&runs[2]["kind"], &runs[2]["state"]),
        (&json!("manual"), &json!("success"))
    );
}

#[test]
fn standard_output_has_the_result_alone_whatever_tasks_print() {
    let program = Program::new();
    let file = program.file("there");
    std::fs::write(&file, "").unwrap();
    let said = program.say(&format!("run noisy -p file={}", path(&file)));
    assert_eq!((said.code, &*said.out), (0, "20\n"), "{said:?}");
    for line in [
        "wired",
        "printed 0",
        "complained 19",
        "half and half 7",
        "of a child",
        "a child complains",
    ] {
        assert!(
            said.err.lines().any(|said| said == line),
            "{line}: {said:?}"
        );
    }
    let run = program.latest("noisy");
    assert_eq!(program.say(&format!("runs rerun {run} --all")).out, "20\n");
    let filled = "backfill noisy --from 2026-01-01 --to 2026-01-02 --schedule @daily --json";
    assert_eq!(
        program.json(&format!("{filled} -p file={}", path(&file)))["succeeded"],
        2
    );
    // the function of a flow may print, too
    assert_eq!(
        program.json("graph noisy --json -p file=a")["nodes"][0]["key"],
        "print_all"
    );
    assert_eq!(
        program.json("show noisy --json -p file=a")["tasks"][0]["key"],
        "print_all"
    );
}

#[test]
fn parameters_are_checked_before_there_is_a_run() {
    let program = Program::new();
    let takes = "it takes `customer: String`, `amount: u64`, `times: Option<u32>`";
    for (typed, expected) in [
        (
            "-p customer=a",
            "the parameters of flow `invoice` are invalid\n  parameter `amount: u64`: it is missing",
        ),
        (
            "-p customer=a -p amount=-1",
            "the parameters of flow `invoice` are invalid\n  parameter `amount: u64`: invalid value: integer `-1`, expected u64",
        ),
        (
            "-p customer=a -p amount=many",
            "the parameters of flow `invoice` are invalid\n  parameter `amount: u64`: invalid type: string \"many\", expected u64",
        ),
    ] {
        let _case = crate::support::case(typed);
        let said = program.say(&format!("run invoice {typed}"));
        assert_eq!(said.code, 2, "{said:?}");
        assert_eq!(
            said.err,
            format!("error: {expected}\nhint: give it as `--param amount=7`\n")
        );
    }
    let said = program.say("run invoice -p custmer=a");
    let expected = format!(
        "error: flow `invoice` has no parameter `custmer`\n  {takes}\nhint: did you mean `customer`?\n"
    );
    assert_eq!((said.code, said.err), (2, expected));
    assert!(!program.has_store());
    let said = program.say("run invoice -p customer=7 -p amount=21 -p times=2");
    assert_eq!(
        said.out.split_whitespace().collect::<String>(),
        "[\"7\",42]"
    );
}

#[test]
fn a_run_that_fails_says_why_and_where_to_look() {
    let program = Program::new();
    let said = program.say("run mapped -p numbers=[2,3,4]");
    assert_eq!((said.code, &*said.out), (1, ""));
    assert_eq!(
        plain(&said.err),
        "run ID of mapped\nhalve: 3 elements\nhalve[1]: failed TOOK: 3 is odd\n\
         total: upstream_failed: 1 of 3 elements of `halve` failed, first: task `halve[1]` failed: 3 is odd\n\
         run ID of `mapped`: failed after TOOK\nerror: run ID of `mapped` failed\n  task `halve[1]` failed: 3 is odd\n\
         hint: `why ID` explains it, and `runs show ID` shows its tasks\n"
    );
}

#[test]
fn a_date_is_that_day_s_tick() {
    let program = Program::new();
    for (typed, date, start, end) in [
        (
            "etl --date 2026-01-31",
            "2026-01-31T05:00:00Z",
            "2026-01-30T05:00:00Z",
            "2026-01-31T05:00:00Z",
        ),
        (
            "etl --date 2026-07-01T06:00",
            "2026-07-01T04:00:00Z",
            "2026-06-30T04:00:00Z",
            "2026-07-01T04:00:00Z",
        ),
        (
            "broken --date 2026-01-31",
            "2026-01-31T00:00:00Z",
            "2026-01-31T00:00:00Z",
            "2026-02-01T00:00:00Z",
        ),
    ] {
        let _case = crate::support::case(typed);
        program.say(&format!("run {typed}"));
        let run = &program.json("runs --limit 1 --json")[0];
        assert_eq!(run["logical_date"], date, "{typed}");
        assert_eq!(
            run["interval"],
            json!({"start": start, "end": end}),
            "{typed}"
        );
        assert_eq!(run["kind"], "manual");
    }
    let said = program.say("run decide --date 2026-01-31");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: the flow has 4 ticks on 2026-01-31\n  2026-01-31T00:00, 2026-01-31T06:00, 2026-01-31T12:00, \
         2026-01-31T18:00\nhint: choose one: `--date 2026-01-31T00:00`\n"
    );
}

#[test]
fn there_is_one_run_for_a_key() {
    let program = Program::new();
    assert_eq!(program.say("run etl --key monday").out, "10\n");
    let again = program.say("run etl --key monday");
    assert_eq!((again.code, &*again.out), (0, "10\n"));
    assert!(
        again.err.contains("has the key, and succeeded"),
        "{again:?}"
    );
    assert_eq!(program.json("runs --json").as_array().unwrap().len(), 1);
    // what was left out the first time is null
    assert_eq!(program.say("run etl --key monday -p region=null").code, 0);
    let other = program.say("run etl --key monday -p region=south");
    assert_eq!(other.code, 2);
    assert!(
        plain(&other.err).starts_with("error: flow `etl` has another run with the key `monday`\n")
    );
    let other = program.say("run etl --key monday --date 2026-01-31");
    assert_eq!(other.code, 2);
    assert!(
        other
            .err
            .contains("got the logical date 2026-01-31 05:00:00 UTC"),
        "{other:?}"
    );
    let none = program.command("run etl --key").arg("").output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{none:?}");
    let left = program.say("run etl --key monday --detach");
    assert!(left.err.contains("has the key, and succeeded"), "{left:?}");
}

#[test]
fn refresh_option_computes_cached_results_again() {
    let program = Program::new();
    let cached = |typed: &str| {
        program.text(typed);
        let run = program.latest("cached");
        !program.json(&format!("runs show {run} --json"))["tasks"][0]["cached_from"].is_null()
    };
    assert!(!cached("run cached -p customer=ada"));
    assert!(cached("run cached -p customer=ada"));
    assert!(!cached("run cached -p customer=ada --refresh-cache"));
}

#[test]
fn a_run_that_is_stopped_is_left_and_goes_on_with_its_key() {
    let program = Program::new();
    let file = program.file("there");
    let typed = format!("run flaky --key a -p file={}", path(&file));
    let started = program.start(&typed);
    super::eventually("a run waits for its next attempt", || {
        let runs = program.json("runs --json");
        let id = runs[0]["id"].as_str().map(str::to_owned);
        id.is_some_and(|id| program.task_state(&id, "try_it") == "retrying")
    });
    started.signal("-TERM");
    let said = started.end();
    assert_eq!((said.code, &*said.out), (75, ""), "{said:?}");
    assert!(
        said.err
            .contains("stopped: 1 run is left; it goes on when the program serves again"),
        "{said:?}"
    );
    let run = program.latest("flaky");
    let why = program.text(&format!("why {run}"));
    assert!(
        why.contains(
            "no process executes the run (a shutdown left it unfinished, or its process died)"
        ),
        "{why}"
    );
    let cancelled = program.text(&format!("runs cancel {run}"));
    assert_eq!(cancelled, "run ID was cancelled\n");
}

#[test]
fn a_store_in_memory_keeps_nothing_for_others() {
    let program = Program::new();
    assert_eq!(program.say("--store memory run etl").out, "10\n");
    assert!(!program.has_store());
    let said = program.say("--store memory run etl --detach");
    assert_eq!(said.code, 2);
    assert!(
        said.err
            .ends_with("hint: leave `--detach` out, or name a store: `--store sqlite:PATH`\n"),
        "{said:?}"
    );
    assert!(
        program
            .text("db check --store memory")
            .contains("it is in memory")
    );
}

#[test]
fn a_program_with_a_runtime_keeps_its_runs_where_the_environment_says() {
    let program = Program::with_pool();
    let pooled = |store: &str| {
        program
            .command("run pooled")
            .env("ORCHESTRATOR_STORE", store)
            .output()
            .unwrap()
    };
    assert!(pooled("sqlite:elsewhere.db").status.success());
    assert!(program.file("elsewhere.db").exists() && !program.has_store());
    // set to nothing is not set
    assert!(pooled("").status.success());
    assert!(program.has_store());
    let said = super::Said::from(pooled("elsewhere.db"));
    assert!(said.err.contains("expected the URL of a store"), "{said:?}");
}

#[test]
fn run_command_says_what_its_run_waits_for() {
    let program = Program::new();
    let first = program.start("run slow -p file=never");
    super::eventually("the first has its turn", || {
        program.has_store() && program.json("runs --json")[0]["state"] == "running"
    });
    let second = program.start(&format!(
        "run slow -p file={}",
        path(&program.file("there"))
    ));
    super::eventually("the second waits", || {
        program.json("runs --json").as_array().unwrap().len() == 2
    });
    // it is said after a second
    std::thread::park_timeout(std::time::Duration::from_secs(2));
    std::fs::write(program.file("there"), "").unwrap();
    program.text(&format!(
        "runs cancel {}",
        program.json("runs --json")[1]["id"].as_str().unwrap()
    ));
    first.end();
    let said = second.end();
    assert!(
        said.code == 0
            && said
                .err
                .contains("it waits for a run slot: `max_active_runs` of its flow is 1"),
        "{said:?}"
    );
}

#[test]
fn missing_parameters_are_reported_together() {
    let said = Program::new().say("run invoice");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: the parameters of flow `invoice` are invalid\n  parameters `customer: String`, `amount: u64`: they are \
         missing\nhint: give them as `--param customer=… --param amount=7`\n"
    );
    let said = Program::new().say("run mapped");
    assert!(
        said.err
            .ends_with("hint: give it as `--param 'numbers=[7]'`\n"),
        "{said:?}"
    );
}

#[test]
fn a_flow_without_parameters_says_so_once() {
    let said = Program::new().say("run broken -p a=1");
    let expected =
        "error: flow `broken` has no parameter `a`\n  it takes none\nhint: leave `--param` out\n";
    assert_eq!((said.code, &*said.err), (2, expected));
}

#[test]
fn a_date_at_the_end_of_the_calendar_is_refused() {
    let program = Program::new();
    for typed in [
        "run broken --date +262142-12-31",
        "run etl --date +262142-12-31",
        "runs --until +262142-12-31",
    ] {
        let _case = crate::support::case(typed);
        let said = program.say(typed);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.err
                .starts_with("error: expected a year from 0 to 9999, got `+262142-12-31`\n"),
            "{said:?}"
        );
    }
}

#[test]
fn results_are_shown_as_the_json_of_their_types_with_all_digits() {
    let program = Program::new();
    let wide = "340282366920938463463374607431768211455";
    let said = program.say(&format!("run wide -p network=10.0.0.0 -p addresses={wide}"));
    assert_eq!(said.code, 0, "{said:?}");
    let expected = format!(
        "{{\n  \"addresses\": {wide},\n  \"half\": 0.1,\n  \"network\": \"10.0.0.0\"\n}}\n"
    );
    assert_eq!(said.out, expected);
    let run = program.latest("wide");
    let shown = program.say(&format!("runs show {run}")).out;
    assert!(shown.contains(&format!("addresses = {wide}")), "{shown}");
    assert!(
        shown.contains(&format!(
            "{{\"addresses\":{wide},\"half\":0.1,\"network\":\"10.0.0.0\"}}"
        )),
        "{shown}"
    );
    for typed in ["runs --json".to_owned(), format!("runs show {run} --json")] {
        let shown = program.say(&typed).out;
        assert!(
            shown.contains(&format!("\"addresses\": {wide}")) && !shown.contains("$orchestrator"),
            "{shown}"
        );
    }
    let said = program.say(&format!(
        "run wide -p network=10.0.0.0 -p addresses={wide}0"
    ));
    assert!(
        said.code == 2 && said.err.contains("parameter `addresses: u128`"),
        "{said:?}"
    );
}

#[test]
fn a_parameter_that_is_too_deep_is_refused_and_not_taken_as_a_text() {
    let program = Program::new();
    for levels in [65, 127, 200] {
        let _case = crate::support::case(format_args!("{levels} levels"));
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        let said = program.say(&format!("run mapped -p numbers={deep}"));
        let expected =
            "parameter `numbers: Vec<u64>`: expected at most 64 levels of nesting, got more";
        assert!(said.code == 2 && said.err.contains(expected), "{said:?}");
        // a text that looks like it is one
        let said = program.say(&format!("run greeting -p name={deep}"));
        assert_eq!(said.out, format!("\"hello, {deep}\"\n"), "{said:?}");
    }
    assert_eq!(
        program.json("runs --flow mapped --json"),
        serde_json::json!([])
    );
}
