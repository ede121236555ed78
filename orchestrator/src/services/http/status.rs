//! Answers that are errors.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::timeout_at;

use crate::clock::{Clock, in_time};
use crate::error::{IntoTaskError, TaskError, fatal, retry_after};

/// How much of a body is kept.
const EXCERPT: usize = 300;

/// How long the beginning of a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest delay that a server may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An answer whose status is an error. It is found in a [`TaskError`] with
/// [`downcast_ref`](TaskError::downcast_ref).
///
/// # Examples
///
/// ```no_run
/// use orchestrator::prelude::*;
/// use orchestrator::{Http, StatusError};
///
/// async fn order(shop: &Http, id: u32) -> Result<Option<String>> {
///     match shop.send(shop.get(&format!("orders/{id}"))).await {
///         Ok(response) => Ok(Some(response.text().await?)),
///         Err(error) => match error.downcast_ref::<StatusError>() {
///             Some(status) if status.status() == 404 => Ok(None),
///             _ => Err(error.into()),
///         },
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct StatusError {
    method: Option<Method>,
    url: String,
    status: StatusCode,
    body: String,
}

impl StatusError {
    /// Returns the method of the request, if it is known.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// Returns the URL that answered, without login, query and fragment.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the first 300 bytes of the body, as text.
    pub fn body(&self) -> &str {
        &self.body
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        write!(f, "{}: {}", self.url, self.status)?;
        match self.body.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.body),
        }
    }
}

impl std::error::Error for StatusError {}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url}")]
struct SendError {
    method: Method,
    url: String,
    source: reqwest::Error,
}

/// Returns an answer, or an error if its status is one.
///
/// [`Http::send`](crate::Http::send) does the same, and has the method in the error. This function is for
/// answers to requests that were sent otherwise, which do not tell the method.
///
/// # Errors
///
/// Returns a [`StatusError`] in a [`TaskError`], with the URL without its query, the status and the first
/// 300 bytes of the body:
///
/// | status | error |
/// | --- | --- |
/// | 429, 503 with `Retry-After` | [`retry_after`]: the next attempt starts when the server asks for it, after a day at most; seconds and dates are understood |
/// | 408, 425, 429, 5xx | a failure, retried as the task says |
/// | other 4xx | [`fatal`]: the same request would get the same answer |
///
/// # Examples
///
/// ```no_run
/// use orchestrator::prelude::*;
/// use orchestrator::{Http, error_for_status};
///
/// # async fn f(shop: &Http) -> Result<String> {
/// let response = shop.get("orders").send().await?;
/// let orders = error_for_status(response).await?.text().await?;
/// # Ok(orders)
/// # }
/// ```
pub async fn error_for_status(response: Response) -> Result<Response, TaskError> {
    checked(None, response).await
}

/// As [`error_for_status`], with the method of the request.
pub(super) async fn checked(
    method: Option<Method>,
    mut response: Response,
) -> Result<Response, TaskError> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let error = StatusError {
        method,
        url: shown(response.url()),
        status,
        body: excerpt(&mut response).await,
    };
    let is_busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let delay = delay(response.headers()).filter(|_| is_busy.contains(&status));
    Err(match (delay, status.as_u16()) {
        (Some(delay), _) => retry_after(delay, error),
        (None, 408 | 425 | 429 | 500..) => error.into_task_error(),
        (None, _) => fatal(error),
    })
}

/// Sends a request, whatever the status of the answer.
pub(super) async fn send(request: RequestBuilder) -> Result<(Method, Response), TaskError> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| fatal(error.without_url()))?;
    let (method, url) = (request.method().clone(), shown(request.url()));
    match client.execute(request).await {
        Ok(response) => Ok((method, response)),
        Err(source) => {
            let cannot_work = source.is_builder() || source.is_redirect();
            // its own text has the URL with the query
            let source = source.without_url();
            let error = SendError {
                method,
                url,
                source,
            };
            Err(match cannot_work {
                true => fatal(error),
                false => error.into_task_error(),
            })
        }
    }
}

/// Returns a URL as errors show it.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{host}{}{}",
        url.scheme(),
        port.unwrap_or_default(),
        url.path()
    )
}

/// Reads the beginning of a body. What cannot be read is left out: the status is what counts.
async fn excerpt(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    let deadline = in_time(PATIENCE);
    while bytes.len() <= EXCERPT
        && let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(EXCERPT + 1)]);
    }
    let is_cut = bytes.len() > EXCERPT;
    bytes.truncate(EXCERPT);
    let text = String::from_utf8_lossy(&bytes);
    let text = match is_cut {
        // a character that is cut off
        true => text.trim_end_matches(char::REPLACEMENT_CHARACTER),
        false => &text,
    };
    // pages of errors have many lines
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if is_cut {
        line.push('…');
    }
    line
}

/// Returns the delay that a server asks for.
fn delay(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    if asked.is_empty() || !asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // by the server's own clock, if it tells the time: the two may differ
        let now = text(DATE).and_then(date);
        let now = now.unwrap_or_else(|| Clock::system().now());
        let delay = date(asked)?.signed_duration_since(now);
        return Some(delay.to_std().unwrap_or_default().min(LONGEST));
    }
    // more digits than a number can have are a long time
    let seconds = asked.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds).min(LONGEST))
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_seconds_or_a_date() {
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (asked, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", None),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, asked.parse().unwrap());
            headers.insert(DATE, now.parse().unwrap());
            assert_eq!(delay(&headers), seconds.map(Duration::from_secs), "{asked}");
        }
        assert_eq!(delay(&HeaderMap::new()), None);
    }

    #[test]
    fn shown_url_has_no_secrets() {
        for (url, expected) in [
            (
                "https://me:s3cret@api.example:8443/v1?key=s3cret#s3cret",
                "https://api.example:8443/v1",
            ),
            ("http://[::1]/", "http://[::1]/"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()), expected);
        }
    }
}
