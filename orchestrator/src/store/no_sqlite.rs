//! Stands in for the store in a file where the feature `sqlite` is off.

use std::sync::Arc;

use super::{Store, unknown};
use crate::error::StoreError;

pub(super) fn open(url: &str, _: Option<&str>, _: i64) -> Result<Arc<dyn Store>, StoreError> {
    Err(unknown(url))
}

#[cfg(feature = "cli")]
pub(super) fn exists(_: &str) -> bool {
    true
}
