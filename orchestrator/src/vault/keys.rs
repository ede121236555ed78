//! The keys with which a store's connections and secrets are sealed.

use std::ffi::OsString;
use std::fmt;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT as BASE64;
use zeroize::Zeroizing;

use super::cipher::{self, Key, Nonce, Refusal};
use crate::entry::EntryKind;
use crate::secret::Secret;
use crate::store::vault::{KeyId, SealedText};
use crate::store::{EntryContent, NewEntry, StoredEntry};

/// The variable of the environment with keys.
const VARIABLE: &str = "ORCHESTRATOR_KEY";

/// The variable of the environment that names a file with keys.
const FILE_VARIABLE: &str = "ORCHESTRATOR_KEY_FILE";

/// Keys: the first seals texts, and all of them open texts. They are wiped when dropped.
pub(crate) struct KeyRing {
    /// At least one.
    keys: Vec<RingKey>,
    /// The variable of the environment that they come from.
    variable: &'static str,
}

struct RingKey {
    id: KeyId,
    key: Key,
}

impl KeyRing {
    /// Reads the keys of the environment: those of `ORCHESTRATOR_KEY`, or else those in the file that
    /// `ORCHESTRATOR_KEY_FILE` names. Returns `None` if both variables are unset or empty.
    ///
    /// A key is 32 bytes in base64, with or without padding; several have commas between them.
    ///
    /// # Errors
    ///
    /// Returns an error if a key is invalid or the file cannot be read.
    pub(crate) fn from_environment() -> Result<Option<Self>, KeyError> {
        Self::from_values(std::env::var_os(VARIABLE), std::env::var_os(FILE_VARIABLE))
    }

