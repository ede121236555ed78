//! `backfill`.

use serde_json::{Value, json};

use super::{Program, plain};

#[test]
fn a_backfill_makes_each_run_once() {
    let program = Program::new();
    let january = "backfill etl --from 2026-01-01 --to 2026-01-31";
    let plan = program.text(&format!("{january} --dry-run"));
    assert!(
        plan.starts_with(
            "backfill of etl by 0 6 * * * in Europe/Zurich: 31 of 31 ticks to process"
        ),
        "{plan}"
    );
    let said = program.say(january);
    assert_eq!(
        (said.code, &*said.out),
        (
            0,
            "31 ticks: 31 created, 0 skipped, 31 succeeded, 0 failed\n"
        )
    );
    assert_eq!(said.err.lines().count(), 10, "{said:?}");
    assert!(
        said.err.ends_with("100%: 31 of 31 ticks, 0 failed\n"),
        "{said:?}"
    );
    assert_eq!(
        program.text(january),
        "31 ticks: 0 created, 31 skipped, 0 succeeded, 0 failed\n"
    );
    let runs = program.json("runs --kind backfill --since 2026-01-30 --until 2026-01-31 --json");
    assert_eq!(runs.as_array().unwrap().len(), 2);
    let plan = program.json(&format!("{january} --dry-run --json"));
    assert_eq!(
        (&plan[0]["action"], &plan[0]["logical_date"]),
        (&"skip".into(), &"2026-01-01T05:00:00Z".into())
    );
}

#[test]
fn a_backfill_with_failures_fails() {
    let program = Program::new();
    let typed = "backfill broken --from 2026-01-01 --to 2026-01-02 --max-active-runs 1 --newest-first --schedule @daily \
                 --timezone Europe/Zurich";
    let said = program.say(typed);
    assert_eq!(
        (said.code, &*said.out),
        (1, "2 ticks: 2 created, 0 skipped, 0 succeeded, 2 failed\n"),
        "{said:?}"
    );
    assert_eq!(
        plain(&said.err),
        "50%: 1 of 2 ticks, 1 failed\n100%: 2 of 2 ticks, 2 failed\n  TIME failed ID\n  TIME failed ID\n\
         error: of the backfill of `broken`, 2 runs did not succeed\n\
         hint: `why ID` explains each; the same command with `--reprocess failed` re-runs them\n"
    );
    assert!(
        said.err.contains("2026-01-01T23:00:00Z") && said.err.contains("2025-12-31T23:00:00Z"),
        "{said:?}"
    );
}

#[test]
fn invalid_backfills_are_refused_with_the_reason() {
    let program = Program::new();
    let dates = "--from 2026-01-01 --to 2026-01-02";
    for (typed, expected) in [
        (
            format!("broken {dates}"),
            "error: flow `broken` has no schedule\n\
             hint: give one with `--schedule \"0 6 * * *\"`, and `--timezone` if it is not UTC\n",
        ),
        (
            format!("broken {dates} --schedule @daily --timezone Europe/Zurch"),
            "error: no time zone `Europe/Zurch`\nhint: did you mean `Europe/Zurich`?\n",
        ),
        (
            "etl --from 2026-01-02 --to 2026-01-01".to_owned(),
            "error: expected the first date not to be after the last, got 2026-01-02 and 2026-01-01\n\
             hint: swap `--from` and `--to`\n",
        ),
    ] {
        let _case = crate::support::case(&typed);
        let said = program.say(&format!("backfill {typed}"));
        assert_eq!((said.code, &*said.err), (2, expected));
    }
    assert!(!program.has_store());
}

