//! Users' code and users' numbers, at each door of the library: what panics, and what is beyond all
//! bounds, fails by name what it belongs to. No call of the library panics, and no run stays
//! unfinished.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use orchestrator::prelude::*;
use orchestrator::{Clock, Error, IntoSchedule as _, RunFilter, RunRecord, Schedule, TaskError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support;

/// What of a value panics.
const CLONE: u8 = 0;
const SERIALIZE: u8 = 1;
const DESERIALIZE: u8 = 2;
const DROP: u8 = 3;
const EQ: u8 = 4;

/// A value of which one thing panics.
struct Bad<const WHAT: u8>(u32);

impl<const WHAT: u8> Clone for Bad<WHAT> {
    fn clone(&self) -> Self {
        assert!(WHAT != CLONE, "no clone");
        Self(self.0)
    }
}

impl<const WHAT: u8> Serialize for Bad<WHAT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(WHAT != SERIALIZE, "no writing");
        self.0.serialize(serializer)
    }
}

impl<'de, const WHAT: u8> Deserialize<'de> for Bad<WHAT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(WHAT != DESERIALIZE, "no reading");
        u32::deserialize(deserializer).map(Self)
    }
}

impl<const WHAT: u8> Drop for Bad<WHAT> {
    fn drop(&mut self) {
        assert!(WHAT != DROP || std::thread::panicking(), "no drop");
    }
}

impl<const WHAT: u8> PartialEq for Bad<WHAT> {
    fn eq(&self, other: &Self) -> bool {
        assert!(WHAT != EQ, "no comparison");
        self.0 == other.0
    }
}

/// An error of which its text, or its `Drop`, panics.
#[derive(Debug)]
struct BadError<const WHAT: u8>;

impl<const WHAT: u8> std::fmt::Display for BadError<WHAT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(WHAT == DROP, "no text");
        f.write_str("a bad error")
    }
}

impl<const WHAT: u8> std::error::Error for BadError<WHAT> {}

impl<const WHAT: u8> Drop for BadError<WHAT> {
    fn drop(&mut self) {
        assert!(WHAT != DROP || std::thread::panicking(), "no drop");
    }
}

macro_rules! tasks {
    ($($what:ident: $make:ident $take:ident $keep:ident $list:ident;)+) => {$(
        #[task]
        async fn $make() -> Bad<$what> {
            Bad(1)
        }

        #[task]
        async fn $take(bad: Bad<$what>) -> u32 {
            bad.0
        }

        #[task(cache = "1h")]
        async fn $keep(bad: &Bad<$what>) -> u32 {
            bad.0 + 1
        }

        #[task]
        async fn $list() -> Vec<Bad<$what>> {
            vec![Bad(1), Bad(2)]
        }
    )+};
}

tasks! {
    CLONE: make_clone take_clone keep_clone list_clone;
    SERIALIZE: make_serialize take_serialize keep_serialize list_serialize;
    DESERIALIZE: make_deserialize take_deserialize keep_deserialize list_deserialize;
    DROP: make_drop take_drop keep_drop list_drop;
    EQ: make_eq take_eq keep_eq list_eq;
}

/// How a run ended, in words: or why there was none.
fn told<T>(run: Result<Run<T>, Error>) -> String {
    let record: &RunRecord = match &run {
        Ok(run) => run,
        Err(error) => return format!("refused: {error}"),
    };
    assert!(
        record.tasks().iter().all(|task| task.state().is_final()),
        "{record:?}"
    );
    match record.error() {
        Some(error) => format!("{}: {error}", record.state()),
        None => record.state().to_string(),
    }
}

#[task(retries = 1, retry_if = undecided)]
async fn asks() -> Result<u32> {
    Err("down".into())
}

fn undecided(_: &TaskError) -> bool {
    panic!("no answer")
}

#[task(cache = "1h", cache_key = no_key)]
async fn keyed(n: u32) -> u32 {
    n
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn no_key(_: &u32) -> u32 {
    panic!("no key")
}

#[task]
async fn fails_without_text() -> Result<u32> {
    Err(BadError::<CLONE>.into())
}

#[task]
async fn fails_with_a_bad_error() -> Result<u32> {
    Err(BadError::<DROP>.into())
}

#[task]
async fn one() -> u32 {
    1
}

/// What is captured by a closure.
fn captured<const WHAT: u8>(bad: Bad<WHAT>) -> impl Fn(&u32) -> u32 + Send + Sync + 'static {
    move |n| {
        // all of it, and not its number alone
        let bad = &bad;
        n + bad.0
    }
}

