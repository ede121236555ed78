use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use url::{Position, Url};

use super::{BlobRef, Blobs};
use crate::error::{BlobError, without_secrets};

/// Blobs as objects of a bucket, or of another storage that `object_store` supports.
struct ObjectBlobs {
    store: Box<dyn ObjectStore>,
    /// The path in the URL, after the bucket.
    prefix: Path,
    /// The URL as errors show it: without a password, and without a query, which may hold a
    /// signature.
    url: String,
}

/// Opens the object store at a URL. Keys, regions and endpoints are read from the environment
/// variables that `object_store` documents, such as `AWS_ACCESS_KEY_ID`.
pub(super) fn open(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    let mut parsed = Url::parse(url).map_err(|error| BlobError::Url {
        url: without_secrets(url),
        problem: error.to_string(),
    })?;
    // variables of `object_store` are valid Unicode; `env::vars` would panic on others
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let opened = object_store::parse_url_opts(&parsed, variables);
    let whole = parsed.to_string();
    // a URL without a host has no password
    let _ = parsed.set_password(None);
    let shown = parsed[..Position::AfterPath]
        .trim_end_matches('/')
        .to_owned();
    match opened {
        Ok((store, prefix)) => Ok(Arc::new(ObjectBlobs {
            store,
            prefix,
            url: shown,
        })),
        Err(error) => {
            let problem = text(&error).replace(&whole, &shown);
            Err(BlobError::Url {
                url: shown,
                problem,
            })
        }
    }
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // without the client, which contains keys
        f.debug_struct("ObjectBlobs")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl ObjectBlobs {
    fn path(&self, blob: &BlobRef) -> Path {
        blob.name()
            .split('/')
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn place(&self, blob: &BlobRef) -> String {
        format!("{}/{}", self.url, blob.name())
    }

    fn failed(&self, blob: &BlobRef, error: &Error) -> BlobError {
        BlobError::Failed {
            place: self.place(blob),
            problem: text(error),
        }
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn put(&self, bytes: Arc<Vec<u8>>, number: u64) -> Result<BlobRef, BlobError> {
        let blob = BlobRef::of(&bytes, number);
        let path = self.path(&blob);
        self.store
            .put(&path, PutPayload::from(Bytes::from_owner(Shared(bytes))))
            .await
            .map_err(|error| self.failed(&blob, &error))?;
        Ok(blob)
    }

    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        let unread = |error: Error| match error {
            Error::NotFound { .. } => blob.missing(self.place(blob)),
            _ => self.failed(blob, &error),
        };
        let found = self.store.get(&self.path(blob)).await.map_err(unread)?;
        blob.check_length(self.place(blob), found.meta.size)?;
        let bytes = found.bytes().await.map_err(unread)?;
        blob.check(self.place(blob), &bytes).map(|()| bytes.into())
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), BlobError> {
        match self.store.delete(&self.path(blob)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(blob, &error)),
        }
    }
}

/// Shared bytes, to be sent without a copy.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the first line of an error: answers of object stores may be whole pages.
fn text(error: &Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::blob::blobs_by_url;

    fn url(folder: &TempDir) -> String {
        Url::from_directory_path(folder.path().join("blobs"))
            .unwrap()
            .to_string()
    }

    #[tokio::test]
    async fn blob_is_read_back_until_it_is_removed() {
        let folder = TempDir::new().unwrap();
        for url in ["memory:///", "memory:///some/prefix", &url(&folder)] {
            let blobs = blobs_by_url(url).unwrap();
            for bytes in [vec![], vec![7], vec![7; 3 << 20]] {
                let blob = blobs.put(bytes.clone().into(), 0).await.unwrap();
                assert_eq!(blobs.put(bytes.clone().into(), 0).await, Ok(blob), "{url}");
                assert!(
                    blobs.get(&blob).await.unwrap() == bytes,
                    "{url}: {} bytes",
                    bytes.len()
                );
                blobs.remove(&blob).await.unwrap();
                blobs.remove(&blob).await.unwrap();
                let place = format!("{}/{}", url.trim_end_matches('/'), blob.name());
                assert_eq!(
                    blobs.get(&blob).await,
                    Err(BlobError::Missing {
                        place,
                        expected: blob.length
                    })
                );
            }
        }
    }

    #[tokio::test]
    async fn names_are_those_of_a_folder() {
        let folder = TempDir::new().unwrap();
        let blob = blobs_by_url(&url(&folder))
            .unwrap()
            .put(b"value".to_vec().into(), 0)
            .await
            .unwrap();
        let path = folder.path().join("blobs");
        assert_eq!(
            blobs_by_url(path.to_str().unwrap())
                .unwrap()
                .get(&blob)
                .await
                .unwrap(),
            b"value"
        );
    }

    #[tokio::test]
    async fn an_altered_blob_is_named_with_what_was_expected_and_found() {
        let folder = TempDir::new().unwrap();
        let blobs = blobs_by_url(&url(&folder)).unwrap();
        let blob = blobs.put(b"value".to_vec().into(), 0).await.unwrap();
        for (bytes, expected, found) in [
            ("val", "5 bytes".to_owned(), "3".to_owned()),
            (
                "wrong",
                format!("the hash {}", blob.hex()),
                BlobRef::of(b"wrong", 0).hex(),
            ),
        ] {
            std::fs::write(folder.path().join("blobs").join(blob.name()), bytes).unwrap();
            let place = format!("{}{}", url(&folder), blob.name());
            assert_eq!(
                blobs.get(&blob).await,
                Err(BlobError::Altered {
                    place,
                    expected,
                    found
                }),
                "{bytes}"
            );
        }
    }

    #[test]
    fn unsupported_url_is_refused_without_showing_secrets() {
        for url in [
            "ftp://user:secret@example.org/blobs?sig=secret",
            "file://host/blobs",
            "s3:",
        ] {
            let refused = blobs_by_url(url).unwrap_err().to_string();
            assert!(!refused.contains('\n'), "{url}: {refused}");
            assert!(!refused.contains("secret"), "{url}: {refused}");
        }
    }
}
