//! A backfill whose process dies, and that is asked for again.

use chrono::NaiveDate;
use orchestrator::RunKind;

use super::random::{kill_until_final, wanted};
use super::tasks::*;
use super::*;

/// How many ticks there are.
const TICKS: usize = 40;

/// Makes the runs that are missing; asked for once more, it makes none.
pub(super) async fn act(runtime: &Runtime) {
    let first: NaiveDate = "2026-01-01".parse().unwrap();
    let days = || first..=first + chrono::TimeDelta::days(TICKS as i64 - 1);
    let backfill = || {
        filled()
            .on(runtime)
            .backfill("0 6 * * *", days())
            .max_active_runs(4)
            .run()
    };
    let done = backfill().await.unwrap();
    assert_eq!(
        (done.total(), done.unsuccessful().len()),
        (TICKS, 0),
        "{done:?}"
    );
    assert_eq!(backfill().await.unwrap().skipped(), TICKS);
}

/// Has an effect elsewhere, which is known by its tick and its idempotency key, and differs each
/// time.
#[task]
async fn books(before: &Made, #[context] context: &Context) -> Made {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let work = Work::start(context);
    let number =
        (u64::from(std::process::id()) << 32) + u64::from(NEXT.fetch_add(1, Ordering::SeqCst));
    note(&format!(
        "booked {} {} {number}",
        context.logical_date().timestamp(),
        context.idempotency_key()
    ));
    pause(before.number % 3).await;
    work.done(number)
}

#[flow(name = "crash_backfilled", max_active_runs = 1)]
fn filled(#[context] context: &Context) -> Node<Made> {
    step(
        books(step(
            made(context.logical_date().timestamp().unsigned_abs() / 86_400),
            1,
        )),
        0,
    )
}

#[test]
fn a_backfill_killed_at_random_moments_has_one_run_and_one_result_for_each_tick() {
    let mut random = Random(17);
    let (mut kills, mut backfills) = (0, 0);
    while kills < wanted() / 5 {
        let _case = crate::support::case(format_args!("seed {backfills}"));
        let place = Place::new("backfilled");
        let (killed, history) = kill_until_final(&place, "backfilled", backfills, &mut random);
        check(&place);
        history.check_all();
        kills += killed;
        backfills += 1;
    }
    println!("{kills} kills in {backfills} backfills");
}

fn check(place: &Place) {
    let runs = place.records("crash_backfilled");
    let ticks: BTreeSet<_> = runs.iter().map(RunRecord::logical_date).collect();
    assert_eq!(
        (runs.len(), ticks.len()),
        (TICKS, TICKS),
        "{}",
        place.said()
    );
    let committed = results(place);
    let effects = place.effects();
    let booked: Vec<[&str; 3]> = effects.iter().filter_map(|line| booked(line)).collect();
    let keys: BTreeSet<_> = booked.iter().map(|[tick, key, _]| (tick, key)).collect();
    assert_eq!(
        keys.len(),
        TICKS,
        "each attempt for a tick has the tick's one key: {booked:#?}"
    );
    for run in &runs {
        let what = (run.kind(), run.state(), unsuccessful(run));
        assert_eq!(
            what,
            (RunKind::Backfill, RunState::Success, vec![]),
            "{}",
            place.said()
        );
        let number = committed[&whose(run.id().as_bytes(), "books")].to_string();
        let tick = run.logical_date().timestamp().to_string();
        let times = booked
            .iter()
            .filter(|[at, _, what]| (*at, *what) == (&tick, &number))
            .count();
        assert_eq!(times, 1, "{tick} {number}: {booked:#?}");
    }
}

/// The tick, the key and the number of an effect.
fn booked(line: &str) -> Option<[&str; 3]> {
    line.strip_prefix("booked ")?
        .split(' ')
        .collect::<Vec<_>>()
        .try_into()
        .ok()
}

/// The number that is committed for each task.
fn results(place: &Place) -> BTreeMap<String, u64> {
    place
        .rows()
        .iter()
        .filter_map(AttemptRow::made)
        .map(|made| (made.whose, made.number))
        .collect()
}
