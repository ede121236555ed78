//! Checks whether the store's file is still at its path.
//!
//! A file that is deleted, moved or replaced while it is open stays open: SQLite would continue to
//! write to a file that no path leads to, and everything would be lost with the process. So the
//! path is checked whenever a run begins or ends, and once a second while runs are active. The file
//! is only inspected and never opened: closing a handle would drop the locks of this process.

use std::fs::{self, Metadata};
use std::io;
use std::path::PathBuf;

use super::location::{Location, place_of};
use crate::error::StoreError;

/// The identity of the store's file when this process opened it.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    path: PathBuf,
    /// `None` if the file could not be inspected.
    file: Option<FileId>,
}

impl Presence {
    /// Records the identity of a file that is open, so that its path has led to it since.
    pub(super) fn of(location: &Location) -> Self {
        let path = location.path.clone();
        Self {
            file: fs::metadata(&path).ok().map(|file| id(&file)),
            path,
        }
    }

    /// Checks that the file is still there.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::FileLost`] if the file is gone, or if another file is in its place. If
    /// the path cannot be inspected, the file is taken to be there.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let lost = |found| {
            Err(StoreError::FileLost {
                place: place_of(&self.path),
                found,
            })
        };
        match (fs::metadata(&self.path), self.file) {
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                lost("it is not there any more")
            }
            (Ok(file), Some(known)) if id(&file) != known => lost("another file is in its place"),
            _ => Ok(()),
        }
    }
}

/// The identity of a file, independent of its name.
#[cfg(unix)]
type FileId = (u64, u64);

#[cfg(unix)]
fn id(file: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Elsewhere std does not provide an identity; an open file can hardly be replaced there.
#[cfg(not(unix))]
type FileId = ();

#[cfg(not(unix))]
fn id(_: &Metadata) -> FileId {}
