//! Results that are kept: what makes two calls the same, for how long, and who computes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{CacheFilter, CacheMiss, Clock, Rerun, RunFilter, RuntimeBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{Instant, advance};

use crate::support;

/// How many bodies ran, and the most that ran at once.
#[derive(Clone, Default)]
struct Calls(Arc<(AtomicU32, AtomicU32, AtomicU32)>);

impl Calls {
    fn enter(&self) -> u32 {
        self.0
            .2
            .fetch_max(self.0.1.fetch_add(1, SeqCst) + 1, SeqCst);
        self.0.0.fetch_add(1, SeqCst) + 1
    }

    fn leave(&self) {
        self.0.1.fetch_sub(1, SeqCst);
    }

    fn count(&self) -> u32 {
        self.0.0.load(SeqCst)
    }

    fn most(&self) -> u32 {
        self.0.2.load(SeqCst)
    }
}

async fn with(builder: RuntimeBuilder, calls: &Calls) -> Runtime {
    builder
        .clock(Clock::tokio_from_now())
        .resource(calls.clone())
        .build()
        .await
        .unwrap()
}

/// A runtime on the store of these tests, and what counts its bodies.
async fn counted() -> (Runtime, Calls) {
    let calls = Calls::default();
    (with(support::builder(), &calls).await, calls)
}

/// Two runtimes on one file, as two processes have them.
async fn two() -> ([Runtime; 2], Calls) {
    let calls = Calls::default();
    let url = format!(
        "sqlite:{}",
        support::new_folder("two").join("state.db").display()
    );
    let one = || with(Runtime::builder().store(&url).pool("one", 1), &calls);
    ([one().await, one().await], calls)
}

fn miss<T: orchestrator::Data>(run: &Run<T>, key: &str) -> Option<CacheMiss> {
    run.task(key).unwrap().cache_miss()
}

/// Takes a second.
#[task(cache = "1h")]
async fn double(n: u32, #[resource] calls: &Calls) -> u32 {
    calls.enter();
    tokio::time::sleep(Duration::from_secs(1)).await;
    calls.leave();
    n * 2
}

#[task]
async fn sum(numbers: Vec<u32>) -> u32 {
    numbers.iter().sum()
}

#[flow(name = "caching_doubled")]
fn doubled(n: u32) -> Node<u32> {
    double(n)
}

#[flow(name = "caching_all_doubled")]
fn all_doubled(numbers: Vec<u32>) -> Node<u32> {
    sum(expand(numbers, double))
}

