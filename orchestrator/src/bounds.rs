//! The maximum sizes of data that a program passes to the library.
//!
//! A request that exceeds a limit is refused with an error, before any of it is recorded. A report
//! of something that has happened (an error, a log line) is truncated instead, and tells how much
//! is missing.

pub(crate) use orchestrator_grammar::bounds::{NAME, fault};

/// The maximum length of the key of a run, in bytes: enough for a URL, and short enough for an
/// index.
pub(crate) const RUN_KEY: usize = 1 << 10;

/// The maximum length of the name of a deployment, in bytes.
pub(crate) const DEPLOYMENT: usize = NAME;

/// The maximum size of all parameters of a run, in bytes of JSON. Every list of runs contains them.
pub(crate) const PARAMETERS: usize = 1 << 20;

/// The maximum length of the text of an error, in bytes. It is stored with the failed task, with
/// its run, and with each task that did not run because of it.
pub(crate) const ERROR: usize = 16 << 10;

/// The maximum length of the message of a log line, and of the texts of its fields together, in
/// bytes.
pub(crate) const LOG_TEXT: usize = 16 << 10;

/// The maximum size of an encoded result, in bytes: MessagePack has 32-bit lengths.
pub(crate) const RESULT: u64 = u32::MAX as u64;
