//! The form of encoded bytes: the kinds of values in each place.

use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

/// The number of words of bits in a form.
const WORDS: usize = 16;

/// The kinds of values in each place, as a set: one bit for each kind in each place, by a hash of
/// both. The elements of a list share a place, and the values of a map have one for each key. So
/// two lists of the same structs have the same form, whatever their lengths, and a new variant
/// changes the form.
///
/// Two of them may share a bit, in which case a new one may go unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueForm([u64; WORDS]);

/// The forms of the results of a type so far.
#[derive(Debug, Default)]
pub(super) struct FormHistory {
    form: [AtomicU64; WORDS],
    results: AtomicU64,
}

impl FormHistory {
    /// Returns `true` if a result is to be checked: for its form, or as one of the sample. The
    /// sample excludes large results, since the decoded copy needs as much memory again.
    pub(super) fn is_to_be_tried(&self, form: &ValueForm, is_large: bool) -> bool {
        // relaxed: a form that another thread is adding is at worst checked once more
        let number = self.results.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let known = self.form.iter().map(|word| word.load(Ordering::Relaxed));
        (number.is_power_of_two() && !is_large)
            || form
                .0
                .iter()
                .zip(known)
                .any(|(word, known)| word & !known != 0)
    }

    /// Records the form of a result that was checked.
    pub(super) fn add(&self, form: &ValueForm) {
        for (seen, word) in self.form.iter().zip(form.0) {
            seen.fetch_or(word, Ordering::Relaxed);
        }
    }
}

const NIL: u8 = 0;
const BOOL: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;
const EXTENSION: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// The number of bytes or values inside a value, or the size of the field with that number.
#[derive(Clone, Copy)]
enum ContentSize {
    Fixed(u8),
    Prefixed(u8),
}

/// The kinds of values, by their markers.
static MARKERS: [(u8, ContentSize); 256] = {
    let mut markers = [(NIL, ContentSize::Fixed(0)); 256];
    let mut marker = 0_u8;
    loop {
        markers[marker as usize] = match marker {
            0x00..=0x7f | 0xe0..=0xff => (INTEGER, ContentSize::Fixed(0)),
            0x80..=0x8f => (MAP, ContentSize::Fixed(marker & 0x0f)),
            0x90..=0x9f => (LIST, ContentSize::Fixed(marker & 0x0f)),
            0xa0..=0xbf => (TEXT, ContentSize::Fixed(marker & 0x1f)),
            0xc0 | 0xc1 => (NIL, ContentSize::Fixed(0)),
            0xc2 | 0xc3 => (BOOL, ContentSize::Fixed(0)),
            0xc4..=0xc6 => (BYTES, ContentSize::Prefixed(1 << (marker - 0xc4))),
            0xc7..=0xc9 => (EXTENSION, ContentSize::Prefixed(1 << (marker - 0xc7))),
            0xca => (FLOAT, ContentSize::Fixed(4)),
            0xcb => (FLOAT, ContentSize::Fixed(8)),
            0xcc..=0xcf => (INTEGER, ContentSize::Fixed(1 << (marker - 0xcc))),
            0xd0..=0xd3 => (INTEGER, ContentSize::Fixed(1 << (marker - 0xd0))),
            0xd4..=0xd8 => (EXTENSION, ContentSize::Fixed(1 + (1 << (marker - 0xd4)))),
            0xd9..=0xdb => (TEXT, ContentSize::Prefixed(1 << (marker - 0xd9))),
            0xdc | 0xdd => (LIST, ContentSize::Prefixed(2 << (marker - 0xdc))),
            0xde | 0xdf => (MAP, ContentSize::Prefixed(2 << (marker - 0xde))),
        };
        if marker == u8::MAX {
            break markers;
        }
        marker += 1;
    }
};

/// An open list or map with remaining parts: in a map, keys and values.
struct OpenContainer {
    left: usize,
    place: u32,
    is_map: bool,
    /// The place of the value, after a key.
    of_key: Option<u32>,
}

impl ValueForm {
    /// Computes the form of MessagePack, up to the first invalid byte.
    pub(super) fn of(packed: &[u8]) -> Self {
        let mut form = Self::default();
        let _ = form.read(packed);
        form
    }

