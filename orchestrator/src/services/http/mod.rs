//! Requests to a service that speaks HTTP.

mod status;

use std::fmt;
use std::time::Duration;

use orchestrator_grammar::similar::nearest;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, RequestBuilder, Response, Url};

use super::options::Options;
use super::tls;
use crate::connection::Connection;
use crate::definition::Connect;
use crate::error::{Result, TaskError, fatal};
use crate::secret::Secret;

pub use status::{StatusError, error_for_status};

/// The options that are not headers.
const OPTIONS: [&str; 7] = [
    "allow_redirects",
    "connect_timeout",
    "max_redirects",
    "stream",
    "timeout",
    "trust_env",
    "verify",
];

/// Options of Airflow that are not supported, and what to do instead.
const REFUSED: [(&str, &str); 6] = [
    ("bearer", "give the token as the password, without a login"),
    ("cert", "certificates of clients are not supported"),
    (
        "check_response",
        "`send` checks, and `RequestBuilder::send` does not",
    ),
    (
        "proxies",
        "set `HTTPS_PROXY` and `NO_PROXY` in the environment",
    ),
    (
        "proxy",
        "set `HTTPS_PROXY` and `NO_PROXY` in the environment",
    ),
    ("token", "give the token as the password, without a login"),
];

/// Headers that a redirect to another host may take along, or that are taken off by reqwest.
const HARMLESS: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::USER_AGENT,
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS: u32 = 10;

/// A client for requests below a base URL, made of a connection of the kind `http` or `https`.
///
/// [`get`](Self::get), [`post`](Self::post) and the like begin a request with the credentials of the
/// connection, as a [`reqwest::RequestBuilder`](crate::reqwest::RequestBuilder); [`send`](Self::send)
/// sends it, and makes an error of a status that is one.
///
/// # Examples
///
/// ```no_run
/// use orchestrator::Http;
/// use orchestrator::prelude::*;
///
/// #[task(retries = 3, retry_delay = "10s")]
/// async fn orders(day: String, #[context] context: &Context) -> Result<String> {
///     let shop = context.connection::<Http>("shop_api").await?;
///     let response = shop.send(shop.get("orders").query(&[("day", day)])).await?;
///     Ok(response.text().await?)
/// }
/// ```
///
/// with the environment variable `ORCHESTRATOR_CONN_SHOP_API=https://:t0ken@api.example/v1` asks for
/// `https://api.example/v1/orders?day=…` with the header `Authorization: Bearer t0ken`.
///
/// # Parts of the connection
///
/// | part | meaning |
/// | --- | --- |
/// | kind | `https`, or `http`: not encrypted |
/// | host | a name or an address; or, as Airflow has it, a URL: `http://https://api.example` is `https://api.example`, whatever the kind |
/// | port | by default, that of the kind |
/// | login, password | `Authorization: Basic …`; a password without a login is a token: `Authorization: Bearer …` |
/// | path | the path of the base URL; a path that is just `https` or `http` is the scheme, as in Airflow: `http://api.example/https` is `https://api.example` |
///
/// # Options
///
/// As in Airflow, an option that is not in this list is a header of each request below the base URL:
/// `?X-Api-Key=…`. One that is spelled almost like one of the list is an error.
///
/// | option | meaning | default |
/// | --- | --- | --- |
/// | `connect_timeout` | how long connecting may take, in seconds or with a unit (`10s`); at most a day | 10 s |
/// | `timeout` | how long the service may be silent: from the request to the answer, and between two parts of the answer; `RequestBuilder::timeout` bounds the whole of a request | 60 s |
/// | `allow_redirects` | whether redirects are followed | `true` |
/// | `max_redirects` | how many are followed, from 0 to 100 | 10 |
/// | `verify` | `true`, or a file, in PEM, with the certificates of the authorities to trust, and no others; not checking is not supported | `true`: the authorities of the system |
/// | `trust_env` | whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of the environment count | `true` |
/// | `stream` | ignored: an answer is always read as it is needed | |
///
/// # Credentials
///
/// Credentials and headers of the connection go to the base URL's own origin (scheme, host and port)
/// alone. They are left out if a request's path is a whole URL of another origin, and if a redirect leads
/// to one. A redirect to another origin is an error if the connection has headers of its own, such as
/// `X-Api-Key`, since the client cannot take those off; so is one from `https` to `http`. There is no
/// `Referer`.
///
/// # Failures
///
/// Making the client connects to nothing. A connection or option that is invalid fails the task at
/// once. [`check`](Connect::check) sends a `HEAD` to the base URL: any answer shows that the service is
/// there, whatever its status, since no path is known that would tell whether the credentials are good.
/// While tasks use the client, that is one more request a minute at most.
///
/// HTTP/1.1 is spoken.
pub struct Http {
    client: reqwest::Client,
    base: Url,
    credentials: Credentials,
    headers: HeaderMap,
}

