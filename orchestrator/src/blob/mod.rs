//! Large values, kept beside the store: a row keeps a [`BlobRef`], and the bytes are in a folder or an object store.
//!
//! A blob's name is the hash of its bytes and a number that no other blob has: a blob is never changed, and exactly one
//! row refers to it. It is there before its row, and removed after it.

mod folder;
#[cfg(feature = "object-store")]
mod object;
#[cfg(not(feature = "object-store"))]
#[path = "no_object.rs"]
mod object;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BlobError;

/// Names a blob by what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlobRef {
    /// BLAKE3 of the bytes.
    pub(crate) hash: [u8; 32],
    /// How many they are.
    pub(crate) length: u64,
    /// Tells it from other blobs with the same bytes.
    pub(crate) number: u64,
}

impl BlobRef {
    /// How long a reference is in a row.
    pub(crate) const LENGTH: usize = 48;

    /// The name of these bytes, as the blob of a number.
    pub(crate) fn of(bytes: &[u8], number: u64) -> Self {
        Self {
            hash: *blake3::hash(bytes).as_bytes(),
            length: bytes.len() as u64,
            number,
        }
    }

    /// As it stands in a row: the hash, then the length and the number with their lowest bytes first.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&self.hash);
        bytes[32..40].copy_from_slice(&self.length.to_le_bytes());
        bytes[40..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; nothing where it is not as long.
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

    /// Where it is, below the folder or the prefix: `ab/cdef…-12.blob`. In one folder, a million files would be slow.
    fn name(&self) -> String {
        let hash = self.hex();
        format!("{}/{}-{:x}.blob", &hash[..2], &hash[2..], self.number)
    }

    fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_string()
    }

    /// Says whether these bytes are what was put. `place` is for the error.
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

/// Keeps blobs.
#[async_trait]
pub(crate) trait Blobs: fmt::Debug + Send + Sync {
    /// Keeps the bytes, as a blob of a number that no other has. When this returns they are safe from a loss of power.
    async fn put(&self, bytes: Vec<u8>, number: u64) -> Result<BlobRef, BlobError>;

    /// The bytes, which are known to be those that were put.
    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError>;

    /// Deletes a blob. One that is gone already is no error.
    async fn remove(&self, blob: &BlobRef) -> Result<(), BlobError>;
}

/// The place that a URL names: a folder by its path, or an object store (`s3://…`, `file:///…`, `memory:///`).
pub(crate) fn blobs_by_url(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    // one letter is a drive
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
