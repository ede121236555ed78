//! The bodies of `async` flows: what they return, await, leave and catch.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use tokio::time::Instant;

#[task]
async fn sleep(seconds: u64) -> u64 {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seconds
}

#[task]
async fn inc(n: u64) -> u64 {
    n + 1
}

#[task]
async fn fails() -> Result<u64> {
    Err("broken".into())
}

#[task]
async fn nothing_to_do() -> Result<u64> {
    Err(skip("no rows").into())
}

#[tokio::test(start_paused = true)]
async fn run_waits_for_nodes_that_its_body_did_not_await() -> Result<()> {
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn slow() {
        tokio::time::sleep(Duration::from_secs(100)).await;
        RAN.fetch_add(1, SeqCst);
    }
    #[flow(name = "bodies_early")]
    async fn early() -> Result<u64> {
        slow();
        Ok(1)
    }
    #[flow]
    async fn left_with_nodes() -> (Node<u64>, Node<u64>) {
        let first = inc(1).await.unwrap_or_default();
        (inc(first), inc(sleep(1)))
    }
    let started = Instant::now();
    assert_eq!(early().on(&crate::support::runtime()).await?, 1);
    assert_eq!((RAN.load(SeqCst), started.elapsed().as_secs()), (1, 100));
    assert_eq!(
        left_with_nodes().on(&crate::support::runtime()).await?,
        (3, 2)
    );
    Ok(())
}

#[tokio::test]
async fn a_failure_that_is_awaited_is_the_bodys() -> Result<()> {
    #[flow]
    async fn caught() -> Result<u64> {
        Ok(fails().await.unwrap_or(7))
    }
    #[flow]
    async fn not_awaited() -> Result<u64> {
        fails();
        Ok(7)
    }
    #[flow]
    async fn passed_on() -> Result<u64> {
        Ok(inc(fails()).await?)
    }
    let runtime = crate::support::runtime();
    let run = caught().on(&runtime).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Success, Some(&7)));
    let run = not_awaited().on(&runtime).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Failed, Some(&7)));
    let error = passed_on().on(&runtime).await.unwrap_err().to_string();
    assert!(error.contains("task `fails` failed: broken"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_skip_that_the_body_passes_on_is_a_success_without_output() -> Result<()> {
    #[flow(name = "bodies_skipped")]
    async fn skipped() -> Result<u64> {
        Ok(inc(nothing_to_do().await?).await?)
    }
    let runtime = crate::support::runtime();
    let run = skipped().on(&runtime).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Success, None));
    assert!(skipped().on(&runtime).await.unwrap_err().is_skipped());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_cancels_the_rest() -> Result<()> {
    #[flow(name = "bodies_gives_up")]
    async fn gives_up() -> Result<u64> {
        let slow = sleep(1000);
        inc(&slow);
        let one = inc(0).await?;
        Err(format!("gave up at {one}").into())
    }
    let started = Instant::now();
    let run = gives_up().on(&crate::support::runtime()).run().await?;
    assert_eq!(started.elapsed().as_secs(), 0);
    assert_eq!(run.state(), RunState::Failed);
    assert_eq!(run.error().unwrap().to_string(), "gave up at 1");
    let states: Vec<_> = run
        .tasks()
        .iter()
        .map(|task| (task.key(), task.state()))
        .collect();
    let cancelled = TaskState::Cancelled;
    let expected = [
        ("sleep", cancelled),
        ("inc", cancelled),
        ("inc#2", TaskState::Success),
    ];
    assert_eq!(states, expected.map(|(key, state)| (key.to_owned(), state)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn branches_run_side_by_side() -> Result<()> {
    #[flow]
    async fn branches() -> Result<u64> {
        let branch = |seconds| async move {
            let first = sleep(seconds).await?;
            sleep(first).await
        };
        let (a, b, c) = tokio::try_join!(branch(10), branch(20), branch(30))?;
        Ok(a + b + c)
    }
    let started = Instant::now();
    assert_eq!(branches().on(&crate::support::runtime()).await?, 60);
    assert_eq!(started.elapsed().as_secs(), 60);
    Ok(())
}

#[tokio::test]
async fn a_node_may_be_awaited_more_than_once_and_passed_on() -> Result<()> {
    #[flow]
    async fn again() -> Result<u64> {
        let node = inc(1);
        let first = node.clone().await?;
        let second = node.clone().await?;
        let third = inc(&node).await?;
        Ok(first + second + third + node.map(|n| n * 100).await?)
    }
    assert_eq!(
        again().on(&crate::support::runtime()).await?,
        2 + 2 + 3 + 200
    );
    Ok(())
}

#[tokio::test]
async fn an_option_after_planning_is_refused_by_name() -> Result<()> {
    #[flow]
    async fn late() -> Result<u64> {
        let node = inc(1);
        inc(5).await?;
        Ok(node.retries(3).await?)
    }
    let run = late().on(&crate::support::runtime()).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let error = run.error().unwrap().to_string();
    assert!(
        error.contains("`retries`") && error.contains("`inc`") && error.contains("planned"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn nodes_made_in_another_tokio_task_are_outside_the_flow() -> Result<()> {
    #[flow]
    async fn spawns() -> Result<u64> {
        // there it is an ordinary async function
        let outside = tokio::spawn(async { inc(41).await }).await??;
        Ok(inc(outside).await?)
    }
    #[flow]
    async fn mixes() -> Result<u64> {
        let node = tokio::spawn(async { inc(41) }).await?;
        Ok(inc(node).await?)
    }
    let runtime = crate::support::runtime();
    let run = spawns().on(&runtime).run().await?;
    assert_eq!((run.output(), run.tasks().len()), (Some(&43), 1));
    let run = mixes().on(&runtime).run().await?;
    assert!(
        run.error()
            .unwrap()
            .to_string()
            .contains("outside of this flow"),
        "{:?}",
        run.error()
    );
    Ok(())
}

#[tokio::test]
async fn a_body_may_await_other_things_than_nodes() -> Result<()> {
    #[flow]
    async fn mixed() -> Result<u64> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            sender.send(5).ok();
        });
        let n = receiver.await?;
        Ok(inc(n).await?)
    }
    assert_eq!(mixed().on(&crate::support::runtime()).await?, 6);
    Ok(())
}
