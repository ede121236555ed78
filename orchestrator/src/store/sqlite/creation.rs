//! Creating the file of a store, and recognizing what is left of an earlier one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connection::beside;
use super::failure;
use super::location::place_of;
use super::schema;
use crate::error::StoreError;

/// The time between looks at an empty file, and their number: another process may be creating the
/// store.
const MAKING: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;

/// The longest chain of links, as in Linux.
const MOST_LINKS: u32 = 40;

/// Inspects the file before SQLite does. A missing file is created for its owner alone; SQLite
/// creates the files beside it with the same permissions. If the file cannot be inspected or
/// created, this succeeds and opening it reports the error.
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        // SQLite treats a file of one byte as an empty one
        Ok(file) if file.len() == 1 => return Err(schema::no_database(path)),
        Ok(file) if file.len() == 0 => return refuse_emptied(path),
        _ => {}
    }
    Ok(())
}

/// Returns the target of a path that may be a link, or a chain of links, to a missing file.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(to) = fs::read_link(&target) else {
            break;
        };
        target = target.parent().unwrap_or(Path::new("")).join(to);
    }
    target
}

/// Creates an empty file under another name and links it to its own name, which fails if that
/// exists. No handle of the file is open by then: closing one would drop the locks that this
/// process holds on it. The folder behind a link is not created: it may belong to a disk that is
/// not mounted.
fn make(path: &Path) -> Result<(), StoreError> {
    let target = target(path);
    let temporary = beside(
        &target,
        &format!("-{:032x}.tmp", u128::from_ne_bytes(random())),
    );
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    set_private(&mut options);
    match options.open(&temporary) {
        Ok(_) => {
            // a file system without links mostly has no permissions either: there SQLite creates
            // the file
            let _ = fs::hard_link(&temporary, &target);
            let _ = fs::remove_file(&temporary);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem = match target == path {
                true => String::new(),
                false => format!(", and the link `{}` leads there", path.display()),
            };
            Err(StoreError::Folder {
                folder: place_of(target.parent().unwrap_or(Path::new(""))),
                problem,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(failure::of_system(path, &error))
        }
        // for example a name that is too long with the ending: SQLite may succeed, or knows the
        // reason
        Err(_) => Ok(()),
    }
}

fn random() -> [u8; 16] {
    let mut random = [0; 16];
    random.copy_from_slice(&crate::id::entropy()[..16]);
    random
}

#[cfg(unix)]
fn set_private(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(crate::blob::private::FILE);
}

#[cfg(not(unix))]
fn set_private(_: &mut fs::OpenOptions) {}

/// Refuses a file of 0 bytes that was a store. It is recognized by the folder beside it, of the
/// processes that had it open.
fn refuse_emptied(path: &Path) -> Result<(), StoreError> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let owners = beside(&real, "-owners");
    if !owners.is_dir() {
        return Ok(());
    }
    // the folder may belong to a deleted store, in whose place another process is creating a new
    // one
    for _ in 0..LOOKS {
        if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            return Ok(());
        }
        std::thread::park_timeout(MAKING);
    }
    let problem = format!(
        "it is empty, and `{}` says that it was a store (if not, remove both)",
        owners.display()
    );
    Err(StoreError::Damaged {
        place: place_of(path),
        problem,
    })
}
