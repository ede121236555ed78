//! Vaults of a program's own.

use std::sync::Arc;
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Connection, EntryKind, Secret, Vault, VaultEntry};
use parking_lot::Mutex;

use super::builder;

/// A vault with one secret, which notes what it is asked for.
#[derive(Clone)]
struct Noting {
    name: &'static str,
    has: Option<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Vault for Noting {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn find(&self, kind: EntryKind, name: &str) -> Result<Option<VaultEntry>> {
        self.asked
            .lock()
            .push(format!("{}: {kind} {name}", self.name));
        Ok(self
            .has
            .filter(|_| kind == EntryKind::Secret)
            .map(|name| VaultEntry::new(format!("{name} of {}", self.name))))
    }
}

#[task]
async fn tells(name: String, #[context] context: &Context) -> Result<String> {
    Ok(context.secret(&name).await?.expose().to_owned())
}

#[flow(name = "vaults_telling")]
fn telling(name: String) -> Node<String> {
    tells(name)
}

#[tokio::test]
async fn vaults_are_asked_in_order_and_last() -> Result<()> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let vault = |name, has| Noting {
        name,
        has,
        asked: Arc::clone(&asked),
    };
    let runtime = builder()
        .secret("given", "given to the runtime")
        .vault(vault("first", None))
        .vault(vault("second", Some("it")))
        .vault(vault("third", Some("it")))
        .build()
        .await?;
    assert_eq!(
        telling("given".into()).on(&runtime).await?,
        "given to the runtime"
    );
    assert!(asked.lock().is_empty());
    assert_eq!(telling("other".into()).on(&runtime).await?, "it of second");
    assert_eq!(
        *asked.lock(),
        ["first: secret other", "second: secret other"]
    );
    // a name that cannot be one is refused before any place is looked in
    asked.lock().clear();
    for name in ["", ".hidden", "a/b", "a b", &"x".repeat(201)] {
        let error = telling(name.into()).on(&runtime).await.unwrap_err();
        assert!(error.to_string().contains("secret expected"), "{error}");
    }
    assert!(asked.lock().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_missing_name_lists_the_vaults_that_were_asked() -> Result<()> {
    #[task]
    async fn takes(#[secret("nobody_has_it")] key: &Secret) -> usize {
        key.expose().len()
    }
    #[flow(name = "vaults_missing")]
    fn missing() -> Node<usize> {
        takes()
    }
    let vault = Noting {
        name: "first",
        has: None,
        asked: Arc::default(),
    };
    let runtime = builder().vault(vault).build().await?;
    let error = missing().on(&runtime).run().await.unwrap_err().to_string();
    assert!(error.contains("vault `first`"), "{error}");
    Ok(())
}

/// How a vault answers.
#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Panics,
    Hangs,
}

/// A vault that has one entry under all names.
#[derive(Clone)]
struct Moody(Mood, Arc<Mutex<VaultEntry>>);

impl Vault for Moody {
    fn name(&self) -> String {
        "moody".to_owned()
    }

