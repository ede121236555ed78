//! Looking at what is kept: which run is meant, what is shown of it, and what is damaged.

use rusqlite::Connection;
use serde_json::json;

use super::{Program, Said, plain};

impl Program {
    fn database(&self) -> Connection {
        Connection::open(self.file(".orchestrator/state.db")).unwrap()
    }

    /// What `mapped` is given: the numbers from 1 on.
    fn map(&self, numbers: usize) -> String {
        let numbers: Vec<String> = (1..=numbers).map(|number| number.to_string()).collect();
        self.say(&format!("run mapped -p numbers=[{}]", numbers.join(",")));
        self.latest("mapped")
    }
}

/// The first words of a table's rows.
fn firsts(said: &Said) -> Vec<String> {
    let first = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    said.out.lines().skip(1).map(first).collect()
}

#[test]
fn short_ids_in_lists_identify_their_runs() {
    let program = Program::new();
    program.say("backfill etl --from 2026-01-01 --to 2026-01-12");
    let listed = program.say("runs");
    assert!(
        listed.out.lines().all(|line| line.chars().count() <= 80),
        "{listed:?}"
    );
    let (ends, runs) = (firsts(&listed), program.json("runs --json"));
    assert_eq!(ends.len(), 12);
    for (end, run) in ends.iter().zip(runs.as_array().unwrap()) {
        let id = run["id"].as_str().unwrap();
        assert!(end.len() >= 8 && id.ends_with(end.as_str()), "{end} {id}");
        assert_eq!(program.json(&format!("runs show {end} --json"))["id"], id);
    }
    let id = runs[0]["id"].as_str().unwrap();
    for part in [
        &id[id.len() - 14..],
        &id.replace('-', "")[10..],
        &id.to_uppercase()[20..],
    ] {
        assert_eq!(
            program.json(&format!("runs show {part} --json"))["id"],
            id,
            "{part}"
        );
        assert!(
            program.text(&format!("why {part}")).contains("success"),
            "{part}"
        );
    }
    let said = program.say(&format!("runs show {}", &id[..4]));
    assert_eq!(said.code, 2);
    let latest = runs
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|run| run["id"].as_str())
        .max()
        .unwrap();
    assert!(
        said.err.contains(&format!("\n  `{latest}`, ")) && said.err.contains(" and 4 more\n"),
        "{said:?}"
    );
    assert_eq!(program.say("runs show zzzzzzzz").code, 2);
}

#[test]
fn long_output_is_shown_shortened() {
    let program = Program::new();
    program.say("run etl");
    assert!(
        program
            .text(&format!("runs show {}", program.latest("etl")))
            .contains("\nreturned 10\n\nTASK STATE")
    );
    program.say(&format!(
        "run invoice -p amount=3 -p customer={}",
        "x".repeat(1_200)
    ));
    let text = program.text(&format!("runs show {}", program.latest("invoice")));
    assert!(
        text.contains(&format!(
            "\nreturned [\"{}… 1,086 bytes more\n",
            "x".repeat(118)
        )),
        "{text}"
    );
    assert!(
        text.contains(" customer = \"xxx") && text.contains("x… 1,093 bytes more\nreturned "),
        "{text}"
    );
}

#[test]
fn rerun_run_shows_when_and_what_was_rerun() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    program.say(&format!("runs rerun {run}"));
    program.say(&format!("runs rerun {run} --from fetch"));
    let text = program.text(&format!("runs show {run} --attempts"));
    let again = "accepted TIME\nrun again TIME: the failed tasks\nrun again TIME: `fetch` and everything downstream\nstarted TIME\n";
    assert!(text.contains(again), "{text}");
    assert!(
        text.contains("\nfetch failed 3 TOOK no network\n"),
        "{text}"
    );
    let attempts = "\n\nattempts\n  fetch 1 failed TIME TOOK no network\n  fetch 2 failed TIME TOOK no network\n";
    assert!(text.contains(attempts), "{text}");
    assert_eq!(
        program.json(&format!("runs show {run} --json"))["reruns"][0]["what"],
        "the failed tasks"
    );
}

