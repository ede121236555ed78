//! How values come to bodies: borrowed, owned, moved where they may be, cloned where they must.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use orchestrator::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

static CLONES: AtomicUsize = AtomicUsize::new(0);

/// Counts its clones, and cannot be encoded.
struct Heavy(u32);

impl Clone for Heavy {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, SeqCst);
        Self(self.0)
    }
}

impl Serialize for Heavy {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        panic!("a value is encoded in memory");
    }
}

impl<'de> Deserialize<'de> for Heavy {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        panic!("a value is decoded in memory");
    }
}

#[task]
async fn heavy(n: u32) -> Heavy {
    Heavy(n)
}

#[task]
async fn grow(mut heavy: Heavy) -> Heavy {
    heavy.0 += 1;
    heavy
}

#[task]
async fn weigh(heavy: &Heavy) -> u32 {
    heavy.0
}

#[task]
fn weigh_blocking(heavy: &Heavy) -> u32 {
    heavy.0
}

#[task]
async fn sum(numbers: Vec<u32>) -> u32 {
    numbers.into_iter().sum()
}

#[task]
async fn total(heavies: &[Heavy]) -> u32 {
    heavies.iter().map(|heavy| heavy.0).sum()
}

#[flow]
fn moved_along() -> Node<u32> {
    let last = (0..10).fold(heavy(0), |heavy, _| grow(heavy));
    weigh(last)
}

#[flow]
fn borrowed_often() -> Node<u32> {
    let heavy = heavy(1);
    sum([weigh(&heavy), weigh(&heavy), weigh_blocking(&heavy)])
}

#[flow(name = "values_gathered")]
fn gathered() -> Node<u32> {
    total(expand(vec![1, 2, 3], heavy))
}

// one test for one counter
#[tokio::test]
async fn a_value_is_copied_only_where_it_must_be() -> Result<()> {
    let runtime = Runtime::in_memory();
    assert_eq!(moved_along().on(&runtime).await?, 10);
    assert_eq!(borrowed_often().on(&runtime).await?, 3);
    assert_eq!(gathered().on(&runtime).await?, 6);
    assert_eq!(CLONES.load(SeqCst), 0);

    // where a retry may need it, and where another takes it, too
    #[flow(name = "values_retried")]
    fn retried() -> Node<u32> {
        weigh(grow(heavy(0)).retries(1))
    }
    assert_eq!(retried().on(&runtime).await?, 1);
    assert_eq!(CLONES.load(SeqCst), 1);
    #[flow]
    fn shared() -> Node<u32> {
        let heavy = heavy(0);
        sum([weigh(grow(&heavy)), weigh(&heavy)])
    }
    assert_eq!(shared().on(&runtime).await?, 1);
    assert!(CLONES.load(SeqCst) <= 2);
    Ok(())
}

#[task]
async fn describe(
    name: &str,
    tags: &[String],
    sizes: HashMap<String, u32>,
    ratio: f64,
    on: bool,
) -> String {
    format!("{name} {} {} {ratio} {on}", tags.join("+"), sizes.len())
}

#[task]
async fn word(n: u32) -> String {
    "x".repeat(n as usize)
}

#[tokio::test]
async fn plain_values_are_given_as_they_are_clear() -> Result<()> {
    #[flow]
    fn plain() -> Node<String> {
        let tags = ["a".to_owned(), "b".to_owned()];
        describe(
            "name",
            &tags[..],
            HashMap::from([("k".to_owned(), 1)]),
            0.5,
            true,
        )
    }
    #[flow]
    fn arrays() -> Node<String> {
        describe(word(2), ["a".to_owned()], HashMap::new(), 1.5, false)
    }
    #[flow]
    fn nodes() -> Node<String> {
        describe(
            "n".to_owned(),
            [word(1), word(2)],
            HashMap::new(),
            2.0,
            false,
        )
    }
    let runtime = crate::support::runtime();
    assert_eq!(plain().on(&runtime).await?, "name a+b 1 0.5 true");
    assert_eq!(arrays().on(&runtime).await?, "xx a 0 1.5 false");
    assert_eq!(nodes().on(&runtime).await?, "n x+xx 0 2 false");
    Ok(())
}

#[task]
async fn pair(n: u32) -> (u32, String) {
    (n, n.to_string())
}

#[task]
async fn join(number: u32, text: String) -> String {
    format!("{number}/{text}")
}

#[task]
async fn double(n: u32) -> u32 {
    n * 2
}

#[tokio::test]
async fn projections_run_where_they_are_taken() -> Result<()> {
    #[flow]
    fn projected() -> Node<String> {
        let pair = pair(7);
        let (number, text) = pair.unzip();
        join(
            number.map(|n| n + 1).map(|n| n * 10),
            text.map(|text| format!("<{text}>")),
        )
    }
    #[flow]
    fn returned() -> (Node<u32>, Node<String>) {
        let (number, text) = pair(3).unzip();
        (double(number), text.map(String::clone))
    }
    #[flow(name = "values_gathered_2")]
    fn gathered(count: u32) -> Node<u32> {
        sum(gather((0..count).map(double)))
    }
    let runtime = crate::support::runtime();
    assert_eq!(projected().on(&runtime).await?, "80/<7>");
    assert_eq!(returned().on(&runtime).await?, (6, "3".to_owned()));
    assert_eq!(gathered(4).on(&runtime).await?, 12);
    // a projection is no task
    let run = projected().on(&runtime).run().await?;
    assert_eq!(
        run.tasks()
            .iter()
            .map(|task| task.key())
            .collect::<Vec<_>>(),
        ["pair", "join"]
    );
    Ok(())
}

#[tokio::test]
async fn a_projection_that_panics_fails_its_consumer() -> Result<()> {
    #[flow(name = "values_panicking")]
    fn panicking() -> Node<u32> {
        double(double(1).map(|n| 10 / (n - 2)))
    }
    let run = panicking().on(&crate::support::runtime()).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    assert_eq!(run.task("double").unwrap().state(), TaskState::Success);
    let failed = run.task("double#2").unwrap();
    assert_eq!(failed.state(), TaskState::Failed);
    assert!(
        failed
            .error()
            .unwrap()
            .to_string()
            .contains("divide by zero"),
        "{:?}",
        failed.error()
    );
    Ok(())
}

#[tokio::test]
async fn ten_thousand_links_and_a_wide_fan_need_no_deep_stack() -> Result<()> {
    #[flow]
    fn chain(length: u32) -> Node<u32> {
        (0..length).fold(double(0), |last, _| double(last))
    }
    #[flow]
    fn fan(width: u32) -> Node<u32> {
        let source = double(1);
        sum(gather((0..width).map(|_| double(&source))))
    }
    #[flow]
    fn broken(length: u32) -> Node<u32> {
        let first = double(double(1).map(|_| panic!("at the start")));
        (0..length).fold(first, |last, _| double(last))
    }
    let runtime = crate::support::runtime();
    assert_eq!(chain(10_000).on(&runtime).await?, 0);
    assert_eq!(fan(10_000).on(&runtime).await?, 40_000);
    let run = broken(10_000).on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let upstream_failed = run
        .tasks()
        .iter()
        .filter(|task| task.state() == TaskState::UpstreamFailed)
        .count();
    assert_eq!(upstream_failed, 10_000);
    Ok(())
}
