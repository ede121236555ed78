//! Runs that another process takes over: when, from whom, how often.

use super::tasks::*;
use super::*;

/// What is done; how a body behaves in this process.
const DOES: &str = "CRASH_DOES";
const HOW: &str = "CRASH_HOW";

pub(super) async fn act(runtime: &Runtime) {
    let does = std::env::var(DOES).unwrap();
    match does.split_once(' ').unwrap_or((&does, "")) {
        ("stalling", _) => match stalling().on(runtime).run().await {
            Ok(run) => note(&format!("ended {:?}", run.state())),
            Err(error) => note(&format!("error {error}")),
        },
        ("lethal", "") => drop(lethal().on(runtime).run().await.unwrap()),
        // stops before its time, which is no crash
        ("stop", _) => {
            let going_on = runtime.clone();
            let going_on = tokio::spawn(async move { going_on.resume().await });
            while !is_how("calm") || Place::here().effects().iter().all(|line| line != "calm") {
                pause(1).await;
            }
            assert_eq!(runtime.stop().await.left.len(), 1);
            assert!(matches!(
                going_on.await.unwrap(),
                Err(Error::Stopped { .. })
            ));
        }
        ("patient", _) => drop(patient().on(runtime).run().await.unwrap()),
        ("follows", _) => drop(follows().on(runtime).run().await.unwrap()),
        ("ending", "by time") => drop(ends_by_time().on(runtime).run().await),
        ("ending", "asked") => {
            let handle = ends_when_asked().on(runtime).start().await.unwrap();
            Place::here().wait_for_effect(":never");
            handle.cancel();
            drop(handle.await);
        }
        ("ending", "by failure") => drop(ends_by_failure().on(runtime).run().await),
        ("ending", "by its body") => drop(ends_by_its_body().on(runtime).run().await),
        ("keyed", number) => match keyed(number.parse().unwrap())
            .key("the key")
            .on(runtime)
            .run()
            .await
        {
            Ok(run) => note(&format!(
                "run {} {:?}",
                run.id(),
                run.output().map(|made| made.number)
            )),
            Err(error) => note(&format!("error {error}")),
        },
        unknown => panic!("nothing does {unknown:?}"),
    }
}

fn is_how(what: &str) -> bool {
    std::env::var(HOW).is_ok_and(|how| how == what)
}

#[task]
async fn stalls(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    if !is_how("stalling") {
        return work.done(2);
    }
    while !Place::here().0.join("go").exists() {
        pause(1).await;
    }
    work.done(1)
}

#[flow(name = "crash_stalling")]
fn stalling() -> Node<Made> {
    step(stalls(), 0)
}

#[test]
fn a_process_that_lost_its_run_is_refused() {
    let place = Place::new("lost");
    let first = place.start("taken", &[(DOES, "stalling"), (HOW, "stalling")]);
    place.wait_for_effect("start");
    place.wait_until("the start is recorded", || !place.rows().is_empty());
    first.signal("STOP");
    // a process that stands still is alive, and nobody takes its run
    place.acts("resume", &[]);
    assert_eq!(place.run_state(), RunState::Running);
    let locks = std::fs::read_dir(place.0.join("state.db-owners")).unwrap();
    let mine = format!(
        "SELECT lock FROM processes WHERE pid = {}",
        first.child.id()
    );
    let lock: String = place
        .look()
        .unwrap()
        .query_row(&mine, [], |row| row.get(0))
        .unwrap();
    for path in locks
        .map(|file| file.unwrap().path())
        .filter(|path| path.ends_with(&lock))
    {
        std::fs::remove_file(path).unwrap();
    }
    place.acts("resume", &[]);
    let (state, rows) = (place.run_state(), place.rows());
    assert_eq!(state, RunState::Success, "{}", place.said());
    std::fs::write(place.0.join("go"), "").unwrap();
    first.signal("CONT");
    assert!(first.wait().success(), "{}", place.said());
    let effects = place.effects();
    let refused = effects
        .last()
        .filter(|last| last.starts_with("error this process (number 1 of the store) is no longer"));
    assert!(refused.is_some(), "{effects:?}");
    assert_eq!((place.run_state(), place.rows()), (state, rows.clone()));
    let results: Vec<u64> = rows
        .iter()
        .filter_map(|row| Some(row.made()?.number))
        .collect();
    assert_eq!(results, [2, 3]);
    place.check_integrity();
}

/// Kills its process: at its first poll, or after it has waited.
#[task]
async fn kills(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    if is_how("calm") {
        note("calm");
        std::future::pending::<()>().await;
    }
    if is_how("later") {
        // until it is known that this has started, after all else
        let attempt = i64::from(context.attempt());
        while Place::here()
            .rows()
            .last()
            .is_none_or(|row| (row.state, row.attempt) != (TaskState::Running, attempt))
        {
            pause(1).await;
        }
    }
    note("dies");
    drop(work);
    std::process::abort()
}

#[flow(name = "crash_lethal")]
fn lethal() {
    let before: Vec<Node<Made>> = (0..4).map(|number| step(made(number), number)).collect();
    step(kills().after(before), 0);
}