fn no_mapping(_: Node<Bad<EQ>>) -> Node<u32> {
    panic!("no mapping")
}

#[task]
async fn uses(n: u32, #[resource] bad: &Bad<DROP>) -> u32 {
    n + bad.0
}

#[tokio::test]
async fn panicking_code_fails_its_task_or_run() -> Result<()> {
    macro_rules! flows {
        ($($name:ident: $($body:expr);+ => $in_memory:literal $(or $on_disk:literal)?,)+) => {{
            let runtime = support::builder().resource(Bad::<DROP>(1)).build().await?;
            $({
                #[flow]
                fn $name() {
                    $($body;)+
                }
                let told = told($name().on(&runtime).run().await);
                let expected = $in_memory;
                $(let expected = if support::is_durable() { $on_disk } else { expected };)?
                assert!(told.contains(expected), "{}: expected `{expected}`, got `{told}`", stringify!($name));
            })+
            runtime
        }};
    }
    let runtime = flows! {
        // as a plain input, as a result, of a mapping
        clone_of_a_plain_input: take_clone(Bad(1)); take_clone(make_clone()) => "no clone",
        clone_of_a_shared_result: { let made = make_clone(); take_clone(&made); take_clone(&made) } => "no clone",
        clone_of_an_element: list_clone().expand(take_clone) => "no clone",
        clone_by_a_projection: one().map(|n| Bad::<CLONE>(*n)).map(Clone::clone).map(|bad| bad.0);
            take_clone(one().map(|n| Bad::<CLONE>(*n)).map(Clone::clone)) => "no clone",
        serialize_of_a_plain_input: take_serialize(Bad(1)) => "success" or "refused: flow `serialize_of_a_plain_input`: \
            task `take_serialize`: an input cannot be hashed: its parameter `bad: Bad<SERIALIZE>`: the value's \
            `Serialize` panicked at",
        serialize_of_a_result: make_serialize() => "success" or "its `Serialize` panicked at",
        serialize_of_a_list: list_serialize().expand(take_serialize) => "success" or "its `Serialize` panicked at",
        serialize_for_a_key: keep_serialize(one().map(|n| Bad(*n))) => "success",
        deserialize_of_a_result: take_deserialize(make_deserialize()) => "success" or "its `Deserialize` panicked at",
        drop_of_a_plain_input: keep_drop(Bad(1)) => "success",
        drop_of_a_result: make_drop() => "success",
        drop_of_a_shared_result: { let made = make_drop(); keep_drop(&made); keep_drop(&made) } => "success",
        drop_of_elements: list_drop().expand(keep_drop) => "success",
        drop_in_a_body: take_drop(make_drop()) => "no drop",
        drop_of_an_error: fails_with_a_bad_error() => "a bad error",
        drop_of_what_a_closure_holds: keep_serialize(one().map(captured(Bad::<DROP>(1))).map(|n| Bad(*n))) => "success",
        drop_of_a_resource: uses(1) => "success",
        eq_of_a_result: take_eq(make_eq()) => "success",
        text_of_an_error: fails_without_text() => "no text",
        retry_if: asks() => "down; whether to try again is not known: its `retry_if` panicked at",
        cache_key: keyed(1) => "success",
        projection: take_eq(one().map(|n| Bad(10 / (n - 1)))) => "divide by zero",
        closure_of_a_mapping: list_eq().expand(no_mapping) => "no mapping",
        body: panic!("no body") => "no body",
    };
    let runs = runtime.find_runs(&RunFilter::new()).await?;
    assert!(runs.iter().all(|run| run.state.is_final()), "{runs:#?}");
    Ok(())
}

