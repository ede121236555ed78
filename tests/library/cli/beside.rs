//! Beside a process that serves.

use super::{Program, Started, eventually, path, plain};

/// A program that serves, once it does.
fn serving(program: &Program) -> Started {
    let started = program.start("serve");
    // deployments are on record as serving begins
    eventually("the program serves", || {
        program.file(".orchestrator/state.db").exists()
            && program.json("db check --json")["counts"]["deployments"] == 3
    });
    started
}

fn detached(program: &Program, typed: &str) -> String {
    let said = program.say(&format!("run {typed} --detach"));
    assert_eq!(said.code, 0, "{said:?}");
    said.out.trim().to_owned()
}

#[test]
fn detached_runs_execute_and_are_cancelled_in_the_serving_process() {
    let program = Program::new();
    let serving = serving(&program);
    let file = program.file("there");
    let first = detached(&program, &format!("slow -p file={}", path(&file)));
    eventually("the run is under way", || {
        program.task_state(&first, "wait_for") == "running"
    });
    let why = program.text(&format!("why {first} after_it"));
    assert_eq!(
        why,
        "after_it: pending\n  it waits for 1 of its 1 upstream\n  wait_for: running\n    attempt 1 is running since \
         TIME\n"
    );
    let second = detached(&program, "slow -p file=never");
    let turn =
        "it waits for a run slot: `max_active_runs` of its flow is 1, and the active runs are ID";
    eventually("the second run waits for its turn", || {
        program.text(&format!("why {second}")).contains(turn)
    });
    let asked = program.text(&format!("runs cancel {second}"));
    assert!(
        asked.starts_with("cancellation of run ID was requested")
            || asked == "run ID was cancelled\n",
        "{asked}"
    );
    eventually("the second run is cancelled", || {
        program.state(&second) == "cancelled"
    });
    std::fs::write(&file, "").unwrap();
    eventually("the first run is a success", || {
        program.state(&first) == "success"
    });
    serving.signal("-TERM");
    let said = serving.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("deployment served flow=etl next="),
        "{said:?}"
    );
    let ended = |run: &str, state: &str| {
        let told = format!("slow {}: run finished", &run[run.len() - 8..]);
        said.err
            .lines()
            .any(|line| line.contains(&told) && line.contains(&format!("state={state}")))
    };
    assert!(
        ended(&first, "success") && ended(&second, "cancelled"),
        "{said:?}"
    );
    assert!(
        said.err.ends_with("stopped: every run came to its end\n"),
        "{said:?}"
    );
}

#[test]
fn serving_process_obeys_pause_and_resume() {
    let program = Program::new();
    let serving = serving(&program);
    assert_eq!(
        program.text("pause etl"),
        "etl is paused: its schedules create no runs until `resume etl`\n"
    );
    assert_eq!(program.text("pause etl"), "etl was paused already\n");
    assert!(
        program
            .text("flows")
            .contains("etl 0 6 * * * in Europe/Zurich paused TIME\n")
    );
    assert_eq!(
        program.text("resume etl"),
        "etl is resumed: ticks of the meantime count as missed\n"
    );
    assert_eq!(program.text("resume etl"), "etl was not paused\n");
    for (missed, expected) in [
        ("none", "the ticks that it missed get no runs"),
        (
            "latest",
            "of the ticks that it missed, the latest gets a run",
        ),
        ("all", "each tick that it missed gets a run"),
    ] {
        program.text("pause etl");
        assert_eq!(
            program.text(&format!("unpause etl --missed {missed}")),
            format!("etl is resumed: {expected}\n")
        );
        assert_eq!(
            program.text(&format!("resume etl --missed {missed}")),
            "etl was not paused: `--missed` has no effect\n"
        );
    }
    assert_eq!(program.say("resume etl --missed some").code, 2);
    serving.signal("-INT");
    assert_eq!(serving.end().code, 0);
}

