//! A rolling deploy: processes of several builds of a program on one file, whose schedules differ.

use chrono::{DateTime, Utc};
use orchestrator::RunFilter;

use super::tasks::*;
use super::*;

const BUILD: &str = "CRASH_BUILD";
const FLOW: &str = "crash_deployed";

/// The milliseconds from tick to tick, by build.
const PERIODS: [i64; 4] = [100, 150, 70, 100];

#[task]
async fn of_build(build: u32, #[context] context: &Context) -> Made {
    let _ = build;
    let work = Work::start(context);
    pause(1).await;
    work.done(1)
}

#[flow(name = "crash_deployed")]
fn deployed(build: u32) -> Node<Made> {
    of_build(build)
}

pub(super) async fn act(runtime: &Runtime) -> i32 {
    let build: u32 = std::env::var(BUILD).unwrap().parse().unwrap();
    let period = PERIODS[usize::try_from(build).unwrap()].cast_unsigned();
    let schedule = Schedule::every(Duration::from_millis(period));
    let serve = deployed(build).serve(schedule).catchup(true);
    let stopped = runtime.serve([serve]).await.unwrap();
    if stopped.left.is_empty() { 0 } else { 75 }
}

/// What the file says: the build and the tick of each run, in the order of ticks, and since when
/// what is in force is.
fn look(place: &Place) -> (Vec<(i64, i64)>, Option<DateTime<Utc>>) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder().store(place.url()).build().await.unwrap();
        let runs = runtime
            .find_runs(&RunFilter::new().flow(FLOW))
            .await
            .unwrap();
        let mut made: Vec<_> = runs
            .iter()
            .map(|run| {
                let build = run.parameters["build"].as_i64().unwrap();
                (run.logical_date.timestamp_micros(), build)
            })
            .collect();
        made.sort_unstable();
        let deployments = runtime.deployments(FLOW).await.unwrap();
        (
            made,
            deployments.first().and_then(|deployment| deployment.since),
        )
    })
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the processes run by the system's clock, and are killed by it"
)]
fn a_rolling_deploy_loses_no_tick_and_doubles_none_whatever_old_processes_run() {
    let place = Place::new("deployed");
    let mut random = Random(17);
    // one that is slow to start would otherwise begin to serve after the first of the next build, and
    // put its own schedule in force again
    let serving = || place.said().matches("deployment served").count();
    let start = |build: usize| {
        let before = serving();
        let process = place.start("deployed", &[(BUILD, &build.to_string())]);
        place.wait_until("a process serves", || serving() > before);
        process
    };
    let wait_for = |build: i64, ticks: usize| {
        place.wait_until("a build makes ticks", || {
            let made = look(&place).0;
            made.iter().filter(|(_, of)| *of == build).count() >= ticks
        });
    };
    let mut came_into_force: Vec<i64> = Vec::new();
    let mut old: Vec<Process> = Vec::new();
    for build in 0..PERIODS.len() {
        // one new process at a time, as a deploy does; all of the old ones still run
        let mut new = vec![start(build)];
        let number = i64::try_from(build).unwrap();
        wait_for(number, 3);
        came_into_force.push(look(&place).1.unwrap().timestamp_micros());
        for _ in 0..2 {
            new.push(start(build));
            std::thread::sleep(Duration::from_millis(random.below(300)));
            // those of the build before go one by one, some of them by force
            if let Some(process) = old.pop() {
                if random.below(2) == 0 {
                    process.kill();
                } else {
                    process.signal("TERM");
                    process.wait();
                }
            }
        }
        // also one of the new ones dies, and comes back
        let victim = usize::try_from(random.below(3)).unwrap();
        std::mem::replace(&mut new[victim], start(build)).kill();
        let before = look(&place).0.len();
        place.wait_until("the new build goes on", || {
            look(&place).0.len() > before + 10
        });
        old.extend(new);
    }
    for process in old {
        process.signal("TERM");
        process.wait();
    }
    place.acts("resume", &[]);
    place.check_integrity();
    let (made, since) = look(&place);
    assert_eq!(
        since.map(|since| since.timestamp_micros()),
        came_into_force.last().copied(),
        "no old process took it back"
    );
    let last = made.last().unwrap().0;
    let mut expected = Vec::new();
    for (build, period) in PERIODS.into_iter().enumerate() {
        let until = came_into_force.get(build + 1).map_or(last, |next| *next);
        let period = period * 1000;
        let mut tick = (came_into_force[build] / period + 1) * period;
        while tick <= until {
            expected.push((tick, i64::try_from(build).unwrap()));
            tick += period;
        }
    }
    assert_eq!(made, expected, "{}", place.said());
    let superseded = place.said().matches("deployment superseded").count();
    assert!(superseded >= PERIODS.len() - 1, "{}", place.said());
    println!("{} runs of {} builds", made.len(), PERIODS.len());
}
