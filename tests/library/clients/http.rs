use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use orchestrator::prelude::*;
use orchestrator::{Connect, Http, StatusError, error_for_status};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{chain, connect};
use crate::support::{self, case};

/// Serves a router, and returns its address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers with what it was asked.
async fn echo(request: Request) -> String {
    let of = |name: &str| {
        let value = request.headers().get(name);
        value
            .map(|value| format!(" {name}={}", value.to_str().unwrap()))
            .unwrap_or_default()
    };
    let credentials = of("authorization") + &of("x-api-key") + &of("referer");
    format!("{} {}{credentials}", request.method(), request.uri())
}

async fn echoing() -> String {
    serve(Router::new().fallback(any(echo))).await
}

#[tokio::test]
async fn requests_are_below_the_base_with_the_credentials() {
    let address = echoing().await;
    for (url, expected) in [
        (format!("http://{address}/v1"), ""),
        (
            format!("http://me:pa%2Fss@{address}/v1"),
            " authorization=Basic bWU6cGEvc3M=",
        ),
        (
            format!("http://me@{address}/v1"),
            " authorization=Basic bWU6",
        ),
        (
            format!("http://:t0ken@{address}/v1"),
            " authorization=Bearer t0ken",
        ),
        (
            format!("http://{address}/v1?X-Api-Key=k3y&timeout=5"),
            " x-api-key=k3y",
        ),
        (
            format!("http://{address}/v1?Authorization=Token%20abc"),
            " authorization=Token abc",
        ),
    ] {
        let _case = case(&url);
        let api = connect::<Http>(&url).await.unwrap();
        let text = async |request| api.send(request).await.unwrap().text().await.unwrap();
        let request = api.get("/orders").query(&[("day", "1 2")]);
        assert_eq!(
            text(request).await,
            format!("GET /v1/orders?day=1+2{expected}")
        );
        let next = format!("http://{address}/v2/orders?page=2");
        assert_eq!(
            text(api.get(&next)).await,
            format!("GET /v2/orders?page=2{expected}")
        );
        for (request, method) in [
            (api.post("a").json(&7), "POST"),
            (api.put("a"), "PUT"),
            (api.patch("a"), "PATCH"),
            (api.delete("a"), "DELETE"),
        ] {
            assert_eq!(text(request).await, format!("{method} /v1/a{expected}"));
        }
        assert_eq!(api.base().as_str(), format!("http://{address}/v1"));
    }
}