#[test]
fn task_that_kills_its_process_fails_after_three_deaths_alone() {
    // a stop in the middle of a trial charges nothing
    for (how, stops_after) in [
        ("at once", 0),
        ("later", 0),
        ("at once", 2),
        ("later", 2),
        ("at once", 3),
        ("later", 4),
    ] {
        let _case = crate::support::case(format_args!("{how}, stopped after {stops_after} deaths"));
        let stops = stops_after > 0;
        let place = Place::new("lethal");
        let mut history = History::new(&place);
        let mut does = "lethal";
        for death in 1.. {
            let process = place.start(
                if does == "lethal" { "taken" } else { "resume" },
                &[(DOES, does), (HOW, how)],
            );
            let status = process.wait();
            if status.success() {
                // two died with all that ran, and three with the suspect; then one came to the end
                assert_eq!(death, 6, "{how}: {}", place.said());
                break;
            }
            assert_eq!(status.signal(), Some(SIGABRT), "{}", place.said());
            history.died();
            does = "resume";
            if stops && death == stops_after {
                place.acts("taken", &[(DOES, "stop"), (HOW, "calm")]);
                assert_eq!(
                    (place.is_owned(), place.run_state()),
                    (false, RunState::Running),
                    "{}",
                    place.said()
                );
            }
        }
        let run = place.record("crash_lethal");
        let task = run.task("kills").unwrap();
        assert_eq!(
            (run.state(), task.state()),
            (RunState::Failed, TaskState::Failed)
        );
        assert!(task.error().is_some_and(TaskError::is_crash), "{task:?}");
        assert_eq!(
            run.error().unwrap().to_string(),
            "task `kills` failed: its process died all 3 times that it ran alone"
        );
        let ends = |key: &str| run.task(key).unwrap().state();
        for key in ["step", "step#2", "step#3", "step#4"] {
            assert_eq!(ends(key), TaskState::Success, "{how} {key}");
        }
        assert_eq!(ends("step#5"), TaskState::UpstreamFailed);
        let attempts = 5 + u32::from(stops);
        assert_eq!(
            (task.attempts(), task.crashes()),
            (attempts, attempts),
            "{how}, {stops}: {task:?}"
        );
        assert_eq!(
            place
                .effects()
                .iter()
                .filter(|line| *line == "dies")
                .count(),
            5
        );
        history.check();
    }
}

/// Dies with its process before it waits for anything, so that its start is not recorded.
#[task]
async fn dies_at_once(before: &Made, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    if is_how("dying") {
        std::process::abort();
    }
    work.done(before.number + 1)
}

#[flow(name = "crash_before")]
async fn before() -> Result<Made> {
    Ok(step(made(1), 0).await?)
}

#[flow(name = "crash_follows")]
fn follows() -> Node<Made> {
    dies_at_once(before())
}

#[test]
fn attempt_that_died_behind_an_inner_flow_has_its_own_number() {
    // whether the end of the inner flow was committed is chance
    for _ in 0..5 {
        let place = Place::new("follows");
        let mut history = History::new(&place);
        assert_eq!(
            place
                .start("taken", &[(DOES, "follows"), (HOW, "dying")])
                .wait()
                .signal(),
            Some(SIGABRT)
        );
        history.died();
        place.acts("resume", &[]);
        assert_eq!(
            place
                .record("crash_follows")
                .task("dies_at_once")
                .unwrap()
                .attempts(),
            2,
            "{}",
            place.said()
        );
        history.check_all();
    }
}

/// Fails at first, and waits for its next attempt for longer than a process needs to come back.
#[task(retries = 1, retry_delay = "1500ms")]
async fn waits(#[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    if context.attempt() == 1 {
        Err("not yet".into())
    } else {
        Ok(work.done(1))
    }
}

