//! Where the examples write: one folder, decided here.

use std::env;
use std::path::{Path, PathBuf};

/// The environment variable that moves the folder.
pub const VARIABLE: &str = "EXAMPLES_DATA";

/// The folder with everything that the examples write. Removing it is safe: the next start makes it
/// again.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// The folder named by `EXAMPLES_DATA`; without it `target/examples-data` of the workspace,
    /// which git ignores and `cargo clean` removes.
    pub fn from_env() -> Self {
        match env::var_os(VARIABLE) {
            Some(path) if !path.is_empty() => Self(path.into()),
            _ => Self(workspace().join("target").join("examples-data")),
        }
    }

    /// A folder of the caller's choice: each test has its own.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The shop's operational database.
    pub fn shop(&self) -> PathBuf {
        self.0.join("shop.db")
    }

    /// The warehouse.
    pub fn warehouse(&self) -> PathBuf {
        self.0.join("warehouse.db")
    }

    /// The URL of the store that runs are kept in.
    pub fn runs(&self) -> String {
        format!("sqlite:{}", self.0.join("runs.db").display())
    }

    /// The root of the object store.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }
}

/// The path as a person would type it: relative to where they stand, if it lies below.
pub fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The folder of the workspace's manifest: the parent of this package's.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}
