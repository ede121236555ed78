//! The lives of clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Connect, Connection, EntryKind, Vault, VaultEntry};
use parking_lot::Mutex;

use super::builder;

/// A client that counts how many were made, each with its connection's host. A type a test.
macro_rules! client {
    ($client:ident) => {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static WORKS: AtomicBool = AtomicBool::new(true);

        #[allow(dead_code, reason = "some tests look at the number alone")]
        struct $client {
            number: u32,
            host: String,
        }

        impl Connect for $client {
            const KINDS: &'static [&'static str] = &["db"];

            async fn connect(connection: &Connection) -> Result<Self> {
                // others wait meanwhile
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !WORKS.load(SeqCst) {
                    let password = connection.password().unwrap().expose();
                    return Err(format!("password {password} is wrong").into());
                }
                Ok(Self {
                    number: MADE.fetch_add(1, SeqCst) + 1,
                    host: connection.host().unwrap().to_owned(),
                })
            }

            async fn check(&self) -> Result<()> {
                match WORKS.load(SeqCst) {
                    true => Ok(()),
                    false => Err("it does not answer".into()),
                }
            }
        }
    };
}

const URL: &str = "db://me:long-password@one.example";

/// A vault whose one connection can be changed.
#[derive(Clone, Default)]
struct Changing {
    entry: Arc<Mutex<Option<VaultEntry>>>,
    found: Arc<AtomicU32>,
    fails: Arc<AtomicBool>,
}

impl Changing {
    fn set(&self, entry: VaultEntry) {
        *self.entry.lock() = Some(entry);
    }
}

impl Vault for Changing {
    fn name(&self) -> String {
        "changing".to_owned()
    }

    async fn find(&self, _: EntryKind, name: &str) -> Result<Option<VaultEntry>> {
        assert_eq!(name, "shop");
        self.found.fetch_add(1, SeqCst);
        match self.fails.load(SeqCst) {
            true => Err("it is sealed".into()),
            false => Ok(self.entry.lock().clone()),
        }
    }