#[tokio::test(start_paused = true)]
async fn a_result_is_used_again_by_later_runs() -> Result<()> {
    let (runtime, calls) = counted().await;
    let first = doubled(2).on(&runtime).run().await?;
    let task = first.task("double").unwrap();
    assert_eq!(
        (task.cached(), task.cached_from(), task.attempts()),
        (false, None, 1)
    );
    assert_eq!(miss(&first, "double"), Some(CacheMiss::Empty));
    let second = doubled(2).on(&runtime).run().await?;
    let task = second.task("double").unwrap();
    assert_eq!(
        (task.cached(), task.cached_from(), task.attempts()),
        (true, Some(first.id()), 0)
    );
    assert_eq!(
        (task.cache_miss(), task.state(), second.output()),
        (None, TaskState::Success, Some(&4))
    );
    let third = doubled(3).on(&runtime).run().await?;
    assert_eq!(
        (miss(&third, "double"), third.output()),
        (Some(CacheMiss::NewInputs), Some(&6))
    );
    assert_eq!(calls.count(), 2);
    // what was a hit is no new result: the first run made it
    let fourth = doubled(2).on(&runtime).run().await?;
    assert_eq!(
        fourth.task("double").unwrap().cached_from(),
        Some(first.id())
    );
    // as it is recorded, too
    let record = runtime.find_run(second.id()).await?.unwrap();
    assert_eq!(
        record.task("double").unwrap().cached_from(),
        Some(first.id())
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_result_is_used_again_by_other_processes() -> Result<()> {
    let ([one, two], calls) = two().await;
    let first = doubled(2).on(&one).run().await?;
    drop(one);
    let second = doubled(2).on(&two).run().await?;
    assert_eq!(
        second.task("double").unwrap().cached_from(),
        Some(first.id())
    );
    assert_eq!((second.output(), calls.count()), (Some(&4), 1));
    Ok(())
}

#[tokio::test]
async fn maps_and_sets_are_the_same_in_any_order() -> Result<()> {
    #[derive(Clone, Serialize, Deserialize)]
    struct Options {
        limits: HashMap<String, HashMap<u8, String>>,
    }
    #[task(cache)]
    async fn orderless(
        map: HashMap<String, u32>,
        set: HashSet<String>,
        own: &Options,
        #[resource] calls: &Calls,
    ) -> u32 {
        calls.enter();
        map.len() as u32 + set.len() as u32 + own.limits.len() as u32
    }
    #[flow(name = "caching_orderless")]
    fn flow(skip: usize) -> Node<u32> {
        let names = || {
            (0..40)
                .map(|n| format!("name {n}"))
                .cycle()
                .skip(skip)
                .take(40)
        };
        let limits = names()
            .map(|name| (name, (0..9).map(|n| (n, n.to_string())).collect()))
            .collect();
        orderless(
            (0..)
                .zip(names())
                .map(|(_, name)| (name, 7))
                .collect::<HashMap<_, _>>(),
            names().collect::<HashSet<_>>(),
            Options { limits },
        )
    }
    let (runtime, calls) = counted().await;
    for skip in 0..20 {
        assert_eq!(flow(skip).on(&runtime).await?, 120);
    }
    assert_eq!(calls.count(), 1);
    Ok(())
}

#[tokio::test]
async fn different_inputs_have_different_cache_entries() -> Result<()> {
    #[task(cache)]
    async fn two_texts(a: &str, b: &str, #[resource] calls: &Calls) -> String {
        calls.enter();
        format!("{a}|{b}")
    }
    #[task(cache)]
    async fn lists(
        lists: Vec<Vec<u32>>,
        maybe: Option<u32>,
        map: BTreeMap<u32, u32>,
        #[resource] calls: &Calls,
    ) -> String {
        calls.enter();
        format!("{lists:?}{maybe:?}{map:?}")
    }
    #[flow(name = "caching_texts")]
    fn texts(a: String, b: String) -> Node<String> {
        two_texts(a, b)
    }
    #[flow(name = "caching_lists")]
    fn of_lists(of: Vec<Vec<u32>>, maybe: Option<u32>, map: BTreeMap<u32, u32>) -> Node<String> {
        lists(of, maybe, map)
    }
    let (runtime, calls) = counted().await;
    for (a, b) in [
        ("a", "bc"),
        ("ab", "c"),
        ("abc", ""),
        ("", "abc"),
        ("bc", "a"),
    ] {
        let _case = support::case(format_args!("{a:?}, {b:?}"));
        assert_eq!(
            texts(a.to_owned(), b.to_owned()).on(&runtime).await?,
            format!("{a}|{b}")
        );
    }
    assert_eq!(calls.count(), 5);
    let map = |pairs: &[(u32, u32)]| pairs.iter().copied().collect::<BTreeMap<u32, u32>>();
    for (of, maybe, map) in [
        (vec![vec![1], vec![]], None, map(&[])),
        (vec![vec![], vec![1]], None, map(&[])),
        (vec![vec![]], Some(1), map(&[])),
        (vec![vec![]], None, map(&[(1, 2)])),
        (vec![vec![]], None, map(&[(2, 1)])),
    ] {
        let _case = support::case(format_args!("{of:?} {maybe:?} {map:?}"));
        let expected = format!("{of:?}{maybe:?}{map:?}");
        assert_eq!(of_lists(of, maybe, map).on(&runtime).await?, expected);
    }
    assert_eq!(calls.count(), 10);
    Ok(())
}

#[tokio::test]
async fn inputs_outside_the_key_do_not_change_it() -> Result<()> {
    #[task(cache)]
    async fn area(
        width: u32,
        height: u32,
        #[no_cache] verbose: bool,
        #[resource] calls: &Calls,
        #[context] context: &Context,
    ) -> u32 {
        assert!(context.attempt() == 1, "{verbose}");
        calls.enter();
        width * height
    }
    fn evens(numbers: &[u32], _name: &str) -> Vec<u32> {
        numbers.iter().copied().filter(|n| n % 2 == 0).collect()
    }
    #[task(cache, cache_key = evens)]
    async fn of_evens(numbers: &[u32], name: &str, #[resource] calls: &Calls) -> u32 {
        calls.enter();
        assert_ne!(name, "");
        evens(numbers, name).iter().sum()
    }
    #[flow(name = "caching_area")]
    fn of_area(width: u32, verbose: bool) -> Node<u32> {
        area(width, 3, verbose)
            .retries(if verbose { 1 } else { 2 })
            .named(if verbose { "loud" } else { "silent" })
    }
    #[flow(name = "caching_evens")]
    fn sum_of_evens(numbers: Vec<u32>, name: String) -> Node<u32> {
        of_evens(numbers, name)
    }
    let (runtime, calls) = counted().await;
    for (width, verbose, bodies) in [(2, false, 1), (2, true, 1), (3, true, 2), (3, false, 2)] {
        let _case = support::case(format_args!("width {width}, verbose {verbose}"));
        assert_eq!(of_area(width, verbose).on(&runtime).await?, width * 3);
        assert_eq!(calls.count(), bodies);
    }
    for (numbers, name, bodies) in [
        (vec![1, 2, 3], "a", 3),
        (vec![2, 5], "b", 3),
        (vec![2, 4], "a", 4),
    ] {
        let _case = support::case(format_args!("{numbers:?} {name}"));
        assert_eq!(
            sum_of_evens(numbers.clone(), name.to_owned())
                .on(&runtime)
                .await?,
            numbers.iter().filter(|n| *n % 2 == 0).sum::<u32>()
        );
        assert_eq!(calls.count(), bodies);
    }
    Ok(())
}

mod here {
    use super::Calls;
    use orchestrator::prelude::*;

    #[task(cache)]
    pub(super) async fn namesake(n: u32, #[resource] calls: &Calls) -> u32 {
        calls.enter() + n
    }

    #[flow(name = "caching_here")]
    pub(super) fn flow() -> Node<u32> {
        namesake(1)
    }
}

mod there {
    use super::Calls;
    use orchestrator::prelude::*;

    #[task(cache)]
    pub(super) async fn namesake(n: u32, #[resource] calls: &Calls) -> u32 {
        calls.enter() + n
    }

    #[flow(name = "caching_there")]
    pub(super) fn flow() -> Node<u32> {
        namesake(1)
    }
}

#[tokio::test]
async fn tasks_of_one_name_in_two_modules_are_two_tasks() -> Result<()> {
    let (runtime, calls) = counted().await;
    assert_eq!(here::flow().on(&runtime).await?, 2);
    let other = there::flow().on(&runtime).run().await?;
    assert_eq!(
        (miss(&other, "namesake"), other.output()),
        (Some(CacheMiss::Empty), Some(&3))
    );
    assert_eq!(
        (
            here::flow().on(&runtime).await?,
            there::flow().on(&runtime).await?,
            calls.count()
        ),
        (2, 3, 2)
    );
    Ok(())
}

/// One task, as the versions of a program have it after each other: by its path it is the same one.
macro_rules! versions {
    ($($flow:literal ($($option:tt)*) $output:ty, $result:expr;)+) => {
        fn version(which: &str) -> Flow<String> {
            $(if which == $flow {
                #[task($($option)*)]
                async fn rated(n: u32, #[resource] calls: &Calls) -> $output {
                    calls.enter();
                    let _ = n;
                    $result
                }
                #[flow(name = $flow)]
                fn flow() -> Node<String> {
                    rated(1).map(ToString::to_string)
                }
                return flow();
            })+
            unreachable!("{which}")
        }
    };
}

versions! {
    "caching_first" (cache) u32, 10;
    "caching_other" (cache) u32, 11;
    "caching_version_1" (cache, version = "1") u32, 20;
    "caching_version_2" (cache, version = "2") u32, 22;
}

#[tokio::test]
async fn changed_code_is_computed_anew_and_a_version_stands_for_the_code() -> Result<()> {
    let (runtime, calls) = counted().await;
    for (which, output, expected) in [
        ("caching_first", "10", Some(CacheMiss::Empty)),
        ("caching_first", "10", None),
        ("caching_other", "11", Some(CacheMiss::ChangedCode)),
        ("caching_first", "10", None),
        ("caching_version_1", "20", Some(CacheMiss::ChangedCode)),
        ("caching_version_1", "20", None),
        ("caching_version_2", "22", Some(CacheMiss::ChangedCode)),
    ] {
        let run = version(which).on(&runtime).run().await?;
        assert_eq!(
            (run.output().map(String::as_str), miss(&run, "rated")),
            (Some(output), expected),
            "{which}"
        );
    }
    assert_eq!(calls.count(), 4);
    Ok(())
}

/// Whether the build of a program that is running is the next one, in which a type was changed.
static IS_NEXT_BUILD: AtomicBool = AtomicBool::new(false);

#[derive(Clone)]
struct Rating(u32);

impl Serialize for Rating {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match IS_NEXT_BUILD.load(SeqCst) {
            true => serializer.serialize_str(&"*".repeat(self.0 as usize)),
            false => serializer.serialize_u32(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Rating {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match IS_NEXT_BUILD.load(SeqCst) {
            true => String::deserialize(deserializer).map(|text| Self(text.len() as u32)),
            false => u32::deserialize(deserializer).map(Self),
        }
    }
}

#[tokio::test]
async fn a_result_of_another_type_is_computed_anew() -> Result<()> {
    #[task(cache)]
    async fn rating(#[resource] calls: &Calls) -> Rating {
        Rating(calls.enter())
    }
    #[flow(name = "caching_rating")]
    fn flow() -> Node<u32> {
        rating().map(|rating| rating.0)
    }
    let ([one, two], _) = two().await;
    assert_eq!(flow().on(&one).await?, 1);
    assert_eq!(flow().on(&two).await?, 1);
    IS_NEXT_BUILD.store(true, SeqCst);
    let run = flow().on(&two).run().await?;
    assert_eq!(
        (run.output(), miss(&run, "rating")),
        (Some(&2), Some(CacheMiss::Unreadable))
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_result_is_too_old_when_its_time_has_passed_and_not_before() -> Result<()> {
    let (runtime, calls) = counted().await;
    let first = doubled(2).on(&runtime).run().await?;
    let created = first.task("double").unwrap().finished_at().unwrap();
    advance(Duration::from_micros(3_599_999_999)).await;
    let hit = doubled(2).on(&runtime).run().await?;
    assert_eq!(
        (hit.task("double").unwrap().cached_from(), calls.count()),
        (Some(first.id()), 1)
    );
    advance(Duration::from_micros(1)).await;
    let expired = doubled(2).on(&runtime).run().await?;
    assert_eq!(
        (miss(&expired, "double"), calls.count()),
        (Some(CacheMiss::Expired { created }), 2)
    );
    assert!(
        doubled(2)
            .on(&runtime)
            .run()
            .await?
            .task("double")
            .unwrap()
            .cached_from()
            == Some(expired.id())
    );
    advance(Duration::from_secs(3600)).await;
    assert_eq!(runtime.prune().await?.cached, 1);
    assert_eq!(
        miss(&doubled(2).on(&runtime).run().await?, "double"),
        Some(CacheMiss::Empty)
    );
    Ok(())
}

#[tokio::test]
async fn failures_and_skips_are_not_cached() -> Result<()> {
    #[task(cache)]
    async fn third_time(#[resource] calls: &Calls) -> Result<u32> {
        match calls.enter() {
            1 => Err("down".into()),
            2 => Err(skip("nothing yet").into()),
            n => Ok(n),
        }
    }
    #[flow(name = "caching_third_time")]
    fn flow() -> Node<u32> {
        third_time()
    }
    let (runtime, calls) = counted().await;
    for (state, output, calls_then) in [
        (TaskState::Failed, None, 1),
        (TaskState::Skipped, None, 2),
        (TaskState::Success, Some(&3), 3),
        (TaskState::Success, Some(&3), 3),
    ] {
        let _case = support::case(format_args!("call {calls_then}: {state}"));
        let run = flow().on(&runtime).run().await?;
        let task = run.task("third_time").unwrap();
        assert_eq!(
            (task.state(), run.output(), calls.count()),
            (state, output, calls_then)
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiter_computes_after_the_first_body_panicked() -> Result<()> {
    #[task(cache)]
    async fn panics_first(n: u32, #[resource] calls: &Calls) -> u32 {
        let call = calls.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        calls.leave();
        assert!(call > 1, "the first one");
        n + call
    }
    #[flow(name = "caching_panics_first")]
    fn flow() -> Node<Vec<Outcome<u32>>> {
        #[task]
        async fn all(all: Vec<Outcome<u32>>) -> Vec<Outcome<u32>> {
            all
        }
        all(expand(vec![5; 20], panics_first))
    }
    let (runtime, calls) = counted().await;
    let started = Instant::now();
    let run = flow().on(&runtime).run().await?;
    assert_eq!(
        (calls.count(), calls.most(), started.elapsed().as_secs()),
        (2, 1, 2)
    );
    let states: Vec<TaskState> = run
        .tasks()
        .iter()
        .filter(|task| task.map_index().is_some())
        .map(|task| task.state())
        .collect();
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == TaskState::Failed)
            .count(),
        1
    );
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == TaskState::Success)
            .count(),
        19
    );
    assert!(
        run.tasks()
            .iter()
            .filter_map(|task| task.error())
            .all(TaskError::is_panic)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pending_retry_does_not_block_other_waiters() -> Result<()> {
    #[task(cache, retries = 1, retry_delay = "1h")]
    async fn fails_first(n: u32, #[resource] calls: &Calls) -> Result<u32> {
        match calls.enter() {
            1 => Err("once".into()),
            _ => Ok(n),
        }
    }
    #[flow(name = "caching_retried")]
    fn flow(times: usize) -> Node<u32> {
        sum(expand(vec![5; times], fails_first))
    }
    let (runtime, calls) = counted().await;
    let run = flow(1).on(&runtime).run().await?;
    let task = run.task("fails_first").unwrap();
    assert_eq!(
        (task.attempts(), task.cached(), run.output(), calls.count()),
        (2, false, Some(&5), 2)
    );

    let (runtime, calls) = counted().await;
    let started = Instant::now();
    let run = flow(2).on(&runtime).run().await?;
    assert_eq!(
        (run.output(), calls.count(), started.elapsed().as_secs()),
        (Some(&10), 2, 3600)
    );
    // the second computed it meanwhile
    let task = |key: &str| {
        run.task(key)
            .map(|task| (task.attempts(), task.cached()))
            .unwrap()
    };
    assert_eq!(
        (task("fails_first[0]"), task("fails_first[1]")),
        ((1, true), (1, false))
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn run_may_refuse_cached_results() -> Result<()> {
    let (runtime, calls) = counted().await;
    let first = doubled(2).on(&runtime).run().await?;
    let refreshed = doubled(2).on(&runtime).refresh_cache(true).run().await?;
    assert_eq!(
        (miss(&refreshed, "double"), calls.count()),
        (Some(CacheMiss::Refreshed), 2)
    );
    let later = doubled(2).on(&runtime).run().await?;
    assert_eq!(
        later.task("double").unwrap().cached_from(),
        Some(refreshed.id())
    );
    assert_ne!(first.id(), refreshed.id());
    // each result is made anew once, and not once for each that wants it
    let run = all_doubled((0..30).map(|n| n % 3).collect())
        .on(&runtime)
        .refresh_cache(true)
        .run()
        .await?;
    assert_eq!((run.output(), calls.count()), (Some(&60), 5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn equal_elements_are_computed_once() -> Result<()> {
    let (runtime, calls) = counted().await;
    let started = Instant::now();
    let run = all_doubled((0..300).map(|n| n % 3).collect())
        .on(&runtime)
        .run()
        .await?;
    assert_eq!(
        (run.output(), calls.count(), started.elapsed().as_secs()),
        (Some(&600), 3, 1)
    );
    let cached = run.tasks().iter().filter(|task| task.cached()).count();
    assert_eq!(cached, 297);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn concurrent_runs_compute_a_result_once() -> Result<()> {
    let (runtime, calls) = counted().await;
    let (one, two) = tokio::join!(doubled(2).on(&runtime).run(), doubled(2).on(&runtime).run());
    assert_eq!(
        (one?.output(), two?.output(), calls.count()),
        (Some(&4), Some(&4), 1)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn concurrent_processes_compute_a_result_once() -> Result<()> {
    let ([one, two], calls) = two().await;
    let numbers: Vec<u32> = (0..12).map(|n| n % 3).collect();
    let (one, two) = tokio::join!(
        all_doubled(numbers.clone()).on(&one).run(),
        all_doubled(numbers).on(&two).run()
    );
    assert_eq!(
        (one?.output(), two?.output(), calls.count()),
        (Some(&24), Some(&24), 3)
    );
    Ok(())
}

#[tokio::test]
async fn blocking_bodies_are_cached_too() -> Result<()> {
    #[task(cache)]
    fn blocking(n: u32, #[resource] calls: &Calls) -> u32 {
        calls.enter();
        n + 1
    }
    #[flow(name = "caching_blocking")]
    fn flow() -> Node<u32> {
        sum(expand(
            (0..40).map(|n| n % 2).collect::<Vec<u32>>(),
            blocking,
        ))
    }
    let calls = Calls::default();
    let runtime = with(support::builder().max_blocking(2), &calls).await;
    assert_eq!((flow().on(&runtime).await?, calls.count()), (60, 2));
    assert_eq!((flow().on(&runtime).await?, calls.count()), (60, 2));
    Ok(())
}

#[task(pool = "one")]
async fn in_pool(n: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(1)).await;
    n
}

#[task(cache, pool = "one")]
async fn slow(n: u32, #[resource] calls: &Calls) -> u32 {
    calls.enter();
    tokio::time::sleep(Duration::from_secs(60)).await;
    n
}

#[tokio::test(start_paused = true)]
async fn task_that_waits_for_a_result_holds_no_slot() -> Result<()> {
    #[flow(name = "caching_pool")]
    async fn flow() -> Result<u64> {
        let started = Instant::now();
        let slow = expand(vec![1; 20], slow);
        for n in 0..5 {
            in_pool(n).await?;
        }
        let passed = started.elapsed().as_secs();
        slow.await?;
        Ok(passed)
    }
    let calls = Calls::default();
    // one slot for the one that computes, one for the rest
    let runtime = with(support::builder().pool("one", 2).max_running(2), &calls).await;
    assert_eq!((flow().on(&runtime).await?, calls.count()), (5, 1));
    // and what another process computes takes no slot here at all
    let ([one, two], calls) = two().await;
    let computing = flow_of_slow(7).on(&one).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waiting = flow_of_slow(7).on(&two).start().await?;
    let started = Instant::now();
    assert_eq!(flow_in_pool().on(&two).await?, 3);
    assert_eq!(started.elapsed().as_secs(), 1);
    assert_eq!(
        (
            computing.await?.output(),
            waiting.await?.output(),
            calls.count()
        ),
        (Some(&7), Some(&7), 1)
    );
    Ok(())
}

#[flow]
fn flow_of_slow(n: u32) -> Node<u32> {
    slow(n)
}

#[flow]
fn flow_in_pool() -> Node<u32> {
    in_pool(3)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_another_s_result_can_be_cancelled() -> Result<()> {
    let ([one, two], calls) = two().await;
    for waits_in in [&one, &two] {
        let n = calls.count();
        let computing = flow_of_slow(n).on(&one).start().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waiting = flow_of_slow(n).on(waits_in).start().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        waiting.cancel();
        let run = waiting.await?;
        assert_eq!(
            (run.state(), started.elapsed().as_millis()),
            (RunState::Cancelled, 0)
        );
        let task = run.task("slow").unwrap();
        assert_eq!((task.state(), task.attempts()), (TaskState::Cancelled, 0));
        let run = computing.await?;
        assert_eq!((run.output(), calls.count()), (Some(&n), n + 1));
    }
    Ok(())
}

/// How often a key is worked out.
static KEYS: AtomicU32 = AtomicU32::new(0);

#[task(cache, cache_key = counted_key)]
async fn same_for_all(_n: u32, #[resource] calls: &Calls) -> u32 {
    calls.enter();
    tokio::time::sleep(Duration::from_secs(20)).await;
    1
}

fn counted_key(n: &u32) -> u32 {
    KEYS.fetch_add(1, SeqCst);
    n / 1_000
}

#[flow(name = "caching_same_for_all")]
fn same_for(first: u32, elements: u32) -> Mapped<u32> {
    expand(
        (first..first + elements).collect::<Vec<u32>>(),
        same_for_all,
    )
}

#[tokio::test(start_paused = true)]
async fn waiters_for_one_result_compute_their_keys_at_most_twice() -> Result<()> {
    let ([one, two], calls) = two().await;
    let computing = same_for(0, 1).on(&one).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (first, computed) in [(0, 1), (1_000, 2)] {
        let _case = support::case(format_args!("from {first}"));
        let before = KEYS.load(SeqCst);
        let run = same_for(first, 1_000).on(&two).run().await?;
        assert_eq!(
            (run.output(), calls.count()),
            (Some(&vec![1; 1_000]), computed)
        );
        // before it is computed and afterwards: not for each look, nor for each of those that wait
        let keys = KEYS.load(SeqCst) - before;
        assert!(keys <= 2_100, "{keys}");
    }
    computing.await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiter_computes_after_the_other_run_was_cancelled() -> Result<()> {
    let ([one, two], calls) = two().await;
    let computing = flow_of_slow(1).on(&one).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (here, there) = (
        flow_of_slow(1).on(&one).start().await?,
        flow_of_slow(1).on(&two).start().await?,
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    computing.cancel();
    assert_eq!(computing.await?.state(), RunState::Cancelled);
    assert_eq!(
        (here.await?.output(), there.await?.output(), calls.count()),
        (Some(&1), Some(&1), 2)
    );
    Ok(())
}

/// Has no encoding: it refuses, or panics.
#[derive(Clone, Deserialize)]
struct Shapeless {
    panics: bool,
}

impl Serialize for Shapeless {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        assert!(!self.panics, "no shape at all");
        Err(serde::ser::Error::custom("no shape"))
    }
}

#[task]
async fn shapeless(panics: bool) -> Shapeless {
    Shapeless { panics }
}

#[tokio::test]
async fn unencodable_input_has_no_key_and_its_task_runs_each_time() -> Result<()> {
    #[task(cache)]
    async fn of_shapeless(shape: &Shapeless, #[resource] calls: &Calls) -> bool {
        calls.enter();
        shape.panics
    }
    #[flow(name = "caching_shapeless")]
    fn flow(panics: bool) -> Node<bool> {
        of_shapeless(shapeless(panics))
    }
    #[flow(name = "caching_shapeless_only")]
    fn only(panics: bool) -> Node<Shapeless> {
        shapeless(panics)
    }
    let (runtime, calls) = counted().await;
    for panics in [false, true] {
        let _case = support::case(format_args!("panics: {panics}"));
        for run in [
            flow(panics).on(&runtime).run().await?,
            flow(panics).on(&runtime).run().await?,
        ] {
            // where results are kept, that one cannot be
            if support::is_durable() {
                let error = run.task("shapeless").unwrap().error().unwrap().to_string();
                assert!(
                    error.contains("its result cannot be kept") && error.contains("no shape"),
                    "{error}"
                );
            } else {
                assert_eq!(
                    (
                        run.output(),
                        run.task("of_shapeless").unwrap().cached_from()
                    ),
                    (Some(&panics), None)
                );
            }
        }
        let run = only(panics).on(&runtime).run().await?;
        assert_eq!(
            run.state(),
            if support::is_durable() {
                RunState::Failed
            } else {
                RunState::Success
            }
        );
    }
    assert_eq!(calls.count(), if support::is_durable() { 0 } else { 4 });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn timed_out_body_is_not_cached_and_releases_waiters() -> Result<()> {
    #[task(cache, timeout = "10s", retries = 1)]
    async fn slow_first(n: u32, #[resource] calls: &Calls) -> u32 {
        let seconds = if calls.enter() == 1 { 100 } else { 5 };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        n
    }
    #[flow(name = "caching_timeout")]
    fn flow() -> Node<u32> {
        sum(expand(vec![5; 3], slow_first))
    }
    let (runtime, calls) = counted().await;
    let started = Instant::now();
    let run = flow().on(&runtime).run().await?;
    assert_eq!(
        (run.output(), calls.count(), started.elapsed().as_secs()),
        (Some(&15), 2, 15)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_flow_in_a_flow_are_cached() -> Result<()> {
    #[flow(name = "caching_outer")]
    fn outer() -> Node<u32> {
        #[task]
        async fn add(a: u32, b: u32) -> u32 {
            a + b
        }
        add(doubled(4), add(doubled(4), double(4)))
    }
    let (runtime, calls) = counted().await;
    let run = outer().on(&runtime).run().await?;
    assert_eq!((run.output(), calls.count()), (Some(&24), 1));
    assert!(
        doubled(4)
            .on(&runtime)
            .run()
            .await?
            .task("double")
            .unwrap()
            .cached()
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn mocks_bypass_the_cache() -> Result<()> {
    let (runtime, calls) = counted().await;
    let mocked = runtime.clone().mock(double, |n: u32| n + 100);
    assert_eq!(doubled(1).on(&mocked).await?, 101);
    assert_eq!((doubled(1).on(&runtime).await?, calls.count()), (2, 1));
    let run = doubled(1).on(&mocked).run().await?;
    let task = run.task("double").unwrap();
    assert_eq!(
        (run.output(), task.cached(), task.cache_miss()),
        (Some(&101), false, None)
    );
    assert_eq!((doubled(1).on(&runtime).await?, calls.count()), (2, 1));
    Ok(())
}

#[tokio::test]
async fn outside_of_a_flow_a_cached_task_just_runs() -> Result<()> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    #[task(cache)]
    async fn loose(n: u32) -> u32 {
        CALLS.fetch_add(1, SeqCst);
        n
    }
    assert_eq!(
        (loose(1).await?, loose(1).await?, CALLS.load(SeqCst)),
        (1, 1, 2)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn unreadable_cached_bytes_are_computed_anew() -> Result<()> {
    for garbage in ["x'00c1'", "x'00a3616263'", "x''", "x'02'", "x'0001ff'"] {
        let _case = support::case(garbage);
        let calls = Calls::default();
        let path = support::new_folder("garbage").join("state.db");
        let runtime = with(
            Runtime::builder().store(format!("sqlite:{}", path.display())),
            &calls,
        )
        .await;
        doubled(2).on(&runtime).await?;
        let file = rusqlite::Connection::open(&path)?;
        assert_eq!(
            file.execute(&format!("UPDATE cache SET body = {garbage}"), [])?,
            1
        );
        let run = doubled(2).on(&runtime).run().await?;
        assert_eq!(
            (run.output(), miss(&run, "double")),
            (Some(&4), Some(CacheMiss::Unreadable)),
            "{garbage}"
        );
        assert!(
            doubled(2)
                .on(&runtime)
                .run()
                .await?
                .task("double")
                .unwrap()
                .cached()
        );
        assert_eq!(calls.count(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_cached_result_of_any_length_is_replaced() -> Result<()> {
    #[task(cache = "1h")]
    async fn text(length: usize) -> String {
        "x".repeat(length)
    }
    #[flow(name = "caching_replaced")]
    fn lengths() -> Mapped<String> {
        expand((0..200).collect::<Vec<usize>>(), text)
    }
    let runtime = Runtime::builder()
        .store(support::url(&support::file()))
        .build()
        .await?;
    let run = lengths().on(&runtime).run().await?;
    for _ in 0..3 {
        assert_eq!(
            runtime.rerun(run.id(), Rerun::All).await?.state(),
            RunState::Success
        );
    }
    runtime.prune().await?;
    Ok(())
}

#[tokio::test]
async fn a_large_cached_result_that_is_replaced_leaves_nothing() -> Result<()> {
    #[task(cache = "1h")]
    async fn large() -> String {
        "x".repeat(2 << 20)
    }
    #[task]
    async fn one() -> u32 {
        1
    }
    #[flow(name = "caching_replaced_large")]
    fn large_one() -> Node<u32> {
        one().after(large())
    }
    let path = support::file();
    let runtime = Runtime::builder()
        .store(support::url(&path))
        .build()
        .await?;
    let entries = |folder: PathBuf| {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let blobs = || {
        let parts = entries(path.with_file_name("state.db-blobs"));
        parts
            .map(|part| {
                if part.is_dir() {
                    entries(part).count()
                } else {
                    1
                }
            })
            .sum::<usize>()
    };
    let run = large_one().on(&runtime).run().await?;
    // that of the attempt, and that of the cache
    assert_eq!(blobs(), 2);
    for attempts in 2..5 {
        let _case = support::case(format_args!("attempt {attempts}"));
        runtime.rerun(run.id(), Rerun::All).await?;
        runtime.prune().await?;
        assert_eq!(blobs(), attempts + 1);
    }
    Ok(())
}

/// A task, and the flow that uses it, made by one macro in two functions: the text is the same,
/// what `K` is is not.
macro_rules! scaled_by {
    ($factor:literal) => {{
        const K: u32 = $factor;
        #[task(cache)]
        async fn scaled(n: u32) -> u32 {
            n * K
        }
        scaled
    }};
}

#[flow(name = "caching_by_two")]
fn by_two(n: u32) -> Node<u32> {
    scaled_by!(2)(n)
}

#[flow(name = "caching_by_three")]
async fn by_three(n: u32) -> Result<u32> {
    Ok(scaled_by!(3)(n).await?)
}

const UNIT: u32 = 7;

struct Metric;
struct Imperial;

impl Metric {
    #[task(cache)]
    async fn unit() -> u32 {
        UNIT
    }
}

impl Imperial {
    #[task(cache)]
    async fn unit() -> u32 {
        UNIT
    }
}

#[flow(name = "caching_units")]
fn units() -> (Node<u32>, Node<u32>) {
    (Metric::unit(), Imperial::unit())
}

#[tokio::test]
async fn tasks_local_to_two_functions_are_two() -> Result<()> {
    let (runtime, _) = counted().await;
    assert_eq!(by_two(10).on(&runtime).await?, 20);
    assert_eq!(by_three(10).on(&runtime).await?, 30);
    let mut paths: Vec<String> = runtime
        .cached(&CacheFilter::new().task("scaled"))
        .await?
        .into_iter()
        .map(|entry| entry.task)
        .collect();
    paths.sort_unstable();
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert!(
        paths[0].ends_with("::caching::by_three::{{closure}}::scaled"),
        "{paths:?}"
    );
    assert!(paths[1].ends_with("::caching::by_two::scaled"), "{paths:?}");
    assert!(
        by_two(10)
            .on(&runtime)
            .run()
            .await?
            .task("scaled")
            .unwrap()
            .cached_from()
            .is_some()
    );
    Ok(())
}

#[tokio::test]
async fn tasks_of_two_types_are_two() -> Result<()> {
    let (runtime, _) = counted().await;
    let run = units().on(&runtime).run().await?;
    let (metric, imperial) = (run.task("unit").unwrap(), run.task("unit#2").unwrap());
    assert_eq!((metric.cached_from(), imperial.cached_from()), (None, None));
    Ok(())
}

#[tokio::test]
async fn tasks_of_one_path_and_one_code_are_refused_by_name() -> Result<()> {
    #[flow(name = "caching_twice")]
    fn twice(n: u32) -> (Node<u32>, Node<u32>) {
        (scaled_by!(2)(n), scaled_by!(3)(n))
    }
    let (runtime, _) = counted().await;
    let error = twice(10).on(&runtime).run().await.unwrap_err();
    let Error::DuplicateTask {
        path,
        first,
        second,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(
        path.ends_with(
            "::tasks_of_one_path_and_one_code_are_refused_by_name::{{closure}}::twice::scaled"
        ),
        "{path}"
    );
    assert!(
        first.contains("caching.rs:") && second.contains("caching.rs:"),
        "{error}"
    );
    assert_eq!(runtime.find_runs(&RunFilter::new()).await?.len(), 0);
    // outside of a flow nothing is cached
    assert_eq!(scaled_by!(2)(10).on(&runtime).await?, 20);
    Ok(())
}

/// How many transactions are in the write-ahead log of a file: as many as there are frames that end
/// one.
fn transactions(path: &std::path::Path) -> usize {
    let log = std::fs::read(format!("{}-wal", path.display())).unwrap();
    let frames = log.get(32..).unwrap_or_default().chunks_exact(24 + 4096);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test(start_paused = true)]
async fn the_elements_of_a_mapping_are_looked_up_and_kept_in_few_transactions() -> Result<()> {
    #[task(cache)]
    async fn quick(n: u32, #[resource] calls: &Calls) -> u32 {
        calls.enter();
        n
    }
    #[flow(name = "caching_many")]
    fn many() -> Node<u32> {
        sum(expand((0..1_000).collect::<Vec<u32>>(), quick))
    }
    let (path, calls) = (support::file(), Calls::default());
    let runtime = with(Runtime::builder().store(support::url(&path)), &calls).await;
    let mut before = transactions(&path);
    for bodies in [1_000, 1_000] {
        assert_eq!(
            (many().on(&runtime).await?, calls.count()),
            (499_500, bodies)
        );
        let after = transactions(&path);
        assert!(
            after - before < 100,
            "{} transactions for a thousand elements",
            after - before
        );
        before = after;
    }
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_looks_for_a_result_waits_for_no_slot() -> Result<()> {
    #[task(pool = "one")]
    async fn holds(#[resource] gate: &Arc<tokio::sync::Semaphore>) {
        let _ = gate.acquire().await;
    }
    #[flow(name = "caching_holds")]
    fn held() -> Node<()> {
        holds()
    }
    let path = support::file();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let builder = Runtime::builder().store(support::url(&path)).pool("one", 1);
    let runtime = builder
        .resource(Calls::default())
        .resource(Arc::clone(&gate))
        .build()
        .await?;
    let mut events = runtime.events();
    let holding = held().on(&runtime).start().await?;
    while !matches!(events.next().await, Some(Event::TaskStarted { .. })) {}
    let other = rusqlite::Connection::open(&path)?;
    let waiting = flow_of_slow(1).on(&runtime).start().await?;
    // its look-up waits for this
    other.execute_batch("BEGIN IMMEDIATE")?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    waiting.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.execute_batch("COMMIT")?;
    let run = tokio::time::timeout(Duration::from_secs(60), waiting.into_future()).await??;
    let task = run.task("slow").unwrap();
    assert_eq!(
        (run.state(), task.state(), task.attempts()),
        (RunState::Cancelled, TaskState::Cancelled, 0)
    );
    gate.close();
    assert_eq!(holding.await?.state(), RunState::Success);
    Ok(())
}

/// A body that cancels its own run: what is to be computed next is taken again and again until the
/// run's conductor has seen the cancellation, which must get its turn.
#[tokio::test]
async fn a_body_that_cancels_its_run_ends_it_before_the_next_result() -> Result<()> {
    /// The runtime that executes the body.
    #[derive(Clone, Default)]
    struct OwnRuntime(Arc<std::sync::OnceLock<Runtime>>);
    #[task(cache)]
    async fn cancels(
        n: u32,
        #[resource] own: &OwnRuntime,
        #[context] context: &Context,
    ) -> Result<u32> {
        own.0.get().unwrap().cancel(context.run_id()).await?;
        Ok(n)
    }
    #[flow(name = "caching_cancels")]
    fn cancelling() -> Mapped<u32> {
        expand(vec![1, 2, 3], cancels)
    }
    let own = OwnRuntime::default();
    let builder = Runtime::builder().store("memory").resource(own.clone());
    let runtime = builder.build().await?;
    let _ = own.0.set(runtime.clone());
    let run = cancelling().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Cancelled);
    Ok(())
}

/// A flight ends on a thread of the tokio runtime that shuts down; the run that waits for it goes on
/// on its own.
#[test]
fn a_run_goes_on_if_the_tokio_runtime_that_computes_its_result_shuts_down() {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    #[task(cache)]
    async fn hangs_once(n: u32) -> u32 {
        if STARTED.fetch_add(1, SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        n + 1
    }
    #[flow(name = "caching_two_tokios")]
    fn of_two_tokios() -> Node<u32> {
        hangs_once(1)
    }
    let multi = tokio::runtime::Builder::new_multi_thread();
    let [first, second] = [multi, tokio::runtime::Builder::new_multi_thread()]
        .map(|mut tokio| tokio.worker_threads(1).enable_all().build().unwrap());
    let runtime =
        second.block_on(async { Runtime::builder().store("memory").build().await.unwrap() });
    let on = runtime.clone();
    first.spawn(async move { of_two_tokios().on(&on).run().await });
    let value = second.block_on(async {
        while STARTED.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let waiting = of_two_tokios().on(&runtime).start().await.unwrap();
        // parked once its task is told to wait for the flight
        let mut looked = 0;
        while looked < 1_000 {
            looked += 1;
            tokio::task::yield_now().await;
        }
        first.shutdown_background();
        tokio::time::timeout(Duration::from_secs(30), waiting.into_future())
            .await
            .expect("the run goes on")
            .unwrap()
            .output()
            .copied()
    });
    assert_eq!(value, Some(2));
}
