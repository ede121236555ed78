//! Slots: of the runtime, of pools, of flows; resources; blocking work.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use orchestrator::Clock;
use orchestrator::prelude::*;
use tokio::time::Instant;

/// How many are in at once, and the most there were.
#[derive(Default)]
struct Gauge {
    now: AtomicU32,
    most: AtomicU32,
}

impl Gauge {
    fn enter(&self) {
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

async fn paused(builder: orchestrator::RuntimeBuilder) -> Runtime {
    builder
        .clock(Clock::tokio_from_now())
        .resource(Gauge::default())
        .build()
        .await
        .unwrap()
}

#[task]
async fn work(n: u32, #[resource] gauge: &Gauge) -> u32 {
    gauge.enter();
    tokio::time::sleep(Duration::from_secs(1)).await;
    gauge.leave();
    n
}

#[task]
async fn most(_all: Vec<u32>, #[resource] gauge: &Gauge) -> u32 {
    gauge.most.load(SeqCst)
}

#[flow]
fn wide(width: u32) -> Node<u32> {
    most(gather((0..width).map(work)))
}

#[tokio::test(start_paused = true)]
async fn runtime_limits_concurrent_bodies() -> Result<()> {
    assert_eq!(
        wide(600)
            .on(&paused(crate::support::builder()).await)
            .await?,
        256
    );
    let started = Instant::now();
    let runtime = paused(crate::support::builder().max_running(3)).await;
    // two runs share the slots
    let (one, two) = tokio::join!(
        wide(6).on(&runtime).into_future(),
        wide(6).on(&runtime).into_future()
    );
    assert_eq!((one?.max(two?), started.elapsed().as_secs()), (3, 4));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_shared_by_tasks_and_runs_and_weighs_slots() -> Result<()> {
    #[task(pool = "database")]
    async fn light(n: u32, #[resource] gauge: &Gauge) -> u32 {
        gauge.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        gauge.leave();
        n
    }
    #[task(pool = "database", pool_slots = 4)]
    async fn heavy(n: u32, #[resource] gauge: &Gauge) -> u32 {
        gauge.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        gauge.leave();
        n
    }
    #[flow]
    fn light_ones() -> Node<u32> {
        most(expand((0..8).collect::<Vec<u32>>(), light))
    }
    #[flow]
    fn heavy_ones() -> Node<u32> {
        most(expand((0..3).collect::<Vec<u32>>(), heavy))
    }
    let started = Instant::now();
    let runtime = paused(crate::support::builder().pool("database", 4)).await;
    let (one, two) = tokio::join!(
        light_ones().on(&runtime).into_future(),
        light_ones().on(&runtime).into_future()
    );
    assert_eq!((one?.max(two?), started.elapsed().as_secs()), (4, 4));
    let runtime = paused(crate::support::builder().pool("database", 4)).await;
    assert_eq!(heavy_ones().on(&runtime).await?, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_not_held_while_a_retry_waits() -> Result<()> {
    #[task(pool = "one", retries = 1, retry_delay = "1h")]
    async fn fails_first(n: u32, #[context] context: &Context) -> Result<u32> {
        if context.attempt() == 1 && n == 0 {
            Err("once".into())
        } else {
            Ok(n)
        }
    }
    #[flow(name = "limits_retried")]
    async fn retried() -> Result<u64> {
        let started = Instant::now();
        let failing = fails_first(0);
        fails_first(1).await?;
        let waited = started.elapsed().as_secs();
        failing.await?;
        Ok(waited)
    }
    let runtime = crate::support::builder()
        .clock(Clock::tokio_from_now())
        .pool("one", 1)
        .build()
        .await?;
    assert_eq!(retried().on(&runtime).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_pool_that_is_not_there_is_named_before_anything_runs() -> Result<()> {
    #[task(pool = "databse")]
    async fn query() -> u32 {
        unreachable!("it has no pool")
    }
    #[task(pool = "small", pool_slots = 3)]
    async fn greedy() -> u32 {
        unreachable!("it has no slots")
    }
    #[flow]
    fn misspelt() -> Node<u32> {
        query()
    }
    #[flow(name = "limits_too_many")]
    fn too_many() -> Node<u32> {
        greedy()
    }
    #[flow]
    async fn later() -> Result<u32> {
        Ok(query().await?)
    }
    let runtime = crate::support::builder()
        .pool("database", 4)
        .pool("small", 2)
        .build()
        .await?;
    let error = misspelt().on(&runtime).run().await.unwrap_err().to_string();
    assert!(
        error.contains("`databse`") && error.contains("`database`") && error.contains("`query`"),
        "{error}"
    );
    let error = too_many().on(&runtime).run().await.unwrap_err().to_string();
    assert!(
        error.contains("3 slot") && error.contains("has 2"),
        "{error}"
    );
    let run = later().on(&runtime).run().await?;
    assert!(
        run.state() == RunState::Failed && run.error().unwrap().to_string().contains("`databse`")
    );
    Ok(())
}

#[tokio::test]
async fn limits_of_zero_are_refused() {
    for (builder, name) in [
        (crate::support::builder().max_running(0), "max_running"),
        (crate::support::builder().max_blocking(0), "max_blocking"),
        (crate::support::builder().pool("p", 0), "`p`"),
        (crate::support::builder().store("mysql://x"), "mysql://x"),
    ] {
        let _case = crate::support::case(name);
        let error = builder.build().await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn blocking_bodies_do_not_hold_up_async_ones() -> Result<()> {
    #[task]
    fn block(n: u32, #[resource] gauge: &Gauge) -> u32 {
        gauge.enter();
        // a blocking body has a thread of its own
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_millis(30));
        gauge.leave();
        n
    }
    #[task]
    async fn quick(n: u32) -> u32 {
        n
    }
    #[flow(name = "limits_both")]
    async fn both() -> Result<u32> {
        let blocked = expand((0..12).collect::<Vec<u32>>(), block);
        let mut quick_ones = 0;
        while quick_ones < 100 {
            quick_ones = quick(quick_ones + 1).await?;
        }
        Ok(most(blocked).await?)
    }
    let runtime = crate::support::builder()
        .max_blocking(4)
        .resource(Gauge::default())
        .build()
        .await?;
    assert_eq!(both().on(&runtime).await?, 4);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn max_active_runs_limits_the_runs_of_a_flow() -> Result<()> {
    #[flow(max_active_runs = 1)]
    fn one_at_a_time() -> Node<u32> {
        most(gather([work(1)]))
    }
    let runtime = paused(crate::support::builder()).await;
    let started = Instant::now();
    let first = one_at_a_time().on(&runtime).start().await?;
    let second = one_at_a_time().on(&runtime).start().await?;
    let third = one_at_a_time().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let states: Vec<RunState> = runtime
        .runs("one_at_a_time")
        .await?
        .iter()
        .map(|run| run.state())
        .collect();
    assert_eq!(
        states,
        [RunState::Running, RunState::Pending, RunState::Pending]
    );
    third.cancel();
    assert_eq!(third.await?.state(), RunState::Cancelled);
    assert_eq!(started.elapsed().as_millis(), 500);
    assert_eq!(
        (first.await?.output(), second.await?.output()),
        (Some(&1), Some(&1))
    );
    assert_eq!(started.elapsed().as_secs(), 2);
    Ok(())
}

#[tokio::test]
async fn a_missing_resource_is_found_before_anything_runs() -> Result<()> {
    #[flow]
    fn needs_it() -> Node<u32> {
        work(1)
    }
    #[flow]
    async fn needs_it_later() -> Result<u32> {
        Ok(work(1).await?)
    }
    #[flow(resources = [Gauge])]
    async fn says_so() -> Result<u32> {
        Ok(work(1).await?)
    }
    let runtime = crate::support::runtime();
    let error = needs_it().on(&runtime).run().await.unwrap_err().to_string();
    assert!(
        error.contains("Gauge") && error.contains("`work`") && error.contains("resource("),
        "{error}"
    );
    assert!(runtime.runs("needs_it").await?.is_empty());
    let run = needs_it_later().on(&runtime).run().await?;
    assert!(run.error().unwrap().to_string().contains("Gauge"));
    assert!(
        says_so()
            .on(&runtime)
            .run()
            .await
            .unwrap_err()
            .to_string()
            .contains("Gauge")
    );
    // a mock needs no resources
    let mocked = crate::support::runtime().mock(work, |n: u32| n + 1);
    assert_eq!(needs_it().on(&mocked).await?, 2);
    Ok(())
}

#[task]
async fn leaf(n: u32) -> u32 {
    n
}

#[tokio::test]
async fn a_body_that_awaits_a_task_does_not_wait_for_its_own_slot() -> Result<()> {
    #[task]
    async fn outer(n: u32) -> Result<u32> {
        Ok(leaf(n).await? + 1)
    }
    #[flow(name = "limits_nested")]
    fn nested() -> Mapped<u32> {
        expand(vec![1, 2, 3], outer)
    }
    let runtime = crate::support::builder().max_running(1).build().await?;
    let nested = tokio::time::timeout(Duration::from_secs(60), nested().on(&runtime).into_future());
    assert_eq!(nested.await??, [2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn a_body_that_awaits_a_task_of_its_own_pool_is_refused() -> Result<()> {
    #[task(pool = "one")]
    async fn inner() -> u32 {
        1
    }
    #[task(pool = "one")]
    async fn outer() -> Result<u32> {
        Ok(inner().await?)
    }
    #[flow(name = "limits_own_pool")]
    fn own_pool() -> Node<u32> {
        outer()
    }
    let runtime = crate::support::builder().pool("one", 1).build().await?;
    let refused = tokio::time::timeout(
        Duration::from_secs(60),
        own_pool().on(&runtime).into_future(),
    );
    let error = refused.await?.unwrap_err().to_string();
    assert!(
        error.contains("`inner`") && error.contains("pool `one`"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_body_that_awaits_a_flow_does_not_wait_for_its_own_slot() -> Result<()> {
    #[flow(name = "limits_sub")]
    fn sub(n: u32) -> Node<u32> {
        leaf(n)
    }
    #[task]
    async fn outer(n: u32) -> Result<u32> {
        Ok(sub(n).await? + sub(n).run().await?.output().copied().unwrap_or_default())
    }
    #[flow(name = "limits_sub_awaited")]
    fn awaited() -> Mapped<u32> {
        expand(vec![1, 2, 3], outer)
    }
    let runtime = crate::support::builder().max_running(1).build().await?;
    let awaited = tokio::time::timeout(
        Duration::from_secs(60),
        awaited().on(&runtime).into_future(),
    );
    assert_eq!(awaited.await??, [2, 4, 6]);
    Ok(())
}

#[tokio::test]
async fn a_body_that_awaits_a_flow_on_a_clone_of_its_runtime_does_not_wait_for_its_own_slot()
-> Result<()> {
    #[task]
    async fn other() -> u32 {
        0
    }
    #[flow(name = "limits_on_a_clone")]
    fn on_a_clone(n: u32) -> Node<u32> {
        leaf(n)
    }
    #[task]
    async fn outer(#[resource] runtime: &Arc<OnceLock<Runtime>>) -> Result<u32> {
        let runtime = runtime.get().unwrap();
        Ok(on_a_clone(1)
            .on(runtime)
            .run()
            .await?
            .output()
            .copied()
            .unwrap_or_default())
    }
    #[flow(name = "limits_of_a_clone")]
    fn of_a_clone() -> Node<u32> {
        outer()
    }
    let own = Arc::new(OnceLock::<Runtime>::new());
    let builder = crate::support::builder().max_running(1);
    let runtime = builder.resource(Arc::clone(&own)).build().await?;
    let _ = own.set(runtime.clone());
    // a clone with a mock shares the slots
    let mocked = runtime.mock(other, || 1);
    let awaited = tokio::time::timeout(
        Duration::from_secs(60),
        of_a_clone().on(&mocked).into_future(),
    );
    assert_eq!(awaited.await??, 1);
    Ok(())
}

#[tokio::test]
async fn task_that_waits_for_a_pool_holds_no_slot() -> Result<()> {
    #[task(pool = "b")]
    async fn in_b(n: u32) -> u32 {
        n
    }
    #[flow(name = "limits_in_b_flow")]
    fn in_b_flow(n: u32) -> Node<u32> {
        leaf(in_b(n))
    }
    #[task(pool = "a")]
    async fn awaits_a_node() -> Result<u32> {
        Ok(in_b(1).await?)
    }
    #[task(pool = "a")]
    async fn awaits_a_flow() -> Result<u32> {
        Ok(in_b_flow(1).await?)
    }
    #[task(pool = "a")]
    async fn awaits_a_task_of_a_flow() -> Result<u32> {
        Ok(leaf(in_b_flow(1)).await?)
    }
    #[flow(name = "limits_slot_in_hand")]
    fn slot_in_hand() -> (Node<u32>, Node<u32>, Node<u32>) {
        (awaits_a_node(), awaits_a_flow(), awaits_a_task_of_a_flow())
    }
    let runtime = crate::support::builder()
        .pool("a", 3)
        .pool("b", 1)
        .build()
        .await?;
    let run =
        tokio::time::timeout(Duration::from_secs(60), slot_in_hand().on(&runtime).run()).await??;
    assert_eq!(run.tasks().len(), 3);
    for task in run.tasks().iter() {
        let error = task.error().unwrap().to_string();
        assert!(
            error.contains("`in_b`") && error.contains("pool `a`"),
            "{}: {error}",
            task.key()
        );
    }
    Ok(())
}