    async fn version(&self, _: EntryKind, _: &str) -> Result<Option<String>> {
        match self.fails.load(SeqCst) {
            true => Err("it is sealed".into()),
            false => Ok(self.entry.lock().as_ref().map(|_| "1".to_owned())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_made_once_for_all_tasks() -> Result<()> {
    client!(Shared);
    #[task]
    async fn takes(n: u32, #[connection("shop")] shop: &Shared) -> u32 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        n * 100 + shop.number
    }
    #[flow(name = "clients_shared")]
    fn shared() -> Mapped<u32> {
        expand((0..50).collect::<Vec<u32>>(), takes)
    }
    let runtime = builder().connection("shop", URL).build().await?;
    let taken = shared().on(&runtime).await?;
    assert_eq!(taken[49], 4901);
    shared().on(&runtime).await?;
    assert_eq!(MADE.load(SeqCst), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_made_is_a_failed_attempt() -> Result<()> {
    client!(Failing);
    #[task(retries = 2, retry_delay = "10s")]
    async fn takes(#[connection("shop")] shop: &Failing) -> u32 {
        shop.number
    }
    #[flow(name = "clients_failing")]
    fn failing() -> Node<u32> {
        takes()
    }
    let runtime = builder().connection("shop", URL).build().await?;
    WORKS.store(false, SeqCst);
    let run = failing().on(&runtime).run().await?;
    let task = run.task("takes").unwrap();
    assert_eq!(task.attempts(), 3);
    assert_eq!(
        task.error().unwrap().to_string(),
        "connection `shop` (db) cannot be made: password *** is wrong"
    );
    let again = failing().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    WORKS.store(true, SeqCst);
    assert_eq!(*again.await?.output().unwrap(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_changed_connection_has_a_new_client_and_running_attempts_keep_theirs() -> Result<()> {
    client!(Changed);
    #[task]
    async fn takes(seconds: u64, #[connection("shop")] shop: &Changed) -> String {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        format!("{} {}", shop.number, shop.host)
    }
    #[flow(name = "clients_changed")]
    async fn changed(seconds: Vec<u64>) -> Result<Vec<String>> {
        let mut taken = Vec::new();
        for seconds in seconds {
            taken.push(takes(seconds).await?);
        }
        Ok(taken)
    }
    let vault = Changing::default();
    vault.set(VaultEntry::new(URL));
    let runtime = builder().vault(vault.clone()).build().await?;
    let running = changed(vec![50, 1, 60, 1, 1]).on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    vault.set(VaultEntry::new("db://two.example"));
    let run = running.await?;
    // looked at once a minute
    assert_eq!(
        *run.output().unwrap(),
        [
            "1 one.example",
            "1 one.example",
            "1 one.example",
            "2 two.example",
            "2 two.example"
        ]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_version_saves_look_ups_and_a_vault_that_fails_takes_nothing_away() -> Result<()> {
    client!(Versioned);
    #[task]
    async fn takes(#[connection("shop")] shop: &Versioned) -> u32 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        shop.number
    }
    #[flow(name = "clients_versioned")]
    async fn versioned(times: u32) -> Result<u32> {
        let mut last = 0;
        for _ in 0..times {
            last = takes().await?;
        }
        Ok(last)
    }
    let vault = Changing::default();
    vault.set(VaultEntry::new(URL).with_version("1"));
    let runtime = builder().vault(vault.clone()).build().await?;
    assert_eq!(versioned(5).on(&runtime).await?, 1);
    assert_eq!(vault.found.load(SeqCst), 1);
    let running = versioned(5).on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    vault.fails.store(true, SeqCst);
    assert_eq!(*running.await?.output().unwrap(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_fails_is_a_failed_attempt() -> Result<()> {
    client!(Unknown);
    #[task(retries = 3, retry_delay = "10s")]
    async fn takes(#[connection("shop")] shop: &Unknown) -> u32 {
        shop.number
    }
    #[flow(name = "clients_unknown")]
    fn unknown() -> Node<u32> {
        takes()
    }
    let vault = Changing::default();
    vault.set(VaultEntry::new(URL));
    vault.fails.store(true, SeqCst);
    let runtime = builder().vault(vault.clone()).build().await?;
    let running = unknown().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    vault.fails.store(false, SeqCst);
    let run = running.await?;
    let attempts = runtime.attempts(run.id()).await?;
    assert_eq!(run.task("takes").unwrap().attempts(), 3);
    let error = attempts[0].error.as_ref().unwrap().to_string();
    assert_eq!(
        error,
        "connection `shop` cannot be looked up in vault `changing`: it is sealed"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_is_made_anew_before_its_credentials_end() -> Result<()> {
    client!(Ending);
    #[task]
    async fn takes(#[connection("shop")] shop: &Ending) -> u32 {
        tokio::time::sleep(Duration::from_secs(120)).await;
        shop.number
    }
    #[flow(name = "clients_ending")]
    async fn ending() -> Result<Vec<u32>> {
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(takes().await?);
        }
        Ok(taken)
    }
    let vault = Changing::default();
    let runtime = builder().vault(vault.clone()).build().await?;
    // of ten minutes each: made anew when less than a minute is left
    let entry = |password: &str, seconds: i64| {
        VaultEntry::new(format!("db://me:{password}@one.example"))
            .with_version("1")
            .with_expiry(super::in_seconds(&runtime, seconds))
    };
    vault.set(entry("password-1", 330));
    let running = ending().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    vault.set(entry("password-2", 3600));
    assert_eq!(*running.await?.output().unwrap(), [1, 1, 1, 2, 2, 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_check_fails_is_made_anew() -> Result<()> {
    client!(Checked);
    #[task(retries = 1, retry_delay = "5s")]
    async fn takes(seconds: u64, #[connection("shop")] shop: &Checked) -> u32 {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        shop.number
    }
    #[flow(name = "clients_checked")]
    async fn checked() -> Result<Vec<u32>> {
        Ok(vec![takes(30).await?, takes(40).await?, takes(1).await?])
    }
    let runtime = builder().connection("shop", URL).build().await?;
    let running = checked().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(40)).await;
    WORKS.store(false, SeqCst);
    tokio::time::sleep(Duration::from_secs(33)).await;
    WORKS.store(true, SeqCst);
    assert_eq!(*running.await?.output().unwrap(), [1, 1, 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_may_ask_for_a_new_client() -> Result<()> {
    client!(Renewed);
    static FAILED: AtomicBool = AtomicBool::new(false);
    #[task(retries = 1)]
    async fn takes(#[connection("shop")] shop: &Renewed) -> Result<u32> {
        if !FAILED.swap(true, SeqCst) {
            return Err(reconnect("the server is read-only").into());
        }
        Ok(shop.number)
    }
    #[task]
    async fn fails(#[connection("shop")] shop: &Renewed) -> Result<u32> {
        Err(format!("row {} is wrong", shop.number).into())
    }
    #[task(retries = 1)]
    async fn by_name(#[context] context: &Context) -> Result<u32> {
        let shop = context.connection::<Renewed>("shop").await?;
        match context.attempt() {
            1 => Err(reconnect("it has moved").into()),
            _ => Ok(shop.number),
        }
    }
    #[flow(name = "clients_renewed")]
    async fn renewed() -> Result<Vec<u32>> {
        let first = takes().await?;
        // an error of its own tears down nothing
        let failed = fails().await.unwrap_err();
        assert_eq!(failed.to_string(), "row 2 is wrong");
        Ok(vec![first, takes().await?, by_name().await?])
    }
    let runtime = builder().connection("shop", URL).build().await?;
    assert_eq!(renewed().on(&runtime).await?, [2, 2, 3]);
    Ok(())
}

/// A client that takes a year to make.
struct Hangs;

impl Connect for Hangs {
    async fn connect(_: &Connection) -> Result<Self> {
        tokio::time::sleep(Duration::from_secs(365 * 24 * 3600)).await;
        Ok(Self)
    }
}

#[task(timeout = "5s", retries = 1)]
async fn waits_for_it(#[connection("shop")] _shop: &Hangs) -> u32 {
    1
}

#[flow(name = "clients_hanging")]
fn hanging() -> Node<u32> {
    waits_for_it()
}

#[task]
async fn waits_long(#[connection("shop")] _shop: &Hangs) -> u32 {
    1
}

#[flow(name = "clients_cancelled")]
fn cancelled() -> Node<u32> {
    waits_long()
}

#[tokio::test(start_paused = true)]
async fn making_a_client_is_a_part_of_the_attempt() -> Result<()> {
    let runtime = builder().connection("shop", URL).build().await?;
    let run = hanging().on(&runtime).run().await?;
    let task = run.task("waits_for_it").unwrap();
    assert_eq!(task.attempts(), 2);
    assert!(task.error().unwrap().is_timeout());
    let running = cancelled().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.cancel();
    let run = running.await?;
    assert_eq!(run.state(), RunState::Cancelled);
    assert_eq!(
        run.task("waits_long").unwrap().state(),
        TaskState::Cancelled
    );
    Ok(())
}

/// A client that panics.
struct Panics;

impl Connect for Panics {
    async fn connect(_: &Connection) -> Result<Self> {
        panic!("no driver for long-password");
    }
}

#[task]
async fn panicking(#[connection("shop")] _shop: &Panics) -> u32 {
    1
}

#[tokio::test]
async fn a_client_that_panics_is_a_panic_of_its_attempt() -> Result<()> {
    #[flow(name = "clients_panicking")]
    fn panics() -> Node<u32> {
        panicking()
    }
    let runtime = builder().connection("shop", URL).build().await?;
    let run = panics().on(&runtime).run().await?;
    let error = run.task("panicking").unwrap().error().unwrap().clone();
    assert!(error.is_panic());
    assert!(error.to_string().ends_with("no driver for ***"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_blocking_body_has_clients_too() -> Result<()> {
    client!(Blocking);
    #[task]
    fn takes(#[connection("shop")] shop: &Blocking, #[variable("rows")] rows: u32) -> u32 {
        shop.number * 100 + rows
    }
    #[flow(name = "clients_blocking")]
    fn blocking() -> Node<u32> {
        takes()
    }
    let runtime = builder()
        .connection("shop", URL)
        .variable("rows", 7)
        .build()
        .await?;
    assert_eq!(blocking().on(&runtime).await?, 107);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_check_panics_or_hangs_is_made_anew() -> Result<()> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    struct Odd(u32);
    impl Connect for Odd {
        async fn connect(_: &Connection) -> Result<Self> {
            Ok(Self(MADE.fetch_add(1, SeqCst) + 1))
        }

        async fn check(&self) -> Result<()> {
            match self.0 {
                1 => panic!("no check"),
                2 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    }
    #[task]
    async fn takes(#[connection("shop")] shop: &Odd) -> u32 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        shop.0
    }
    #[flow(name = "clients_odd")]
    async fn odd() -> Result<Vec<u32>> {
        Ok(vec![
            takes().await?,
            takes().await?,
            takes().await?,
            takes().await?,
        ])
    }
    let runtime = builder().connection("shop", URL).build().await?;
    let taken = tokio::time::timeout(Duration::from_secs(3600), odd().on(&runtime).run()).await;
    assert_eq!(*taken.unwrap()?.output().unwrap(), [1, 2, 3, 3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_could_not_be_made_is_made_of_the_connection_as_it_is_now() -> Result<()> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    struct Rotated;
    impl Connect for Rotated {
        async fn connect(connection: &Connection) -> Result<Self> {
            MADE.fetch_add(1, SeqCst);
            match connection.host() {
                Some("two.example") => Ok(Self),
                _ => Err("wrong password".into()),
            }
        }
    }
    #[task(retries = 1, retry_delay = "1s")]
    async fn takes(#[connection("shop")] _shop: &Rotated) -> u32 {
        1
    }
    #[task(retries = 1, retry_delay = "1s")]
    async fn asks(#[connection("shop")] shop: &Connection) -> Result<u32> {
        match shop.host() {
            Some("three.example") => Ok(2),
            _ => Err(reconnect("wrong password").into()),
        }
    }
    #[flow(name = "clients_rotated")]
    fn rotated() -> Node<u32> {
        takes()
    }
    #[flow(name = "clients_asking")]
    fn asking() -> Node<u32> {
        asks()
    }
    let vault = Changing::default();
    vault.set(VaultEntry::new(URL));
    let runtime = builder().vault(vault.clone()).build().await?;
    let running = rotated().on(&runtime).start().await?;
    while MADE.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    vault.set(VaultEntry::new("db://two.example"));
    assert_eq!(*running.await?.output().unwrap(), 1);
    let running = asking().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    vault.set(VaultEntry::new("db://three.example"));
    assert_eq!(*running.await?.output().unwrap(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_discarded_while_it_is_checked_is_made_anew() -> Result<()> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    struct Slow(u32);
    impl Connect for Slow {
        async fn connect(_: &Connection) -> Result<Self> {
            Ok(Self(MADE.fetch_add(1, SeqCst) + 1))
        }

        async fn check(&self) -> Result<()> {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        }
    }
    #[task]
    async fn asks(#[connection("shop")] _shop: &Slow) -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(65)).await;
        Err(reconnect("it has moved").into())
    }
    #[task]
    async fn takes(#[connection("shop")] shop: &Slow) -> u32 {
        shop.0
    }
    #[flow(name = "clients_discarded")]
    async fn discarded() -> Result<Vec<u32>> {
        let asking = asks();
        let first = takes().await?;
        tokio::time::sleep(Duration::from_secs(61)).await;
        let second = takes().await?;
        let _ = asking.await;
        Ok(vec![first, second])
    }
    let runtime = builder().connection("shop", URL).build().await?;
    assert_eq!(discarded().on(&runtime).await?, [1, 2]);
    Ok(())
}
