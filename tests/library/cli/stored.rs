//! What is kept: runs, reasons, cached results.

use std::io::Read as _;

use serde_json::json;

use super::{Program, plain};

#[test]
fn a_run_is_shown_with_its_tasks() {
    let program = Program::new();
    program.say("run mapped -p numbers=[2,3] --date 2026-01-31");
    let run = program.latest("mapped");
    assert_eq!(
        program.text(&format!("runs show {run}")),
        "run ID\nflow mapped\nstate failed\nkind manual\nfor TIME\ninterval TIME to TIME\naccepted TIME\nstarted TIME\n\
         finished TIME\ntook TOOK\nparameters numbers = [2,3]\nwhy task `halve[1]` failed: 3 is odd\n\n\
         TASK STATE ATTEMPTS TOOK NOTE\nhalve[0] success 1 TOOK\nhalve[1] failed 1 TOOK 3 is odd\n\
         total upstream_failed 0 1 of 2 elements of `halve` failed, first: task `halve[1]` failed: 3 is odd\n"
    );
    // 13 of the characters are of the millisecond
    assert_eq!(
        program.json(&format!("runs show {} --json", &run[..23]))["id"],
        json!(run)
    );
    let shown = program.json(&format!("runs show {run} --attempts --json"));
    assert_eq!(
        (&shown["parameters"], &shown["output"]),
        (&json!({"numbers": [2, 3]}), &json!(null))
    );
    assert_eq!(shown["tasks"][1]["error"], "3 is odd");
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
}

#[test]
fn runs_are_listed_by_filters() {
    let program = Program::new();
    program.say("run etl --date 2026-01-30");
    program.say("run etl --date 2026-01-31");
    program.say("run broken");
    assert_eq!(
        program.text("runs"),
        "RUN FLOW KIND STATE AGE FOR TOOK ERROR\nID broken manual failed TOOK TIME TOOK task `fetch` failed: no network\n\
         ID etl manual success TOOK TIME TOOK\nID etl manual success TOOK TIME TOOK\n"
    );
    let count = |typed: &str| {
        program
            .json(&format!("runs {typed} --json"))
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("--state failed --state cancelled"), 1);
    assert_eq!(count("--flow etl --until 2026-01-30"), 1);
    assert_eq!(count("--since 2026-01-31 --until 2026-02-01"), 1);
    assert_eq!(count("--kind scheduled"), 0);
    assert_eq!(count("--limit 2"), 2);
}

#[test]
fn reasons_are_shown_as_a_chain() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    assert_eq!(
        program.text(&format!("why {run} publish")),
        "publish: upstream_failed\n  task `fetch` failed: no network\n  fetch: failed\n    attempt 1 failed: no network\n"
    );
    let why = program.json(&format!("why {run} --json"));
    assert_eq!(
        (&why["task"], &why["state"]),
        (&json!(null), &json!("failed"))
    );
    assert_eq!(
        why["causes"][0]["reasons"][0],
        json!({"kind": "failed", "text": "attempt 1 failed: no network"})
    );
    let said = program.say(&format!("why {run} publich"));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: no task `publich`\n  there is `fetch`, `publish`\nhint: did you mean `publish`?\n"
    );
}

#[test]
fn a_mapped_task_is_summed_up() {
    let program = Program::new();
    program.say("run mapped -p numbers=[2,4,5,6]");
    let run = program.latest("mapped");
    let red = "halve[2]: failed\n    attempt 1 failed: 5 is odd\n";
    assert_eq!(
        program.text(&format!("why {run} halve")),
        format!("halve: failed\n  4 elements: 3 success, 1 failed\n  {red}")
    );
    assert_eq!(
        program.text(&format!("why {run} halve[2]")),
        red.replace("    ", "  ")
    );
    let said = program.say(&format!("why {run} halve[9]"));
    let sums_up = format!("hint: `why` summarizes them: `why {run} halve`\n");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        format!("error: no task `halve[9]`\n  `halve` has elements 0 to 3\n{sums_up}")
    );
    let said = program.say(&format!("cache explain {run} halve"));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        format!(
            "error: `halve` is mapped: each of its elements has a result of its own\n  it has elements 0 to 3\nhint: \
             name one: `cache explain {run} 'halve[0]'`\n"
        )
    );
    assert!(
        program
            .text(&format!("cache explain {run} halve[1]"))
            .starts_with("halve[1]: none: ")
    );
    let said = program.say(&format!("cache explain {run} halve[4]"));
    assert!(
        said.err
            .starts_with("error: no task `halve[4]`\n  `halve` has elements 0 to 3\n"),
        "{said:?}"
    );
}