#[test]
fn waiting_run_points_to_the_reason() {
    let program = Program::new();
    let run = program.say("run etl --detach").out.trim().to_owned();
    let said = program.say(&format!("runs show {run} --attempts"));
    assert!(said.out.ends_with("\n\nit has no tasks yet\n"), "{said:?}");
    assert_eq!(said.err, format!("`why {run}` says what it waits for\n"));
}

#[test]
fn elements_are_counted_where_they_are_many() {
    let program = Program::new();
    let run = program.map(41);
    let said = program.say(&format!("runs show {run} --attempts"));
    let text = plain(&said.out);
    assert!(text.contains(
        "\nhalve[0..40] 41 41 elements: 21 failed, 20 success\nhalve[0] failed 1 TOOK 1 is odd\n"
    ));
    assert!(
        text.contains("\nhalve[18] failed 1 TOOK 19 is odd\nand 11 more\ntotal upstream_failed"),
        "{text}"
    );
    assert!(
        text.ends_with("\n  and 31 attempts of elements that are not listed\n"),
        "{text}"
    );
    assert_eq!(
        said.err,
        "`--all` shows each element, `--task KEY` those of a task\n"
    );
    let all = program.text(&format!("runs show {run} --all"));
    assert!(
        all.contains("\nhalve[39] success 1 TOOK\nhalve[40] failed 1 TOOK 41 is odd\ntotal "),
        "{all}"
    );
    let lines = |typed: &str| {
        program
            .text(&format!("runs show {run} --task {typed}"))
            .lines()
            .count()
    };
    assert_eq!(
        (lines("halve") - lines("total"), lines("halve[3]")),
        (40, lines("total"))
    );
    let json = |typed: &str| program.json(&format!("runs show {run} --json {typed}"));
    assert_eq!(json("")["tasks"].as_array().unwrap().len(), 42);
    assert_eq!(json("--task total")["tasks"].as_array().unwrap().len(), 1);
    let said = program.say(&format!("runs show {run} --task halvs"));
    assert_eq!(
        (
            said.code,
            said.err.ends_with("hint: did you mean `halve`?\n")
        ),
        (2, true),
        "{said:?}"
    );
    // and where all went well
    program.say("run mapped -p numbers=[2,2,2,2,2,2,2,2,2,2,2]");
    let text = program.text(&format!("runs show {}", program.latest("mapped")));
    assert!(
        text.ends_with("\nhalve[0..10] success 11 11 elements: 11 success\ntotal success 1 TOOK\n"),
        "{text}"
    );
}

#[test]
fn logs_of_an_unknown_task_are_refused() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    for more in ["", "--json", "--follow", "--level warn"] {
        let _case = crate::support::case(format_args!("with {more:?}"));
        let said = program.say(&format!("runs logs {run} --task fetc {more}"));
        assert_eq!((said.code, &*said.out), (2, ""), "{said:?}");
        assert_eq!(
            said.err,
            "error: no task `fetc`\n  there is `fetch`, `publish`\nhint: did you mean `fetch`?\n"
        );
    }
    assert_eq!(
        program.say(&format!("runs logs {run} --task publish")).code,
        0
    );
    program
        .database()
        .execute_batch("UPDATE runs SET pruned = 1; DELETE FROM logs")
        .unwrap();
    let said = program.say(&format!("runs logs {run} --task fetc"));
    assert_eq!((said.code, &*said.err), (0, "no matching log lines\n"));
}

#[test]
fn logs_look_as_they_do_on_the_console() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    program.say(&format!("runs rerun {run}"));
    let logs = program.say(&format!("runs logs {run}")).out;
    assert!(
        logs.contains(" INFO run started logical_date=\"20"),
        "{logs}"
    );
    assert!(
        logs.contains(" ERROR fetch: task failed: no network\n"),
        "{logs}"
    );
    assert!(
        logs.contains(" ERROR fetch attempt 2: task failed: no network\n"),
        "{logs}"
    );
}

