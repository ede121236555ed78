//! Tests of the library as its users see it. One binary: a module an area.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "flows take their parameters by value"
)]

mod backfill;
mod bodies;
mod caching;
mod clean_up;
mod cli;
mod clients;
mod crash;
mod doors;
mod durations;
mod events;
mod expand;
mod failure;
mod flows;
mod graphs;
mod hung;
mod interrupted;
mod interrupted_cases;
mod kept;
mod keys;
mod layers;
mod limits;
mod logs;
mod outside;
mod random;
mod requirements;
mod rerun;
mod serving;
mod sizes;
mod spans;
mod stopping;
mod stops;
mod store;
mod support;
mod triggers;
mod upkeep;
mod values;
mod why;