#[tokio::test]
async fn credentials_do_not_go_to_another_host() {
    let other = echoing().await;
    let to_other = format!("http://{other}/target");
    let redirect = move |to: String| move || async move { (StatusCode::FOUND, [("location", to)]) };
    let routes = Router::new()
        .route("/away", get(redirect(to_other.clone())))
        .route("/near", get(redirect("/target".to_owned())))
        .route("/loop", get(redirect("/loop".to_owned())))
        .fallback(any(echo));
    let address = serve(routes).await;
    for (login, options, header) in [
        ("me:pass@", "", "authorization=Basic bWU6cGFzcw=="),
        (":t0ken@", "", "authorization=Bearer t0ken"),
        ("", "?X-Api-Key=k3y", "x-api-key=k3y"),
    ] {
        let _case = case(header);
        let api = connect::<Http>(&format!("http://{login}{address}{options}"))
            .await
            .unwrap();
        let text = async |path| match api.send(api.get(path)).await {
            Ok(response) => Ok(response.text().await.unwrap()),
            Err(error) => Err(error),
        };
        assert_eq!(
            text("near?key=s3cret").await.unwrap(),
            format!("GET /target {header}")
        );
        assert_eq!(text(&to_other).await.unwrap(), "GET /target");
        let away = text("away?key=s3cret").await;
        match options {
            "" => assert_eq!(away.unwrap(), "GET /target"),
            _ => {
                let error = away.unwrap_err();
                assert!(error.is_fatal());
                let error = error.to_string();
                assert!(
                    error.starts_with(&format!("GET http://{address}/away: ")),
                    "{error}"
                );
                assert!(
                    error.ends_with("headers of the connection must not go"),
                    "{error}"
                );
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
        let error = text("loop").await.unwrap_err().to_string();
        assert!(
            error.ends_with("more than 10 redirects (option `max_redirects`)"),
            "{error}"
        );
    }
    let stays = connect::<Http>(&format!("http://{address}?allow_redirects=false"))
        .await
        .unwrap();
    let response = stays.send(stays.get("away")).await.unwrap();
    assert_eq!(response.headers()["location"], to_other);
}

/// Answers with the status, the header `Retry-After` and the body that the path and the query tell.
async fn answer(request: Request) -> Response {
    let status = request.uri().path().rsplit('/').next().unwrap();
    let status: u16 = status.parse().unwrap();
    let mut headers = HeaderMap::new();
    let query = request.uri().query().unwrap_or_default();
    if let Some((_, delay)) = query.split_once("delay=") {
        headers.insert("retry-after", delay.replace("%20", " ").parse().unwrap());
    }
    let body = format!("no\n  {}", "ä".repeat(200));
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

#[tokio::test]
async fn status_that_is_an_error_decides_what_follows() {
    let address = serve(Router::new().fallback(any(answer))).await;
    let api = connect::<Http>(&format!("http://me:pass@{address}/v1"))
        .await
        .unwrap();
    for (path, status, is_fatal) in [
        ("400", 400, true),
        ("401", 401, true),
        ("404?key=s3cret", 404, true),
        ("404?delay=5", 404, true),
        ("408", 408, false),
        ("425", 425, false),
        ("429", 429, false),
        ("429?delay=soon", 429, false),
        ("429?delay=120", 429, false),
        ("500?key=s3cret", 500, false),
        (
            "503?delay=Sun,%2006%20Nov%202044%2008:49:37%20GMT",
            503,
            false,
        ),
        ("504", 504, false),
    ] {
        let _case = case(path);
        let error = api.send(api.post(path)).await.unwrap_err();
        assert_eq!(error.is_fatal(), is_fatal);
        let text = error.to_string();
        let start = format!("POST http://{address}/v1/{status}: {status} ");
        assert!(
            text.starts_with(&start) && !text.contains("s3cret"),
            "{text}"
        );
        let error: &StatusError = error.downcast_ref().unwrap();
        assert_eq!(error.status(), status);
        assert_eq!(error.method().unwrap(), "POST");
        // 300 bytes: five, and 147 letters of two bytes, of which the last is cut off
        assert_eq!(error.body(), format!("no {}…", "ä".repeat(147)));

        let response = api.get(path).send().await.unwrap();
        let error = error_for_status(response).await.unwrap_err();
        assert!(error.to_string().starts_with(&start[5..]), "{error}");
    }
    for path in ["200", "204", "304"] {
        let response = api.send(api.get(path)).await.unwrap();
        error_for_status(response).await.unwrap();
    }
}

#[tokio::test]
async fn request_without_an_answer_tells_why_without_its_query() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_at = closed.local_addr().unwrap();
    drop(closed);
    for (url, path, shown, problem, is_fatal) in [
        (
            format!("http://{closed_at}"),
            "a?key=s3cret",
            format!("GET http://{closed_at}/a"),
            "refused",
            false,
        ),
        (
            format!("http://{silent_at}?timeout=100ms"),
            "?key=s3cret",
            format!("GET http://{silent_at}/"),
            "timed out",
            false,
        ),
        (
            format!("http://{closed_at}"),
            "http://[s3cret",
            String::new(),
            "invalid",
            true,
        ),
    ] {
        let _case = case(&shown);
        let api = connect::<Http>(&url).await.unwrap();
        let error = api.send(api.get(path)).await.unwrap_err();
        assert_eq!(error.is_fatal(), is_fatal);
        let error = error.to_string();
        assert!(
            error.starts_with(&shown) && error.contains(problem),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn check_takes_any_answer() {
    let address = serve(Router::new().fallback(|| async { StatusCode::NOT_FOUND })).await;
    connect::<Http>(&format!("http://{address}"))
        .await
        .unwrap()
        .check()
        .await
        .unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_at = closed.local_addr().unwrap();
    drop(closed);
    let api = connect::<Http>(&format!("http://{closed_at}"))
        .await
        .unwrap();
    let error = chain(&*api.check().await.unwrap_err());
    assert!(
        error.contains("HEAD") && error.contains("refused"),
        "{error}"
    );
}

#[task(retries = 3, retry_delay = "60s")]
async fn fetch(path: String, #[context] context: &Context) -> Result<u32> {
    let _real = support::real_time();
    let api = context.connection::<Http>("api").await?;
    api.send(api.get(&path)).await?;
    Ok(context.attempt())
}

#[flow]
fn fetching(path: String) -> Node<u32> {
    fetch(path)
}

#[tokio::test(start_paused = true)]
async fn retries_are_as_the_server_asks() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let router = Router::new().fallback(any(move |request: Request| async move {
        // the check of the client, if it was made more than a minute ago
        let is_check = request.method() == "HEAD";
        match is_check || count.fetch_add(1, Ordering::SeqCst) > 0 {
            true => StatusCode::OK.into_response(),
            false => answer(request).await,
        }
    }));
    let address = serve(router).await;
    let runtime = support::builder()
        .clock(orchestrator::Clock::tokio_from_now())
        .connection("api", format!("http://{address}/v1"))
        .build()
        .await
        .unwrap();
    for (path, seconds, attempts) in [
        ("429?delay=3600", Some(3600), 2),
        ("503?delay=7200", Some(7200), 2),
        ("503", Some(60), 2),
        ("404", None, 1),
    ] {
        let _case = case(path);
        asked.store(0, Ordering::SeqCst);
        let start = Instant::now();
        let run = fetching(path.to_owned()).on(&runtime).run().await.unwrap();
        let task = run.task("fetch").unwrap();
        assert_eq!(task.attempts(), attempts);
        assert_eq!(asked.load(Ordering::SeqCst), attempts);
        match seconds {
            Some(seconds) => {
                assert_eq!(task.state(), TaskState::Success);
                let waited = start.elapsed();
                let least = Duration::from_secs(seconds);
                assert!(
                    waited >= least && waited < least + Duration::from_secs(60),
                    "{waited:?}"
                );
            }
            None => {
                let error = task.error().unwrap().to_string();
                assert!(
                    error.starts_with(&format!("GET http://{address}/v1/404: 404 Not Found: no ä")),
                    "{error}"
                );
            }
        }
    }
}