#[test]
fn a_task_of_a_run_that_waits_is_known_by_its_flow() {
    let program = Program::new();
    program.say("run slow -p file=never --detach");
    let run = program.latest("slow");
    let nobody = "no process executes the run (it was left to a serving process, or its process ended): it continues with `serve` or `Runtime::resume`";
    assert_eq!(
        program.text(&format!("why {run} after_it")),
        format!("after_it: pending\n  {nobody}\n")
    );
    let said = program.say(&format!("why {run} after"));
    assert_eq!(said.code, 2);
    let expected = "error: no task `after`\n  there is `wait_for`, `after_it`\nhint: did you mean `after_it`?\n";
    assert_eq!(said.err, expected);
}

#[test]
fn a_failure_is_not_cached_and_says_so() {
    let program = Program::new();
    program.say("run cached -p customer=nobody");
    let run = program.latest("cached");
    assert_eq!(
        program.text(&format!("cache explain {run} score")),
        "score: miss: no result of the task was cached\nit failed, and failures are not cached\n"
    );
    let json = program.json(&format!("cache explain {run} score --json"));
    assert_eq!(
        (&json["key"], &json["no_entry"]),
        (
            &json!(null),
            &json!("it failed, and failures are not cached")
        )
    );
}

#[test]
fn cached_results_are_listed_explained_and_removed() {
    let program = Program::new();
    for customer in ["ada", "ada", "grace"] {
        program.say(&format!("run cached -p customer={customer}"));
    }
    let entries = program.json("cache ls --task score --json");
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert_eq!(entries[0]["task"], "tests::pipelines::score");
    let listed = program.text("cache ls");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let runs = program.json("runs --json");
    let run = |at: usize| runs[at]["id"].as_str().unwrap();
    let hit = program.json(&format!("cache explain {} score --json", run(1)));
    assert_eq!(
        (&hit["cache"], &hit["from_run"], &hit["key"]),
        (&json!("hit"), &runs[2]["id"], &entries[0]["key"])
    );
    let miss = program.json(&format!("cache explain {} score --json", run(0)));
    assert_eq!(
        (&miss["cache"], &miss["key"]),
        (&json!("miss"), &entries[1]["key"])
    );
    assert_eq!(
        (&miss["others"][0]["differs_in"], &miss["others"][0]["key"]),
        (&json!("inputs"), &entries[0]["key"])
    );
    let text = program.text(&format!("cache explain {} score", run(0)));
    assert!(
        text.starts_with("score: miss: results were cached, for other inputs\nkey "),
        "{text}"
    );
    let why = program.text(&format!("why {} score", run(0)));
    assert!(
        why.contains("it was computed although its task is cached: the inputs are new"),
        "{why}"
    );
    let key = entries[0]["key"].as_str().unwrap();
    assert_eq!(
        program.text(&format!("cache rm {}", &key[..12])),
        "1 cached result removed\n"
    );
    assert_eq!(
        program.text("cache rm --expired"),
        "0 cached results removed\n"
    );
    assert_eq!(
        program.text("cache rm --task score"),
        "1 cached result removed\n"
    );
    assert_eq!(program.json("cache ls --json"), json!([]));
}

#[test]
fn a_store_is_checked_and_pruned() {
    let program = Program::new();
    program.say("run etl");
    let text = program.text("db check");
    assert!(
        text.contains("\nruns 1\n") && text.ends_with("it is sound\n"),
        "{text}"
    );
    let check = program.json("db check --json");
    assert_eq!(
        (&check["counts"]["runs"], &check["problems"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        program.text("db prune"),
        "nothing was old enough to be pruned\n"
    );
    std::fs::write(
        program.file("notes"),
        "these are notes, of more than a few bytes, and no database",
    )
    .unwrap();
    let said = program.say("db check --store sqlite:notes");
    assert_eq!(said.code, 74);
    assert!(
        said.err.starts_with("error: the store failed\n") && said.err.contains("\nhint: "),
        "{said:?}"
    );
}

#[test]
fn a_reader_may_leave_before_the_end() {
    let program = Program::new();
    assert_eq!(
        program
            .say("backfill etl --from 2025-01-01 --to 2025-07-31")
            .code,
        0
    );
    let mut started = program.start("runs --limit 1000 --json");
    let mut first = [0; 1];
    let mut out = started.0.as_mut().unwrap().stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    drop(out);
    let said = started.end();
    assert_eq!((said.code, plain(&said.err)), (0, String::new()));
}

#[test]
fn control_characters_in_logs_and_errors_are_escaped() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    let connection = rusqlite::Connection::open(program.file(".orchestrator/state.db")).unwrap();
    let evil = "'one' || char(10) || 'two' || char(27) || ']0;title' || char(7, 13)";
    let changed = connection
        .execute(&format!("UPDATE logs SET message = {evil}"), [])
        .unwrap();
    assert!(changed > 0);
    drop(connection);
    let said = program
        .command(&format!("runs logs {run}"))
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    assert!(
        out.contains("one\n    two\\u{1b}]0;title\\u{7}\\r"),
        "{out:?}"
    );
}
