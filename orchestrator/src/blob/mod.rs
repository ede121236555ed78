//! Storage of large values beside the store: a row has a [`BlobRef`], and the bytes are in a folder
//! or in an object store.
//!
//! The name of a blob is the hash of its bytes and a unique number: a blob never changes, and
//! exactly one row refers to it. A blob is written before its row and removed after it, so that a
//! row never refers to a missing blob.

mod folder;
#[cfg(feature = "object-store")]
mod object;
#[cfg(not(feature = "object-store"))]
#[path = "no_object.rs"]
mod object;
pub(crate) mod private;

use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BlobError;

/// A reference to a blob, by its contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlobRef {
    /// BLAKE3 of the bytes.
    pub(crate) hash: [u8; 32],
    /// The number of bytes.
    pub(crate) length: u64,
    /// Distinguishes the blob from others with the same bytes.
    pub(crate) number: u64,
}

impl BlobRef {
    /// The length of an encoded reference in bytes.
    pub(crate) const LENGTH: usize = 48;

    /// Creates the reference to these bytes, with a number.
    pub(crate) fn of(bytes: &[u8], number: u64) -> Self {
        Self {
            hash: *blake3::hash(bytes).as_bytes(),
            length: bytes.len() as u64,
            number,
        }
    }

    /// Encodes the reference for a row: the hash, then the length and the number in little-endian
    /// order.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&self.hash);
        bytes[32..40].copy_from_slice(&self.length.to_le_bytes());
        bytes[40..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Decodes a reference that [`to_bytes`](Self::to_bytes) encoded. Returns `None` if the length
    /// is wrong.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk()?;
        let (length, number) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(number.try_into().ok()?);
        Some(Self {
            hash: *hash,
            length: u64::from_le_bytes(*length),
            number,
        })
    }

    /// Returns the path of the blob below the folder or the prefix: `ab/cdef…-12.blob`. The
    /// subfolders are needed since a folder with a million files would be slow.
    fn name(&self) -> String {
        let hash = self.hex();
        format!("{}/{}-{:x}.blob", &hash[..2], &hash[2..], self.number)
    }

    fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_string()
    }

    /// Checks that these bytes are the blob's. `place` is for the error.
    fn check(&self, place: impl fmt::Display, bytes: &[u8]) -> Result<(), BlobError> {
        self.check_length(&place, bytes.len() as u64)?;
        let found = Self::of(bytes, self.number);
        match found.hash == self.hash {
            true => Ok(()),
            false => Err(BlobError::Altered {
                place: place.to_string(),
                expected: format!("the hash {}", self.hex()),
                found: found.hex(),
            }),
        }
    }

    fn check_length(&self, place: impl fmt::Display, length: u64) -> Result<(), BlobError> {
        match length == self.length {
            true => Ok(()),
            false => Err(BlobError::Altered {
                place: place.to_string(),
                expected: format!("{} bytes", self.length),
                found: length.to_string(),
            }),
        }
    }

    fn missing(&self, place: impl fmt::Display) -> BlobError {
        BlobError::Missing {
            place: place.to_string(),
            expected: self.length,
        }
    }
}

impl fmt::Debug for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobRef({}, {} bytes)", self.hex(), self.length)
    }
}

/// A storage of blobs.
#[async_trait]
pub(crate) trait Blobs: fmt::Debug + Send + Sync {
    /// Stores the bytes, without copying them, as a blob with a unique number. The blob is durable
    /// when this returns.
    async fn put(&self, bytes: Arc<Vec<u8>>, number: u64) -> Result<BlobRef, BlobError>;

    /// Returns the bytes of a blob.
    ///
    /// # Errors
    ///
    /// Returns [`BlobError`] if the blob is missing, cannot be read, or was altered.
    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError>;

    /// Deletes a blob. Succeeds if it does not exist.
    async fn remove(&self, blob: &BlobRef) -> Result<(), BlobError>;
}

/// Opens the storage at a URL: the path of a folder, or an object store (`s3://…`, `file:///…`,
/// `memory:///`).
pub(crate) fn blobs_by_url(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    // a single letter is a drive
    let scheme = url
        .split_once(':')
        .map(|(scheme, _)| scheme)
        .filter(|scheme| {
            scheme.len() > 1
                && scheme
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
        });
    match (url, scheme) {
        ("", _) => Err(BlobError::Url {
            url: String::new(),
            problem: "it is empty".to_owned(),
        }),
        (_, Some(_)) => object::open(url),
        (_, None) => Ok(Arc::new(folder::FolderBlobs::new(url))),
    }
}

/// Opens a folder beside the file of a store. Users that may read the file may read the blobs.
#[cfg(feature = "sqlite")]
pub(crate) fn blobs_beside(folder: PathBuf, file: &Path) -> Arc<dyn Blobs> {
    Arc::new(folder::FolderBlobs::beside(folder, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_back_equal() {
        let blob = BlobRef::of(b"a large value", 7);
        assert_eq!((blob.length, blob.number), (13, 7));
        assert_eq!(BlobRef::from_bytes(&blob.to_bytes()), Some(blob));
        for wrong in [&blob.to_bytes()[..47], &[], &[0; 49]] {
            assert_eq!(BlobRef::from_bytes(wrong), None, "{} bytes", wrong.len());
        }
    }

    #[test]
    fn a_path_is_a_folder_and_what_has_a_scheme_is_not() {
        for path in ["blobs", "/srv/blobs", "./blobs:2", "C:\\blobs", "a b:c"] {
            let blobs = format!("{:?}", blobs_by_url(path).unwrap());
            assert!(blobs.starts_with("FolderBlobs"), "{path}: {blobs}");
        }
        assert!(matches!(blobs_by_url(""), Err(BlobError::Url { .. })));
        assert!(matches!(
            blobs_by_url("ftp://example.org/blobs"),
            Err(BlobError::Url { .. })
        ));
    }
}
