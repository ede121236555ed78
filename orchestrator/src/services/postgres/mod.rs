//! Connections to PostgreSQL.

mod sslmode;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use deadpool_postgres::tokio_postgres::{Config, NoTls};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
    Timeouts,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::Options;
use crate::connection::Connection;
use crate::definition::Connect;
use crate::error::{BoxError, Result, TaskError, fatal};

/// The options that are known.
const OPTIONS: [&str; 13] = [
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "pool_size",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    // written by Airflow's pages; it does not change anything
    "client_encoding",
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(60);
const POOL_SIZE: u32 = 4;

/// A pool of connections to PostgreSQL, made of a connection of the kind `postgres` or `postgresql`.
///
/// It derefs to [`deadpool_postgres::Pool`](crate::deadpool_postgres::Pool), whose `get` hands out a
/// connection: a `tokio_postgres::Client`, which returns to the pool when it is dropped.
///
/// # Examples
///
/// ```no_run
/// use orchestrator::Postgres;
/// use orchestrator::prelude::*;
///
/// #[task(retries = 3, retry_delay = "60s")]
/// async fn count(region: String, #[context] context: &Context) -> Result<i64> {
///     let shop = context.connection::<Postgres>("postgres_default").await?;
///     let row = shop
///         .get()
///         .await?
///         .query_one("SELECT count(*) FROM customers WHERE region = $1", &[&region])
///         .await?;
///     Ok(row.get(0))
/// }
/// ```
///
/// with the environment variable
/// `ORCHESTRATOR_CONN_POSTGRES_DEFAULT=postgres://loader:p%2Fw@db.example:5432/shop?sslmode=verify-full`.
///
/// # Parts of the connection
///
/// | part | meaning | default |
/// | --- | --- | --- |
/// | host | a name or an address; several, separated by commas, are tried in their order; the folder of a Unix socket (`postgres://%2Fvar%2Frun%2Fpostgresql/shop`) | `localhost` |
/// | port | of all hosts | 5432 |
/// | login | the name of the role | the user of the process |
/// | password | a text | none |
/// | path | the name of the database | the login |
///
/// # Options
///
/// They mean what they mean to libpq, except as noted. Times are in seconds, or have a unit (`10s`). An
/// unknown option is an error.
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `sslmode` | see below | `prefer` |
/// | `sslrootcert` | a file, in PEM, with the certificates of the authorities to trust, and no others; `system`: those of the system (`verify-full` only) | see below |
/// | `application_name` | the name that `pg_stat_activity` shows | the name of the program's file |
/// | `pool_size` | how many connections there are at most, from 1 to 1000; this is not one of libpq's | 4 |
/// | `connect_timeout` | how long connecting to one host may take, with the log-in; also, how long a used connection may take to answer before it is replaced; at most a day | 10 s |
/// | `options` | settings of each session: `-c statement_timeout=5min` | none |
/// | `target_session_attrs` | the hosts that do: `any`, `read-write`, `read-only` | `any` |
/// | `keepalives` | whether TCP asks for signs of life (`0`, `1`) | `1` |
/// | `keepalives_idle`, `keepalives_interval`, `keepalives_count` | after how long without data, how often, and how many without an answer end the connection | 60 s (not the system's), and the system's |
/// | `tcp_user_timeout` | how long data may stay without an acknowledgement; in milliseconds, if it has no unit | the system's |
/// | `client_encoding` | `utf8` or `auto`: texts are always UTF-8 | |
///
/// `sslmode` decides what is encrypted, and what is checked of the server's certificate:
///
/// | `sslmode` | encrypted | checked without `sslrootcert` | checked with it |
/// | --- | --- | --- | --- |
/// | `disable` | no | | |
/// | `prefer` | if the server can | nothing | the chain |
/// | `require` | yes | nothing | the chain |
/// | `verify-ca` | yes | (an error) | the chain |
/// | `verify-full` | yes | the chain up to an authority of the system, and the name | the chain and the name |
///
/// The chain: the certificate is signed by one of the trusted authorities. The name: the host is one of
/// the names in the certificate (its alternative names: the common name is ignored). `prefer` and
/// `require` without `sslrootcert` protect from those that only listen; `verify-full` alone protects
/// from a server that says it is another. `allow` is refused. Unlike libpq, `prefer` does not try again
/// without TLS if TLS fails, `verify-full` trusts the system's authorities if there is no
/// `sslrootcert`, and no file in the home folder is read. Connections through a Unix socket are not
/// encrypted.
///
/// # Failures
///
/// Making the client opens one connection, so that a wrong password is a failed attempt with that
/// error, and is retried as the task says. A connection or option that is invalid fails the task at
/// once.
///
/// A connection is checked, and reset, each time it is handed out: settings, temporary tables, advisory
/// locks, cursors and `LISTEN`s of the task before are gone (`RecyclingMethod::Clean`). One that does
/// not answer is replaced, so that a restart of the server fails only what was under way. Write
/// transactions with `transaction()`, which rolls back when it is dropped: a `BEGIN` that was sent as a
/// statement stays open.
///
/// `get` waits for as long as all connections are in use; the task's own timeout ends that. Do not
/// keep a connection while getting another one: four tasks that do so can wait for each other.
///
/// [`check`](Connect::check) takes a connection and sends `SELECT 1`; it succeeds without having asked
/// if all connections are in use.
///
/// After a failover to another of its hosts, connections to the former primary may stay open, and
/// refuse to write: with `target_session_attrs=read-write`, return
/// [`reconnect`](crate::reconnect)`(error)` for such an error.
pub struct Postgres {
    pool: Pool,
    timeout: Duration,
}

impl Connect for Postgres {
    const KINDS: &'static [&'static str] = &["postgres", "postgresql"];

    async fn connect(connection: &Connection) -> Result<Self> {
        let options = Options::of(connection, &OPTIONS)?;
        let timeout = options
            .duration("connect_timeout")?
            .unwrap_or(CONNECT_TIMEOUT);
        let size = options.number("pool_size", 1, 1000)?.unwrap_or(POOL_SIZE);
        let mut config = config(connection, &options)?;
        config.connect_timeout(timeout);
        let hosts = config.get_hosts().len().try_into().unwrap_or(u32::MAX);
        let postgres = Self {
            pool: Pool::builder(manager(config, &options)?)
                .max_size(size as usize)
                .runtime(Runtime::Tokio1)
                .create_timeout(Some(timeout.saturating_mul(hosts)))
                .recycle_timeout(Some(timeout))
                .build()?,
            timeout,
        };
        match postgres.pool.get().await {
            Ok(_) => Ok(postgres),
            Err(source) => Err(Box::new(ConnectError {
                place: place(connection),
                source: cause(source, timeout.saturating_mul(hosts)),
            })),
        }
    }

    async fn check(&self) -> Result<()> {
        let at_once = Timeouts {
            wait: Some(Duration::ZERO),
            ..self.pool.timeouts()
        };
        let client = match self.pool.timeout_get(&at_once).await {
            Ok(client) => client,
            // connections in use are not those of a client that has to be replaced
            Err(PoolError::Timeout(TimeoutType::Wait)) => return Ok(()),
            Err(error) => return Err(cause(error, self.timeout)),
        };
        match tokio::time::timeout(self.timeout, client.simple_query("SELECT 1")).await {
            Ok(answer) => answer.map(drop).map_err(Into::into),
            Err(_) => {
                // another task would wait for the same answer
                drop(Object::take(client));
                Err(no_answer(self.timeout))
            }
        }
    }
}

