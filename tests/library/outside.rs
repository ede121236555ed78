//! Tasks outside of flows: ordinary async functions.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use tokio::time::Instant;

#[task]
async fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[task(retries = 3, retry_delay = "1s")]
async fn flaky(#[context] context: &Context) -> Result<u32> {
    match context.attempt() {
        1 | 2 => Err("not yet".into()),
        attempt => Ok(attempt),
    }
}

#[task]
async fn helper(n: u32) -> Result<u32> {
    Ok(add(n, 1).await? * 10)
}

#[tokio::test]
async fn an_awaited_task_just_runs() -> Result<()> {
    assert_eq!(add(1, 2).await?, 3);
    let three = add(1, 2);
    assert_eq!(add(&three, add(three.map(|n| n * 10), 0)).await?, 33);
    assert_eq!(helper(4).await?, 50);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn retries_and_timeouts_apply() -> Result<()> {
    let started = Instant::now();
    assert_eq!(flaky().await?, 3);
    assert_eq!(started.elapsed().as_secs(), 2);
    #[task(timeout = "5s")]
    async fn endless() -> u32 {
        std::future::pending().await
    }
    let error = endless().await.unwrap_err();
    assert!(
        error.is_timeout() && error.to_string().contains("5s"),
        "{error}"
    );
    assert!(
        endless()
            .timeout(Duration::from_secs(1))
            .await
            .unwrap_err()
            .to_string()
            .contains("1s")
    );
    Ok(())
}

#[tokio::test]
async fn a_node_takes_mocks_and_resources_from_its_runtime() -> Result<()> {
    struct Offset(u32);
    #[task]
    async fn shift(n: u32, #[resource] offset: &Offset) -> u32 {
        n + offset.0
    }
    let runtime = crate::support::builder()
        .resource(Offset(100))
        .build()
        .await?
        .mock(add, |a: u32, b: u32| a * b);
    assert_eq!(shift(add(3, 4)).on(&runtime).await?, 112);
    // what a body awaits runs on the runtime of the body
    assert_eq!(helper(7).on(&runtime).await?, 70);
    let error = shift(1).await.unwrap_err().to_string();
    assert!(
        error.contains("Offset") && error.contains("`shift`"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mapping_outside_of_a_flow_says_what_to_do() {
    let error = expand(vec![1, 2], |n| add(n, 1))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("#[flow]"), "{error}");
}

#[tokio::test]
async fn a_task_that_is_not_awaited_does_not_run() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn count() -> u32 {
        CALLS.fetch_add(1, SeqCst)
    }
    let node = count();
    drop(node);
    tokio::task::yield_now().await;
    assert_eq!(CALLS.load(SeqCst), 0);
}

#[test]
fn a_flow_without_tokio_is_an_error() {
    #[flow]
    fn alone() -> Node<u32> {
        add(1, 2)
    }
    let outside = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let runtime = outside.block_on(async { crate::support::runtime() });
    // polled by hand, on no runtime
    let mut run = Box::pin(alone().on(&runtime).run());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match run.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(error)) => {
            assert!(error.to_string().contains("tokio"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}
