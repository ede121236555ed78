//! One sealed text: XChaCha20-Poly1305 with a random nonce.
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | the format: 1 |
//! | 24 | the nonce |
//! | those of the text | the ciphertext |
//! | 16 | the tag |
//!
//! The format, the kind and the name are the associated data, so a sealed text cannot be opened
//! under another name. An older text of the same name can be: a program that can write to the store
//! can put it back unnoticed.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::entry::EntryKind;
use crate::secret::Secret;

/// A key.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Two texts sealed with one key must have different nonces: 24 random bytes have.
pub(super) type Nonce = [u8; 24];

const FORMAT: u8 = 1;
const TAG: usize = 16;

/// The reason why a text cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A later version of the program sealed it, or it is damaged.
    Format(u8),
    /// The key, the kind or the name is another one, or it is damaged.
    Altered,
}

/// Seals the text of an entry.
pub(super) fn seal(key: &Key, nonce: Nonce, kind: EntryKind, name: &str, text: &str) -> Vec<u8> {
    let start = 1 + nonce.len();
    let mut bytes = Vec::with_capacity(start + text.len() + TAG);
    bytes.push(FORMAT);
    bytes.extend(nonce);
    bytes.extend(text.as_bytes());
    let tag = cipher(key)
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            &associated_data(kind, name),
            (&mut bytes[start..]).into(),
        )
        .expect("a text is shorter than 256 GiB");
    bytes.extend(tag);
    bytes
}

/// Opens the text of an entry.
pub(super) fn open(
    key: &Key,
    kind: EntryKind,
    name: &str,
    bytes: &[u8],
) -> Result<Secret, Refusal> {
    let (&format, rest) = bytes.split_first().ok_or(Refusal::Altered)?;
    if format != FORMAT {
        return Err(Refusal::Format(format));
    }
    let (nonce, rest) = rest.split_first_chunk().ok_or(Refusal::Altered)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(Refusal::Altered)?;
    // the plaintext replaces the ciphertext only once the tag is right
    let mut text = Zeroizing::new(ciphertext.to_vec());
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::from(*nonce as Nonce),
            &associated_data(kind, name),
            (&mut text[..]).into(),
            &Tag::from(*tag),
        )
        .map_err(|_| Refusal::Altered)?;
    match String::from_utf8(std::mem::take(&mut *text)) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Refusal::Altered)
        }
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**key).into())
}

/// Returns the format, the kind, a zero and the name. No kind contains a zero, so that no two pairs
/// of a kind and a name have the same bytes.
fn associated_data(kind: EntryKind, name: &str) -> Vec<u8> {
    let kind = match kind {
        EntryKind::Connection => "connection",
        EntryKind::Variable => "variable",
        EntryKind::Secret => "secret",
    };
    [&[FORMAT], kind.as_bytes(), &[0], name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "scoring_api_key";

    fn key() -> Key {
        Zeroizing::new(std::array::from_fn(|at| at as u8))
    }

    fn nonce() -> Nonce {
        std::array::from_fn(|at| 100 + at as u8)
    }

    fn opened(bytes: &[u8]) -> Result<String, Refusal> {
        let secret = open(&key(), EntryKind::Secret, NAME, bytes)?;
        Ok(secret.expose().to_owned())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What libsodium makes of the same key, nonce, associated data and text, by
    /// `crypto_aead_xchacha20poly1305_ietf_encrypt`.
    #[test]
    fn sealed_texts_are_those_of_libsodium() {
        for (kind, name, text, sealed) in [
            (
                EntryKind::Secret,
                NAME,
                "correct horse battery staple",
                "1f1c8bc29a4dfda2ef5fef4cc34fdfa82fcf37039d0cb9c4ed2508c2\
                 1a8ead77c78a0e05fccf45c640d1bcab",
            ),
            (
                EntryKind::Connection,
                "shop",
                "postgres://shop",
                "0c1c8ac4985cecf1bd1fb24cce00cd53188c84e826532efeec1aaa4005c50c",
            ),
            (
                EntryKind::Variable,
                "url",
                "",
                "55c3d0917a7134c98bb46cc8f4dedea6",
            ),
        ] {
            let bytes = seal(&key(), nonce(), kind, name, text);
            assert_eq!(hex(&bytes), format!("01{}{sealed}", hex(&nonce())));
            let opened = open(&key(), kind, name, &bytes).unwrap();
            assert_eq!(opened.expose(), text);
        }
    }

    #[test]
    fn texts_of_any_length_come_back() {
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 1 << 20] {
            let text = "x".repeat(length);
            let bytes = seal(&key(), nonce(), EntryKind::Secret, NAME, &text);
            assert_eq!(bytes.len(), 41 + length);
            assert_eq!(opened(&bytes).unwrap(), text, "{length}");
        }
    }

    #[test]
    fn change_of_any_bit_is_found() {
        let bytes = seal(&key(), nonce(), EntryKind::Secret, NAME, "text");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit < 8 {
                true => Refusal::Format(changed[0]),
                false => Refusal::Altered,
            };
            assert_eq!(opened(&changed), Err(expected), "{bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(opened(&bytes[..length]), Err(Refusal::Altered), "{length}");
        }
        assert_eq!(opened(&[&bytes[..], &[0]].concat()), Err(Refusal::Altered));
    }

    #[test]
    fn text_is_opened_only_with_its_key_under_its_name() {
        let bytes = seal(&key(), nonce(), EntryKind::Secret, NAME, "text");
        let other = Zeroizing::new([7; 32]);
        for (key, kind, name) in [
            (&other, EntryKind::Secret, NAME),
            (&key(), EntryKind::Connection, NAME),
            (&key(), EntryKind::Variable, NAME),
            (&key(), EntryKind::Secret, "scoring_api_ke"),
            (&key(), EntryKind::Secret, "scoring_api_key2"),
            (&key(), EntryKind::Secret, ""),
        ] {
            let refused = open(key, kind, name, &bytes).map(|_| ());
            assert_eq!(refused, Err(Refusal::Altered), "{kind} {name}");
        }
    }

    #[test]
    fn bytes_that_are_not_a_text_are_refused() {
        let nonce = nonce();
        let mut text = [0xff];
        let associated_data = associated_data(EntryKind::Secret, NAME);
        let tag = cipher(&key())
            .encrypt_inout_detached(&nonce.into(), &associated_data, (&mut text[..]).into())
            .unwrap();
        let bytes = [&[FORMAT], &nonce[..], &text, &tag].concat();
        assert_eq!(opened(&bytes), Err(Refusal::Altered));
    }
}
