//! Runs that are asked for by a key: one for each flow and key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::Clock;
use orchestrator::prelude::*;
use tokio::time::Instant;

use crate::support;

#[derive(Clone, Default)]
struct Bodies(Arc<AtomicU32>);

#[task]
async fn long(n: u32, #[resource] bodies: &Bodies) -> Result<u32> {
    bodies.0.fetch_add(1, SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    if n == 0 {
        Err("nothing to do".into())
    } else {
        Ok(n * 2)
    }
}

#[flow]
fn keyed(n: u32, factor: f64) -> Node<u32> {
    assert!(factor > 0.0);
    long(n)
}

#[flow]
fn keyed_too(n: u32) -> Node<u32> {
    long(n)
}

async fn counted() -> (Runtime, Bodies) {
    let bodies = Bodies::default();
    let builder = support::builder()
        .clock(Clock::tokio_from_now())
        .resource(bodies.clone());
    (builder.build().await.unwrap(), bodies)
}

/// A number that is not written down exactly in fewer than 17 digits.
const FACTOR: f64 = 0.1 + 0.2;

#[tokio::test(start_paused = true)]
async fn concurrent_requests_with_one_key_share_a_run() -> Result<()> {
    let (runtime, bodies) = counted().await;
    let started = Instant::now();
    let ask = || keyed(1, FACTOR).key("monday").on(&runtime).run();
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    let (one, two, three) = (one?, two?, three?);
    assert_eq!((one.id(), one.id()), (two.id(), three.id()));
    assert_eq!([one.output(), two.output(), three.output()], [Some(&2); 3]);
    assert_eq!(
        (bodies.0.load(SeqCst), started.elapsed().as_secs()),
        (1, 60)
    );
    // other keys, other flows and runs without a key are others
    let others = [
        keyed(1, FACTOR)
            .key("tuesday")
            .on(&runtime)
            .run()
            .await?
            .id(),
        keyed_too(1).key("monday").on(&runtime).run().await?.id(),
        keyed(1, FACTOR).on(&runtime).run().await?.id(),
    ];
    assert!(!others.contains(&one.id()));
    assert_eq!(
        runtime
            .runs("keyed")
            .await?
            .iter()
            .filter_map(|run| run.key())
            .collect::<Vec<_>>(),
        ["monday", "tuesday"]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn key_of_a_finished_run_returns_it_with_its_output() -> Result<()> {
    let (runtime, bodies) = counted().await;
    let first = keyed(4, FACTOR).key("k").on(&runtime).run().await?;
    let started = Instant::now();
    let again = keyed(4, FACTOR).key("k").on(&runtime).run().await?;
    assert_eq!(
        (again.id(), again.output(), again.state()),
        (first.id(), Some(&8), RunState::Success)
    );
    assert_eq!(keyed(4, FACTOR).key("k").on(&runtime).await?, 8);
    assert_eq!((bodies.0.load(SeqCst), started.elapsed().as_secs()), (1, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_key_with_other_parameters_is_refused_with_both() -> Result<()> {
    let (runtime, bodies) = counted().await;
    let first = keyed(1, 0.5).key("k").on(&runtime).start().await?;
    for _ in 0..2 {
        let error = keyed(7, 0.5)
            .key("k")
            .on(&runtime)
            .start()
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::KeyTaken { run, .. } if run == first.id()),
            "{error}"
        );
        let text = error.to_string();
        for part in ["`keyed`", "`k`", r#""n":1"#, r#""n":7"#] {
            assert!(text.contains(part), "{text}");
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    assert_eq!(
        (first.await?.output(), bodies.0.load(SeqCst)),
        (Some(&2), 1)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn key_of_a_failed_run_returns_the_failed_run() -> Result<()> {
    let (runtime, bodies) = counted().await;
    let first = keyed(0, 1.0).key("k").on(&runtime).run().await?;
    let again = keyed(0, 1.0).key("k").on(&runtime).run().await?;
    assert_eq!(
        (again.id(), again.state(), again.output()),
        (first.id(), RunState::Failed, None)
    );
    assert_eq!(
        again.error().map(ToString::to_string),
        first.error().map(ToString::to_string)
    );
    let error = keyed(0, 1.0).key("k").on(&runtime).await.unwrap_err();
    assert!(error.to_string().contains("nothing to do"), "{error}");
    assert_eq!(bodies.0.load(SeqCst), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_handle_of_a_keyed_run_can_cancel_it() -> Result<()> {
    let (runtime, _) = counted().await;
    for (key, wait) in [("at once", 0), ("later", 5)] {
        let first = keyed(1, 1.0).key(key).on(&runtime).start().await?;
        let second = keyed(1, 1.0).key(key).on(&runtime).start().await?;
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let started = Instant::now();
        second.cancel();
        let (first, second) = (first.await?, second.await?);
        assert_eq!(
            (first.state(), second.state(), first.id()),
            (RunState::Cancelled, RunState::Cancelled, second.id()),
            "{key}"
        );
        assert_eq!(started.elapsed().as_secs(), 0, "{key}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropping_a_second_handle_does_not_cancel_a_keyed_run() -> Result<()> {
    let (runtime, _) = counted().await;
    let first = keyed(1, 1.0).key("k").on(&runtime).start().await?;
    let limit = Duration::from_secs(5);
    assert!(
        tokio::time::timeout(limit, keyed(1, 1.0).key("k").on(&runtime).run())
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(limit, keyed(1, 1.0).key("k").on(&runtime).into_future())
            .await
            .is_err()
    );
    drop(keyed(1, 1.0).key("k").on(&runtime).start().await?);
    assert_eq!(first.await?.output(), Some(&2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_key_is_one_run_for_all_processes_and_outlives_them() -> Result<()> {
    let url = format!(
        "sqlite:{}",
        support::new_folder("keys").join("state.db").display()
    );
    let bodies = Bodies::default();
    let process = || {
        Runtime::builder()
            .store(&url)
            .clock(Clock::tokio_from_now())
            .resource(bodies.clone())
            .build()
    };
    let (one, two) = (process().await?, process().await?);
    let ask = |runtime: &Runtime| keyed(3, FACTOR).key("k").on(runtime).run();
    let (first, second) = tokio::join!(ask(&one), ask(&two));
    let (first, second) = (first?, second?);
    assert_eq!(
        (first.id(), first.output(), second.output()),
        (second.id(), Some(&6), Some(&6))
    );
    drop((one, two, first));
    let third = ask(&process().await?).await?;
    assert_eq!(
        (third.id(), third.output(), bodies.0.load(SeqCst)),
        (second.id(), Some(&6), 1)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn key_of_an_abandoned_run_resumes_it_and_can_cancel_it() -> Result<()> {
    let url = format!(
        "sqlite:{}",
        support::new_folder("keys").join("state.db").display()
    );
    let bodies = Bodies::default();
    let process = || {
        let builder = Runtime::builder()
            .store(&url)
            .clock(Clock::tokio_from_now())
            .resource(bodies.clone());
        builder.grace(Duration::ZERO).build()
    };
    for (key, cancels) in [("a", false), ("b", true)] {
        let _case = support::case(format_args!("key {key}, cancels: {cancels}"));
        let one = process().await?;
        let left = keyed(3, FACTOR).key(key).on(&one).start().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(one.stop().await.left, [left.id()]);
        let two = process().await?;
        let again = keyed(3, FACTOR).key(key).on(&two).start().await?;
        assert_eq!(again.id(), left.id());
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cancels {
            again.cancel();
        }
        assert_eq!(
            again.await?.state(),
            if cancels {
                RunState::Cancelled
            } else {
                RunState::Success
            }
        );
    }
    Ok(())
}
