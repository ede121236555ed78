//! Finished runs that are run again by a process that dies: what was kept stays, what was to run
//! again does.

use orchestrator::{Rerun, RunRecord};

use super::tasks::*;
use super::*;

/// Runs the flow where nobody did; runs it again where it failed, and goes on with it where
/// somebody died doing so.
pub(super) async fn act(runtime: &Runtime) {
    let runs = runtime.runs("crash_again").await.unwrap();
    let Some(run) = runs.first() else {
        return drop(again().on(runtime).run().await.unwrap());
    };
    runtime.resume().await.unwrap();
    let run = runtime.find_run(run.id()).await.unwrap().unwrap();
    if run.state() == RunState::Failed {
        runtime.rerun(run.id(), Rerun::Failed).await.unwrap();
    }
}

fn is_mended() -> bool {
    Place::here().0.join("mended").exists()
}

/// Fails for two of three, until it is mended.
#[task]
async fn breaks(before: &Made, #[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    if before.number > 1 && !is_mended() {
        return Err("broken".into());
    }
    pause(before.number % 2).await;
    Ok(work.done(before.number + 1))
}

#[flow(name = "crash_again")]
async fn again() -> Result<u64> {
    let first = step(made(0), 0);
    let parts = list(&first, 3).expand(|part| step(breaks(part), 0));
    let large = large(&first);
    let whole = sum(parts).await?;
    let all = list(whole, large.await?.number + 1).expand(retried);
    Ok(sum(all).await?.number)
}

/// `3, 4, 5` and their sum, twice; each plus one.
const TOTAL: u64 = 12 + 13 + 2;

fn record(place: &Place) -> RunRecord {
    place.record("crash_again")
}

/// How often the body of each task started.
fn starts(place: &Place) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    for line in place.effects() {
        if let Some(key) = line
            .strip_prefix("start ")
            .and_then(|rest| rest.split([' ', ':']).nth(1))
        {
            *starts.entry(key.to_owned()).or_default() += 1;
        }
    }
    starts
}

#[test]
fn a_re_run_whose_process_dies_at_any_named_point_goes_on() {
    for (point, hits) in [
        ("run-reopened", &[1][..]),
        ("rerun-begins", &[1]),
        ("transaction-begun", &[1, 2, 5, 9]),
        ("transaction-written", &[1, 2, 5, 9]),
        ("transaction-committed", &[1, 2, 5, 9]),
        ("run-started", &[1]),
        ("planned", &[1]),
        ("mapping-opened", &[1]),
        ("start-recorded", &[1, 2, 3, 7]),
        ("start-committed", &[1, 2, 3, 7]),
        ("body-over", &[1, 2, 5]),
        ("body-told", &[1, 2, 3]),
        ("end-recorded", &[1, 2, 6]),
        ("end-committed", &[1, 2, 5]),
        ("plan-told", &[1, 2, 5]),
        ("retry-recorded", &[1, 2]),
        ("retry-committed", &[1, 2]),
        ("run-end-recorded", &[1]),
        ("run-end-committed", &[1]),
    ] {
        for hit in hits {
            let _case = crate::support::case(format_args!("{point}, hit {hit}"));
            let place = Place::new(point);
            place.acts("rerun", &[]);
            let before = record(&place);
            let states: Vec<String> = before
                .tasks()
                .iter()
                .map(|task| format!("{} {}", task.key(), task.state()))
                .collect();
            assert_eq!(before.state(), RunState::Failed);
            assert_eq!(
                states
                    .iter()
                    .filter(|state| state.ends_with(" failed"))
                    .count(),
                2,
                "{states:?}"
            );
            std::fs::write(place.0.join("mended"), "").unwrap();
            let kept = starts(&place);
            place.dies("rerun", &[], point, *hit);
            place.acts("rerun", &[]);
            let after = record(&place);
            assert_eq!(
                (after.state(), unsuccessful(&after)),
                (RunState::Success, vec![]),
                "{point} {hit}"
            );
            assert_eq!(
                (after.reruns().len(), after.tasks().len()),
                (1, 2 + 6 + 1 + 1 + 1 + 2 + 1),
                "{point} {hit}"
            );
            let now = starts(&place);
            for task in before
                .tasks()
                .iter()
                .filter(|task| task.state() == TaskState::Success)
            {
                let key = task.key();
                assert_eq!(
                    now.get(&key),
                    kept.get(&key),
                    "{key} was kept, {point} {hit}"
                );
            }
            // what was broken had one attempt, and one more for each process that tried
            let broken = after.task("breaks[2]").unwrap();
            assert!((2..=3).contains(&broken.attempts()), "{broken:?}");
            assert_eq!(
                broken.attempts() - broken.crashes(),
                2,
                "{point} {hit}: {broken:?}"
            );
            place.check_integrity();
        }
    }
}

#[test]
fn total_of_a_rerun_is_that_of_a_run_without_failures() {
    let place = Place::new("never-broken");
    std::fs::write(place.0.join("mended"), "").unwrap();
    place.acts("rerun", &[]);
    let done = place
        .effects()
        .iter()
        .rev()
        .find_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    assert_eq!(
        (record(&place).state(), done),
        (RunState::Success, Some(TOTAL))
    );
}
