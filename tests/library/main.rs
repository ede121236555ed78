//! Tests of the library as its users see it. One binary: a module an area.

mod bodies;
mod events;
mod expand;
mod failure;
mod flows;
mod graphs;
mod layers;
mod limits;
mod outside;
mod random;
mod stopping;
mod triggers;
mod values;
