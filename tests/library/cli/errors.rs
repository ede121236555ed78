//! What is typed wrongly: a line of what, one of why, one that begins with `hint:`; and the exit
//! code.

use super::{Program, Said};

#[test]
fn errors_come_with_a_hint() {
    let program = Program::new();
    program.say("run etl");
    for (typed, code, expected) in [
        (
            "run etll",
            2,
            "error: no flow `etll`\n  there is `adaptive`, `broken`, `cached`, `decide`, `empty`, `etl`, `flaky`, \
             `greeting` and 7 more\nhint: did you mean `etl`?\n",
        ),
        (
            "runz",
            2,
            "error: unrecognized subcommand 'runz'\n  usage: pipelines [OPTIONS] <COMMAND>\n\
             hint: some similar subcommands exist: 'runs', 'run'\n",
        ),
        (
            "runs --stat failed",
            2,
            "error: unexpected argument '--stat' found\n  usage: pipelines runs --state <STATE>\n\
             hint: a similar argument exists: '--state'\n",
        ),
        (
            "cache rm",
            2,
            "error: the following required arguments were not provided:\n  <KEY|--task <TASK>|--expired|--all>\n\
             hint: run the command with `--help` for its usage\n",
        ),
        (
            "run etl --date yesterday",
            2,
            "error: expected a day or an instant, got `yesterday`\n\
             hint: write `2026-01-31`, `2026-01-31T05:00`, or `2026-01-31T05:00:00+01:00`\n",
        ),
        (
            "serve broken",
            2,
            "error: flow `broken` has no schedule\n\
             hint: write `#[flow(schedule = \"0 6 * * *\")]`, or `orchestrator::cli().serve([…])`\n",
        ),
        (
            "--store nowhere runs",
            2,
            "error: invalid store URL\n  expected the URL of a store (`memory`, `sqlite:PATH`), got `nowhere`\n\
             hint: select another store with `--store URL` or the variable ORCHESTRATOR_STORE\n",
        ),
        (
            "why 019",
            2,
            "error: expected the id of a run, or at least its first or last 4 characters, got `019`\n\
             hint: `runs` lists them with their ids\n",
        ),
        (
            "runs show 0193abcd",
            2,
            "error: no run `0193abcd`\n  no id in `sqlite:.orchestrator/state.db` starts or ends with it\n\
             hint: `runs` lists them with their ids\n",
        ),
        (
            "runs cancel 01936f5e-8c00-7000-8000-000000000000",
            2,
            "error: no run `01936f5e-8c00-7000-8000-000000000000`\n  it was never created in `sqlite:.orchestrator/state.db`\n\
             hint: `runs` lists them with their ids\n",
        ),
    ] {
        let said = program.say(typed);
        assert_eq!(
            (said.code, &*said.err, &*said.out),
            (code, expected, ""),
            "{typed}"
        );
    }
}

#[test]
fn ambiguous_id_lists_the_candidates() {
    let program = Program::new();
    program.say("backfill etl --from 2026-01-01 --to 2026-01-02");
    let run = program.latest("etl");
    let said = program.say(&format!("runs show {}", &run[..4]));
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with(&format!(
        "error: the ids of 2 runs start or end with `{}`\n  ",
        &run[..4]
    )));
    assert!(said.err.contains(&run), "{said:?}");
}

#[test]
fn tasks_that_run_again_are_tasks_of_the_run() {
    let program = Program::new();
    program.say("run broken");
    let run = program.latest("broken");
    let said = program.say(&format!("runs rerun {run} --from fetsh"));
    assert_eq!(
        (
            said.code,
            said.err.ends_with("hint: did you mean `fetch`?\n")
        ),
        (2, true),
        "{said:?}"
    );
    assert_eq!(
        program
            .say(&format!("runs rerun {run} --all --failed"))
            .code,
        2
    );
    assert_eq!(
        program
            .say(&format!("runs logs {run} --level warn --task fetch"))
            .code,
        0
    );
}

#[test]
fn help_tells_the_exit_codes() {
    let program = Program::new();
    let help = program.text("--help");
    assert!(
        help.contains("75 stopped by a signal, with runs left"),
        "{help}"
    );
    let shown = program.say("");
    assert_eq!((shown.code, shown.out), (2, String::new()));
    assert!(
        program
            .text("flows --help")
            .contains("JSON: an array of {name,")
    );
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let program = Program::new();
    for typed in ["run", "run etl", "show", "--store"] {
        let said = Said::from(
            program
                .command(typed)
                .arg(OsStr::from_bytes(b"caf\xe9"))
                .output()
                .unwrap(),
        );
        assert_eq!(said.code, 2, "{typed}: {said:?}");
        assert!(said.err.starts_with("error: "), "{typed}: {said:?}");
    }
}
