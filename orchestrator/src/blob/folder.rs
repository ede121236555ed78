use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::{BlobRef, Blobs, private};
use crate::error::BlobError;

/// Blobs as files of a folder, which is created with the first one.
#[derive(Debug)]
pub(super) struct FolderBlobs {
    folder: Arc<Path>,
    /// The file from whose permissions those of the folder are derived.
    beside: Option<Arc<Path>>,
}

impl FolderBlobs {
    pub(super) fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into().into(),
            beside: None,
        }
    }

    /// Creates the storage in a folder beside a file. The folder's permissions are derived from the
    /// file's.
    #[cfg(feature = "sqlite")]
    pub(super) fn beside(folder: PathBuf, file: &Path) -> Self {
        Self {
            beside: Some(file.into()),
            ..Self::new(folder)
        }
    }

    /// Runs a function on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let folder = Arc::clone(&self.folder);
        match spawn_blocking(move || work(&folder)).await {
            Ok(result) => result,
            // tokio is shutting down
            Err(error) => Err(failed(&self.folder, &io::Error::other(error))),
        }
    }
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn put(&self, bytes: Arc<Vec<u8>>, number: u64) -> Result<BlobRef, BlobError> {
        let beside = self.beside.clone();
        self.blocking(move |folder| {
            let blob = BlobRef::of(&bytes, number);
            let path = folder.join(blob.name());
            if !folder.is_dir() {
                let made = private::make_folder(folder, private::folder_mode(beside.as_deref()));
                made.map_err(|error| failed(&path, &error))?;
            }
            write(folder, &path, &bytes)
                .map(|()| blob)
                .map_err(|error| failed(&path, &error))
        })
        .await
    }

    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        let blob = *blob;
        self.blocking(move |folder| {
            let path = folder.join(blob.name());
            let unread = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => blob.missing(path.display()),
                _ => failed(&path, &error),
            };
            // before it is read: an altered file may be of any size
            blob.check_length(path.display(), fs::metadata(&path).map_err(unread)?.len())?;
            let bytes = fs::read(&path).map_err(unread)?;
            blob.check(path.display(), &bytes).map(|()| bytes)
        })
        .await
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), BlobError> {
        let blob = *blob;
        self.blocking(move |folder| {
            let path = folder.join(blob.name());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, &error)),
                _ => Ok(()),
            }
        })
        .await
    }
}

/// Writes a file so that it exists completely or not at all, even if the process dies or the power
/// fails: written under a temporary name, synced, renamed, and the folder synced last.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);

    let beside = path.parent().unwrap_or(folder);
    let made = !beside.exists();
    fs::create_dir_all(beside)?;
    // unique among processes and within this one; a file that a crash leaves under such a name is
    // never read
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync(beside)?;
    if made { sync(folder) } else { Ok(()) }
}

/// Makes the entries of a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    // other systems cannot open a folder as a file; their file systems make entries durable
    // themselves
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> BlobError {
    let place = path.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full { place },
        _ => BlobError::Failed {
            place,
            problem: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn all_files(folder: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        folders
            .flat_map(|inner| {
                fs::read_dir(inner)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
            })
            .collect()
    }

    #[tokio::test]
    async fn blob_is_read_back() {
        let folder = TempDir::new().unwrap();
        let blobs = FolderBlobs::new(folder.path().join("a/b"));
        for bytes in [vec![], vec![7], vec![7; 3 << 20]] {
            let blob = blobs.put(bytes.clone().into(), 0).await.unwrap();
            assert_eq!(blob, BlobRef::of(&bytes, 0));
            let got = blobs.get(&blob).await.unwrap();
            assert!(got == bytes, "{} bytes", bytes.len());
        }
    }

    #[tokio::test]
    async fn equal_values_are_blobs_of_their_own() {
        let folder = TempDir::new().unwrap();
        let blobs = FolderBlobs::new(folder.path());
        let put = futures_util::future::join_all(
            (0..16).map(|number| blobs.put(vec![1; 100_000].into(), number)),
        );
        let put: Vec<BlobRef> = put.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(all_files(folder.path()).len(), 16);
        blobs.remove(&put[3]).await.unwrap();
        for (number, blob) in put.iter().enumerate() {
            assert_eq!(blobs.get(blob).await.is_ok(), number != 3, "blob {number}");
        }
    }

    #[tokio::test]
    async fn a_removed_blob_is_missing_and_may_be_removed_again() {
        let folder = TempDir::new().unwrap();
        let blobs = FolderBlobs::new(folder.path());
        let blob = blobs.put(b"value".to_vec().into(), 0).await.unwrap();
        blobs.remove(&blob).await.unwrap();
        blobs.remove(&blob).await.unwrap();
        let place = folder.path().join(blob.name()).display().to_string();
        assert_eq!(
            blobs.get(&blob).await,
            Err(BlobError::Missing { place, expected: 5 })
        );
    }

    #[tokio::test]
    async fn an_altered_blob_is_named_with_what_was_expected_and_found() {
        let folder = TempDir::new().unwrap();
        let blobs = FolderBlobs::new(folder.path());
        let blob = blobs.put(b"value".to_vec().into(), 0).await.unwrap();
        let path = folder.path().join(blob.name());
        for (bytes, expected, found) in [
            ("val", "5 bytes".to_owned(), "3".to_owned()),
            ("values", "5 bytes".to_owned(), "6".to_owned()),
            (
                "wrong",
                format!("the hash {}", blob.hex()),
                BlobRef::of(b"wrong", 0).hex(),
            ),
        ] {
            fs::write(&path, bytes).unwrap();
            let place = path.display().to_string();
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

    #[tokio::test]
    async fn half_written_blob_is_ignored() {
        let folder = TempDir::new().unwrap();
        let blobs = FolderBlobs::new(folder.path());
        let blob = BlobRef::of(b"value", 0);
        let path = folder.path().join(blob.name());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let number = |number| path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        for left in (0..1000).map(number) {
            fs::write(left, "val").unwrap();
        }
        assert!(matches!(
            blobs.get(&blob).await,
            Err(BlobError::Missing { .. })
        ));
        assert_eq!(blobs.put(b"value".to_vec().into(), 0).await, Ok(blob));
        assert_eq!(blobs.get(&blob).await.unwrap(), b"value");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_named() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let blobs = FolderBlobs::new(folder.path().join("file"));
        let failed = blobs
            .put(b"value".to_vec().into(), 0)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            failed.contains(&BlobRef::of(b"value", 0).name()),
            "{failed}"
        );
        assert!(!failed.contains('\n'), "{failed}");
    }
}