#[test]
fn ticks_are_shown_in_the_timezone_of_their_schedule() {
    let program = Program::new();
    let flows = program.say("flows").out;
    let etl = flows.lines().find(|line| line.starts_with("etl")).unwrap();
    assert!(
        etl.ends_with(program.say("next etl -n 1").out.trim()),
        "{etl}"
    );
    program.say("run etl --date 2026-01-31");
    let count = |typed: &str| {
        program
            .json(&format!("runs {typed} --json"))
            .as_array()
            .unwrap()
            .len()
    };
    for (typed, expected) in [
        ("--since 2026-01-31T06:00", 0),
        ("--flow etl --since 2026-01-31T06:00", 1),
        ("--flow etl --since 2026-01-31T06:01", 0),
        ("--flow etl --until 2026-01-31T06:00", 1),
        ("--flow etl --until 2026-01-31T05:59", 0),
        ("--flow etl --since 2026-01-31T05:00:00Z", 1),
        ("--flow etl --since 2026-01-31 --until 2026-01-31", 1),
        ("--flow broken --since 2026-01-31T06:00", 0),
    ] {
        assert_eq!(count(typed), expected, "{typed}");
    }
    // that day is over where its zone says so: at 23:00 in UTC
    program.say("run etl --date 2026-01-31T23:59");
    program.say("run etl --date 2026-02-01T00:00");
    assert_eq!(
        (
            count("--flow etl --until 2026-01-31"),
            count("--until 2026-01-31")
        ),
        (2, 3)
    );
}

#[test]
fn reading_makes_no_store() {
    let program = Program::new();
    let here = "`sqlite:.orchestrator/state.db`";
    for (typed, code, expected) in [
        (
            "runs",
            0,
            format!("no runs found: there is no store {here}\n"),
        ),
        (
            "runs --flow etl --state failed",
            0,
            format!("no runs found: there is no store {here}\n"),
        ),
        (
            "runs show b9c61377",
            2,
            format!("error: no run `b9c61377`\n  there is no store {here}\n"),
        ),
        (
            "runs logs b9c61377",
            2,
            format!("error: no run `b9c61377`\n  there is no store {here}\n"),
        ),
        (
            "runs cancel b9c61377",
            2,
            format!("error: no run `b9c61377`\n  there is no store {here}\n"),
        ),
        (
            "runs cancel --flow etl",
            0,
            format!("no unfinished runs found: there is no store {here}\n"),
        ),
        (
            "db check",
            2,
            format!(
                "error: there is no store {here}\nhint: select another store with `--store URL`"
            ),
        ),
        (
            "cache ls",
            0,
            format!("nothing is cached: there is no store {here}\n"),
        ),
        ("cache rm --all", 0, String::new()),
        ("db prune", 0, String::new()),
        ("flows", 0, String::new()),
    ] {
        let said = program.say(typed);
        assert_eq!(
            (said.code, said.err.starts_with(&expected)),
            (code, true),
            "{typed}: {said:?}"
        );
        assert!(!program.has_store(), "{typed}");
    }
    assert_eq!(program.json("runs --json"), json!([]));
    assert_eq!(
        program.text("db prune"),
        format!("nothing was pruned: there is no store {here}\n")
    );
    assert_eq!(
        program.text("cache rm --all"),
        format!("nothing is cached: there is no store {here}\n")
    );
    let said = program.say("runs --store sqlite:nowhere/state.db");
    assert_eq!(
        said.err,
        "no runs found: there is no store `sqlite:nowhere/state.db`\n"
    );
    program.say("run etl");
    assert_eq!(
        program.say("runs --state failed").err,
        format!("no runs found in {here}\n")
    );
    let said = program.say("runs show zzzzzzzz");
    assert!(
        said.err
            .contains(&format!("\n  no id in {here} starts or ends with it\n")),
        "{said:?}"
    );
    let said = program.say("runs cancel 01936f5e-8c00-7000-8000-000000000000");
    assert!(
        said.err
            .contains(&format!("\n  it was never created in {here}\n")),
        "{said:?}"
    );
}

