//! Which task a death is blamed on.

use super::tasks::*;
use super::*;

/// Whether the runs are those of which one has a task that kills its process.
const POISONED: &str = "CRASH_POISONED";

/// How many tasks each of the three runs has.
const TASKS: u64 = 67;

pub(super) async fn act(runtime: &Runtime) {
    runtime.resume().await.unwrap();
    if std::env::var_os(POISONED).is_some() {
        three(crowd, runtime).await;
    } else {
        three(long, runtime).await;
    }
}

/// Runs a flow three times at once.
async fn three<T: orchestrator::Data>(flow: fn(u64) -> Flow<T>, runtime: &Runtime) {
    let run = |number: u64| flow(number).key(number.to_string()).on(runtime).run();
    let (first, second, third) = tokio::join!(run(0), run(1), run(2));
    [first, second, third]
        .into_iter()
        .for_each(|run| drop(run.unwrap()));
}

#[task]
async fn sleeps(number: u64, milliseconds: u64, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(milliseconds).await;
    work.done(number)
}

/// Aborts its process, once the others run.
#[task]
async fn poison() -> Made {
    pause(5).await;
    note("dies");
    std::process::abort()
}

#[flow(name = "crash_crowd")]
fn crowd(number: u64) {
    for task in 0..TASKS {
        if number == 0 && task == TASKS / 2 {
            poison();
        }
        sleeps(task, 20);
    }
}

#[flow(name = "crash_long")]
fn long(number: u64) -> Node<Made> {
    (0..TASKS).for_each(|task| drop(sleeps(task, 10 * task)));
    (0..12).fold(sleeps(number, 300), |before, _| {
        step(before, 300).named("sleeps")
    })
}

/// What became of the tasks that do no harm: all of them are a success.
fn check_innocents(place: &Place, flow: &str) -> Vec<RunRecord> {
    let runs = place.records(flow);
    assert_eq!(runs.len(), 3);
    for task in runs
        .iter()
        .flat_map(|run| run.tasks())
        .filter(|task| task.name() == "sleeps")
    {
        assert_eq!(
            task.state(),
            TaskState::Success,
            "{task:?}: {}",
            place.said()
        );
    }
    runs
}

#[test]
fn task_that_kills_its_process_is_blamed_and_its_neighbours_are_not() {
    let place = Place::new("blamed");
    let mut history = History::new(&place);
    while !place.start("blamed", &[(POISONED, "1")]).wait().success() {
        history.died();
    }
    let runs = check_innocents(&place, "crash_crowd");
    let (poisoned, others): (Vec<&RunRecord>, Vec<&RunRecord>) =
        runs.iter().partition(|run| run.key() == Some("0"));
    assert_eq!(poisoned[0].state(), RunState::Failed);
    assert!(others.iter().all(|run| run.state() == RunState::Success));
    let poison = poisoned[0].task("poison").unwrap();
    assert!(
        poison.error().is_some_and(TaskError::is_crash),
        "{poison:?}"
    );
    let deaths = place
        .effects()
        .iter()
        .filter(|line| *line == "dies")
        .count();
    println!(
        "{deaths} deaths, {} of them known to be its own",
        poison.crashes()
    );
    history.check();
}

/// Kills processes from outside until all three runs are final. Says how many.
#[expect(
    clippy::disallowed_methods,
    reason = "the processes sleep and are killed, not the tasks of this one"
)]
fn kill_each(place: &Place, lives: Duration) -> usize {
    for kills in 0.. {
        let mut process = place.start("blamed", &[]);
        let ends = Instant::now() + lives;
        while !process.is_over() && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(5));
        }
        if process.kill().success() {
            return kills;
        }
    }
    unreachable!("every run ends")
}

#[test]
fn a_process_that_is_killed_every_second_fails_no_task() {
    let place = Place::new("killed");
    let kills = kill_each(&place, Duration::from_secs(1));
    let runs = check_innocents(&place, "crash_long");
    assert!(
        runs.iter().all(|run| run.state() == RunState::Success),
        "{runs:?}"
    );
    println!("{kills} kills");
}