    /// Returns why there are no keys, or `None` if the environment names some.
    pub(crate) fn lack() -> Option<&'static str> {
        let is_set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        match is_set(VARIABLE) || is_set(FILE_VARIABLE) {
            true => None,
            false => Some("neither `ORCHESTRATOR_KEY` nor `ORCHESTRATOR_KEY_FILE` is set"),
        }
    }

    /// Reads the keys that these values of the variables stand for.
    fn from_values(
        keys: Option<OsString>,
        file: Option<OsString>,
    ) -> Result<Option<Self>, KeyError> {
        let keys = keys.map(|keys| Zeroizing::new(keys.into_encoded_bytes()));
        if let Some(keys) = keys.filter(|keys| !keys.trim_ascii().is_empty()) {
            return Self::parse(&keys, VARIABLE).map(Some);
        }
        let Some(file) = file.filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        // without the path: it is the key itself if the variables were mixed up
        let keys = fs::read(file).map_err(|error| KeyError::File {
            problem: error.to_string(),
        })?;
        Self::parse(&Zeroizing::new(keys), FILE_VARIABLE).map(Some)
    }

    /// Reads the keys of a text. `variable` is for errors.
    fn parse(text: &[u8], variable: &'static str) -> Result<Self, KeyError> {
        let keys = (1..).zip(text.split(|byte| *byte == b','));
        let keys = keys.map(|(number, text)| match parse_key(text.trim_ascii()) {
            Ok(key) => Ok(RingKey { id: id(&key), key }),
            Err(found) => Err(KeyError::Key {
                number,
                variable,
                found,
            }),
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { keys, variable })
    }

    /// Creates a key, in base64.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not provide randomness.
    #[cfg_attr(
        not(feature = "cli"),
        allow(dead_code, reason = "keys are made on the command line")
    )]
    pub(crate) fn new_key() -> Result<Secret, KeyError> {
        let mut key: Key = Zeroizing::new([0; 32]);
        fill(&mut *key)?;
        Ok(BASE64.encode(&key[..]).into())
    }

    /// Seals the text of an entry with the first key.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not provide randomness.
    pub(crate) fn seal(
        &self,
        kind: EntryKind,
        name: &str,
        text: &str,
    ) -> Result<NewEntry, KeyError> {
        let text = self.seal_text(kind, name, text)?;
        Ok(NewEntry::sealed(kind, name, text))
    }

    /// Returns the text of an entry, sealed or plain.
    ///
    /// # Errors
    ///
    /// Returns an error if the entry was sealed with a key that is not here, was sealed for another
    /// kind or name, or is damaged.
    pub(crate) fn open(&self, entry: &StoredEntry) -> Result<Secret, KeyError> {
        let (kind, name) = (entry.kind, entry.name.as_str());
        let SealedText { key: id, bytes } = match &entry.content {
            EntryContent::Plain(text) => return Ok(text.as_str().into()),
            EntryContent::Sealed(text) => text,
        };
        let key = self.keys.iter().find(|key| key.id == *id);
        let Some(RingKey { key, .. }) = key else {
            return Err(KeyError::UnknownKey {
                kind,
                name: name.to_owned(),
                id: *id,
                variable: self.variable,
            });
        };
        cipher::open(key, kind, name, bytes).map_err(|refusal| match refusal {
            Refusal::Altered => KeyError::Altered {
                kind,
                name: name.to_owned(),
            },
            Refusal::Format(format) => KeyError::Format {
                kind,
                name: name.to_owned(),
                format,
            },
        })
    }

    /// Seals an entry anew with the first key. Returns `None` if it is sealed with that key already,
    /// or is plain text.
    ///
    /// The bytes sealed with the old key may stay readable in the file of a store. If a key became
    /// known to others, change the secrets, too.
    ///
    /// # Errors
    ///
    /// Returns an error if the entry cannot be opened, or if the system does not provide randomness.
    pub(crate) fn reseal(&self, entry: &StoredEntry) -> Result<Option<StoredEntry>, KeyError> {
        match &entry.content {
            EntryContent::Sealed(text) if text.key != self.first().id => {}
            EntryContent::Sealed(_) | EntryContent::Plain(_) => return Ok(None),
        }
        let text = self.open(entry)?;
        let text = self.seal_text(entry.kind, &entry.name, text.expose())?;
        Ok(Some(StoredEntry {
            content: EntryContent::Sealed(text),
            ..entry.clone()
        }))
    }

    fn seal_text(&self, kind: EntryKind, name: &str, text: &str) -> Result<SealedText, KeyError> {
        let RingKey { id, key } = self.first();
        let mut nonce: Nonce = [0; 24];
        fill(&mut nonce)?;
        Ok(SealedText {
            key: *id,
            bytes: cipher::seal(key, nonce, kind, name, text),
        })
    }

    fn first(&self) -> &RingKey {
        &self.keys[0]
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| key.id);
        f.debug_list().entries(ids).finish()
    }
}

/// Reads a key. Returns what the text is instead, without showing any of it.
fn parse_key(text: &[u8]) -> Result<Key, String> {
    let decoded = BASE64.decode(text).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| "a text that is not base64".to_owned())?;
    match <&[u8; 32]>::try_from(&decoded[..]) {
        Ok(key) => Ok(Zeroizing::new(*key)),
        Err(_) => Err(match decoded.len() {
            1 => "1 byte".to_owned(),
            length => format!("{length} bytes"),
        }),
    }
}

fn id(key: &Key) -> KeyId {
    // a key of its own for this use: the id tells nothing of the one that seals
    let derived = blake3::derive_key("orchestrator 2026-12-01 id of a vault key", &**key);
    let mut id = [0; 8];
    id.copy_from_slice(&derived[..8]);
    KeyId(id)
}

/// Fills a slice with bytes from the system's generator.
///
/// All other randomness of the library comes from a seed, so that it can be repeated. That of keys
/// and nonces must not be repeatable.
fn fill(bytes: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(bytes).map_err(|error| KeyError::Random {
        problem: error.to_string(),
    })
}

