//! The buckets of S3, and of services that speak its protocol.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions, ObjectStore as _, RetryConfig};
use parking_lot::Mutex;
use reqwest::Url;
use rustls::ClientConfig;
use serde_json::Value;

use super::options::Options;
use super::tls;
use crate::connection::Connection;
use crate::definition::Connect;
use crate::error::{Result, TaskError, fatal};

/// The options that are known.
const OPTIONS: [&str; 12] = [
    "addressing_style",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "bucket_name",
    "config_kwargs",
    "connect_timeout",
    "endpoint_url",
    "read_timeout",
    "region_name",
    "service_config",
    "verify",
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request may be tried again. Longer outages are for the retries of the task.
const RETRIES: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.,
    },
    max_retries: 5,
    retry_timeout: Duration::from_secs(60),
};

const CONNECT: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout);
const READ: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout);

/// The prefix that is listed by a check. It finds nothing, at little cost.
const NOTHING: &str = ".orchestrator-check";

/// The buckets of S3, or of a service that speaks its protocol, made of a connection of the kind `aws` or
/// `s3`.
///
/// [`bucket`](Self::bucket) gives a bucket: an `object_store` with all that it can do.
///
/// # Examples
///
/// ```no_run
/// use orchestrator::S3;
/// use orchestrator::object_store::ObjectStoreExt;
/// use orchestrator::object_store::path::Path;
/// use orchestrator::prelude::*;
///
/// #[task(retries = 3, retry_delay = "60s")]
/// async fn store(report: String, #[context] context: &Context) -> Result<()> {
///     let lake = context.connection::<S3>("aws_default").await?;
///     let bucket = lake.bucket("data-pipeline")?;
///     bucket.put(&Path::from("reports/today.txt"), report.into()).await?;
///     Ok(())
/// }
/// ```
///
/// with the environment variable
/// `ORCHESTRATOR_CONN_AWS_DEFAULT=aws://AKIA…:s%2Fcret@/?region_name=eu-central-1`.
///
/// # Parts of the connection
///
/// The login is the id of the access key, and the password its secret. Without them, credentials are
/// taken from the environment, as `object_store` does: `AWS_ACCESS_KEY_ID` and the like, the
/// role of the container or of the machine; then, other `AWS_…` variables that it reads count too. Host,
/// port and path have to be empty: the name of the endpoint is an option.
///
/// # Options
///
/// The names are those of Airflow. An unknown option is an error, and so are those that would change as
/// whom the service is asked, and that are not supported, such as `role_arn` and `profile_name`.
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `region_name` | the region | `AWS_REGION`, `AWS_DEFAULT_REGION`, `us-east-1` |
/// | `endpoint_url` | the URL of another service than that of AWS; not encrypted if it begins with `http:` | that of the region |
/// | `addressing_style` | `path`: the bucket is in the path; `virtual`: in the name of the host | `path` |
/// | `aws_session_token` | the token of temporary credentials | none |
/// | `aws_access_key_id`, `aws_secret_access_key` | instead of login and password | |
/// | `bucket_name` | the bucket that [`check`](Connect::check) asks for, and that [`bucket_name`](S3::bucket_name) returns | none |
/// | `connect_timeout` | how long connecting may take, in seconds or with a unit (`10s`); at most a day | 10 s |
/// | `read_timeout` | how long the service may be silent: from the request (with what it uploads) to the answer, and between two parts of the answer | 60 s |
/// | `verify` | `true`, or a file, in PEM, with the certificates of the authorities to trust, and no others; not checking is not supported | `true`: the authorities of the system |
/// | `service_config` | of this JSON object, `s3.endpoint_url` and `s3.bucket_name` are read, unless they are options | |
/// | `config_kwargs` | of this JSON object, `s3.addressing_style` is read, unless it is an option; the rest tunes another library, and is ignored | |
///
/// # Failures
///
/// Making the client connects to nothing. A connection or option that is invalid fails the task at once.
/// A request that fails is sent again up to five times within a minute, if that can help; then it is a
/// failed attempt.
///
/// [`check`](Connect::check) lists nothing of `bucket_name`, which needs `s3:ListBucket`. Without that
/// option, nothing is checked: S3 has no cheap request that any credentials may make.
pub struct S3 {
    builder: AmazonS3Builder,
    endpoint: Option<Url>,
    is_virtual: bool,
    bucket_name: Option<String>,
    /// Those that were asked for: they share credentials and open connections.
    buckets: Mutex<BTreeMap<String, Arc<AmazonS3>>>,
}

