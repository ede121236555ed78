//! Connections, variables and secrets.

use super::*;
use crate::store::vault::{KeyId, SealedText};

/// Creates an entry. These bytes stand for a sealed text.
fn sealed(kind: EntryKind, name: &str, bytes: &[u8]) -> NewEntry {
    let text = SealedText {
        key: KeyId([7; 8]),
        bytes: bytes.to_vec(),
    };
    NewEntry::sealed(kind, name, text)
}

async fn put_secret(store: &dyn Store, name: &str, bytes: &[u8], at: i64) {
    let entry = sealed(EntryKind::Secret, name, bytes);
    store.put_entry(entry, time(at)).await.unwrap();
}

async fn secret(store: &dyn Store, name: &str) -> Option<StoredEntry> {
    store.find_entry(EntryKind::Secret, name).await.unwrap()
}

/// Creates the entry that is expected of a secret.
fn expected(name: &str, bytes: &[u8], version: i64, at: i64) -> StoredEntry {
    StoredEntry {
        kind: EntryKind::Secret,
        name: name.to_owned(),
        content: EntryContent::Sealed(SealedText {
            key: KeyId([7; 8]),
            bytes: bytes.to_vec(),
        }),
        version,
        set_at: time(at),
    }
}

/// Seals an entry anew, with another key.
fn resealed(entry: &StoredEntry, bytes: &[u8]) -> StoredEntry {
    StoredEntry {
        content: EntryContent::Sealed(SealedText {
            key: KeyId([8; 8]),
            bytes: bytes.to_vec(),
        }),
        ..entry.clone()
    }
}

