//! Processes that are asked to stop.

use std::process::ExitCode;

use super::tasks::*;
use super::*;

/// How many tasks there are, one after the other, and how long each takes.
const TASKS: &str = "CRASH_TASKS";
const LASTS: &str = "CRASH_LASTS";
/// The value of `runs.leaving` while a process that was told to stop still has the run.
const LEAVING: i64 = 2;

pub(super) async fn act(runtime: &Runtime) -> i32 {
    let stopped = match std::env::var(TASKS).unwrap().parse() {
        Ok(tasks) => runtime
            .until_signal(drained(tasks).on(runtime).run())
            .await
            .unwrap_err(),
        Err(_) => runtime
            .until_signal(unreturning().on(runtime).run())
            .await
            .unwrap_err(),
    };
    let code = stopped.exit_code();
    (0..=u8::MAX)
        .find(|status| ExitCode::from(*status) == code)
        .unwrap()
        .into()
}

#[task]
async fn lasts(before: &Made, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(std::env::var(LASTS).map_or(0, |lasts| lasts.parse().unwrap())).await;
    work.done(before.number + 1)
}

#[flow(name = "crash_drained")]
fn drained(tasks: u64) -> Node<Made> {
    (1..tasks).fold(lasts(made(0)), |before, _| lasts(before))
}

/// Sends signals, with a pause between two.
#[expect(
    clippy::disallowed_methods,
    reason = "the other process is to see one signal before the next"
)]
fn send(process: &Process, signals: &[&str], pause: Duration) {
    for (number, signal) in signals.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(pause);
        }
        process.signal(signal);
    }
}

#[test]
fn sigterm_drains_and_leaves_the_rest_resumable() {
    /// What a process runs, the signals that it gets, and what is expected of it.
    #[derive(Debug)]
    struct Stop {
        tasks: u32,
        milliseconds: &'static str,
        signals: &'static [&'static str],
        status: i32,
        /// How many bodies have started when a second process has finished the run.
        starts: usize,
    }
    let drains = |tasks, signals, status, starts| Stop {
        tasks,
        milliseconds: "400",
        signals,
        status,
        starts,
    };
    // the second signal cuts off the running task, which runs again
    let cut_off = |signals, status| Stop {
        tasks: 2,
        milliseconds: "60000",
        signals,
        status,
        starts: 3,
    };
    for stop in [
        drains(1, &["TERM"], 0, 1),
        drains(1, &["INT"], 0, 1),
        drains(3, &["TERM"], RUNS_LEFT, 3),
        cut_off(&["TERM", "INT"], SIGNALLED + SIGINT),
        cut_off(&["TERM", "TERM"], SIGNALLED + SIGTERM),
        cut_off(&["INT", "TERM"], SIGNALLED + SIGTERM),
    ] {
        let _case = crate::support::case(format_args!("{stop:?}"));
        let Stop {
            tasks,
            milliseconds,
            signals,
            status,
            starts,
        } = stop;
        let place = Place::new("stopped");
        let mut history = History::new(&place);
        let process = place.start(
            "stopped",
            &[(TASKS, &tasks.to_string()), (LASTS, milliseconds)],
        );
        place.wait_for_effect("start");
        send(&process, signals, Duration::from_millis(300));
        let ended = process.wait();
        assert_eq!(ended.code(), Some(status), "{ended}: {}", place.said());
        history.died();
        let (state, is_owned) = if status == 0 {
            (RunState::Success, true)
        } else {
            (RunState::Running, false)
        };
        assert_eq!((place.run_state(), place.is_owned()), (state, is_owned));
        place.acts("resume", &[]);
        assert_eq!(
            (place.run_state(), place.of_run("takeovers")),
            (RunState::Success, 0)
        );
        assert_eq!(
            place
                .effects()
                .iter()
                .filter(|line| line.starts_with("start"))
                .count(),
            starts
        );
        history.check_all();
    }
}

/// Keeps its thread for longer than anything may take here: one that may block, or one of tokio's.
#[task]
#[expect(clippy::disallowed_methods, reason = "it is meant to keep its thread")]
fn keeps(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    if std::env::var_os(GRACE).is_some() {
        std::thread::sleep(Duration::from_secs(600));
    }
    work.done(1)
}

#[task]
#[expect(clippy::disallowed_methods, reason = "it is meant to keep its thread")]
async fn keeps_its_worker(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    if std::env::var_os(GRACE).is_some() {
        std::thread::sleep(Duration::from_secs(600));
    }
    work.done(2)
}

#[flow(name = "crash_unreturning")]
fn unreturning() -> Node<Made> {
    keeps_its_worker();
    keeps()
}

#[test]
fn a_process_ends_with_bodies_that_do_not_return_and_its_runs_are_free_when_it_is_gone() {
    for (grace, signals, status) in [
        ("300", &["TERM"][..], RUNS_LEFT),
        ("60000", &["TERM", "TERM"], SIGNALLED + SIGTERM),
        ("60000", &["INT", "INT", "INT", "INT"], SIGNALLED + SIGINT),
    ] {
        let _case = crate::support::case(format_args!("grace {grace} ms, {signals:?}"));
        let place = Place::new("unreturning");
        let process = place.start("stopped", &[(TASKS, "unreturning"), (GRACE, grace)]);
        for key in [":keeps ", ":keeps_its_worker "] {
            place.wait_for_effect(key);
        }
        send(&process, signals, Duration::from_millis(20));
        let ended = process.wait();
        assert_eq!(
            ended.code(),
            Some(status),
            "{signals:?}: {ended}: {}",
            place.said()
        );
        // it was never given up as long as a body of it ran
        assert_eq!(
            (place.is_owned(), place.of_run("leaving")),
            (true, LEAVING),
            "{}",
            place.said()
        );
        place.acts("resume", &[]);
        let counts = ["state", "takeovers", "deaths", "leaving"].map(|column| place.of_run(column));
        assert_eq!(counts, [2, 0, 1, 0], "{signals:?}: {}", place.said());
        assert_eq!(
            place
                .effects()
                .iter()
                .filter(|line| line.starts_with("start"))
                .count(),
            4,
            "{}",
            place.said()
        );
    }
}
