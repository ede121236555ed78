//! Stands in for `object.rs` in builds without the feature `object-store`.

use std::sync::Arc;

use super::Blobs;
use crate::error::BlobError;

pub(super) fn open(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    let problem =
        "this build keeps blobs in folders only; build with the feature `object-store`".to_owned();
    Err(BlobError::Url {
        url: url.to_owned(),
        problem,
    })
}