#[tokio::test]
async fn entry_is_found_by_kind_and_name() {
    on_each(async |opened| {
        let store = &*opened.store;
        assert_eq!(secret(store, "api_key").await, None);
        put_secret(store, "api_key", b"\x00\xff", 5).await;
        let variable = NewEntry::variable("api_key", "a \"plain\" text\0");
        store.put_entry(variable, time(6)).await.unwrap();
        assert_eq!(
            secret(store, "api_key").await,
            Some(expected("api_key", b"\x00\xff", 1, 5))
        );
        let found = store.find_entry(EntryKind::Variable, "api_key").await;
        let found = found.unwrap().unwrap();
        assert_eq!(
            (found.content, found.version, found.set_at),
            (
                EntryContent::Plain("a \"plain\" text\0".to_owned()),
                1,
                time(6)
            )
        );
        let other = store.find_entry(EntryKind::Connection, "api_key").await;
        assert_eq!(other.unwrap(), None);
        for name in ["API_KEY", "api_ke", "api_key ", "api%", ""] {
            assert_eq!(secret(store, name).await, None, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_two_values_of_a_name_have_one_version() {
    on_each(async |opened| {
        let store = &*opened.store;
        put_secret(store, "a", b"1", 1).await;
        put_secret(store, "a", b"2", 2).await;
        assert_eq!(secret(store, "a").await, Some(expected("a", b"2", 2, 2)));
        let remove = async || store.remove_entry(EntryKind::Secret, "a").await.unwrap();
        assert!(remove().await);
        assert!(!remove().await);
        assert_eq!(secret(store, "a").await, None);
        assert_eq!(store.list_entries(None).await.unwrap(), []);
        // even if it is the same value
        put_secret(store, "a", b"2", 3).await;
        assert_eq!(secret(store, "a").await, Some(expected("a", b"2", 3, 3)));
        put_secret(store, "b", b"1", 4).await;
        assert_eq!(secret(store, "b").await, Some(expected("b", b"1", 1, 4)));
    })
    .await;
}

#[tokio::test]
async fn entries_are_listed_by_kind_and_name() {
    on_each(async |opened| {
        let store = &*opened.store;
        for name in ["b", "a", "B", "a.b", "é", "a-b"] {
            put_secret(store, name, b"1", 1).await;
            let connection = sealed(EntryKind::Connection, name, b"1");
            store.put_entry(connection, time(1)).await.unwrap();
            let variable = NewEntry::variable(name, "1");
            store.put_entry(variable, time(1)).await.unwrap();
        }
        for kind in [EntryKind::Secret, EntryKind::Connection] {
            store.remove_entry(kind, "b").await.unwrap();
        }
        let listed = async |kind| {
            let entries = store.list_entries(kind).await.unwrap();
            let told = entries
                .iter()
                .map(|entry| format!("{} {}", entry.kind, entry.name));
            told.collect::<Vec<_>>()
        };
        let of = |kind: &str, names: &[&str]| {
            let told = names.iter().map(|name| format!("{kind} {name}"));
            told.collect::<Vec<_>>()
        };
        let sealed = ["B", "a", "a-b", "a.b", "é"];
        let plain = ["B", "a", "a-b", "a.b", "b", "é"];
        let all = [
            of("connection", &sealed),
            of("variable", &plain),
            of("secret", &sealed),
        ];
        assert_eq!(listed(None).await, all.concat());
        for (kind, told) in EntryKind::ALL.into_iter().zip(all) {
            assert_eq!(listed(Some(kind)).await, told);
        }
    })
    .await;
}

#[tokio::test]
async fn resealing_loses_nothing_that_was_set_meanwhile() {
    on_each(async |opened| {
        let store = &*opened.store;
        for name in ["kept", "replaced", "removed", "set again"] {
            put_secret(store, name, b"old", 1).await;
        }
        let read = store.list_entries(None).await.unwrap();
        put_secret(store, "replaced", b"new", 2).await;
        for name in ["removed", "set again"] {
            store.remove_entry(EntryKind::Secret, name).await.unwrap();
        }
        put_secret(store, "set again", b"new", 2).await;
        let sealed_anew = read.iter().map(|entry| resealed(entry, b"resealed"));
        let replaced = store.reseal_entries(sealed_anew.collect()).await;
        assert_eq!(replaced, Ok(1));
        // the value is the same, and so are its version and when it was set
        let kept = resealed(&expected("kept", b"old", 1, 1), b"resealed");
        assert_eq!(
            store.list_entries(None).await.unwrap(),
            [
                kept,
                expected("replaced", b"new", 2, 2),
                expected("set again", b"new", 2, 2),
            ]
        );
        assert_eq!(store.reseal_entries(Vec::new()).await, Ok(0));
        let unknown = vec![expected("unknown", b"1", 1, 1)];
        assert_eq!(store.reseal_entries(unknown).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn long_names_and_large_values_are_kept() {
    on_each(async |opened| {
        let store = &*opened.store;
        let (name, bytes) = ("n".repeat(200), vec![0xa5; 1 << 20]);
        let other = format!("{}m", "n".repeat(199));
        put_secret(store, &name, &bytes, 1).await;
        put_secret(store, &other, b"1", 1).await;
        put_secret(store, "empty", b"", 1).await;
        let text = "é".repeat(1 << 19);
        let variable = NewEntry::variable(&name, &text);
        store.put_entry(variable, time(1)).await.unwrap();
        let variable = NewEntry::variable("empty", "");
        store.put_entry(variable, time(1)).await.unwrap();

        let entries = store.list_entries(Some(EntryKind::Secret)).await.unwrap();
        assert_eq!(
            entries,
            [
                expected("empty", b"", 1, 1),
                expected(&other, b"1", 1, 1),
                expected(&name, &bytes, 1, 1),
            ]
        );
        for (name, text) in [(&*name, text), ("empty", String::new())] {
            let found = store.find_entry(EntryKind::Variable, name).await;
            assert_eq!(found.unwrap().unwrap().content, EntryContent::Plain(text));
        }
        assert!(store.check_store().await.unwrap().problems.is_empty());
    })
    .await;
}

#[tokio::test]
async fn processes_share_entries_of_a_store() {
    on_each_durable(async |opened| {
        let (one, other) = (&*opened.store, opened.reopen());
        put_secret(one, "a", b"1", 1).await;
        assert_eq!(secret(&*other, "a").await, Some(expected("a", b"1", 1, 1)));
        put_secret(&*other, "a", b"2", 2).await;
        assert_eq!(secret(one, "a").await, Some(expected("a", b"2", 2, 2)));
        assert!(one.remove_entry(EntryKind::Secret, "a").await.unwrap());
        assert_eq!(secret(&*other, "a").await, None);
        put_secret(&*other, "a", b"3", 3).await;
        drop(other);
        let third = opened.reopen();
        assert_eq!(secret(&*third, "a").await, Some(expected("a", b"3", 3, 3)));
        let counts = third.check_store().await.unwrap().counts;
        assert_eq!(counts["vault_entries"], 1);
    })
    .await;
}