#[tokio::test]
async fn code_that_panics_in_async_flows_fails_their_runs() -> Result<()> {
    #[flow(name = "doors_awaits_a_clone")]
    async fn awaits_a_clone() -> Result<u32> {
        let made = make_clone();
        take_serialize(Bad(1)).await?;
        Ok(made.await?.0)
    }
    #[flow(name = "doors_writes_in_a_later_poll")]
    async fn writes_in_a_later_poll() -> Result<u32> {
        one().await?;
        Ok(take_serialize(Bad(1)).await?)
    }
    #[flow(name = "doors_returns_what_panics")]
    async fn returns_what_panics() -> Result<Bad<CLONE>> {
        Ok(Bad(1))
    }
    #[flow(name = "doors_drops_what_panics")]
    async fn drops_what_panics(#[context] context: &Context) -> Result<u32> {
        let _bad = Bad::<DROP>(1);
        context.cancelled().await;
        std::future::pending().await
    }
    let runtime = support::runtime();
    let refused = "an input cannot be hashed: its parameter `bad: Bad<SERIALIZE>`";
    for (told, expected) in [
        (
            told(awaits_a_clone().on(&runtime).run().await),
            if support::is_durable() {
                refused
            } else {
                "no clone"
            },
        ),
        (
            told(writes_in_a_later_poll().on(&runtime).run().await),
            if support::is_durable() {
                refused
            } else {
                "success"
            },
        ),
        (
            told(returns_what_panics().on(&runtime).run().await),
            "success",
        ),
    ] {
        assert!(
            told.contains(expected),
            "expected `{expected}`, got `{told}`"
        );
    }
    // to await it clones it, and that is the caller's: an error, and no panic
    let error = returns_what_panics().on(&runtime).await.err().unwrap();
    assert!(
        error.is_panic() && error.to_string().contains("no clone"),
        "{error}"
    );
    let handle = drops_what_panics().on(&runtime).start().await?;
    handle.cancel();
    assert_eq!(handle.await?.state(), RunState::Cancelled);
    let runs = runtime.find_runs(&RunFilter::new()).await?;
    assert!(runs.iter().all(|run| run.state.is_final()), "{runs:#?}");
    Ok(())
}

#[tokio::test]
async fn parameters_of_flows_that_panic_are_refused_by_name() -> Result<()> {
    #[flow(name = "doors_written")]
    fn written(bad: Bad<SERIALIZE>) {
        take_serialize(bad);
    }
    #[flow(name = "doors_read")]
    fn read(bad: Bad<DESERIALIZE>) {
        take_deserialize(bad);
    }
    #[flow(name = "doors_cloned")]
    fn cloned(bad: Bad<CLONE>) {
        take_clone(bad);
    }
    #[flow(name = "doors_dropped")]
    fn dropped(bad: Bad<DROP>) {
        let _kept = std::mem::ManuallyDrop::new(bad);
    }
    let runtime = support::runtime();
    for (told, expected) in [
        (
            told(written(Bad(1)).on(&runtime).run().await),
            "refused: flow `doors_written`: parameter `bad: Bad<SERIALIZE>` cannot be stored as JSON: its `Serialize` panicked at",
        ),
        (
            told(read(Bad(1)).on(&runtime).run().await),
            "refused: flow `doors_read`: parameter `bad: Bad<DESERIALIZE>` cannot be read back from JSON: its `Deserialize` panicked",
        ),
        (told(cloned(Bad(1)).on(&runtime).run().await), "no clone"),
        (told(dropped(Bad(1)).on(&runtime).run().await), "success"),
        // the run is there: that of the second call is not, and its parameters are dropped here
        (
            told(dropped(Bad(1)).key("one").on(&runtime).run().await),
            "success",
        ),
        (
            told(dropped(Bad(1)).key("one").on(&runtime).run().await),
            "success",
        ),
    ] {
        assert!(
            told.contains(expected),
            "expected `{expected}`, got `{told}`"
        );
    }
    let runs = runtime.find_runs(&RunFilter::new()).await?;
    assert!(runs.iter().all(|run| run.state.is_final()), "{runs:#?}");
    Ok(())
}

