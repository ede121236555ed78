//! What both examples stand on: the shop's data, where files go, and how a run is shown on a terminal.
//!
//! The examples themselves are `customer_pipeline/main.rs` and `multi_source_etl/main.rs`; start there.

#![allow(missing_docs, reason = "fields and variants say by their names what they are; nobody depends on this crate")]

// ── the data
pub mod cdnow;
pub mod database;
pub mod folder;
pub mod shop;

// ── the terminal
pub mod format;
pub mod progress;
