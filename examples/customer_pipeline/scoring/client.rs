//! The client: a batch of customers in, their churn probabilities out.

use std::time::Duration;

use examples::shop::Customer;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use reqwest::{Client, StatusCode};

use super::{API_KEY_HEADER, Batch, CHURN_PATH, History, Scores};

/// A batch of 500 takes milliseconds: a service that is silent for so long is in trouble, and a
/// retry is due.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one scoring service. A resource of the pipeline: its connections are kept and used again.
#[derive(Clone, Debug)]
pub(crate) struct ScoringClient {
    http: Client,
    url: String,
}

/// Why there are no scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ScoringError {
    #[error("expected an API key that fits in an HTTP header")]
    ApiKey(#[from] InvalidHeaderValue),
    #[error("the scoring service did not answer")]
    Http(#[from] reqwest::Error),
    #[error("the scoring service refused the batch: {said}")]
    Refused {
        said: String,
        #[source]
        status: reqwest::Error,
    },
    #[error(
        "expected a probability for each of {asked} customers, in order; for customer {customer} got {got}"
    )]
    Answer {
        asked: usize,
        customer: u32,
        got: String,
    },
}

impl ScoringError {
    /// Whether the same batch would be refused again: the request is at fault, not the moment.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::ApiKey(_) | Self::Answer { .. } => true,
            Self::Http(_) => false,
            Self::Refused { status, .. } => status.status().is_some_and(|status| {
                let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
                status.is_client_error() && !passing.contains(&status)
            }),
        }
    }
}

impl ScoringClient {
    /// A client of the service at `url`.
    ///
    /// # Errors
    /// If the key has characters that no HTTP header can carry.
    pub(crate) fn new(url: &str, api_key: &str) -> Result<Self, ScoringError> {
        // TLS of this program, if it has none yet: clients that may need it are not built without one
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut key = HeaderValue::from_str(api_key)?;
        key.set_sensitive(true); // keeps it out of debug output
        let headers = HeaderMap::from_iter([(HeaderName::from_static(API_KEY_HEADER), key)]);
        let http = Client::builder()
            .timeout(TIMEOUT)
            .default_headers(headers)
            .no_proxy() // the service is on this machine, wherever HTTP_PROXY points
            .build()?;
        Ok(Self {
            http,
            url: format!("{url}{CHURN_PATH}"),
        })
    }

    /// The churn probabilities of a batch, in its order.
    ///
    /// # Errors
    /// If the service does not answer in time, refuses, or answers something else than it was
    /// asked.
    pub(crate) async fn churn_probabilities(
        &self,
        customers: &[Customer],
    ) -> Result<Vec<f64>, ScoringError> {
        let batch = Batch {
            customers: customers.iter().map(history).collect(),
        };
        let response = self.http.post(&self.url).json(&batch).send().await?;
        if let Err(status) = response.error_for_status_ref() {
            let said = response.text().await?; // the reason, which the status alone does not tell
            return Err(ScoringError::Refused { said, status });
        }
        let Scores { scores } = response.json().await?;
        let mut scores = scores.into_iter();
        customers
            .iter()
            .map(|customer| match scores.next() {
                Some(score)
                    if score.customer_id == customer.customer_id
                        && (0.0..=1.0).contains(&score.churn_probability) =>
                {
                    Ok(score.churn_probability)
                }
                other => Err(ScoringError::Answer {
                    asked: customers.len(),
                    customer: customer.customer_id,
                    got: other.map_or_else(|| "nothing".to_owned(), |score| format!("{score:?}")),
                }),
            })
            .collect()
    }
}

fn history(customer: &Customer) -> History {
    let weeks_until =
        |day: chrono::NaiveDate| (day - customer.first_purchase).num_days() as f64 / 7.0;
    History {
        customer_id: customer.customer_id,
        repeat_days: customer.purchase_days.saturating_sub(1),
        last_purchase_week: weeks_until(customer.last_purchase),
        observed_weeks: weeks_until(customer.as_of),
    }
}
