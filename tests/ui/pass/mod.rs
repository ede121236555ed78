//! Code that is right, with every lint on that a user may have on.
#![deny(
    warnings,
    clippy::nursery,
    clippy::pedantic,
    let_underscore,
    missing_debug_implementations,
    missing_docs,
    nonstandard_style,
    rust_2018_idioms,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unsafe_code,
    unused,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications
)]
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_wraps)]

mod attributes;
mod definitions;
mod flows;
mod in_macros;
mod places;
mod requirements;
mod schedules;
mod shadowed;
mod tasks;
