//! All forms of connections, variables and secrets.

use orchestrator::prelude::*;
use orchestrator::{Connect, Connection, Secret};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;

/// A client with nothing but `connect`.
#[derive(Debug)]
struct Shop {
    host: String,
}

impl Connect for Shop {
    const KINDS: &'static [&'static str] = &["postgres", "postgresql"];

    async fn connect(connection: &Connection) -> Result<Self> {
        tokio::task::yield_now().await;
        let host = connection.host().ok_or("expected a host")?.to_owned();
        Ok(Self { host })
    }
}

/// A client that is generic, and checks itself.
#[derive(Debug)]
struct Pooled<T>(T);

impl<T: Connect> Connect for Pooled<T> {
    async fn connect(connection: &Connection) -> Result<Self> {
        T::connect(connection).await.map(Self)
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }
}

trait Search: Send + Sync {
    fn find(&self, word: &str) -> usize;
}

impl Search for Shop {
    fn find(&self, word: &str) -> usize {
        self.host.len() + word.len()
    }
}

impl Connect for Box<dyn Search> {
    async fn connect(connection: &Connection) -> Result<Self> {
        Ok(Box::new(Shop::connect(connection).await?))
    }
}

/// Neither `Serialize` nor `Clone`: a variable is only read.
#[derive(Debug, Deserialize)]
struct Limits {
    rows: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    id: u32,
}

// What is looked up by its type has one.
#[allow(clippy::borrowed_box)]
#[task]
async fn takes_all_marks(
    rows: &[Row],
    #[connection("shop_default")] shop: &Shop,
    #[variable("batch_size")] batch: u32,
    #[secret("scoring-api.key")] key: &Secret,
    #[resource] search: &Box<dyn Search>,
    #[context] context: &Context,
    limit: u32,
) -> Result<String> {
    tokio::task::yield_now().await;
    let found = search.find(key.expose());
    Ok(format!(
        "{rows:?} {} {batch} {found} {limit} {}",
        shop.host,
        context.attempt()
    ))
}

#[task]
fn blocks(#[connection("shop_default")] shop: &Shop, #[secret("key")] key: &Secret) -> usize {
    shop.host.len() + key.expose().len()
}

#[allow(clippy::borrowed_box)]
#[task]
async fn other_clients(
    #[connection("shop_default")] pooled: &Pooled<Shop>,
    #[connection("shop_default")] search: &Box<dyn Search>,
    #[connection("shop_copy")] connection: &Connection,
    #[connection("shop_copy")] shop: &Shop,
) -> usize {
    pooled.0.host.len() + search.find(connection.id()) + shop.host.len()
}

#[task]
async fn reads_variables(
    #[variable("url")] url: &str,
    #[variable("url")] owned: String,
    #[variable("url")] mut shared: Cow<'static, str>,
    #[variable("limits")] limits: &Limits,
    #[variable("limits")] all: HashMap<String, u32>,
    #[variable("days")] days: &[u32],
    #[variable("days")] mut list: Vec<u32>,
    #[variable("optional")] optional: Option<u64>,
    #[variable("seconds")] r#type: &f64,
) -> usize {
    tokio::task::yield_now().await;
    shared.to_mut().push('!');
    list.reverse();
    let texts = [url, &owned, &shared].map(str::len);
    let numbers = [limits.rows as usize, all.len(), days.len(), list.len()];
    let more = optional.map_or(0, |_| 1) + usize::from(*r#type > 0.0);
    texts.iter().sum::<usize>() + numbers.iter().sum::<usize>() + more
}

#[task]
fn reads_variables_blocking(#[variable("days")] days: Vec<u32>) -> u32 {
    days.into_iter().sum()
}

#[task(cache)]
async fn cached(
    n: u32,
    #[variable("model")] model: &str,
    #[no_cache]
    #[variable("url")]
    url: &str,
    #[secret("key")] key: &Secret,
) -> usize {
    n as usize + model.len() + url.len() + key.expose().len()
}

#[task(cache = "1h", cache_key = day_of, version = "2")]
fn keyed(
    #[variable("model")] model: &str,
    n: u32,
    #[connection("shop_default")] _shop: &Shop,
    #[variable("verbose")]
    #[no_cache]
    verbose: bool,
) -> u32 {
    if verbose { n } else { n + model.len() as u32 }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn day_of(n: &u32) -> u32 {
    *n / 24
}

#[flow(connections = ["shop_default"], variables = ["batch_size", "url"], secrets = [])]
async fn declares_them() -> Result<u32> {
    Ok(keyed(reads_variables_blocking()).await?)
}

#[flow]
fn all() -> Node<String> {
    let found = takes_all_marks([Row { id: 1 }], declares_them());
    found.after([&blocks(), &other_clients(), &reads_variables(), &cached(1)])
}

/// In a macro: the name is passed on as a literal.
macro_rules! loads {
    ($task:ident, $client:ty, $name:literal) => {
        #[task]
        async fn $task(#[connection($name)] client: &$client) -> usize {
            size_of_val(client)
        }
    };
}

loads!(loads_shop, Shop, "shop_default");

#[test]
fn requirements_compile() {
    assert_eq!(all().name(), "all");
    drop(loads_shop());
}