    async fn find(&self, _: EntryKind, _: &str) -> Result<Option<VaultEntry>> {
        match self.0 {
            Mood::Answers => Ok(Some(self.1.lock().clone())),
            Mood::Panics => panic!("no vault today"),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

#[task]
async fn adds(rows: u32, #[variable("moody")] more: u32) -> u32 {
    rows + more
}

#[task(cache)]
async fn sums(rows: u32, #[variable("moody")] more: u32) -> u32 {
    rows + more
}

#[flow(name = "vaults_summing")]
fn summing(rows: u32) -> (Node<u32>, Node<u32>) {
    (adds(rows), sums(rows))
}

/// It is asked before the run, by an attempt, and for a cache key.
#[tokio::test(start_paused = true)]
async fn a_vault_that_panics_or_hangs_is_a_failed_attempt() -> Result<()> {
    for (mood, problem) in [
        (Mood::Panics, "no vault today"),
        (Mood::Hangs, "no answer within 30 seconds"),
    ] {
        let vault = Moody(mood, Arc::new(Mutex::new(VaultEntry::new("1"))));
        let runtime = builder().vault(vault).build().await?;
        let running = summing(1).on(&runtime).run();
        let run = tokio::time::timeout(Duration::from_secs(3600), running).await??;
        for task in ["adds", "sums"] {
            let error = run.task(task).unwrap().error().unwrap().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_ends_is_looked_up_before() -> Result<()> {
    #[task]
    async fn takes(#[secret("ends")] key: &Secret) -> String {
        tokio::time::sleep(Duration::from_secs(20)).await;
        key.expose().to_owned()
    }
    #[flow(name = "vaults_ending")]
    async fn ending() -> Result<Vec<String>> {
        Ok(vec![takes().await?, takes().await?, takes().await?])
    }
    let vault = Moody(
        Mood::Answers,
        Arc::new(Mutex::new(VaultEntry::new("unset"))),
    );
    let runtime = builder().vault(vault.clone()).build().await?;
    let entry = |text: &str, seconds| {
        VaultEntry::new(text.to_owned()).with_expiry(super::in_seconds(&runtime, seconds))
    };
    *vault.1.lock() = entry("first", 70);
    let running = ending().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    *vault.1.lock() = entry("second", 3600);
    assert_eq!(
        *running.await?.output().unwrap(),
        ["first", "second", "second"]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_earlier_place_counts_though_the_version_of_a_later_one_is_unchanged() -> Result<()> {
    struct Versioned;
    impl Vault for Versioned {
        fn name(&self) -> String {
            "versioned".to_owned()
        }
        async fn find(&self, _: EntryKind, _: &str) -> Result<Option<VaultEntry>> {
            Ok(Some(VaultEntry::new("of the vault").with_version("1")))
        }
        async fn version(&self, _: EntryKind, _: &str) -> Result<Option<String>> {
            Ok(Some("1".to_owned()))
        }
    }
    #[task]
    async fn takes(#[variable("moved")] text: &str) -> String {
        tokio::time::sleep(Duration::from_secs(61)).await;
        text.to_owned()
    }
    #[flow(name = "vaults_moved")]
    async fn moved() -> Result<Vec<String>> {
        Ok(vec![takes().await?, takes().await?])
    }
    let runtime = builder().vault(Versioned).build().await?;
    let running = moved().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let kind = EntryKind::Variable;
    runtime.set_entry(kind, "moved", "of the store").await?;
    assert_eq!(
        *running.await?.output().unwrap(),
        ["of the vault", "of the store"]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_stays_in_use_while_its_credentials_hold_and_the_vault_does_not_answer()
-> Result<()> {
    #[derive(Clone)]
    struct Sealing(Arc<Mutex<Option<VaultEntry>>>);
    impl Vault for Sealing {
        fn name(&self) -> String {
            "sealing".to_owned()
        }
        async fn find(&self, _: EntryKind, _: &str) -> Result<Option<VaultEntry>> {
            match self.0.lock().clone() {
                Some(entry) => Ok(Some(entry)),
                None => Err("it is sealed".into()),
            }
        }
    }
    #[task]
    async fn takes(#[connection("sealed")] shop: &Connection) -> Option<String> {
        tokio::time::sleep(Duration::from_secs(40)).await;
        shop.host().map(str::to_owned)
    }
    #[flow(name = "vaults_sealed")]
    async fn sealed() -> Result<Vec<Option<String>>> {
        Ok(vec![takes().await?, takes().await?])
    }
    let vault = Sealing(Arc::default());
    let runtime = builder().vault(vault.clone()).build().await?;
    let entry = VaultEntry::new("db://me:long-password@one.example");
    *vault.0.lock() = Some(entry.with_expiry(super::in_seconds(&runtime, 90)));
    let running = sealed().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    *vault.0.lock() = None;
    let host = Some("one.example".to_owned());
    assert_eq!(*running.await?.output().unwrap(), [host.clone(), host]);
    Ok(())
}
