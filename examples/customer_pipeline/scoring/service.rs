//! The server: `POST /v1/churn` with an API key and at most 500 customers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Json, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::model::CDNOW;
use super::{API_KEY_HEADER, Batch, CHURN_PATH, LARGEST_BATCH, Score, Scores};

/// A scoring service that runs in this process, on a free port of this machine only. Dropping it
/// stops it.
#[derive(Debug)]
pub(crate) struct ScoringService {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl ScoringService {
    /// Starts the service. It answers those who show `api_key`.
    ///
    /// # Errors
    /// If no port can be had.
    pub(crate) async fn start(api_key: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route(CHURN_PATH, routing::post(churn)).layer(
            middleware::from_fn_with_state(Arc::from(api_key), authorize),
        );
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the scoring service has stopped: {error}");
            }
        });
        Ok(Self { address, server })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for ScoringService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Looks at the key before the body is read.
async fn authorize(State(api_key): State<Arc<str>>, request: Request, next: Next) -> Response {
    match request.headers().get(API_KEY_HEADER) {
        Some(shown) if shown.as_bytes() == api_key.as_bytes() => next.run(request).await,
        Some(_) => refuse(
            StatusCode::UNAUTHORIZED,
            format!("the key in `{API_KEY_HEADER}` is not known here"),
        ),
        None => refuse(
            StatusCode::UNAUTHORIZED,
            format!("expected an API key in `{API_KEY_HEADER}`, got none"),
        ),
    }
}

async fn churn(Json(batch): Json<Batch>) -> Response {
    if batch.customers.len() > LARGEST_BATCH {
        let got = batch.customers.len();
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "expected at most {LARGEST_BATCH} customers, got {got}; send them in smaller batches"
            ),
        );
    }
    let scores = batch.customers.iter().map(|history| Score {
        customer_id: history.customer_id,
        churn_probability: CDNOW.churn_probability(history),
    });
    Json(Scores {
        scores: scores.collect(),
    })
    .into_response()
}

fn refuse(status: StatusCode, why: String) -> Response {
    (status, why).into_response()
}
