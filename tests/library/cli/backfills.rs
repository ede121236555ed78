//! `backfill`.

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
