use std::time::Duration;

use chrono::{DateTime, Utc};
use orchestrator::prelude::*;
use orchestrator::{Connect, Postgres};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{chain, connect, refusal};
use crate::support::{self, case};

/// The server, and the file with its authority.
struct Server {
    url: String,
    authority: String,
}

impl Server {
    fn there() -> Option<Self> {
        Some(Self {
            url: support::server("ORCHESTRATOR_TEST_POSTGRES")?,
            authority: support::server("ORCHESTRATOR_TEST_POSTGRES_CA")?,
        })
    }

    fn with(&self, options: &str) -> String {
        format!("{}?{options}", self.url)
    }

    /// The URL with another host and port.
    fn at(&self, address: &str) -> String {
        let (login, place) = self.url.rsplit_once('@').unwrap();
        let (_, database) = place.split_once('/').unwrap();
        format!("{login}@{address}/{database}")
    }

    fn port(&self) -> &str {
        let (_, place) = self.url.rsplit_once(':').unwrap();
        place.split('/').next().unwrap()
    }

    fn password(&self) -> String {
        let secret = self.url.split(['@', ':']).nth(2).unwrap();
        secret
            .replace("%2F", "/")
            .replace("%40", "@")
            .replace("%23", "#")
    }
}

async fn ask<T>(shop: &Postgres, query: &str) -> Result<T>
where
    T: for<'a> orchestrator::deadpool_postgres::tokio_postgres::types::FromSql<'a>,
{
    let row = shop.get().await?.query_one(query, &[]).await?;
    Ok(row.try_get(0)?)
}

#[task]
async fn count(at_least: i64, #[context] context: &Context) -> Result<i64> {
    let shop = context.connection::<Postgres>("shop").await?;
    let client = shop.get().await?;
    let query = "SELECT count(*), now() FROM generate_series(1, 10) AS n WHERE n >= $1::int8";
    let row = client.query_one(query, &[&at_least]).await?;
    let _now: DateTime<Utc> = row.get(1);
    Ok(row.get(0))
}

#[flow]
fn counting(at_least: i64) -> Node<i64> {
    count(at_least)
}

#[tokio::test]
async fn task_asks_through_the_pool() {
    let Some(server) = Server::there() else {
        return;
    };
    let runtime = support::builder()
        .connection("shop", server.url)
        .build()
        .await
        .unwrap();
    assert_eq!(counting(3).on(&runtime).await.unwrap(), 8);
}

#[task(retries = 1)]
async fn enter(#[context] context: &Context) -> Result<u32> {
    context.connection::<Postgres>("shop").await?;
    Ok(context.attempt())
}

#[flow]
fn entering() -> Node<u32> {
    enter()
}

