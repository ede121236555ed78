//! Processes that are asked to stop.

use std::process::ExitCode;

use super::tasks::*;
use super::*;

/// How many tasks there are, one after the other, and how long each takes.
const TASKS: &str = "CRASH_TASKS";
const LASTS: &str = "CRASH_LASTS";

pub(super) async fn act(runtime: &Runtime) -> i32 {
    let tasks = std::env::var(TASKS).unwrap().parse().unwrap();
    let code = match runtime.until_signal(drained(tasks).on(runtime).run()).await {
        Ok(run) => panic!("no signal came: {run:?}"),
        Err(stopped) => stopped.exit_code(),
    };
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

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the other process is to see the first signal before the second"
)]
fn sigterm_drains_and_leaves_the_rest_resumable() {
    for (tasks, lasts, signals, status, starts) in [
        (1, "400", &["TERM"][..], 0, 1),
        (1, "400", &["INT"], 0, 1),
        (3, "400", &["TERM"], 75, 3),
        // what is running is cut off, and runs again
        (2, "60000", &["TERM", "INT"], 128 + 2, 3),
        (2, "60000", &["TERM", "TERM"], 128 + 15, 3),
        (2, "60000", &["INT", "TERM"], 128 + 15, 3),
    ] {
        let place = Place::new("stopped");
        let mut history = History::new(&place);
        let process = place.start("stopped", &[(TASKS, &tasks.to_string()), (LASTS, lasts)]);
        place.wait_for_effect("start");
        for (number, signal) in signals.iter().enumerate() {
            if number > 0 {
                std::thread::sleep(Duration::from_millis(300));
            }
            process.signal(signal);
        }
        let ended = process.wait();
        assert_eq!(
            ended.code(),
            Some(status),
            "{signals:?}: {ended}: {}",
            place.said()
        );
        history.died();
        let left = status != 0;
        assert_eq!(
            place.of_run("state"),
            if left { 1 } else { 2 },
            "{signals:?}"
        );
        assert_eq!(place.of_run("owner") == -1, left);
        place.acts("resume", &[]);
        assert_eq!(
            (place.of_run("state"), place.of_run("takeovers")),
            (2, 0),
            "{signals:?}"
        );
        assert_eq!(
            place
                .effects()
                .iter()
                .filter(|line| line.starts_with("start"))
                .count(),
            starts,
            "{signals:?}"
        );
        history.check_all();
    }
}
