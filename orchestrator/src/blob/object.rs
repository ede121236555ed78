use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use url::{Position, Url};

use super::{BlobRef, Blobs};
use crate::error::BlobError;

/// Blobs as objects of a bucket, or of whatever else `object_store` can talk to.
#[derive(Debug)]
struct ObjectBlobs {
    store: Box<dyn ObjectStore>,
    /// What the URL says behind the bucket.
    prefix: Path,
    /// The URL as errors show it: without a password, and without a query, which may hold a signature.
    url: String,
}

/// Opens the object store of a URL. What else it needs (keys, regions, endpoints) is read from the environment, by the
/// names that `object_store` documents: `AWS_ACCESS_KEY_ID`.
pub(super) fn open(url: &str) -> Result<Arc<dyn Blobs>, BlobError> {
    let mut parsed = Url::parse(url).map_err(|error| BlobError::Url {
        url: url.to_owned(),
        problem: error.to_string(),
    })?;
    // a variable that is no text is none of object_store's; `env::vars` would panic on it
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
    async fn put(&self, bytes: Vec<u8>, number: u64) -> Result<BlobRef, BlobError> {
        let blob = BlobRef::of(&bytes, number);
        let path = self.path(&blob);
        self.store
            .put(&path, PutPayload::from(bytes))
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

/// The first line: answers of object stores may be whole pages.
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
    async fn what_was_put_is_got_until_it_is_removed() {
        let folder = TempDir::new().unwrap();
        for url in ["memory:///", "memory:///some/prefix", &url(&folder)] {
            let blobs = blobs_by_url(url).unwrap();
            for bytes in [vec![], vec![7], vec![7; 3 << 20]] {
                let blob = blobs.put(bytes.clone(), 0).await.unwrap();
                assert_eq!(blobs.put(bytes.clone(), 0).await, Ok(blob));
                assert!(blobs.get(&blob).await.unwrap() == bytes);
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
            .put(b"value".to_vec(), 0)
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
        let blob = blobs.put(b"value".to_vec(), 0).await.unwrap();
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
    fn a_url_of_no_object_store_is_refused_without_its_secrets() {
        for url in [
            "ftp://user:secret@example.org/blobs?sig=secret",
            "file://host/blobs",
            "s3:",
        ] {
            let refused = blobs_by_url(url).unwrap_err().to_string();
            assert!(!refused.contains('\n'), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