/// The reason why there are no keys, or why an entry cannot be sealed or opened. It never contains a
/// key or a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyError {
    #[error(
        "expected key {number} of `{variable}` to be 32 bytes in base64, got {found}; `key new` \
         prints a key"
    )]
    Key {
        number: usize,
        variable: &'static str,
        found: String,
    },
    #[error("the file that `{FILE_VARIABLE}` names cannot be read: {problem}")]
    File { problem: String },
    #[error(
        "{kind} `{name}` is sealed with a key that `{variable}` does not have (id {id}): add it \
         after the first one, or set the {kind} again"
    )]
    UnknownKey {
        kind: EntryKind,
        name: String,
        id: KeyId,
        variable: &'static str,
    },
    #[error(
        "{kind} `{name}` cannot be decrypted: it is damaged, or was moved from another name; set \
         it again"
    )]
    Altered { kind: EntryKind, name: String },
    #[error(
        "{kind} `{name}` cannot be decrypted: expected the format 1, got {format}; it was sealed \
         by a newer version of the program, or is damaged"
    )]
    Format {
        kind: EntryKind,
        name: String,
        format: u8,
    },
    #[error("the system does not provide randomness: {problem}")]
    Random { problem: String },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::clock::Timestamp;
    use crate::store::{MemoryStore, VaultStore as _};

    /// The base64 of the bytes from 0 on.
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    /// The base64 of 32 times the byte 255.
    const OTHER: &str = "//////////////////////////////////////////8=";

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text.as_bytes(), VARIABLE).unwrap()
    }

    fn refused(text: &str) -> String {
        let refused = KeyRing::parse(text.as_bytes(), VARIABLE).unwrap_err();
        refused.to_string()
    }

    fn stored(kind: EntryKind, name: &str, text: SealedText) -> StoredEntry {
        StoredEntry {
            kind,
            name: name.to_owned(),
            content: EntryContent::Sealed(text),
            version: 3,
            set_at: Timestamp::EPOCH,
        }
    }

    fn secret(ring: &KeyRing, text: &str) -> StoredEntry {
        let text = ring.seal_text(EntryKind::Secret, "api_key", text).unwrap();
        stored(EntryKind::Secret, "api_key", text)
    }

    fn opened(ring: &KeyRing, entry: &StoredEntry) -> String {
        ring.open(entry).unwrap().expose().to_owned()
    }

    fn key_of(entry: &StoredEntry) -> KeyId {
        match &entry.content {
            EntryContent::Sealed(text) => text.key,
            EntryContent::Plain(_) => panic!("{entry:?} is plain"),
        }
    }

    #[test]
    fn keys_are_base64_with_or_without_padding() {
        let entry = secret(&ring(KEY), "text");
        // computed with the Python package `blake3`
        assert_eq!(key_of(&entry).to_string(), "fb4258a843301634");
        let unpadded = KEY.trim_end_matches('=');
        for text in [
            KEY,
            unpadded,
            &format!("  {KEY}\n"),
            &format!("{unpadded}\r\n"),
            &format!("{KEY},{OTHER}"),
            &format!("{OTHER} , {unpadded}\n"),
            &format!("{OTHER},\n{KEY},\n{OTHER}\n"),
            &format!("{KEY},{KEY}"),
        ] {
            assert_eq!(opened(&ring(text), &entry), "text", "{text}");
        }
    }

    #[test]
    fn invalid_keys_are_named_and_not_shown() {
        let of_length = |length: usize| BASE64.encode(vec![0xab; length]);
        let (short, long) = (of_length(31), of_length(33));
        let urlsafe = OTHER.replace('/', "_");
        let base64 = "a text that is not base64";
        for (text, number, found) in [
            ("", 1, "0 bytes"),
            ("qw==", 1, "1 byte"),
            (&*short, 1, "31 bytes"),
            (&long, 1, "33 bytes"),
            ("secret-key", 1, base64),
            (&urlsafe, 1, base64),
            (&KEY[1..], 1, base64),
            (&format!("{KEY}="), 1, base64),
            (&format!("{KEY} {OTHER}"), 1, base64),
            (&format!("{KEY},{short}"), 2, "31 bytes"),
            (&format!("{KEY},"), 2, "0 bytes"),
            (&format!("{KEY},,{OTHER}"), 2, "0 bytes"),
            (&format!("{KEY},{OTHER},?"), 3, base64),
        ] {
            let told = format!(
                "expected key {number} of `ORCHESTRATOR_KEY` to be 32 bytes in base64, got \
                 {found}; `key new` prints a key"
            );
            assert_eq!(refused(text), told, "{text}");
        }
    }

    #[test]
    fn variable_comes_before_the_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, format!("{OTHER}\n")).unwrap();
        let read = |keys: Option<&str>, file: Option<&OsStr>| {
            KeyRing::from_values(keys.map(Into::into), file.map(Into::into))
        };
        let first = |found: Result<Option<KeyRing>, KeyError>| found.unwrap().unwrap().first().id;
        let (path, gone) = (path.as_os_str(), folder.path().join("gone"));
        let [id, other] = [KEY, OTHER].map(|key| ring(key).first().id);
        assert_eq!(first(read(Some(KEY), None)), id);
        assert_eq!(first(read(Some(KEY), Some(path))), id);
        assert_eq!(first(read(Some(KEY), Some(gone.as_os_str()))), id);
        assert_eq!(first(read(None, Some(path))), other);
        assert_eq!(first(read(Some(" \n"), Some(path))), other);
        for keys in [None, Some("")] {
            for file in [None, Some(OsStr::new(""))] {
                assert!(read(keys, file).unwrap().is_none());
            }
        }
        // an invalid one is not passed over
        assert!(read(Some("?"), Some(path)).is_err());
    }

    #[test]
    fn file_that_cannot_be_read_or_has_no_keys_is_an_error() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("key");
        let read = |path: &OsStr| {
            let read = KeyRing::from_values(None, Some(path.to_owned()));
            read.unwrap_err().to_string()
        };
        // a key in the place of the path
        let told = read(OsStr::new(&format!("{KEY}gone")));
        assert!(
            told.starts_with("the file that `ORCHESTRATOR_KEY_FILE` names cannot be read: ")
                && !told.contains(KEY),
            "{told}"
        );
        let told = read(folder.path().as_os_str());
        assert!(told.contains("cannot be read: "), "{told}");
        for (content, found) in [
            (&b"\n"[..], "0 bytes"),
            (&[0xff; 32], "a text that is not base64"),
        ] {
            fs::write(&path, content).unwrap();
            let told = read(path.as_os_str());
            assert_eq!(
                told,
                format!(
                    "expected key 1 of `ORCHESTRATOR_KEY_FILE` to be 32 bytes in base64, got \
                     {found}; `key new` prints a key"
                )
            );
        }
    }

    #[test]
    fn new_keys_are_keys_and_differ() {
        let [one, other] = [(); 2].map(|()| KeyRing::new_key().unwrap());
        assert_ne!(one.expose(), other.expose());
        let ring = ring(&format!("{},{}", one.expose(), other.expose()));
        assert_eq!(ring.keys.len(), 2);
        assert_ne!(ring.keys[0].id, ring.keys[1].id);
    }

    #[test]
    fn one_text_is_sealed_differently_each_time() {
        let ring = ring(KEY);
        let [one, other] = [(); 2].map(|()| secret(&ring, "text"));
        assert_ne!(one, other);
        assert_eq!(opened(&ring, &one), opened(&ring, &other));
    }

    #[test]
    fn first_key_seals_and_all_open() {
        let (old, both) = (ring(KEY), ring(&format!("{OTHER},{KEY}")));
        let [of_old, of_both] = [&old, &both].map(|ring| secret(ring, "text"));
        assert_eq!(opened(&both, &of_old), "text");
        assert_eq!(opened(&ring(OTHER), &of_both), "text");
        assert_eq!(
            old.open(&of_both).unwrap_err().to_string(),
            format!(
                "secret `api_key` is sealed with a key that `ORCHESTRATOR_KEY` does not have (id \
                 {}): add it after the first one, or set the secret again",
                both.first().id
            )
        );
    }

    #[test]
    fn entry_of_another_name_or_kind_is_refused() {
        let ring = ring(KEY);
        let entry = secret(&ring, "text");
        for (kind, name) in [
            (EntryKind::Secret, "other"),
            (EntryKind::Connection, "api_key"),
        ] {
            let moved = StoredEntry {
                kind,
                name: name.to_owned(),
                ..entry.clone()
            };
            assert_eq!(
                ring.open(&moved).unwrap_err().to_string(),
                format!(
                    "{kind} `{name}` cannot be decrypted: it is damaged, or was moved from \
                     another name; set it again"
                )
            );
        }
        let text = SealedText {
            key: ring.first().id,
            bytes: vec![2],
        };
        let later = stored(EntryKind::Secret, "api_key", text);
        let told = ring.open(&later).unwrap_err().to_string();
        assert!(told.contains("expected the format 1, got 2"), "{told}");
    }

    #[test]
    fn entries_are_sealed_anew_with_the_first_key() {
        let (old, both, new) = (ring(KEY), ring(&format!("{OTHER},{KEY}")), ring(OTHER));
        let entry = secret(&old, "text");
        assert_eq!(old.reseal(&entry), Ok(None));
        let resealed = both.reseal(&entry).unwrap().unwrap();
        assert_eq!(opened(&new, &resealed), "text");
        let expected = StoredEntry {
            content: resealed.content.clone(),
            ..entry.clone()
        };
        assert_eq!(resealed, expected);
        assert_eq!(both.reseal(&resealed), Ok(None));
        let variable = StoredEntry {
            kind: EntryKind::Variable,
            content: EntryContent::Plain("text".to_owned()),
            ..entry.clone()
        };
        assert_eq!(both.reseal(&variable), Ok(None));
        assert_eq!(opened(&both, &variable), "text");
        assert!(matches!(
            new.reseal(&entry),
            Err(KeyError::UnknownKey { .. })
        ));
    }

    #[tokio::test]
    async fn entries_of_a_store_are_opened_and_sealed_anew() {
        let (old, both, new) = (ring(KEY), ring(&format!("{OTHER},{KEY}")), ring(OTHER));
        let (store, now) = (MemoryStore::default(), Timestamp::EPOCH);
        let sealed = old.seal(EntryKind::Connection, "shop", "postgres://shop");
        store.put_entry(sealed.unwrap(), now).await.unwrap();
        let variable = NewEntry::variable("url", "https://shop");
        store.put_entry(variable, now).await.unwrap();
        let list = async || store.list_entries(None).await.unwrap();
        let texts = |ring: &KeyRing, entries: &[StoredEntry]| -> Vec<String> {
            entries.iter().map(|entry| opened(ring, entry)).collect()
        };
        let told = ["postgres://shop", "https://shop"];
        assert_eq!(texts(&old, &list().await), told);
        let entries = list().await;
        let resealed = entries
            .iter()
            .filter_map(|entry| both.reseal(entry).transpose());
        let resealed = resealed.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(store.reseal_entries(resealed).await, Ok(1));
        assert_eq!(texts(&new, &list().await), told);
    }

    #[test]
    fn debug_shows_no_key() {
        let ring = ring(KEY);
        assert_eq!(
            format!("{ring:?} {:?}", secret(&ring, "text").content),
            "[fb4258a843301634] Sealed(45 bytes, key fb4258a843301634)"
        );
    }
}