#[tokio::test]
async fn wrong_password_is_a_failed_attempt() {
    let Some(server) = Server::there() else {
        return;
    };
    let url = server.url.replacen("p%2Fw", "s3cret-s3cret", 1);
    let runtime = support::builder()
        .connection("shop", url)
        .build()
        .await
        .unwrap();
    let run = entering().on(&runtime).run().await.unwrap();
    let task = run.task("enter").unwrap();
    assert_eq!(task.attempts(), 2);
    let error = task.error().unwrap().to_string();
    assert!(
        error.starts_with("connection `shop` (postgres) cannot be made"),
        "{error}"
    );
    assert!(
        error.contains("password authentication failed for user \"tests\""),
        "{error}"
    );
    assert!(!error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn errors_tell_what_is_wrong_and_no_password() {
    let Some(server) = Server::there() else {
        return;
    };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_at = closed.local_addr().unwrap().to_string();
    drop(closed);
    for (url, problem) in [
        (
            server.url.replace("/postgres", "/nowhere"),
            "database \"nowhere\" does not exist",
        ),
        (
            server.url.replace("//tests:", "//nobody:"),
            "authentication failed for user \"nobody\"",
        ),
        (
            server.url.replace(&server.password_part(), ""),
            "password missing",
        ),
        (
            server.at(&closed_at),
            &*format!("at `{closed_at}/postgres`"),
        ),
        (server.at(&closed_at), "Connection refused"),
        (server.at("host.invalid:1"), "at `host.invalid:1/postgres`"),
        (
            server.with("options=-c%20nonsense%3D1"),
            "unrecognized configuration parameter",
        ),
        (
            server.with("target_session_attrs=read-only"),
            "database is not read only",
        ),
    ] {
        let _case = case(problem);
        let error = refusal::<Postgres>(&url).await;
        assert!(
            error.starts_with("cannot connect to PostgreSQL at `"),
            "{error}"
        );
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains(&server.password()), "{error}");
    }
}

impl Server {
    /// The colon and the password, as they are in the URL.
    fn password_part(&self) -> String {
        format!(":{}", self.url.split(['@', ':']).nth(2).unwrap())
    }
}

#[tokio::test]
async fn sslmode_decides_what_is_encrypted_and_checked() {
    let Some(server) = Server::there() else {
        return;
    };
    let right = format!("sslrootcert={}", server.authority);
    let other = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/library/clients/other_authority.pem"
    );
    let other = format!("sslrootcert={other}");
    let (named, address) = ("localhost", "127.0.0.1");
    let (wrong_authority, wrong_name) = ("UnknownIssuer", "not valid for name");
    for (host, mode, authority, expected) in [
        (named, "", "", Ok(true)),
        (named, "disable", "", Ok(false)),
        (named, "prefer", "", Ok(true)),
        (named, "require", "", Ok(true)),
        (named, "verify-full", &right, Ok(true)),
        (named, "verify-full", &other, Err(wrong_authority)),
        (named, "verify-full", "", Err(wrong_authority)),
        (
            named,
            "verify-full",
            "sslrootcert=system",
            Err(wrong_authority),
        ),
        (address, "verify-full", &right, Err(wrong_name)),
        (address, "verify-ca", &right, Ok(true)),
        (address, "verify-ca", &other, Err(wrong_authority)),
        (address, "require", "", Ok(true)),
        (address, "require", &right, Ok(true)),
        (address, "require", &other, Err(wrong_authority)),
        (address, "prefer", &other, Err(wrong_authority)),
        (address, "disable", &other, Ok(false)),
    ] {
        let _case = case(format!("{host} {mode} {authority}"));
        let url = server.at(&format!("{host}:{}", server.port()));
        let url = format!("{url}?sslmode={mode}&{authority}");
        match expected {
            Ok(encrypted) => {
                let shop = connect::<Postgres>(&url).await.unwrap();
                let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                assert_eq!(ask::<bool>(&shop, query).await.unwrap(), encrypted);
            }
            Err(problem) => {
                let error = refusal::<Postgres>(&url).await;
                assert!(error.contains(problem), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn connections_that_are_killed_are_replaced() {
    let Some(server) = Server::there() else {
        return;
    };
    let shop = connect::<Postgres>(&server.with("application_name=killed"))
        .await
        .unwrap();
    let other = connect::<Postgres>(&server.url).await.unwrap();
    let both = (shop.get().await.unwrap(), shop.get().await.unwrap());
    drop(both);
    let kill = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                WHERE application_name = 'killed'";
    assert_eq!(ask::<i64>(&other, kill).await.unwrap(), 2);
    // at once: the pool may not have noticed
    assert_eq!(ask::<i32>(&shop, "SELECT 7").await.unwrap(), 7);
    assert_eq!(ask::<i64>(&other, kill).await.unwrap(), 1);
    shop.check().await.unwrap();
}

#[tokio::test]
async fn what_a_task_leaves_in_a_connection_is_gone() {
    let Some(server) = Server::there() else {
        return;
    };
    let shop = connect::<Postgres>(&server.with("pool_size=1"))
        .await
        .unwrap();
    let backend = "SELECT pg_backend_pid()";
    let before: i32 = ask(&shop, backend).await.unwrap();
    let client = shop.get().await.unwrap();
    let leave =
        "SET search_path = nowhere; CREATE TEMP TABLE leftover (); SELECT pg_advisory_lock(7)";
    client.batch_execute(leave).await.unwrap();
    drop(client);
    let rest = "SELECT current_setting('search_path') || coalesce(to_regclass('leftover')::text, '') || \
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
    assert_eq!(
        ask::<String>(&shop, rest).await.unwrap(),
        "\"$user\", public0"
    );
    assert_eq!(ask::<i32>(&shop, backend).await.unwrap(), before);
}

#[tokio::test]
async fn pool_and_program_are_as_the_options_say() {
    let Some(server) = Server::there() else {
        return;
    };
    let name = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let shop = connect::<Postgres>(&server.url).await.unwrap();
    assert_eq!(shop.status().max_size, 4);
    assert!(
        ask::<String>(&shop, name)
            .await
            .unwrap()
            .starts_with("library")
    );
    let options = "pool_size=2&application_name=etl&options=-c%20statement_timeout%3D5min";
    let shop = connect::<Postgres>(&server.with(options)).await.unwrap();
    assert_eq!(shop.status().max_size, 2);
    assert_eq!(ask::<String>(&shop, name).await.unwrap(), "etl");
    let timeout: String = ask(&shop, "SELECT current_setting('statement_timeout')")
        .await
        .unwrap();
    assert_eq!(timeout, "5min");
    let debug = format!("{shop:?} {:?}", *shop);
    assert!(!debug.contains(&server.password()), "{debug}");
}

#[cfg(unix)]
#[tokio::test]
async fn host_may_be_a_socket_or_one_of_several() {
    let Some(server) = Server::there() else {
        return;
    };
    let shop = connect::<Postgres>(&server.url).await.unwrap();
    let query = "SELECT current_setting('unix_socket_directories')";
    let folder: String = ask(&shop, query).await.unwrap();
    let folder = folder.replace('/', "%2F");
    let socket = server.at(&format!("{folder}:{}", server.port()));
    // nothing listens at the first address
    let several = server.at(&format!("127.0.0.2,localhost:{}", server.port()));
    for (url, is_socket) in [(socket, true), (several, false)] {
        let shop = connect::<Postgres>(&format!("{url}?sslmode=require"))
            .await
            .unwrap();
        let query = "SELECT inet_client_addr() IS NULL";
        assert_eq!(ask::<bool>(&shop, query).await.unwrap(), is_socket);
    }
}

/// Passes what is sent to it on to another address, until it is told to be silent, or is dropped.
struct Proxy {
    address: String,
    accepting: JoinHandle<()>,
    silent: tokio::sync::watch::Sender<bool>,
}

impl Proxy {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (silent, is_silent) = tokio::sync::watch::channel(false);
        let accepting = tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let (target, mut is_silent) = (target.clone(), is_silent.clone());
                passing.spawn(async move {
                    let mut to = TcpStream::connect(target).await.unwrap();
                    let silence = async move {
                        let _ = is_silent.wait_for(|silent| *silent).await;
                    };
                    tokio::select! {
                        biased;
                        () = silence => std::future::pending().await,
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    }
                });
            }
        });
        Self {
            address,
            accepting,
            silent,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[tokio::test]
async fn server_that_is_gone_or_silent_fails_the_check() {
    let Some(server) = Server::there() else {
        return;
    };
    for is_silent in [true, false] {
        let _case = case(if is_silent { "silent" } else { "gone" });
        let proxy = Proxy::to(format!("127.0.0.1:{}", server.port())).await;
        let url = format!("{}?connect_timeout=500ms", server.at(&proxy.address));
        let shop = connect::<Postgres>(&url).await.unwrap();
        shop.check().await.unwrap();
        let expected = if is_silent {
            proxy.silent.send_replace(true);
            "no answer within 500ms (option `connect_timeout`)"
        } else {
            drop(proxy);
            // the task that is aborted lets go of its sockets when it is next polled
            tokio::task::yield_now().await;
            "error connecting to server: Connection refused"
        };
        let checked = tokio::time::timeout(Duration::from_secs(30), shop.check()).await;
        let error = chain(&*checked.unwrap().unwrap_err());
        assert!(error.starts_with(expected), "{error}");
        if is_silent {
            let error = refusal::<Postgres>(&url).await;
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[tokio::test]
async fn check_does_not_wait_for_connections_in_use() {
    let Some(server) = Server::there() else {
        return;
    };
    let shop = connect::<Postgres>(&server.with("pool_size=1"))
        .await
        .unwrap();
    let used = shop.get().await.unwrap();
    shop.check().await.unwrap();
    drop(used);
    shop.check().await.unwrap();
}