#[tokio::test]
async fn unhashable_input_is_reported_and_the_task_runs() -> Result<()> {
    #[flow(name = "doors_kept")]
    fn kept() -> Node<u32> {
        keep_serialize(one().map(|n| Bad(*n)))
    }
    #[flow(name = "doors_keyed_without")]
    fn keyed_without() -> Node<u32> {
        keyed(one())
    }
    let runtime = support::builder().build().await?;
    for (run, expected) in [
        (
            kept().on(&runtime).run().await?,
            "the task runs uncached: its parameter `bad: &Bad<SERIALIZE>` cannot be hashed: the value's `Serialize` \
             panicked at",
        ),
        (
            keyed_without().on(&runtime).run().await?,
            "the task runs uncached: its `cache_key` panicked at",
        ),
    ] {
        let _case = support::case(expected);
        assert_eq!(run.state(), RunState::Success);
        let lines = runtime.logs(run.id(), None).await?;
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.message.contains(expected))
                .count(),
            1,
            "{lines:#?}"
        );
    }
    assert!(
        runtime
            .cached(&orchestrator::CacheFilter::new())
            .await?
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn a_cached_result_whose_reading_panics_is_computed_again() -> Result<()> {
    /// Panics when it is read from the cache. The time before shows that it can be read, as does
    /// the one after.
    #[derive(Clone, Serialize)]
    struct Changed(u32);

    static READ: AtomicU32 = AtomicU32::new(0);

    impl<'de> Deserialize<'de> for Changed {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert!(READ.fetch_add(1, Ordering::SeqCst) != 1, "no reading");
            u32::deserialize(deserializer).map(Self)
        }
    }

    #[task(cache = "1h")]
    async fn unreadable() -> Changed {
        Changed(1)
    }
    #[flow(name = "doors_twice")]
    fn twice() -> Node<u32> {
        unreadable().map(|changed| changed.0)
    }
    let store = support::url(&support::file());
    let run = async || -> Result<Run<u32>> {
        let runtime = Runtime::builder().store(&store).build().await?;
        Ok(twice().on(&runtime).run().await?)
    };
    assert_eq!(run().await?.state(), RunState::Success);
    let second = run().await?;
    assert_eq!(second.state(), RunState::Success);
    let miss = second.task("unreadable").unwrap().cache_miss();
    assert_eq!(
        miss,
        Some(orchestrator::CacheMiss::Unreadable),
        "{second:?} {:?}",
        second.tasks()
    );
    Ok(())
}