#[flow(name = "crash_patient")]
fn patient() -> Node<Made> {
    waits()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it is time itself that passes here"
)]
fn a_pending_retry_keeps_its_time() {
    struct Absence {
        milliseconds: u64,
        /// How many processes died before.
        deaths: u32,
    }
    for Absence {
        milliseconds,
        deaths,
    } in [
        Absence {
            milliseconds: 200,
            deaths: 2,
        },
        Absence {
            milliseconds: 1800,
            deaths: 1,
        },
    ] {
        let _case = crate::support::case(format_args!("{milliseconds} ms, {deaths} deaths"));
        let place = Place::new("patient");
        for _ in 0..deaths {
            let first = place.start(
                "taken",
                &[(
                    DOES,
                    if place.rows().is_empty() {
                        "patient"
                    } else {
                        "resume"
                    },
                )],
            );
            place.wait_until("the retry is recorded", || {
                place
                    .rows()
                    .last()
                    .is_some_and(|row| row.state == TaskState::Retrying)
            });
            std::thread::sleep(Duration::from_millis(100));
            first.kill();
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        place.acts("resume", &[]);
        let rows = place.rows();
        let due = rows[0].started + rows[0].took;
        let second = rows.iter().find(|row| row.attempt == 2).unwrap();
        let late = Duration::from_micros(u64::try_from(second.started - due).unwrap());
        let most = Duration::from_millis(if milliseconds > 1500 {
            milliseconds
        } else {
            500
        });
        assert!(late < most, "{late:?} after its time");
        let starts: Vec<String> = place
            .effects()
            .into_iter()
            .filter(|line| line.starts_with("start"))
            .collect();
        let keys: BTreeSet<&str> = starts
            .iter()
            .filter_map(|line| line.split(' ').nth(3))
            .collect();
        let attempts: Vec<&str> = starts
            .iter()
            .filter_map(|line| line.split(' ').nth(2))
            .collect();
        assert_eq!((keys.len(), attempts), (1, vec!["1", "2"]), "{starts:?}");
        assert_eq!(place.record("crash_patient").state(), RunState::Success);
    }
}

#[flow(name = "crash_keyed")]
fn keyed(number: u64) -> Node<Made> {
    step(step(made(number), 0), 300)
}

#[test]
fn one_key_is_one_run() {
    for first_dies in [false, true] {
        let _case = crate::support::case(format_args!("first dies: {first_dies}"));
        let place = Place::new("keyed");
        let asks = || place.start("taken", &[(DOES, "keyed 1")]);
        let (first, second) = (asks(), asks());
        place.wait_for_effect(":step#2 ");
        let (mut first, mut second) = (first, second);
        if first_dies {
            let owner = "SELECT pid FROM processes JOIN runs ON owner = process";
            let owner: u32 = place
                .look()
                .unwrap()
                .query_row(owner, [], |row| row.get(0))
                .unwrap();
            if owner != first.child.id() {
                std::mem::swap(&mut first, &mut second);
            }
            first.kill();
        } else {
            assert!(first.wait().success(), "{}", place.said());
        }
        assert!(second.wait().success(), "{}", place.said());
        assert!(asks().wait().success(), "{}", place.said());
        let run = place.record("crash_keyed");
        let told: Vec<String> = place
            .effects()
            .into_iter()
            .filter(|line| line.starts_with("run"))
            .collect();
        assert_eq!(
            told,
            vec![format!("run {} Some(3)", run.id()); if first_dies { 2 } else { 3 }]
        );
        let starts = place
            .effects()
            .iter()
            .filter(|line| line.starts_with("start"))
            .count();
        assert_eq!(starts, if first_dies { 3 } else { 2 }, "{}", place.said());
        // with other parameters
        place.acts("taken", &[(DOES, "keyed 2")]);
        let expected = format!(
            "error flow `crash_keyed` has a run with the key `the key` ({}) and the parameters {{\"number\":1}}; got the parameters {{\"number\":2}}: use another key",
            run.id()
        );
        assert_eq!(place.effects().last(), Some(&expected));
        assert_eq!(place.records("crash_keyed").len(), 1);
    }
}

/// Waits until it is dropped.
#[task]
async fn never(#[context] context: &Context) -> Made {
    let _work = Work::start(context);
    std::future::pending().await
}

#[task]
async fn fails(_before: &Made) -> Result<Made> {
    pause(5).await;
    Err("broken".into())
}

#[flow(name = "crash_ending_by_time", timeout = "100ms")]
fn ends_by_time() -> Node<Made> {
    step(never(), 0)
}

#[flow(name = "crash_ending_asked")]
fn ends_when_asked() -> Node<Made> {
    step(never(), 0)
}

#[flow(name = "crash_ending_by_failure")]
fn ends_by_failure() -> Node<Made> {
    step(fails(step(made(1), 0)), 0)
}

#[flow(name = "crash_ending_by_its_body")]
async fn ends_by_its_body() -> Result<u64> {
    let _left = step(never(), 0);
    Ok(fails(made(1)).await?.number)
}

#[test]
fn run_that_died_while_ending_ends_the_same_way() {
    for (ending, flow, state, error) in [
        (
            "ending by time",
            "crash_ending_by_time",
            RunState::Failed,
            "timed out after 100ms",
        ),
        (
            "ending asked",
            "crash_ending_asked",
            RunState::Cancelled,
            "the run was cancelled",
        ),
        (
            "ending by failure",
            "crash_ending_by_failure",
            RunState::Failed,
            "task `fails` failed: broken",
        ),
        (
            "ending by its body",
            "crash_ending_by_its_body",
            RunState::Failed,
            "broken",
        ),
    ] {
        for (point, hit) in [
            ("run-end-recorded", 1),
            ("run-end-committed", 1),
            ("transaction-committed", 4),
        ] {
            let _case = crate::support::case(format_args!("{ending}, {point}, hit {hit}"));
            let place = Place::new("ending");
            place.dies("taken", &[(DOES, ending)], point, hit);
            place.acts("resume", &[]);
            let run = place.record(flow);
            let found = (run.state(), run.error().map(ToString::to_string));
            assert_eq!(
                found,
                (state, Some(error.to_owned())),
                "{ending}, {point}: {}",
                place.said()
            );
            assert!(
                run.tasks().iter().all(|task| task.state().is_final()),
                "{ending}, {point}: {:?}",
                run.tasks()
            );
            place.check_integrity();
        }
    }
}
