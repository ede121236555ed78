//! Permissions: stored data is readable by its owner only, on systems with permissions.

use std::fs;
use std::io;
use std::path::Path;

/// The mode of new files: only the owner may read and write them.
pub(crate) const FILE: u32 = 0o600;

/// Returns the mode of a new folder beside a file: users that may read the file may enter the
/// folder.
pub(crate) fn folder_mode(beside: Option<&Path>) -> u32 {
    let file = beside.and_then(mode).unwrap_or(FILE);
    file | (file & 0o444) >> 2
}

/// Creates a folder with these permissions, and its parents with the system's default. An existing
/// folder is not changed.
pub(crate) fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    let mut builder = fs::DirBuilder::new();
    set_mode(&mut builder, mode);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path)
        .ok()
        .map(|file| file.permissions().mode() & 0o666)
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}

#[cfg(unix)]
fn set_mode(builder: &mut fs::DirBuilder, mode: u32) {
    use std::os::unix::fs::DirBuilderExt;
    builder.mode(mode);
}

#[cfg(not(unix))]
fn set_mode(_: &mut fs::DirBuilder, _: u32) {}