#[tokio::test]
async fn a_comparison_that_panics_in_a_simulation_fails_its_task() -> Result<()> {
    #[flow(name = "doors_compared")]
    fn compared() {
        make_eq();
    }
    let runtime = Runtime::simulated("2026-01-01T00:00:00Z".parse()?);
    let told = told(compared().on(&runtime).run().await);
    assert!(told.contains("no comparison"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_mock_that_panics_fails_its_task() -> Result<()> {
    #[flow(name = "doors_mocked")]
    fn mocked() {
        one();
    }
    let runtime = support::runtime().mock(one, || -> u32 { panic!("no mock") });
    let told = told(mocked().on(&runtime).run().await);
    assert!(told.contains("no mock"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_backfill_goes_on_where_its_progress_panics() -> Result<()> {
    #[flow(name = "doors_each_day")]
    fn each_day() {
        one();
    }
    let dates = "2026-01-01".parse()?..="2026-01-03".parse()?;
    let backfill = each_day()
        .on(&support::runtime())
        .backfill("0 6 * * *", dates);
    let done = backfill
        .on_progress(|_| panic!("no progress"))
        .run()
        .await?;
    assert_eq!(done.succeeded(), 3);
    Ok(())
}

thread_local! {
    /// Whether the conductor of this thread's runs panics.
    static BREAKS: Cell<bool> = const { Cell::new(false) };
}

/// A bug of the library's own, for want of one: at a point where tests of crashes stop the process.
#[tokio::test]
async fn a_panic_of_the_runtime_itself_ends_the_run() -> Result<()> {
    #[flow(name = "doors_unlucky")]
    fn unlucky() {
        one();
    }
    fail::cfg_callback("run-started", || assert!(!BREAKS.get(), "a bug")).unwrap();
    let runtime = support::runtime();
    BREAKS.set(true);
    let told = told(unlucky().on(&runtime).run().await);
    BREAKS.set(false);
    fail::remove("run-started");
    assert!(
        told.starts_with("failed: the runtime itself panicked at") && told.ends_with("a bug"),
        "{told}"
    );
    let runs = runtime.find_runs(&RunFilter::new()).await?;
    assert!(runs.iter().all(|run| run.state.is_final()), "{runs:#?}");
    Ok(())
}

const FOR_EVER: &[Duration] = &[Duration::MAX];

#[tokio::test(start_paused = true)]
async fn endless_durations_are_waited_for() -> Result<()> {
    #[task(retries = 1)]
    async fn later(how: &str, #[context] context: &Context) -> Result<u32> {
        match (context.attempt(), how) {
            (1, "asks") => Err(retry_after(Duration::MAX, "busy").into()),
            (1, _) => Err("down".into()),
            _ => Ok(1),
        }
    }
    #[task]
    async fn obeys(#[context] context: &Context) -> u32 {
        context.cancelled().await;
        1
    }
    #[flow(name = "doors_waits")]
    fn waits() {
        later("asks");
        later("fixed")
            .retry_delay(Duration::MAX)
            .max_retry_delay(Duration::MAX);
        later("grows")
            .retry_delay(Duration::MAX)
            .max_retry_delay(Duration::MAX)
            .backoff(f64::MAX);
        later("lists").retry_delays(FOR_EVER);
        later("at once")
            .retry_delay(Duration::ZERO)
            .max_retry_delay(Duration::MAX)
            .backoff(f64::MAX);
        later("in time").timeout(Duration::MAX);
    }
    #[flow(name = "doors_is_cancelled", timeout = "200000h")]
    async fn is_cancelled() -> Result<u32> {
        Ok(obeys().timeout(Duration::MAX).await?)
    }
    let start = "2026-01-01T00:00:00Z".parse()?;
    let builder = support::builder()
        .clock(Clock::tokio(start))
        .grace(Duration::MAX)
        .keep(Duration::MAX);
    let builder = builder
        .max_running(usize::MAX)
        .max_blocking(usize::MAX)
        .pool("wide", u32::MAX);
    let runtime = builder.build().await?;
    let run = waits().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Success, "{run:?}");
    // as it is recorded, it can be read
    let run = runtime.find_run(run.id()).await?.unwrap();
    let years = |key: &str| {
        let task = run.task(key).unwrap();
        (task.finished_at().unwrap() - start).num_days() / 365
    };
    assert_eq!(
        ["later", "later#2", "later#4", "later#5", "later#6"].map(years),
        [100, 100, 100, 0, 0]
    );
    assert!((50..=100).contains(&years("later#3")));
    let handle = is_cancelled().on(&runtime).start().await?;
    tokio::task::yield_now().await;
    handle.cancel();
    assert_eq!(handle.await?.state(), RunState::Cancelled);
    runtime.prune().await?;
    Ok(())
}

#[tokio::test]
async fn invalid_numbers_are_refused_by_name() -> Result<()> {
    #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
    enum Wrong {
        BackoffNan,
        BackoffInfinite,
        BackoffNegative,
        RetriesTooMany,
        TimeoutZero,
        NoDelays,
    }
    #[flow(name = "doors_with")]
    fn with(wrong: Wrong) {
        let node = one();
        let _node = match wrong {
            Wrong::BackoffNan => node.backoff(f64::NAN),
            Wrong::BackoffInfinite => node.backoff(f64::INFINITY),
            Wrong::BackoffNegative => node.backoff(-1.0),
            Wrong::RetriesTooMany => node.retries(u32::MAX),
            Wrong::TimeoutZero => node.timeout(Duration::ZERO),
            Wrong::NoDelays => node.retry_delays(&[]),
        };
    }
    let runtime = support::runtime();
    let nan = "expected `backoff` to be a factor of at least 1, got NaN";
    let retries = "expected `retries` to be at most 100, got 4294967295";
    for (wrong, expected) in [
        (Wrong::BackoffNan, nan),
        (
            Wrong::BackoffInfinite,
            "expected `backoff` to be a factor of at least 1, got inf",
        ),
        (
            Wrong::BackoffNegative,
            "expected `backoff` to be a factor of at least 1, got -1",
        ),
        (Wrong::RetriesTooMany, retries),
        (
            Wrong::TimeoutZero,
            "expected `timeout` to be greater than zero, got 0s",
        ),
        (
            Wrong::NoDelays,
            "expected `retry_delay` to list at least one delay, got none",
        ),
    ] {
        let _case = support::case(format_args!("{wrong:?}"));
        let told = told(with(wrong).on(&runtime).run().await);
        assert_eq!(
            told,
            format!("refused: flow `doors_with`: task `one`: {expected}")
        );
    }
    // outside of a flow, too
    for (node, expected) in [
        (one().backoff(f64::NAN), nan),
        (one().retries(u32::MAX), retries),
    ] {
        assert_eq!(
            node.await.unwrap_err().to_string(),
            format!("task `one`: {expected}")
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dates_at_the_ends_of_the_calendar_are_dates() -> Result<()> {
    #[task(retries = 1, retry_delay = "1ms")]
    async fn second_time(#[context] context: &Context) -> Result<String> {
        match context.attempt() {
            1 => Err("down".into()),
            _ => Ok(context.interval().to_string()),
        }
    }
    #[flow(name = "doors_dated", schedule = "0 6 * * *")]
    fn dated() -> Node<String> {
        second_time()
    }
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    // the years that schedules have
    let year_1: DateTime<Utc> = "0001-01-01T00:00:00Z".parse().unwrap();
    let year_9999: DateTime<Utc> = "9999-12-31T23:59:59Z".parse().unwrap();
    for now in [first, last] {
        let _case = support::case(format_args!("{now}"));
        let runtime = support::builder().clock(Clock::tokio(now)).build().await?;
        for run in [
            dated().on(&runtime).run().await?,
            dated().logical_date(year_1).on(&runtime).run().await?,
            dated().logical_date(year_9999).on(&runtime).run().await?,
            dated()
                .interval(year_1, year_9999)
                .on(&runtime)
                .run()
                .await?,
        ] {
            assert_eq!(run.state(), RunState::Success, "{run:?}");
            let found = runtime.find_run(run.id()).await?.unwrap();
            assert_eq!(
                (found.logical_date(), found.interval()),
                (run.logical_date(), run.interval())
            );
        }
        let beyond = "in the years 1 to 9999";
        for run in [
            dated().logical_date(first),
            dated().logical_date(last),
            dated().interval(first, year_1),
            dated().interval(year_9999, last),
        ] {
            let refused = run.on(&runtime).run().await.unwrap_err().to_string();
            assert!(refused.contains(beyond), "{refused}");
        }
        for schedule in [
            "0 6 * * *".into_schedule()?,
            Schedule::every(Duration::MAX)?,
            Schedule::once(now.clamp(year_1, year_9999)),
        ] {
            for (date, expected) in [
                (NaiveDate::MIN, beyond),
                (NaiveDate::MAX, beyond),
                (year_1.date_naive(), "has no tick"),
                (year_9999.date_naive(), "has no tick"),
            ] {
                let backfill = dated().on(&runtime);
                let backfill = backfill.backfill(schedule.clone(), date..=date);
                if let Err(error) = backfill.run().await {
                    assert!(error.to_string().contains(expected), "{error}");
                }
            }
            // it looks at its ticks, and stops
            let serve = dated().on(&runtime).serve(schedule);
            let _ = tokio::time::timeout(Duration::from_millis(20), serve).await;
        }
        runtime.prune().await?;
    }
    Ok(())
}

/// How long a chain may be: on a thread with the stack that threads have (2 MiB), and not on one of
/// tokio's own.
const LONG: u32 = 100_000;

fn on_a_plain_stack<T: Send>(test: impl Future<Output = T> + Send) -> T {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread
            .spawn_scoped(scope, || tokio.block_on(test))
            .unwrap()
            .join()
            .unwrap()
    })
}

#[task]
async fn next(n: u32) -> u32 {
    n + 1
}

#[test]
fn long_chains_of_projections_need_no_deep_stack() {
    #[flow(name = "doors_projected")]
    fn projected() -> Node<u32> {
        let long = (0..LONG).fold(one(), |node, _| node.map(|n| n + 1));
        // each of a chain is a chain of its own
        next(&long);
        long
    }
    let runtime = support::runtime();
    on_a_plain_stack(async {
        assert_eq!(projected().on(&runtime).await.unwrap(), LONG + 1);
        let loose = (0..LONG).fold(one(), |node, _| node.map(|n| n + 1));
        assert_eq!(loose.clone().await.unwrap(), LONG + 1);
        drop(loose);
    });
}

#[test]
fn long_chains_outside_of_a_flow_need_no_deep_stack() {
    on_a_plain_stack(async {
        let chain = (0..LONG).fold(one(), |node, _| next(node));
        assert_eq!(chain.clone().await.unwrap(), LONG + 1);
        assert!(format!("{chain:?}").len() < 100);
        drop(chain);
        let waiting = (0..LONG).fold(one(), |node, _| one().after(node));
        drop(waiting);
    });
}

#[test]
fn tasks_outside_of_a_flow_that_wait_for_themselves_are_refused() {
    on_a_plain_stack(async {
        let (one, two) = (one(), next(1));
        let two = two.after(&one);
        let error = one.after(&two).await.unwrap_err().to_string();
        assert!(error.contains("waits for itself"), "{error}");
        drop(two);
    });
}
