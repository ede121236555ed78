//! A folder with a file a name, as Docker and Kubernetes mount secrets.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::secret::{Secret, drop_newline};

/// The environment variable that names the folder.
const VARIABLE: &str = "ORCHESTRATOR_SECRETS";

/// The folder if the variable is not set, provided that it exists.
const DEFAULT: &str = "/run/secrets";

/// The maximum size of a file, in bytes.
const MOST: u64 = 1 << 20;

/// Returns the folder, if there is one.
pub(super) fn path() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(DEFAULT)).filter(|path| path.is_dir()),
    }
}

/// Reads the file of a name; one newline at its end is dropped.
///
/// # Errors
///
/// Returns an error if the file cannot be read, is too large, or is not text.
pub(super) fn read(file: &Path) -> Result<Option<Secret>, String> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    opened
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("expected at most {MOST} bytes"));
    }
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err("expected it to be text, got bytes that are not UTF-8".to_owned());
    };
    drop_newline(&mut text);
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &[u8]| {
            let file = folder.path().join("key");
            std::fs::write(&file, text).unwrap();
            read(&file).map(|text| text.map(|text| text.expose().to_owned()))
        };
        for (text, expected) in [
            ("k-1\n", "k-1"),
            ("k-1\r\n", "k-1"),
            ("k-1\n\n", "k-1\n"),
            (" k 1 ", " k 1 "),
            ("", ""),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(Some(expected.to_owned())));
        }
        assert!(read(b"\xff").unwrap_err().contains("UTF-8"));
        let large = vec![b'x'; MOST as usize + 1];
        assert!(read(&large).unwrap_err().contains("1048576"));
        let missing = super::read(&folder.path().join("other"));
        assert!(missing.unwrap().is_none());
        assert!(super::read(folder.path()).is_err());
    }
}