    /// Returns `None` at the end of the bytes.
    fn read(&mut self, mut rest: &[u8]) -> Option<()> {
        // without recursion: the nesting may be deep
        let mut outer: SmallVec<[OpenContainer; 16]> = SmallVec::new();
        let mut open = OpenContainer {
            left: 1,
            place: 0,
            is_map: false,
            of_key: None,
        };
        loop {
            if open.left == 0 {
                open = outer.pop()?;
                continue;
            }
            open.left -= 1;
            let marker = *take(&mut rest, 1)?.first()?;
            let (kind, inside) = MARKERS[usize::from(marker)];
            let len = match inside {
                ContentSize::Fixed(len) => usize::from(len),
                ContentSize::Prefixed(by) => {
                    let said = take(&mut rest, by.into())?;
                    let len = said
                        .iter()
                        .fold(0, |len: usize, byte| len << 8 | usize::from(*byte));
                    // the type of an extension is not counted
                    len.checked_add(usize::from(kind == EXTENSION))?
                }
            };
            let content = if kind < LIST {
                take(&mut rest, len)?
            } else {
                &[]
            };
            let place = match (open.is_map, open.of_key.take()) {
                (false, _) => mix(open.place, 1),
                (true, Some(place)) => place,
                (true, None) => {
                    let word = |bytes: &[u8]| {
                        bytes
                            .iter()
                            .fold(0, |word, byte| word << 8 | u32::from(*byte))
                    };
                    let key = content
                        .chunks(4)
                        .fold(marker.into(), |hash, bytes| mix(hash, word(bytes)));
                    open.of_key = Some(mix(open.place, key));
                    mix(open.place, 2)
                }
            };
            let bit = mix(place, kind.into()) as usize % (WORDS * 64);
            self.0[bit / 64] |= 1 << (bit % 64);
            if kind >= LIST && len > 0 {
                let is_map = kind == MAP;
                let left = if is_map { len.checked_mul(2)? } else { len };
                outer.push(std::mem::replace(
                    &mut open,
                    OpenContainer {
                        left,
                        place,
                        is_map,
                        of_key: None,
                    },
                ));
            }
        }
    }
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// A step of FNV-1a, with a final shift that mixes in the high bits.
#[inline]
fn mix(hash: u32, with: u32) -> u32 {
    let mixed = (hash ^ with ^ 0x811c_9dc5).wrapping_mul(0x0100_0193);
    mixed ^ (mixed >> 15)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::{FormHistory, ValueForm};

    fn form<T: Serialize>(value: &T) -> ValueForm {
        ValueForm::of(&rmp_serde::to_vec_named(value).unwrap())
    }

    #[derive(Serialize)]
    struct SampleRow {
        name: &'static str,
        share: Option<f64>,
        inner: BTreeMap<u8, Vec<u64>>,
    }

    fn row(name: &'static str, share: Option<f64>, inner: &[(u8, &[u64])]) -> SampleRow {
        SampleRow {
            name,
            share,
            inner: inner
                .iter()
                .map(|(key, list)| (*key, list.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn a_form_is_the_same_for_other_content_of_the_same_kinds() {
        let one = form(&vec![row("a", Some(1.5), &[(1, &[7])])]);
        let long = "a longer text than the other one, for which another marker stands".len();
        let other = row(
            "a longer text than the other one, for which another marker stands",
            Some(0.0),
            &[(1, &[u64::MAX, 0, 300, 70_000])],
        );
        assert_eq!(
            (one, long),
            (form(&(0..40).map(|_| &other).collect::<Vec<_>>()), 65)
        );
    }

    #[test]
    fn another_kind_in_a_place_or_another_key_is_another_form() {
        let one = form(&vec![row("a", Some(1.5), &[(1, &[7])])]);
        for (what, other) in [
            ("none for some", row("a", None, &[(1, &[7])])),
            ("another key", row("a", Some(1.5), &[(2, &[7])])),
            ("no entry", row("a", Some(1.5), &[])),
        ] {
            assert_ne!(one, form(&vec![other]), "{what}");
        }
        assert_ne!(form(&u128::MAX), form(&1_u64));
        assert_ne!(
            form(&BTreeMap::from([("a", 1)])),
            form(&BTreeMap::from([("b", 1)]))
        );
        assert_ne!(form(&((1, "a"), 1)), form(&((1, 1), 1)));
    }

    #[test]
    fn bytes_that_are_cut_off_have_a_form_and_end() {
        let bytes = rmp_serde::to_vec_named(&vec![row("a", Some(1.5), &[(1, &[7])])]).unwrap();
        for len in 0..bytes.len() {
            let _ = ValueForm::of(&bytes[..len]);
        }
        for marker in 0..=u8::MAX {
            let _ = ValueForm::of(&[marker, 0xff, 0xff, 0xff, 0xff, 0xff]);
        }
    }

    #[test]
    fn new_forms_are_tried_and_known_ones_at_powers_of_two() {
        let (seen, plain, other) = (FormHistory::default(), form(&vec![1]), form(&vec!["a"]));
        let mut tried = Vec::new();
        for number in 1..=100 {
            let form = if number == 50 { &other } else { &plain };
            if seen.is_to_be_tried(form, false) {
                seen.add(form);
                tried.push(number);
            }
        }
        assert_eq!(tried, [1, 2, 4, 8, 16, 32, 50, 64]);
    }
}
