//! Several processes that serve one file, and die.

use chrono::{DateTime, Utc};
use orchestrator::{RunFilter, RunKind, RunSummary};

use super::tasks::*;
use super::*;

const EACH: Duration = Duration::from_millis(100);
const ONE_AT_A_TIME: Duration = Duration::from_secs(1);

pub(super) async fn act(runtime: &Runtime) -> i32 {
    let served = runtime.serve([
        ticked().serve(Schedule::every(EACH)).catchup(true),
        alone().serve(Schedule::every(ONE_AT_A_TIME)).catchup(true),
    ]);
    let stopped = served.await.unwrap();
    if stopped.left.is_empty() { 0 } else { 75 }
}

#[task]
async fn ticks(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(1).await;
    work.done(1)
}

#[task]
async fn takes_a_while(#[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(50).await;
    work.done(1)
}

#[flow(name = "crash_served")]
fn ticked() -> Node<Made> {
    step(ticks(), 1)
}

#[flow(name = "crash_served_alone", max_active_runs = 1)]
fn alone() -> Node<Made> {
    takes_a_while()
}

/// How many processes are to be killed.
fn wanted() -> u32 {
    std::env::var("ORCHESTRATOR_KILLS").map_or(15, |kills| kills.parse::<u32>().unwrap() / 20)
}

fn runs(place: &Place, flow: &str) -> Vec<RunSummary> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder().store(place.url()).build().await.unwrap();
        runtime
            .find_runs(&RunFilter::new().flow(flow))
            .await
            .unwrap()
    })
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the processes run by the system's clock, and are killed by it"
)]
fn three_processes_killed_at_random_make_each_ticks_run_once() {
    let place = Place::new("served");
    let mut random = Random(11);
    let serve = || place.start("served", &[]);
    let mut processes = [serve(), serve(), serve()];
    place.wait_for_effect("start");
    for _ in 0..wanted() {
        std::thread::sleep(Duration::from_millis(100 + random.below(500)));
        let victim = usize::try_from(random.below(3)).unwrap();
        let killed = std::mem::replace(&mut processes[victim], serve()).kill();
        assert_eq!(killed.signal(), Some(SIGKILL), "{}", place.said());
    }
    // the last that were started come to serve, too
    std::thread::sleep(Duration::from_millis(1500));
    for process in processes {
        process.signal("TERM");
        let ended = process.wait();
        assert!(
            matches!(ended.code(), Some(0 | RUNS_LEFT)),
            "{ended}: {}",
            place.said()
        );
    }
    place.acts("resume", &[]);
    place.check_integrity();
    place.committed();
    for (flow, every) in [
        ("crash_served", EACH),
        ("crash_served_alone", ONE_AT_A_TIME),
    ] {
        let _case = crate::support::case(flow);
        let mut runs = runs(&place, flow);
        runs.sort_by_key(|run| run.logical_date);
        let every = i64::try_from(every.as_micros()).unwrap();
        let ticks: Vec<i64> = runs
            .iter()
            .map(|run| run.logical_date.timestamp_micros())
            .collect();
        let expected = (ticks[0]..=*ticks.last().unwrap()).step_by(usize::try_from(every).unwrap());
        assert!(
            expected.eq(ticks.iter().copied()),
            "{flow}: a tick has no run, or two: {ticks:?}"
        );
        for run in &runs {
            assert_eq!(
                (run.kind, run.state),
                (RunKind::Scheduled, RunState::Success),
                "{run:?}: {}",
                place.said()
            );
        }
        println!("{flow}: {} runs, {} kills", runs.len(), wanted());
    }
    // whatever process it was in, it ran alone
    let mut spans: Vec<(DateTime<Utc>, DateTime<Utc>)> = place
        .records("crash_served_alone")
        .iter()
        .filter_map(|run| {
            run.task("takes_a_while")
                .and_then(|task| task.started_at().zip(task.finished_at()))
        })
        .collect();
    spans.sort_unstable();
    let overlap = spans.windows(2).find(|pair| pair[1].0 < pair[0].1);
    assert_eq!(
        overlap, None,
        "two runs of a flow with `max_active_runs = 1` at once"
    );
}