#[test]
fn unreadable_runs_are_reported_and_the_others_shown() {
    let program = Program::new();
    program.say("backfill etl --from 2026-01-01 --to 2026-01-30");
    let run = program.latest("etl");
    let of_one = "(SELECT run FROM runs ORDER BY run DESC LIMIT 1)";
    program
        .database()
        .execute_batch(&format!("DELETE FROM plans WHERE run = {of_one}"))
        .unwrap();
    let problem = format!("run {run}: a row refers to one that is not there");
    let said = program.say("db check");
    assert_eq!(said.code, 1);
    let told = format!("\n{problem}\nruns cannot be read; the rest of the store is sound\n");
    assert!(said.out.ends_with(&told), "{said:?}");
    let check = program.json("db check --json");
    assert_eq!(
        (&check["problems"], &check["unreadable_runs"]),
        (&json!([]), &json!([problem]))
    );
    let said = program.say(&format!("runs show {run}"));
    let told =
        format!("error: run {run} cannot be read\n  a row refers to one that is not there\n");
    assert!(said.code == 74 && said.err.starts_with(&told), "{said:?}");
    // the row of the run itself
    program
        .database()
        .execute_batch(&format!(
            "UPDATE runs SET parameters = '[' WHERE run = {of_one}"
        ))
        .unwrap();
    let said = program.say("runs");
    let lines: Vec<&str> = said.out.lines().skip(1).collect();
    assert!(
        lines.len() == 20 && lines[0].contains("unreadable") && lines[0].contains("parameters: "),
        "{said:?}"
    );
    assert!(lines[1].contains("success"), "{said:?}");
    let listed = program.json("runs --json");
    assert_eq!(listed[0]["id"], json!(run));
    assert!(
        listed[0]["unreadable"]
            .as_str()
            .unwrap()
            .starts_with("parameters: "),
        "{listed}"
    );
    assert_eq!(listed[1]["unreadable"], json!(null));
    program
        .database()
        .execute_batch("DELETE FROM plans")
        .unwrap();
    let unreadable = program.json("db check --json")["unreadable_runs"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(unreadable, 21, "the first 20, and that there are more");
}

#[test]
fn pages_that_cannot_be_read_are_problems() {
    for table in ["migrations", "processes", "attempts", "cache"] {
        let program = Program::new();
        program.say("run etl");
        let database = program.database();
        database
            .pragma_update(None, "journal_mode", "delete")
            .unwrap();
        let page: u32 = database
            .query_row(
                "SELECT rootpage FROM sqlite_schema WHERE name = ?1",
                [table],
                |row| row.get(0),
            )
            .unwrap();
        drop(database);
        let path = program.file(".orchestrator/state.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(page as usize - 1) * 4_096..][..4_096].fill(b'x');
        std::fs::write(&path, bytes).unwrap();
        let said = program.say("db check");
        assert_eq!(said.code, 1, "{table}: {said:?}");
        assert!(
            said.out.contains("\ndatabase disk image is malformed\n"),
            "{table}: {said:?}"
        );
        assert_ne!(
            program.json("db check --json")["problems"],
            json!([]),
            "{table}"
        );
    }
}

#[test]
fn paused_flow_still_shows_its_next_tick() {
    let program = Program::new();
    program.text("pause etl");
    let flows = program.text("flows");
    assert!(
        flows.contains("\netl 0 6 * * * in Europe/Zurich paused TIME\n"),
        "{flows}"
    );
    assert!(program.text("unpause etl").starts_with("etl is resumed: "));
    let said = program.say("pause broken");
    let expected =
        "broken is paused; this only affects schedules, and in this program it has none\n";
    assert_eq!((&*said.out, &*said.err), (expected, ""));
}

#[test]
fn list_announces_more_rows_only_if_there_are_more() {
    let program = Program::new();
    for date in ["2026-01-03", "2026-01-02", "2026-01-01"] {
        program.say(&format!("run etl --date {date}"));
    }
    assert_eq!(program.say("runs -n 3").err, "");
    let said = program.say("runs -n 2");
    assert_eq!(
        (firsts(&said).len(), &*said.err),
        (2, "the latest 2; `--limit` shows more\n")
    );
    assert_eq!(
        program.json("runs -n 2 --json").as_array().unwrap().len(),
        2
    );
    let said = program.say("runs --limit 0");
    assert_eq!(
        (
            said.code,
            said.err
                .starts_with("error: invalid value '0' for '--limit <N>'")
        ),
        (2, true),
        "{said:?}"
    );
    program.say("run broken");
    let count = |typed: &str| {
        program
            .json(&format!("runs {typed} --json"))
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        [
            count("--state failed,success"),
            count("--state failed,running")
        ],
        [4, 1]
    );
    assert_eq!(count("--kind manual,backfill"), 4);
}

#[test]
fn runs_are_cancelled_by_their_ids_or_all_that_are_asked_for() {
    let program = Program::new();
    let make = |typed: &str| {
        program
            .say(&format!("run {typed} --detach"))
            .out
            .trim()
            .to_owned()
    };
    let runs = [make("etl"), make("broken"), make("etl"), make("etl")];
    program.say("run etl");
    let (first, second) = (&runs[0], &runs[1][28..]);
    let said = program.say(&format!("runs cancel {first} zzzzzzzz"));
    assert_eq!(
        (said.code, &*said.out, &*program.state(first)),
        (2, "", "pending")
    );
    let cancelled = program.say(&format!("runs cancel {first} {second}")).out;
    assert_eq!(
        cancelled,
        format!("run {first} was cancelled\nrun {} was cancelled\n", runs[1])
    );
    assert_eq!(
        program.text(&format!("runs cancel {first}")),
        "run ID was cancelled already\n"
    );
    let succeeded = &program.json("runs --state success --json")[0]["id"];
    assert_eq!(
        program.text(&format!("runs cancel {}", succeeded.as_str().unwrap())),
        "run ID succeeded already\n"
    );
    assert_eq!(
        program.text("runs cancel --flow etl --kind scheduled,backfill"),
        ""
    );
    let cancelled = program.say("runs cancel --flow etl --kind manual").out;
    assert_eq!(
        cancelled,
        format!(
            "run {} was cancelled\nrun {} was cancelled\n",
            runs[3], runs[2]
        )
    );
    let said = program.say("runs cancel --flow etl");
    assert_eq!(
        (
            &*said.out,
            said.err.starts_with("no unfinished runs found in `")
        ),
        ("", true),
        "{said:?}"
    );
    for typed in [
        "runs cancel",
        "runs cancel 12345678 --flow etl",
        "runs cancel --flow etll",
    ] {
        assert_eq!(program.say(typed).code, 2, "{typed}");
    }
}

#[test]
fn prune_removes_runs_older_than_the_given_age() {
    let program = Program::new();
    program.say("run etl");
    program.say("run decide");
    assert_eq!(
        program.text("db prune --older-than 1h"),
        "nothing was old enough to be pruned\n"
    );
    assert_eq!(
        program.text("db prune --older-than 0s"),
        "2 runs lost their tasks\n"
    );
    let text = program.text(&format!("runs show {}", program.latest("etl")));
    assert!(
        text.ends_with("\nreturned 10\n\nthe records of its tasks were pruned\n"),
        "{text}"
    );
    let said = program.say("db prune --older-than ever");
    assert_eq!(
        (
            said.code,
            said.err.starts_with("error: invalid value 'ever'")
        ),
        (2, true),
        "{said:?}"
    );
}
