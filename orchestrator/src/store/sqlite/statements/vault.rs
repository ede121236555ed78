//! Connections, variables and secrets. The row of a removed entry stays, without its content, so
//! that the next entry of the name gets another version.

use rusqlite::{Connection, Row, params};

use super::super::failure::{self, Failure};
use crate::clock::Timestamp;
use crate::entry::EntryKind;
use crate::store::sql::codes::Code;
use crate::store::sql::rows::Unreadable;
use crate::store::vault::{KeyId, SealedText};
use crate::store::{EntryContent, NewEntry, StoredEntry};

/// Selects the columns that [`read`] reads, of entries that were not removed; a condition follows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT kind, name, version, key, bytes, set_at FROM vault WHERE bytes IS NOT NULL ",
            $rest
        )
    };
}

pub(crate) fn put_entry(
    connection: &Connection,
    entry: &NewEntry,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO vault (kind, name, version, key, bytes, set_at) \
         VALUES (?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT DO UPDATE \
         SET version = version + 1, key = excluded.key, bytes = excluded.bytes, set_at = excluded.set_at",
    )?;
    let (key, bytes) = columns(&entry.content);
    upsert
        .execute(params![entry.kind.code(), entry.name, key, bytes, now])
        .map(drop)
}

pub(crate) fn find_entry(
    connection: &Connection,
    kind: EntryKind,
    name: &str,
) -> Result<Option<StoredEntry>, Failure> {
    let mut select = connection.prepare_cached(select!("AND kind = ?1 AND name = ?2"))?;
    let mut rows = select.query(params![kind.code(), name])?;
    Ok(rows.next()?.map(read).transpose()?)
}

pub(crate) fn list_entries(
    connection: &Connection,
    kind: Option<EntryKind>,
) -> Result<Vec<StoredEntry>, Failure> {
    let mut entries = Vec::new();
    each(connection, kind, |entry| {
        entries.push(entry?);
        Ok(())
    })?;
    Ok(entries)
}

/// Returns the problems of entries that cannot be read.
pub(crate) fn check(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    each(connection, None, |entry| {
        problems.extend(entry.err());
        Ok(())
    })?;
    Ok(problems)
}

fn each(
    connection: &Connection,
    kind: Option<EntryKind>,
    mut each: impl FnMut(Result<StoredEntry, Unreadable>) -> Result<(), Unreadable>,
) -> Result<(), Failure> {
    let mut select = connection.prepare_cached(match kind {
        Some(_) => select!("AND kind = ?1 ORDER BY name"),
        None => select!("ORDER BY kind, name"),
    })?;
    let mut rows = select.query(rusqlite::params_from_iter(kind.map(Code::code)))?;
    while let Some(row) = rows.next()? {
        each(read(row))?;
    }
    Ok(())
}

pub(crate) fn remove_entry(
    connection: &Connection,
    kind: EntryKind,
    name: &str,
) -> rusqlite::Result<bool> {
    let mut update = connection.prepare_cached(
        "UPDATE vault SET key = NULL, bytes = NULL \
         WHERE kind = ?1 AND name = ?2 AND bytes IS NOT NULL",
    )?;
    Ok(update.execute(params![kind.code(), name])? > 0)
}

pub(crate) fn reseal_entries(
    connection: &Connection,
    entries: &[StoredEntry],
) -> rusqlite::Result<usize> {
    let mut update = connection.prepare_cached(
        "UPDATE vault SET key = ?4, bytes = ?5 \
         WHERE kind = ?1 AND name = ?2 AND version = ?3 AND bytes IS NOT NULL",
    )?;
    let mut replaced = 0;
    for entry in entries {
        let (key, bytes) = columns(&entry.content);
        replaced += update.execute(params![
            entry.kind.code(),
            entry.name,
            entry.version,
            key,
            bytes
        ])?;
    }
    Ok(replaced)
}

/// Returns what is in the columns `key` and `bytes`.
fn columns(content: &EntryContent) -> (Option<&[u8]>, &[u8]) {
    match content {
        EntryContent::Plain(text) => (None, text.as_bytes()),
        EntryContent::Sealed(SealedText { key, bytes }) => (Some(&key.0), bytes),
    }
}

fn read(row: &Row<'_>) -> Result<StoredEntry, Unreadable> {
    let text = |error: rusqlite::Error| failure::text(&error);
    let code = row.get(0).map_err(text)?;
    let kind = EntryKind::of(code).ok_or_else(|| format!("an entry of the unknown kind {code}"))?;
    let name: String = row
        .get(1)
        .map_err(|error| format!("a {kind}: {}", failure::text(&error)))?;
    let damaged = |problem: String| format!("{kind} `{name}`: {problem}");
    let content = read_content(kind, row).map_err(damaged)?;
    let version = row.get(2).map_err(|error| damaged(text(error)))?;
    let set_at = row.get(5).map_err(|error| damaged(text(error)))?;
    Ok(StoredEntry {
        kind,
        name,
        content,
        version,
        set_at,
    })
}

fn read_content(kind: EntryKind, row: &Row<'_>) -> Result<EntryContent, Unreadable> {
    let text = |error: rusqlite::Error| failure::text(&error);
    let bytes: Vec<u8> = row.get(4).map_err(text)?;
    let key: Option<Vec<u8>> = row.get(3).map_err(text)?;
    match key {
        Some(key) => match <[u8; 8]>::try_from(key) {
            Ok(key) => Ok(EntryContent::Sealed(SealedText {
                key: KeyId(key),
                bytes,
            })),
            Err(key) => Err(format!("expected the id of a key, got {} bytes", key.len())),
        },
        // a plain text in the place of a sealed one was not written by this program
        None if kind != EntryKind::Variable => Err("it is not sealed".to_owned()),
        None => match String::from_utf8(bytes) {
            Ok(text) => Ok(EntryContent::Plain(text)),
            Err(error) => Err(error.utf8_error().to_string()),
        },
    }
}