#[test]
fn exit_code_says_that_runs_were_left() {
    let program = Program::new();
    let serving = serving(&program);
    let run = detached(&program, "flaky -p file=there");
    eventually("the run waits for its next attempt", || {
        program.task_state(&run, "try_it") == "retrying"
    });
    let why = program.text(&format!("why {run} publish"));
    let retrying =
        "try_it: retrying\n    attempt 1 failed: it is not there yet; the next is due at TIME\n";
    assert!(why.ends_with(retrying), "{why}");
    serving.signal("-TERM");
    let said = serving.end();
    assert_eq!(said.code, 75, "{said:?}");
    let why = program.text(&format!("why {run} try_it"));
    assert!(why.contains("no process executes the run"), "{why}");
}

#[test]
fn second_signal_ends_serving_with_bodies_that_do_not_return() {
    let program = Program::new();
    let serving = serving(&program);
    let run = detached(&program, "stuck -p file=there");
    eventually("the body runs", || {
        program.task_state(&run, "keep_thread") == "running"
    });
    serving.signal("-INT");
    serving.signal("-TERM");
    let said = serving.end();
    // whichever is heard as the second one
    assert!([128 + 2, 128 + 15].contains(&said.code), "{said:?}");
    assert!(said.err.contains("stopped: 1 run is left"), "{said:?}");
    let why = program.text(&format!("why {run} keep_thread"));
    assert!(why.contains("no process executes the run"), "{why}");
}

/// A run in the foreground that waits for a file, and its id.
fn waiting(program: &Program, file: &str) -> (Started, String) {
    let running = program.start(&format!("run slow -p file={file}"));
    eventually("the run is under way", || {
        program.json("runs --json")[0]["id"]
            .as_str()
            .is_some_and(|run| program.task_state(run, "wait_for") == "running")
    });
    (running, program.latest("slow"))
}

#[test]
fn logs_are_followed_while_the_run_goes_on_and_until_it_ends() {
    let program = Program::new();
    let file = program.file("there");
    let (running, run) = waiting(&program, path(&file));
    let mut follows = program.start(&format!("runs logs {run} --follow"));
    let heard = follows.heard();
    eventually("the first lines are there", || {
        heard.text().contains("waiting\n")
    });
    assert_eq!(program.task_state(&run, "wait_for"), "running");
    assert!(!follows.is_over());
    std::fs::write(&file, "").unwrap();
    assert_eq!(running.end().code, 0);
    eventually("the lines end", || follows.is_over());
    let said = follows.end();
    assert_eq!((said.code, &*said.err), (0, ""));
    let expected = [
        "run started",
        "wait_for: waiting",
        "after_it: the file is there",
        "run finished",
    ];
    let text = plain(&heard.all());
    let lines: Vec<&str> = text.lines().collect();
    let are_those = lines
        .iter()
        .zip(expected)
        .all(|(line, begins)| line.starts_with(&format!("TIME INFO {begins}")));
    assert!(lines.len() == expected.len() && are_those, "{lines:#?}");
}

#[test]
fn a_run_in_the_foreground_is_cancelled_by_another_process() {
    let program = Program::new();
    let (running, run) = waiting(&program, "never");
    let asked = program.text(&format!("runs cancel {run}"));
    assert_eq!(
        asked,
        "cancellation of run ID was requested: the process that executes it picks it up within a second\n"
    );
    let said = running.end();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains(&format!("error: run {run} of `slow` was cancelled\n")),
        "{said:?}"
    );
}

#[test]
fn ticks_of_a_paused_flow_are_shown_as_paused() {
    let program = Program::new();
    assert!(!program.text("show etl").contains("paused"));
    assert!(!program.has_store());
    program.text("pause etl");
    assert!(
        program
            .text("show etl")
            .contains("\npaused `resume etl` resumes its schedules\n")
    );
    assert_eq!(program.json("show etl --json")["paused"], true);
    let said = program.say("next etl -n 2");
    assert_eq!(
        said.err,
        "etl is paused: its schedules create no runs until `resume etl`\n"
    );
    assert_eq!(
        program
            .json("next etl -n 2 --json")
            .as_array()
            .unwrap()
            .len(),
        2
    );
    program.text("resume etl");
    assert_eq!(program.say("next etl").err, "");
    assert_eq!(program.json("show etl --json")["paused"], false);
}
