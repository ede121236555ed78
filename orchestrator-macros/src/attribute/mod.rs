//! Code shared by both attributes: the options, the function under the attribute, and its stand-in
//! if there are errors. This module uses neither `task` nor `flow`.

pub(crate) mod data;
pub(crate) mod entry;
pub(crate) mod expand;
pub(crate) mod fallback;
pub(crate) mod known;
pub(crate) mod label;
pub(crate) mod literal;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod settings;
pub(crate) mod signature;
pub(crate) mod value;