impl Connect for S3 {
    const KINDS: &'static [&'static str] = &["aws", "s3"];

    async fn connect(connection: &Connection) -> Result<Self> {
        if let Some(unsupported) = connection.options().find(|name| is_unsupported(name)) {
            return Err(fatal(format!(
                "option `{unsupported}` is not supported: give the keys as login and password, or take \
                 them from the environment, without a login"
            ))
            .into());
        }
        let options = Options::of(connection, &OPTIONS)?;
        let s3 = Self {
            endpoint: endpoint(&options)?,
            is_virtual: is_virtual(&options)?,
            bucket_name: setting(&options, "bucket_name", "service_config")?,
            builder: builder(connection, &options)?,
            buckets: Mutex::default(),
        };
        if let Some(bucket) = &s3.bucket_name {
            s3.bucket(bucket)?;
        }
        Ok(s3)
    }

    async fn check(&self) -> Result<()> {
        let Some(bucket) = &self.bucket_name else {
            return Ok(());
        };
        let bucket = self.bucket(bucket)?;
        let mut found = bucket.list(Some(&NOTHING.into()));
        match found.next().await {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

impl S3 {
    /// Returns a bucket. It is made when it is first asked for; nothing is sent.
    ///
    /// # Errors
    ///
    /// Returns an error if the name cannot be that of a bucket: 3 to 63 letters, digits, dots, hyphens and
    /// underscores. It is [`fatal`](crate::fatal).
    pub fn bucket(&self, name: &str) -> Result<Arc<AmazonS3>, TaskError> {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let is_name = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if !(3..=63).contains(&name.len()) || !name.bytes().all(is_name) || name.contains("..") {
            return Err(fatal(format!(
                "expected the name of a bucket to be 3 to 63 letters, digits, dots, hyphens and \
                 underscores, got `{name}`"
            )));
        }
        let mut builder = self.builder.clone().with_bucket_name(name);
        if let Some(endpoint) = &self.endpoint {
            let url = self.endpoint_of(name, endpoint);
            // both: one of the environment would be preferred to the other
            builder = builder
                .with_endpoint(&url)
                .with_config(AmazonS3ConfigKey::S3Endpoint, &url)
                .with_allow_http(endpoint.scheme() == "http");
        }
        if self.is_virtual {
            builder = builder.with_virtual_hosted_style_request(true);
        }
        let bucket = Arc::new(builder.build().map_err(fatal)?);
        buckets.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Returns the option `bucket_name`.
    pub fn bucket_name(&self) -> Option<&str> {
        self.bucket_name.as_deref()
    }

    /// Returns the endpoint of a bucket: `object_store` expects the bucket in the host of one that is
    /// virtual.
    fn endpoint_of(&self, bucket: &str, endpoint: &Url) -> String {
        let mut endpoint = endpoint.clone();
        if self.is_virtual {
            let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
            // a host that is an address takes no bucket, and is refused when the options are read
            let _ = endpoint.set_host(Some(&host));
        }
        endpoint.as_str().trim_end_matches('/').to_owned()
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // without the builder, which has the keys
        f.debug_struct("S3")
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("bucket_name", &self.bucket_name)
            .finish_non_exhaustive()
    }
}

/// Returns `true` if an option of Airflow would change as whom the service is asked.
fn is_unsupported(name: &str) -> bool {
    let prefixes = [
        "assume_role",
        "role_",
        "session_kwargs",
        "external_id",
        "profile_name",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn builder(connection: &Connection, options: &Options<'_>) -> Result<AmazonS3Builder> {
    if connection.host().is_some() || connection.port().is_some() || connection.path().is_some() {
        return Err(fatal(
            "expected neither host, port nor path: the service is the option `endpoint_url`, and the \
             bucket is named in the task, as in `aws://key:secret@/?endpoint_url=…`",
        )
        .into());
    }
    let login = connection.login();
    let password = connection.password().map(|password| password.expose());
    let key = one(login, options.text("aws_access_key_id"), "the login")?;
    let secret = one(
        password,
        options.text("aws_secret_access_key"),
        "the password",
    )?;
    let builder = match (key, secret) {
        (Some(key), Some(secret)) => from_environment(&["aws_region", "aws_default_region"])
            .with_access_key_id(key)
            .with_secret_access_key(secret),
        (None, None) => from_environment(&[]),
        _ => {
            return Err(fatal(
                "expected the id of the key as login and its secret as password, got one of them",
            )
            .into());
        }
    };
    let builder = match options.text("aws_session_token") {
        Some(token) if key.is_some() => builder.with_token(token),
        Some(_) => {
            return Err(fatal("expected a login and a password with `aws_session_token`").into());
        }
        None => builder,
    };
    let builder = match options.text("region_name") {
        Some(region) => builder.with_region(region),
        None => builder,
    };
    let timeout = |name, or: Duration| -> Result<String, TaskError> {
        let timeout = options.duration(name)?.unwrap_or(or);
        Ok(humantime::format_duration(timeout).to_string())
    };
    let tls = certificates(options)?;
    Ok(builder
        .with_retry(RETRIES)
        .with_config(CONNECT, timeout("connect_timeout", CONNECT_TIMEOUT)?)
        .with_config(READ, timeout("read_timeout", READ_TIMEOUT)?)
        .with_http_connector(Connector(tls)))
}

/// Returns a builder with the `AWS_…` variables of the environment, or with some of them.
fn from_environment(some: &[&str]) -> AmazonS3Builder {
    if some.is_empty() {
        return AmazonS3Builder::from_env();
    }
    let variables = some.iter().filter_map(|name| {
        let value = std::env::var(name.to_ascii_uppercase()).ok()?;
        Some((name.parse::<AmazonS3ConfigKey>().ok()?, value))
    });
    variables.fold(AmazonS3Builder::new(), |builder, (key, value)| {
        builder.with_config(key, value)
    })
}

/// Returns what is given as a part of the connection, or as an option.
fn one<'a>(
    part: Option<&'a str>,
    option: Option<&'a str>,
    part_name: &str,
) -> Result<Option<&'a str>, TaskError> {
    match (part, option) {
        (Some(_), Some(_)) => Err(fatal(format!(
            "expected the access key either as login and password or as options, got {part_name} and \
             its option"
        ))),
        (part, option) => Ok(part.or(option)),
    }
}

/// Returns an option, or the setting of that name for S3 in a JSON object that is an option.
fn setting(options: &Options<'_>, name: &str, object: &str) -> Result<Option<String>, TaskError> {
    if let Some(text) = options.text(name) {
        return Ok(Some(text.to_owned()));
    }
    let Some(text) = options.text(object) else {
        return Ok(None);
    };
    let read = serde_json::from_str::<Value>(text);
    let object_of = read.ok().filter(Value::is_object);
    let settings = object_of
        .ok_or_else(|| fatal(format!("expected option `{object}` to be a JSON object")))?;
    let setting = settings.pointer(&format!("/s3/{name}"));
    Ok(setting.and_then(Value::as_str).map(str::to_owned))
}

fn endpoint(options: &Options<'_>) -> Result<Option<Url>, TaskError> {
    let Some(text) = setting(options, "endpoint_url", "service_config")? else {
        return Ok(None);
    };
    let url = Url::parse(&text).ok().filter(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    // the text is not shown: it may have a login
    url.map(Some).ok_or_else(|| {
        fatal(
            "expected `endpoint_url` to be the URL of a host, such as `https://minio.example:9000`, \
             without a login and a query",
        )
    })
}

fn is_virtual(options: &Options<'_>) -> Result<bool, TaskError> {
    match setting(options, "addressing_style", "config_kwargs")?.as_deref() {
        None | Some("path" | "auto") => Ok(false),
        Some("virtual") => match endpoint(options)? {
            Some(url) if url.domain().is_none() => Err(fatal(
                "expected `addressing_style=path` with an `endpoint_url` whose host is an address",
            )),
            _ => Ok(true),
        },
        Some(_) => Err(fatal(
            "expected `addressing_style` to be `path` or `virtual`",
        )),
    }
}

fn certificates(options: &Options<'_>) -> Result<ClientConfig> {
    let is_plain = endpoint(options)?.is_some_and(|url| url.scheme() == "http");
    let roots = options.certificates("verify")?;
    match is_plain {
        true => tls::config_for_plain(roots),
        false => tls::config(roots),
    }
}

/// Makes clients with the TLS of the library. Their own default would be that of the process, which the
/// program may not have.
#[derive(Debug)]
struct Connector(ClientConfig);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let value = |key| options.get_config_value(&key).unwrap_or_default();
        let timeout = |key| humantime::parse_duration(&value(key));
        // services of machines, where credentials come from, are asked without TLS, and in less time
        let allows_plain = value(ClientConfigKey::AllowHttp) == "true";
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.0.clone())
            .https_only(!allows_plain)
            .connect_timeout(timeout(ClientConfigKey::ConnectTimeout).unwrap_or(CONNECT_TIMEOUT))
            .read_timeout(timeout(ClientConfigKey::ReadTimeout).unwrap_or(READ_TIMEOUT))
            .user_agent(concat!("orchestrator/", env!("CARGO_PKG_VERSION")))
            .build();
        client
            .map(HttpClient::new)
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: error.into(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect(text: &str) -> Result<S3, String> {
        let lake = Connection::parse("lake", text).unwrap();
        let made = S3::connect(&lake).await;
        made.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn endpoint_has_the_bucket_in_its_path_or_in_its_host() {
        for (options, expected) in [
            ("", None),
            ("endpoint_url=http://minio:9000", Some("http://minio:9000")),
            (
                "endpoint_url=https://minio.example/s3/",
                Some("https://minio.example/s3"),
            ),
            (
                "endpoint_url=http://minio:9000&addressing_style=virtual",
                Some("http://lake.minio:9000"),
            ),
            (
                "config_kwargs={\"s3\":{\"addressing_style\":\"virtual\"}}\
                 &service_config={\"s3\":{\"endpoint_url\":\"https://minio\"}}",
                Some("https://lake.minio"),
            ),
        ] {
            let s3 = connect(&format!("aws://AKIA:secret@/?{options}"))
                .await
                .unwrap();
            let endpoint = s3.endpoint.as_ref().map(|url| s3.endpoint_of("lake", url));
            assert_eq!(endpoint.as_deref(), expected, "{options}");
            s3.bucket("lake").unwrap();
        }
    }

    #[tokio::test]
    async fn bucket_is_made_once_and_its_name_is_checked() {
        let s3 = connect("s3://AKIA:secret@/?bucket_name=lake")
            .await
            .unwrap();
        assert_eq!(s3.bucket_name(), Some("lake"));
        assert!(Arc::ptr_eq(
            &s3.bucket("lake").unwrap(),
            &s3.bucket("lake").unwrap()
        ));
        for name in ["", "ab", "a/b", "a..b", "a?b", &"a".repeat(64)] {
            let error = s3.bucket(name).unwrap_err();
            assert!(error.is_fatal(), "{error}");
        }
        assert!(!format!("{s3:?}").contains("secret"));
        let bucket = s3.bucket("lake").unwrap();
        assert!(!format!("{bucket:?}").contains("\"secret"), "{bucket:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_refused_without_a_secret() {
        for (text, problem) in [
            (
                "aws://AKIA:s3cret@minio:9000/",
                "expected neither host, port nor path",
            ),
            (
                "aws://AKIA:s3cret@/lake",
                "expected neither host, port nor path",
            ),
            ("aws://AKIA@/", "got one of them"),
            (
                "aws://AKIA:s3cret@/?aws_access_key_id=AKIB",
                "got the login and its option",
            ),
            (
                "aws://?aws_session_token=s3cret",
                "expected a login and a password",
            ),
            (
                "aws://AKIA:s3cret@/?role_arn=x",
                "option `role_arn` is not supported",
            ),
            (
                "aws://AKIA:s3cret@/?region=x",
                "did you mean `region_name`?",
            ),
            (
                "aws://AKIA:s3cret@/?endpoint_url=minio:9000",
                "such as `https://minio.example:9000`",
            ),
            (
                "aws://AKIA:s3cret@/?endpoint_url=http://a:s3cret@minio",
                "without a login",
            ),
            (
                "aws://AKIA:s3cret@/?addressing_style=other",
                "`path` or `virtual`",
            ),
            (
                "aws://AKIA:s3cret@/?addressing_style=virtual&endpoint_url=http://10.0.0.1:9000",
                "expected `addressing_style=path`",
            ),
            (
                "aws://AKIA:s3cret@/?service_config=s3cret",
                "`service_config` to be a JSON object",
            ),
            (
                "aws://AKIA:s3cret@/?verify=false",
                "`true`, or a file in PEM",
            ),
            (
                "aws://AKIA:s3cret@/?bucket_name=a/b",
                "expected the name of a bucket",
            ),
        ] {
            let error = connect(text).await.unwrap_err();
            assert!(
                error.contains(problem) && !error.contains("s3cret"),
                "{text}: {error}"
            );
        }
    }
}
