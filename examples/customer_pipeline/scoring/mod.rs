//! The scoring service: a model, an HTTP server that answers with it, and the client the pipeline
//! uses.
//!
//! The pipeline knows the client and the wire format below, not the model: the service may as well
//! be on another machine and in another language.

mod client;
mod model;
mod service;

pub(crate) use client::{ScoringClient, ScoringError};
pub(crate) use service::ScoringService;

use serde::{Deserialize, Serialize};

/// The service refuses larger batches.
pub(crate) const LARGEST_BATCH: usize = 500;

/// The header that carries the API key.
const API_KEY_HEADER: &str = "x-api-key";

/// The path of the endpoint.
const CHURN_PATH: &str = "/v1/churn";

/// A request's body.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    customers: Vec<History>,
}

/// What the model needs to know of a customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct History {
    customer_id: u32,
    /// Days with a purchase after the first one.
    repeat_days: u32,
    /// Weeks from the first purchase to the last.
    last_purchase_week: f64,
    /// Weeks from the first purchase to the day of the question.
    observed_weeks: f64,
}

/// An answer's body: one score a customer, in the order of the request.
#[derive(Debug, Serialize, Deserialize)]
struct Scores {
    scores: Vec<Score>,
}

/// What the service says of a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Score {
    customer_id: u32,
    churn_probability: f64,
}

#[cfg(test)]
mod tests;