impl Deref for Postgres {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.pool
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("status", &self.pool.status())
            .finish_non_exhaustive()
    }
}

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to PostgreSQL at {place}")]
struct ConnectError {
    place: String,
    source: BoxError,
}

/// Returns where the server is, for errors.
fn place(connection: &Connection) -> String {
    let host = connection.host().unwrap_or("localhost");
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let port = connection.port().unwrap_or(5432);
    let database = connection.path().map(|path| format!("/{path}"));
    format!("`{host}:{port}{}`", database.unwrap_or_default())
}

/// Returns the cause of a pool's error, without the words of the pool.
fn cause(error: PoolError, timeout: Duration) -> BoxError {
    match error {
        PoolError::Backend(error) => error.into(),
        PoolError::Timeout(_) => no_answer(timeout),
        error => error.into(),
    }
}

fn no_answer(timeout: Duration) -> BoxError {
    let timeout = humantime::format_duration(timeout);
    format!("no answer within {timeout} (option `connect_timeout`)").into()
}

fn manager(mut config: Config, options: &Options<'_>) -> Result<Manager> {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Clean,
    };
    let (mode, tls) = sslmode::read(options)?;
    // as libpq: there is no TLS on a Unix socket, whatever the mode
    let tls = tls.filter(|_| !has_sockets_alone(&config));
    Ok(match tls {
        Some(tls) => {
            config.ssl_mode(mode);
            Manager::from_config(config, MakeRustlsConnect::new(tls), recycling)
        }
        None => {
            config.ssl_mode(SslMode::Disable);
            Manager::from_config(config, NoTls, recycling)
        }
    })
}

fn has_sockets_alone(config: &Config) -> bool {
    config
        .get_hosts()
        .iter()
        .all(|host| !matches!(host, Host::Tcp(_)))
}