enum Credentials {
    None,
    Basic(String, Option<Secret>),
    Bearer(Secret),
}

impl Connect for Http {
    const KINDS: &'static [&'static str] = &["http", "https"];

    async fn connect(connection: &Connection) -> Result<Self> {
        let (base, headers) = (base(connection)?, headers(connection)?);
        let credentials = match (connection.login(), connection.password()) {
            (None, None) => Credentials::None,
            _ if headers.contains_key(header::AUTHORIZATION) => {
                return Err(fatal(
                    "expected either a login or password, or the option `Authorization`, got both",
                )
                .into());
            }
            (Some(login), password) => Credentials::Basic(login.to_owned(), password.cloned()),
            (None, Some(token)) => Credentials::Bearer(token.clone()),
        };
        Ok(Self {
            client: client(&Options::open(connection), &base, &headers)?,
            base,
            credentials,
            headers,
        })
    }

    async fn check(&self) -> Result<()> {
        let request = self.request(Method::HEAD, "").timeout(CONNECT_TIMEOUT);
        status::send(request).await.map(drop).map_err(Into::into)
    }
}

impl Http {
    /// Begins a `GET`. See [`request`](Self::request).
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Begins a `POST`. See [`request`](Self::request).
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Begins a `PUT`. See [`request`](Self::request).
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Begins a `PATCH`. See [`request`](Self::request).
    pub fn patch(&self, path: &str) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// Begins a `DELETE`. See [`request`](Self::request).
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Begins a request with the credentials and headers of the connection.
    ///
    /// The path is below the base URL, with or without a slash before it: with the base
    /// `https://api.example/v1`, both `orders` and `/orders` are `https://api.example/v1/orders`. It may
    /// have a query. Percent-encode the parts of it that are data: `..` goes up, as in any URL.
    ///
    /// A path that is a whole URL, such as the next page in an answer, is taken as it is. If it is of
    /// another origin than the base URL, or has a login of its own, the request has neither credentials
    /// nor headers of the connection.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let text = self.url(path);
        let Ok(url) = Url::parse(&text) else {
            // sending it returns the error
            return self.client.request(method, text);
        };
        let has_login = !url.username().is_empty() || url.password().is_some();
        let is_own = url.origin() == self.base.origin() && !has_login;
        let request = self.client.request(method, url);
        if !is_own {
            return request;
        }
        let request = request.headers(self.headers.clone());
        match &self.credentials {
            Credentials::None => request,
            Credentials::Basic(login, password) => {
                request.basic_auth(login, password.as_ref().map(Secret::expose))
            }
            Credentials::Bearer(token) => request.bearer_auth(token.expose()),
        }
    }

    /// Sends a request, and returns the answer if its status is not an error.
    ///
    /// # Errors
    ///
    /// Returns an error with the method, the URL without its query, and
    ///
    /// - if there is no answer, the reason. A request that cannot be sent (an invalid URL or header), and
    ///   a redirect that is not followed, are [`fatal`](crate::fatal); all others are retried as the task
    ///   says.
    /// - if the status is an error, what [`error_for_status`] returns.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, TaskError> {
        let (method, response) = status::send(request).await?;
        status::checked(Some(method), response).await
    }

    /// Returns the base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Returns the client itself. Requests that are begun with it have neither the base URL nor the
    /// credentials.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Returns the URL of a path, which may be invalid.
    fn url(&self, path: &str) -> String {
        if has_scheme(path) {
            return path.to_owned();
        }
        let base = self.base.as_str();
        match path.starts_with(['?', '#']) || path.is_empty() {
            true => format!("{base}{path}"),
            false => {
                let base = base.trim_end_matches('/');
                format!("{base}/{}", path.trim_start_matches(['/', '\\']))
            }
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Returns `true` if a text is a whole URL.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Returns the base URL of a connection.
fn base(connection: &Connection) -> Result<Url, TaskError> {
    let host = connection
        .host()
        .ok_or_else(|| fatal("expected a host, as in `https://api.example/v1`"))?;
    // the parts of the URL may be secrets, if the connection is not what it should be
    let invalid = || fatal("expected a host and a path that make a URL, as `api.example` and `v1`");
    let path = connection.path().map(|path| path.trim_start_matches('/'));
    let scheme = path.filter(|path| ["http", "https"].contains(path));
    let path = path.filter(|_| scheme.is_none());
    if connection.kind() == "https" && scheme == Some("http") {
        return Err(fatal(
            "expected one scheme, got the kind `https` and the path `http`: as in Airflow, a path \
             that is just `http` or `https` is the scheme",
        ));
    }
    let text = match (has_scheme(host), host.contains(':')) {
        (true, _) => host.to_owned(),
        (false, true) => format!("{}://[{host}]", scheme.unwrap_or(connection.kind())),
        (false, false) => format!("{}://{host}", scheme.unwrap_or(connection.kind())),
    };
    let mut url = Url::parse(&text).map_err(|_| invalid())?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(fatal(format!(
            "expected the scheme of the host's URL to be `http` or `https`, got `{}`",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fatal(
            "expected the host to be a URL without a login: it belongs to the connection's own",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fatal(
            "expected the host to be a URL without a query and a fragment",
        ));
    }
    if !has_scheme(host) && url.path() != "/" {
        return Err(invalid());
    }
    if let Some(port) = connection.port() {
        url.set_port(Some(port)).map_err(|()| invalid())?;
    }
    if let Some(path) = path {
        // percent-encodes what a URL cannot have, so that a `?` in a path is not a query
        let below = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{below}/{path}"));
    }
    Ok(url)
}

/// Returns the headers of a connection: the options that are nothing else.
fn headers(connection: &Connection) -> Result<HeaderMap, TaskError> {
    let mut headers = HeaderMap::new();
    let options = connection.options().filter(|name| !OPTIONS.contains(name));
    for name in options {
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
        if let Some((name, instead)) = refused {
            return Err(fatal(format!("option `{name}`: {instead}")));
        }
        if nearest(&name.to_lowercase(), OPTIONS).is_some() {
            return Err(Options::unknown(name, &OPTIONS));
        }
        let value = connection.option(name).unwrap_or_default();
        let header = HeaderName::try_from(name).map_err(|_| {
            fatal(format!(
                "expected option `{name}` to be {}, or the name of a header",
                super::options::list(&OPTIONS)
            ))
        })?;
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            fatal(format!(
                "expected the value of header `{name}` to be text without line breaks"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn client(options: &Options<'_>, base: &Url, headers: &HeaderMap) -> Result<reqwest::Client> {
    let roots = options.certificates("verify")?;
    let tls = match base.scheme() {
        "http" => tls::config_for_plain(roots)?,
        _ => tls::config(roots)?,
    };
    let keeps_origin = headers.keys().any(|name| !HARMLESS.contains(name));
    let most = options
        .number("max_redirects", 0, 100)?
        .unwrap_or(REDIRECTS) as usize;
    let redirects = match options.switch("allow_redirects")?.unwrap_or(true) {
        true => Policy::custom(move |attempt| redirect(attempt, most, keeps_origin)),
        false => Policy::none(),
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(
            options
                .duration("connect_timeout")?
                .unwrap_or(CONNECT_TIMEOUT),
        )
        .read_timeout(options.duration("timeout")?.unwrap_or(TIMEOUT))
        .redirect(redirects)
        // the query of a URL may have a key
        .referer(false)
        .user_agent(concat!("orchestrator/", env!("CARGO_PKG_VERSION")));
    let client = match options.switch("trust_env")?.unwrap_or(true) {
        true => client,
        false => client.no_proxy(),
    };
    Ok(client.build()?)
}

/// Decides whether a redirect is followed. If it leads to another origin, reqwest takes the header
/// `Authorization` off, but not others.
fn redirect(attempt: Attempt<'_>, most: usize, keeps_origin: bool) -> reqwest::redirect::Action {
    let Some(from) = attempt.previous().last() else {
        return attempt.follow();
    };
    let to = attempt.url();
    let shown = status::shown(to);
    if attempt.previous().len() > most {
        return attempt.error(format!(
            "more than {most} redirects (option `max_redirects`)"
        ));
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return attempt.error(format!("redirect to {shown}, which is not encrypted"));
    }
    if keeps_origin && from.origin() != to.origin() {
        return attempt.error(format!(
            "redirect to {shown}, where the headers of the connection must not go"
        ));
    }
    attempt.follow()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_of(url: &str) -> Result<String, TaskError> {
        let api = Connection::parse("api", url).unwrap();
        base(&api).map(|url| url.to_string())
    }

    #[test]
    fn base_url_is_as_airflow_makes_it() {
        for (url, expected) in [
            ("https://api.example/v1", "https://api.example/v1"),
            ("https://api.example:8443", "https://api.example:8443/"),
            ("http://api.example", "http://api.example/"),
            ("http://api.example/https", "https://api.example/"),
            ("http://https://api.example", "https://api.example/"),
            (
                "http://https://api.example:8443/v1",
                "https://api.example:8443/v1",
            ),
            (
                "http://https%3A%2F%2Fapi.example%2Fv1",
                "https://api.example/v1",
            ),
            (
                "http://https%3A%2F%2Fapi.example%2Fv1/http",
                "https://api.example/v1",
            ),
            (
                "http://login:pass@api.example:80/v1/",
                "http://api.example/v1/",
            ),
            ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
            (
                "http://api.example/a%3Fb%23c%20d",
                "http://api.example/a%3Fb%23c%20d",
            ),
            (
                r#"{"conn_type": "http", "host": "api.example", "schema": "https"}"#,
                "https://api.example/",
            ),
            (
                r#"{"conn_type": "http", "host": "https://api.example/v1", "port": 8443}"#,
                "https://api.example:8443/v1",
            ),
        ] {
            assert_eq!(base_of(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn base_url_that_cannot_be_one_is_fatal() {
        for (url, problem) in [
            ("https://", "expected a host"),
            ("https://api.example/http", "expected one scheme"),
            ("http://ftp://api.example", "got `ftp`"),
            (
                "http://https%3A%2F%2Fme%3As3cret%40api.example",
                "without a login",
            ),
            (
                "http://https%3A%2F%2Fapi.example%3Fkey=s3cret",
                "without a query",
            ),
            ("http://api.example%2Fv1", "that make a URL"),
        ] {
            let error = base_of(url).unwrap_err();
            let text = error.to_string();
            assert!(error.is_fatal() && text.contains(problem), "{url}: {text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[tokio::test]
    async fn path_is_below_the_base() {
        for (base, path, expected) in [
            ("http://a/v1", "orders", "http://a/v1/orders"),
            (
                "http://a/v1/",
                "/orders?day=1#x",
                "http://a/v1/orders?day=1#x",
            ),
            ("http://a/v1", "?day=1", "http://a/v1?day=1"),
            ("http://a/v1", "", "http://a/v1"),
            ("http://a", "//b/c", "http://a/b/c"),
            ("http://a", "\\\\b/c", "http://a/b/c"),
            (
                "http://a",
                "search?next=https://b",
                "http://a/search?next=https://b",
            ),
            ("http://a", "https://b/c", "https://b/c"),
            ("http://a", "@b/c", "http://a/@b/c"),
            ("http://a", ":80@b/c", "http://a/:80@b/c"),
        ] {
            let api = Connection::parse("api", base).unwrap();
            let api = Http::connect(&api).await.unwrap();
            let request = api.get(path).build().unwrap();
            assert_eq!(request.url().as_str(), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn credentials_are_for_the_origin_of_the_base_alone() {
        for (url, header, value) in [
            ("http://me:pass@a/v1", "authorization", "Basic bWU6cGFzcw=="),
            ("http://:t0ken@a/v1", "authorization", "Bearer t0ken"),
            ("http://a/v1?X-Api-Key=k3y", "x-api-key", "k3y"),
        ] {
            let api = Http::connect(&Connection::parse("api", url).unwrap())
                .await
                .unwrap();
            let header_of = |path: &str| {
                let request = api.get(path).build().unwrap();
                request.headers().get(header).cloned()
            };
            for own in ["orders", "http://a/other", "http://a:80/v1"] {
                let sent = header_of(own).unwrap();
                assert!(sent == value && sent.is_sensitive(), "{own}: {sent:?}");
            }
            for other in [
                "http://b/v1",
                "https://a/v1",
                "http://a:81/v1",
                "http://a.b/v1",
            ] {
                assert_eq!(header_of(other), None, "{other}");
            }
            assert!(!format!("{api:?}").contains(value));
        }
    }

    #[tokio::test]
    async fn option_that_is_neither_known_nor_a_header_is_fatal() {
        for (options, problem) in [
            ("timout=5", "did you mean `timeout`?"),
            ("Verify=false", "did you mean `verify`?"),
            ("verify=false", "`true`, or a file in PEM"),
            ("token=s3cret", "give the token as the password"),
            ("proxies=x", "set `HTTPS_PROXY`"),
            ("X%20Y=s3cret", "or the name of a header"),
            ("X-Y=a%0As3cret", "without line breaks"),
            ("timeout=soon", "expected option `timeout`"),
            ("max_redirects=1000", "from 0 to 100"),
        ] {
            let api = Connection::parse("api", &format!("http://a/?{options}")).unwrap();
            let error = Http::connect(&api).await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(problem) && !text.contains("s3cret"),
                "{options}: {text}"
            );
        }
        let both = Connection::parse("api", "http://:t@a/?Authorization=Basic%20x").unwrap();
        let error = Http::connect(&both).await.unwrap_err();
        assert!(error.to_string().contains("got both"), "{error}");
    }
}