#[test]
fn a_backfill_is_of_all_schedules_of_a_deployment() {
    let program = Program::that_serves("union");
    let january = "backfill greeting --from 2026-01-01 --to 2026-01-02";
    let plan = program.text(&format!("{january} --dry-run"));
    assert!(
        plan.starts_with(
            "backfill of greeting by 0 6 * * * and 0 18 * * *: 4 of 4 ticks to process"
        ),
        "{plan}"
    );
    assert_eq!(
        program.text(january),
        "4 ticks: 4 created, 0 skipped, 4 succeeded, 0 failed\n"
    );
    let run = &program.json("runs --until 2026-01-01T06:00 --json")[0];
    assert_eq!(
        run["interval"],
        json!({"start": "2025-12-31T18:00:00Z", "end": "2026-01-01T06:00:00Z"})
    );
    let program = Program::that_serves("regions");
    let of = |typed: &str| {
        let said = program.say(&format!("{january} --deployment {typed}"));
        (said.code, said.out)
    };
    let done = "2 ticks: 2 created, 0 skipped, 2 succeeded, 0 failed\n".to_owned();
    assert_eq!(of("eu"), (0, done.clone()));
    // a tick of its own, whatever other deployments have, with its own parameters or those typed
    assert_eq!(of("us --schedule @daily"), (0, done.clone()));
    assert_eq!(of("us --param name=Chile"), (0, done));
    let runs = program.json("runs --deployment us --until 2026-01-01 --json");
    let names: Vec<&Value> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["parameters"]["name"])
        .collect();
    assert_eq!(names, ["Chile", "America"]);
}

#[test]
fn ticks_that_have_another_run_are_named_and_not_counted_as_done() {
    let program = Program::new();
    let january = "backfill etl --from 2026-01-01 --to 2026-01-12";
    program.text(january);
    let south = format!("{january} --param region=south");
    let plan = program.say(&format!("{south} --dry-run"));
    let what_to_do = "a tick has one run: use the schedule and the parameters of that run, or leave its date out";
    assert_eq!(
        (plan.code, &*plan.err),
        (0, &*format!("12 ticks have another run: {what_to_do}\n"))
    );
    let plan = program.json(&format!("{south} --dry-run --json"));
    assert_eq!(
        (&plan[0]["action"], &plan[0]["difference"]),
        (
            &json!("different"),
            &json!("its run has no region, not region = \"south\"")
        )
    );
    let said = program.say(&south);
    assert_eq!(
        (said.code, &*said.out),
        (
            1,
            "12 ticks: 0 created, 0 skipped, 12 different, 0 succeeded, 0 failed\n"
        ),
        "{said:?}"
    );
    let text = plain(&said.err);
    let (ticks, end) = text.split_once("  and 2 more\n").unwrap();
    let difference = "  TIME different ID: its run has no region, not region = \"south\"\n";
    assert!(ticks.ends_with(&difference.repeat(10)), "{text}");
    assert_eq!(
        end,
        format!("error: of the backfill of `etl`, 12 ticks have another run\nhint: {what_to_do}\n")
    );
    let done = program.json(&format!("{south} --json"));
    assert_eq!(
        (
            &done["skipped"],
            done["different"].as_array().unwrap().len(),
            &done["different"][0]["logical_date"]
        ),
        (&json!(0), 12, &json!("2026-01-01T05:00:00Z"))
    );
}

#[test]
fn manual_runs_are_adopted_where_asked_for() {
    let program = Program::new();
    program.say("run etl --date 2026-01-01");
    let manual = program.latest("etl");
    let january = "backfill etl --from 2026-01-01 --to 2026-01-02";
    let plan = program.json(&format!("{january} --dry-run --json"));
    assert_eq!(
        (&plan[0]["action"], &plan[0]["manual"], &plan[1]["manual"]),
        (&json!("create"), &json!(manual), &json!(null))
    );
    let said = program.say(&format!("{january} --adopt-manual"));
    assert_eq!(
        (said.code, &*said.out),
        (0, "2 ticks: 1 created, 1 skipped, 1 succeeded, 0 failed\n")
    );
    assert!(
        said.err.ends_with("  1 skipped: a manual run succeeded\n"),
        "{said:?}"
    );
}

#[test]
fn ticks_beyond_the_limit_are_left_out_where_asked_for() {
    let overlap = |overlap: &str| {
        let program = Program::new();
        let typed = "backfill etl --from 2026-01-01 --to 2026-01-12 --max-active-runs 1 --overlap";
        let done = program.json(&format!("{typed} {overlap} --json"));
        (
            done["created"].as_u64().unwrap(),
            done["skipped"].as_u64().unwrap(),
        )
    };
    assert_eq!(overlap("queue"), (12, 0));
    assert_eq!(overlap("skip"), (1, 11));
    assert_eq!(overlap("latest"), (2, 10));
    assert_eq!(overlap("cancel-running").0, 12);
    assert_eq!(
        Program::new()
            .say("backfill etl --from 2026-01-01 --to 2026-01-02 --overlap some")
            .code,
        2
    );
}