fn config(connection: &Connection, options: &Options<'_>) -> Result<Config, TaskError> {
    let mut config = Config::new();
    for host in connection.host().unwrap_or("localhost").split(',') {
        match host.trim() {
            "" => {
                return Err(fatal(
                    "expected hosts separated by commas, got an empty one",
                ));
            }
            host if host.contains("://") => {
                return Err(fatal("expected a host, got a URL: the kind is `postgres`"));
            }
            host => config.host(host),
        };
    }
    config.port(connection.port().unwrap_or(5432));
    if let Some(login) = connection.login() {
        config.user(login);
    }
    if let Some(password) = connection.password() {
        config.password(password.expose());
    }
    if let Some(database) = connection.path() {
        config.dbname(database);
    }
    match options.text("application_name") {
        Some(name) => config.application_name(name),
        None => config.application_name(program()),
    };
    if let Some(settings) = options.text("options") {
        config.options(settings);
    }
    if let Some(encoding) = options.text("client_encoding") {
        let is_utf8 = ["utf8", "utf-8", "unicode", "auto"].contains(&&*encoding.to_lowercase());
        if !is_utf8 {
            return Err(options.invalid("client_encoding", "`utf8`, or not to be there"));
        }
    }
    match options.text("target_session_attrs") {
        None | Some("any") => {}
        Some("read-write") => drop(config.target_session_attrs(TargetSessionAttrs::ReadWrite)),
        Some("read-only") => drop(config.target_session_attrs(TargetSessionAttrs::ReadOnly)),
        Some(_) => {
            let known = "`any`, `read-write` or `read-only`";
            return Err(options.invalid("target_session_attrs", known));
        }
    }
    signs_of_life(&mut config, options)?;
    Ok(config)
}

/// Lets the system notice that a server is gone without a word, such as by a failed machine.
fn signs_of_life(config: &mut Config, options: &Options<'_>) -> Result<(), TaskError> {
    config.keepalives(options.switch("keepalives")?.unwrap_or(true));
    config.keepalives_idle(
        options
            .duration("keepalives_idle")?
            .unwrap_or(KEEPALIVES_IDLE),
    );
    if let Some(interval) = options.duration("keepalives_interval")? {
        config.keepalives_interval(interval);
    }
    if let Some(count) = options.number("keepalives_count", 1, 127)? {
        config.keepalives_retries(count);
    }
    let milliseconds = options.text("tcp_user_timeout").map(str::parse);
    let timeout = match milliseconds {
        Some(Ok(milliseconds)) => Some(Duration::from_millis(milliseconds)),
        _ => options.duration("tcp_user_timeout")?,
    };
    if let Some(timeout) = timeout {
        config.tcp_user_timeout(timeout);
    }
    Ok(())
}

/// Returns the name of the program's file.
fn program() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|program| program.file_stem());
    let name = name.and_then(|name| name.to_str());
    name.unwrap_or("orchestrator").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Config, TaskError> {
        let shop = Connection::parse("shop", url).unwrap();
        config(&shop, &Options::of(&shop, &OPTIONS)?)
    }

    #[test]
    fn parts_and_options_reach_the_server() {
        let config = read(
            "postgresql://loader:p%2Fw@db1,db2:5433/shop?application_name=etl&options=-c%20a%3Db&\
             target_session_attrs=read-write&keepalives=0&keepalives_idle=5&tcp_user_timeout=1500",
        )
        .unwrap();
        let hosts = ["db1", "db2"].map(|host| Host::Tcp(host.to_owned()));
        assert_eq!(config.get_hosts(), hosts);
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_user(), Some("loader"));
        assert_eq!(config.get_password(), Some(b"p/w".as_slice()));
        assert_eq!(config.get_dbname(), Some("shop"));
        assert_eq!(config.get_application_name(), Some("etl"));
        assert_eq!(config.get_options(), Some("-c a=b"));
        assert_eq!(
            config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
        assert!(!config.get_keepalives());
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(5));
        let timeout = Duration::from_millis(1500);
        assert_eq!(config.get_tcp_user_timeout(), Some(&timeout));
    }

    #[test]
    fn what_is_not_given_has_defaults() {
        let config = read("postgres://").unwrap();
        assert_eq!(config.get_ports(), [5432]);
        assert_eq!((config.get_user(), config.get_password()), (None, None));
        assert_eq!(config.get_dbname(), None);
        assert!(
            config
                .get_application_name()
                .unwrap()
                .starts_with("orchestrator")
        );
        assert!(config.get_keepalives());
        assert!(!has_sockets_alone(&config));
    }

    #[cfg(unix)]
    #[test]
    fn host_that_is_a_path_is_a_unix_socket() {
        assert!(has_sockets_alone(
            &read("postgres://%2Fvar%2Frun%2Fpostgresql/shop").unwrap()
        ));
        assert!(!has_sockets_alone(
            &read("postgres://%2Frun,db/shop").unwrap()
        ));
    }

    #[test]
    fn what_cannot_be_meant_is_fatal() {
        for (url, problem) in [
            (
                "postgres://db/shop?sslmod=disable",
                "did you mean `sslmode`?",
            ),
            ("postgres://db1,,db2/shop", "got an empty one"),
            ("postgres://https%3A%2F%2Fdb/shop", "got a URL"),
            (
                "postgres://db?target_session_attrs=primary",
                "`any`, `read-write` or `read-only`",
            ),
            ("postgres://db?client_encoding=latin1", "to be `utf8`"),
        ] {
            let error = read(url).unwrap_err();
            assert!(
                error.is_fatal() && error.to_string().contains(problem),
                "{error}"
            );
        }
    }
}
