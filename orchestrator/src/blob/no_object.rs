//! Replaces `object.rs`

use std::sync::Arc;

use super::Blobs;
use crate::error::{BlobError, without_secrets};

pub(super) fn open(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    let problem =
        "this build keeps blobs in folders only; build with the feature `object-store`".to_owned();
    Err(BlobError::Url {
        url: without_secrets(url),
        problem,
    })
}
