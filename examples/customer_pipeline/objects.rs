//! The object store: Parquet files by key, in a folder.
//!
//! Tasks hand each other keys, not rows. `object_store` has the same calls for S3, GCS and Azure;
//! the folder is what a fresh machine has.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use examples::folder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{RecordReader, RecordWriter};

/// The object store of the pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
}

/// What went wrong, and with which object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ObjectsError {
    #[error("cannot make the object store's folder `{}`", folder::shown(folder))]
    Folder { folder: PathBuf, source: io::Error },
    #[error("object `{key}` could not be read or written")]
    Store {
        key: String,
        source: object_store::Error,
    },
    #[error(
        "object `{key}` is not the Parquet file that was expected; run the day again to write it anew"
    )]
    Content { key: String, source: ParquetError },
    #[error("cannot open the object store")]
    Open(#[from] object_store::Error),
}

impl Objects {
    /// Opens the store in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(crate) fn open(root: PathBuf) -> Result<Self, ObjectsError> {
        if let Err(source) = fs::create_dir_all(&root) {
            return Err(ObjectsError::Folder {
                folder: root,
                source,
            });
        }
        Ok(Self {
            store: Arc::new(LocalFileSystem::new_with_prefix(&root)?),
            root,
        })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes rows as one object. It appears whole or not at all, and replaces what was there:
    /// doing it twice is doing it once.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub(crate) async fn write<T>(&self, key: &str, rows: &[T]) -> Result<(), ObjectsError>
    where
        for<'a> &'a [T]: RecordWriter<T>,
    {
        let bytes = encode(rows).map_err(|source| content(key, source))?;
        self.store
            .put(&Key::from(key), bytes.into())
            .await
            .map_err(|source| store(key, source))?;
        Ok(())
    }

    /// Reads the rows of an object.
    ///
    /// # Errors
    /// If there is no such object, or its rows are others.
    pub(crate) async fn read<T>(&self, key: &str) -> Result<Vec<T>, ObjectsError>
    where
        Vec<T>: RecordReader<T>,
    {
        let object = self
            .store
            .get(&Key::from(key))
            .await
            .map_err(|source| store(key, source))?;
        let bytes = object.bytes().await.map_err(|source| store(key, source))?;
        SerializedFileReader::new(bytes)
            .and_then(|file| decode(&file))
            .map_err(|source| content(key, source))
    }
}

fn store(key: &str, source: object_store::Error) -> ObjectsError {
    ObjectsError::Store {
        key: key.to_owned(),
        source,
    }
}

fn content(key: &str, source: ParquetError) -> ObjectsError {
    ObjectsError::Content {
        key: key.to_owned(),
        source,
    }
}

fn encode<T>(rows: &[T]) -> Result<Vec<u8>, ParquetError>
where
    for<'a> &'a [T]: RecordWriter<T>,
{
    let properties = Arc::new(WriterProperties::builder().build());
    let mut file = SerializedFileWriter::new(Vec::new(), rows.schema()?, properties)?;
    let mut group = file.next_row_group()?;
    rows.write_to_row_group(&mut group)?;
    group.close()?;
    file.into_inner()
}

fn decode<T>(file: &impl FileReader) -> Result<Vec<T>, ParquetError>
where
    Vec<T>: RecordReader<T>,
{
    let mut rows = Vec::new();
    for index in 0..file.num_row_groups() {
        let mut group = file.get_row_group(index)?;
        let count = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))?;
        let mut part = Vec::new();
        part.read_from_row_group(group.as_mut(), count)?;
        rows.append(&mut part);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use examples::shop::Customer;

    fn customer(customer_id: u32) -> Customer {
        let day = NaiveDate::from_ymd_opt(1997, 2, customer_id).unwrap();
        Customer {
            customer_id,
            as_of: day,
            first_purchase: day,
            last_purchase: day,
            purchase_days: 1,
            lifetime_value_cents: -250,
        }
    }

    #[tokio::test]
    async fn rows_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path().join("objects")).unwrap();
        for rows in [vec![customer(1), customer(28)], vec![]] {
            objects
                .write("customers/1997-02-28.parquet", &rows)
                .await
                .unwrap();
            assert_eq!(
                objects
                    .read::<Customer>("customers/1997-02-28.parquet")
                    .await
                    .unwrap(),
                rows
            );
        }
        assert!(
            objects
                .root()
                .join("customers/1997-02-28.parquet")
                .is_file()
        );
    }

    #[tokio::test]
    async fn what_is_missing_or_damaged_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path().to_owned()).unwrap();
        let error = objects
            .read::<Customer>("none.parquet")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("none.parquet"), "{error}");
        fs::write(folder.path().join("bad.parquet"), "rubbish").unwrap();
        let error = objects
            .read::<Customer>("bad.parquet")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`bad.parquet` is not the Parquet file"),
            "{error}"
        );
    }
}
