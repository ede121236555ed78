//! The encoding of values in stores: MessagePack, with the names of fields.
//!
//! Types that have a human-readable form (addresses, ids) are written in that form: serde could not
//! read them back otherwise from tagged, untagged and flattened types, which it buffers. Bytes that
//! contain such a type begin with [`FOR_PEOPLE`]; all others are unchanged, and older bytes can
//! still be read.
//!
//! Values that are [kept](keep) can be read back. Serde makes it easy to write types for which that
//! is not true, so it is checked: decoding and encoding again must give the same bytes, in any
//! order (maps and sets are unordered). The check costs about as much as the encoding. Results
//! larger than [`SMALL`] are therefore checked only if something in their form is new for the type
//! in this process, and otherwise the 1st, 2nd, 4th, 8th … of them. Almost always the form makes a
//! type unreadable: a kind of value in a place (a 128-bit number under a tag), or a missing field
//! (skipped in one direction only). Only the sample can find a `Deserialize` that refuses some
//! values of an otherwise accepted form.

use std::any::TypeId;
use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::form::{FormHistory, ValueForm};
use super::guard::{Guard, Observations, WireFormat};
use super::{Data, Value};
use crate::bounds;
use crate::error::PanicReport;
use crate::panic::{Fragile, catch};

/// The first byte of encodings with human-readable forms. MessagePack never uses this byte.
const FOR_PEOPLE: u8 = 0xc1;

/// The size up to which all results are checked, whatever their form: it costs less than to compute
/// the form.
const SMALL: usize = 64;

/// The size above which results are checked only for a new form.
const LARGE: usize = 1 << 20;

/// The forms of larger results so far, by their types.
static FORMS: LazyLock<RwLock<HashMap<TypeId, Arc<FormHistory>>>> = LazyLock::new(RwLock::default);

/// A value cannot be encoded, or cannot be decoded again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct EncodingError {
    problem: String,
}

impl EncodingError {
    pub(super) fn new(problem: &impl std::fmt::Display) -> Self {
        Self {
            problem: problem.to_string(),
        }
    }

    /// Returns the error for a user's implementation of a serde trait that panicked.
    pub(super) fn panicked(of: &str, panicked: &PanicReport) -> Self {
        Self::new(&format_args!("its `{of}` {panicked}"))
    }
}

/// The type of a node's results, for code that has only their bytes.
#[derive(Debug)]
pub(crate) struct OutputType {
    name: fn() -> &'static str,
    decode: fn(&[u8]) -> Result<Value, EncodingError>,
    is: fn(&Value) -> bool,
}

/// A generic function cannot have a static of its type; a generic struct can have a constant.
struct OutputTypeOf<T>(PhantomData<T>);

impl<T: Data> OutputTypeOf<T> {
    const TYPE: OutputType = OutputType {
        name: std::any::type_name::<T>,
        decode: |bytes| decode::<T>(bytes).map(Value::new),
        is: Value::is::<T>,
    };
}

impl OutputType {
    pub(crate) const fn of<T: Data>() -> &'static Self {
        &OutputTypeOf::<T>::TYPE
    }

    /// Returns the name of the type, without its modules.
    pub(crate) fn name(&self) -> String {
        let full = (self.name)();
        let mut name = String::with_capacity(full.len());
        let mut start = 0;
        for (at, character) in full.char_indices() {
            // a type in a function is in `module::function::{{closure}}`
            if !(character.is_alphanumeric() || "_:{}".contains(character)) {
                name.push_str(last_segment(&full[start..at]));
                name.push(character);
                start = at + character.len_utf8();
            }
        }
        name.push_str(last_segment(&full[start..]));
        name
    }

    /// Returns an error for a value of another type.
    pub(crate) fn check(&self, value: &Value) -> Result<(), EncodingError> {
        match (self.is)(value) {
            true => Ok(()),
            false => Err(EncodingError::new(&format_args!(
                "it is not `{}`",
                self.name()
            ))),
        }
    }

    /// Decodes a value. A panic of its `Deserialize`, which is user code, is returned as an error.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Value, EncodingError> {
        catch(|| (self.decode)(bytes))
            .unwrap_or_else(|panicked| Err(EncodingError::panicked("Deserialize", &panicked)))
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// Writes a value. Returns `true` if a type in it has a human-readable form.
fn write<T: Serialize>(value: &T, sink: impl io::Write) -> Result<bool, EncodingError> {
    let watch = Observations::new(WireFormat::Packed);
    let mut serializer = rmp_serde::Serializer::new(sink)
        .with_struct_map()
        .with_human_readable();
    let written = value.serialize(Guard::new(&mut serializer, &watch));
    written
        .map(|()| watch.has_forms())
        .map_err(|error| EncodingError::new(&error))
}

/// Encodes a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::with_capacity(128);
    if write(value, &mut bytes)? {
        bytes.insert(0, FOR_PEOPLE);
    }
    within(bytes.len() as u64)?;
    Ok(bytes)
}

/// Returns an error for a length that the format cannot represent.
fn within(length: u64) -> Result<(), EncodingError> {
    let most = bounds::RESULT;
    match length <= most {
        true => Ok(()),
        false => Err(EncodingError::new(&format_args!(
            "expected an encoded size of at most {most} bytes, got {length}: write the data to a file and return its path, or split it over several tasks"
        ))),
    }
}

/// Decodes the bytes of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EncodingError> {
    let (is_for_people, packed) = packed(bytes);
    let mut rest = packed;
    let deserializer = rmp_serde::Deserializer::new(&mut rest);
    let value = match is_for_people {
        true => T::deserialize(&mut deserializer.with_human_readable()),
        false => T::deserialize(&mut { deserializer }),
    };
    let value = value.map_err(|error| EncodingError::new(&error))?;
    match rest.len() {
        0 => Ok(value),
        left => Err(EncodingError::new(&format_args!(
            "{left} unexpected byte(s) at the end"
        ))),
    }
}

/// Returns the MessagePack of encoded bytes, and whether it uses human-readable forms.
fn packed(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes {
        [FOR_PEOPLE, packed @ ..] => (true, packed),
        packed => (false, packed),
    }
}

/// Encodes a value for another process to read.
///
/// # Errors
///
/// Returns an error that names the type if the value cannot be encoded, or not be read back.
pub(super) fn keep<T: Data>(value: &T) -> Result<Vec<u8>, EncodingError> {
    let kept = encode(value).and_then(|bytes| {
        if bytes.len() <= SMALL {
            check::<T>(&bytes)?;
            return Ok(bytes);
        }
        let (form, seen) = (ValueForm::of(packed(&bytes).1), seen_of(TypeId::of::<T>()));
        if seen.is_to_be_tried(&form, bytes.len() > LARGE) {
            check::<T>(&bytes)?;
            seen.add(&form);
        }
        Ok(bytes)
    });
    kept.map_err(|error| {
        EncodingError::new(&format_args!("`{}`: {error}", OutputType::of::<T>().name()))
    })
}

fn seen_of(type_id: TypeId) -> Arc<FormHistory> {
    if let Some(seen) = FORMS.read().get(&type_id) {
        return Arc::clone(seen);
    }
    // another thread may have inserted the entry between the two locks: it stays
    Arc::clone(FORMS.write().entry(type_id).or_default())
}

/// Checks that bytes decode to a value that encodes to the same bytes.
fn check<T: Data>(bytes: &[u8]) -> Result<(), EncodingError> {
    let read = catch(|| decode::<T>(bytes).map(Fragile::new));
    let value = read.map_err(|panicked| EncodingError::panicked("Deserialize", &panicked))?.map_err(|error| {
        EncodingError::new(&format_args!(
            "its encoded form cannot be decoded: {error}; serde does not support 128-bit integers, bytes and some other types under `tag`, `untagged` and `flatten`: use another type, or store the value as text"
        ))
    })?;
    let (is_for_people, packed) = packed(bytes);
    let mut again = Sum::default();
    let is_same = write(&*value, &mut again)? == is_for_people && again == Sum::of(packed);
    let differs = "it is decoded to a different value: look for fields that serde skips, or changes in one direction only";
    is_same
        .then_some(())
        .ok_or_else(|| EncodingError::new(&differs))
}

/// The number of bytes and their sum, which do not depend on the order of the entries of a map.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    len: usize,
    sum: u64,
}

impl Sum {
    fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }

    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.sum = bytes
            .iter()
            .fold(self.sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    }
}

impl io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::mem::ManuallyDrop;
    use std::net::{IpAddr, Ipv6Addr};

    use chrono::{DateTime, Utc};
    use serde::Deserialize;
    use uuid::Uuid;

    use super::super::guard::LEVELS;
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Visit {
        from: IpAddr,
        id: Uuid,
        at: DateTime<Utc>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum AccountEvent {
        Login { from: IpAddr, of: Option<Visit> },
        Charged { cents: i128 },
        Closed,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        name: String,
        #[serde(flatten)]
        visit: Visit,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Visit(Visit),
        Address(IpAddr),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct LinkedNode(u8, Option<Box<Self>>);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum LinkedVariants {
        End,
        Link(Box<Self>),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Buffered {
        Leaf(u8),
        Inner { inner: Box<Self> },
    }

    fn visit() -> Visit {
        Visit {
            from: IpAddr::V6(Ipv6Addr::LOCALHOST),
            id: Uuid::from_u128(7),
            at: DateTime::from_timestamp(1_767_225_600, 5).unwrap(),
        }
    }

    #[track_caller]
    fn comes_back<T: Data + PartialEq + std::fmt::Debug>(value: &T) {
        assert_eq!(decode::<T>(&keep(value).unwrap()).unwrap(), *value);
    }

    fn refused<T: Data>(value: &T) -> String {
        keep(value).unwrap_err().to_string()
    }

    #[test]
    fn types_with_a_form_for_people_come_back_from_where_serde_buffers_them() {
        comes_back(&visit());
        comes_back(&AccountEvent::Login {
            from: visit().from,
            of: Some(visit()),
        });
        comes_back(&vec![
            AccountEvent::Closed,
            AccountEvent::Login {
                from: visit().from,
                of: None,
            },
        ]);
        comes_back(&Flat {
            name: "a".into(),
            visit: visit(),
        });
        comes_back(&vec![Either::Address(visit().from), Either::Visit(visit())]);
    }

    #[test]
    fn integers_of_128_bits_come_back() {
        comes_back(&(
            vec![0, 1, u64::MAX.into(), u128::MAX],
            vec![0, -1, i64::MIN.into(), i128::MIN, i128::MAX],
        ));
        comes_back(&HashMap::from([(u128::MAX, i128::MIN)]));
    }

    #[test]
    fn unreadable_value_is_refused_by_type_and_reason() {
        let error = refused(&AccountEvent::Charged { cents: 7 });
        assert!(
            error.starts_with(
                "`AccountEvent`: its encoded form cannot be decoded: i128 is not supported"
            ),
            "{error}"
        );
        let refusal = |name| {
            format!(
                "`Option<{name}>`: `Some({})` would be read back as `None`",
                "X"
            )
        };
        for (error, name, inner) in [
            (refused(&Some(None::<u8>)), "Option<u8>", "None"),
            (refused(&Some(())), "()", "()"),
            (refused(&Some(serde_json::Value::Null)), "Value", "()"),
        ] {
            assert!(
                error.starts_with(&refusal(name).replace('X', inner)),
                "{error}"
            );
        }
        comes_back(&(Some(Some(1)), None::<Option<u8>>, Some(Vec::<()>::new())));
    }

    #[test]
    fn value_that_changes_when_read_back_is_refused() {
        #[derive(Clone, Serialize, Deserialize)]
        struct Doubling(#[serde(deserialize_with = "doubled")] u8);
        fn doubled<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
            u8::deserialize(deserializer).map(|number| number * 2)
        }
        assert!(
            refused(&Doubling(1)).starts_with("`Doubling`: it is decoded to a different value")
        );
        assert!(keep(&Doubling(0)).is_ok());
    }

    #[test]
    fn maps_in_any_order_are_the_same() {
        for _ in 0..20 {
            comes_back(
                &(0..100)
                    .map(|n| (format!("key {n}"), n))
                    .collect::<HashMap<_, u32>>(),
            );
        }
    }

    #[test]
    fn a_large_result_of_a_new_form_is_tried() {
        let good = || AccountEvent::Login {
            from: visit().from,
            of: Some(visit()),
        };
        let large = |last: AccountEvent| (0..20).map(|_| good()).chain([last]).collect::<Vec<_>>();
        assert!(keep(&large(good())).unwrap().len() > SMALL);
        // not in the sample: three is not a power of two
        comes_back(&large(AccountEvent::Closed));
        assert!(
            refused(&large(AccountEvent::Charged { cents: 7 })).contains("i128 is not supported")
        );
    }

    /// As 0.1.0 wrote it, in the forms for machines.
    #[test]
    fn results_of_older_releases_are_read() {
        let bytes = rmp_serde::to_vec_named(&visit()).unwrap();
        let written = b"\x83\xa4from\x81\xa2V6\xdc\x00\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
            \xa2id\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\xa2at\xbe2026-01-01T00:00:00.000000005Z";
        assert_eq!(bytes, written);
        assert_eq!(decode::<Visit>(written).unwrap(), visit());
        assert_eq!(
            decode::<u128>(b"\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07").unwrap(),
            7
        );
    }

    #[test]
    fn value_with_one_form_is_written_in_the_plain_format() {
        let value = (
            vec![Some(1.5), None],
            HashMap::from([("a", "b")]),
            LinkedNode(1, None),
            -1,
            'c',
        );
        assert_eq!(
            encode(&value).unwrap(),
            rmp_serde::to_vec_named(&value).unwrap()
        );
        assert_eq!(encode(&visit()).unwrap()[0], FOR_PEOPLE);
    }

    /// Runs on a stack of half of what a thread of tokio has.
    fn on_a_small_stack(what: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(what)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn value_at_the_depth_limit_is_read_back_on_a_small_stack() {
        on_a_small_stack(|| {
            let levels = usize::from(LEVELS);
            comes_back(
                &(0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner])),
            );
            comes_back(&(0..levels).fold(
                serde_json::json!(1),
                |inner, _| serde_json::json!({ "a": inner }),
            ));
            // a struct and a `Some` are two
            comes_back(&(1..levels / 2).fold(LinkedNode(0, None), |inner, _| {
                LinkedNode(1, Some(Box::new(inner)))
            }));
            comes_back(&(0..levels).fold(LinkedVariants::End, |inner, _| {
                LinkedVariants::Link(Box::new(inner))
            }));
            comes_back(
                &(0..levels).fold(Buffered::Leaf(1), |inner, _| Buffered::Inner {
                    inner: Box::new(inner),
                }),
            );
        });
    }

    #[test]
    fn value_beyond_the_depth_limit_is_an_error_and_not_a_crash() {
        on_a_small_stack(|| {
            let error = "expected at most 256 levels of nesting, got more";
            for levels in [usize::from(LEVELS) + 1, 1_100, 5_000] {
                // not dropped: that goes as deep
                let json =
                    (0..levels).fold(1.into(), |inner, _| serde_json::Value::Array(vec![inner]));
                let json = ManuallyDrop::new(json);
                assert_eq!(refused(&*json), format!("`Value`: {error}"), "{levels}");
                let mut hasher = blake3::Hasher::new();
                let hashed = super::super::feed(&mut hasher, &*json, false).unwrap_err();
                assert!(hashed.to_string().ends_with(error), "{levels}: {hashed}");
                assert!(super::super::to_json(&*json).is_err(), "{levels}");
                let chain = (0..levels).fold(LinkedVariants::End, |inner, _| {
                    LinkedVariants::Link(Box::new(inner))
                });
                let chain = ManuallyDrop::new(chain);
                assert_eq!(
                    refused(&*chain),
                    format!("`LinkedVariants`: {error}"),
                    "{levels}"
                );
            }
        });
    }

    /// What it costs to know that a result can be read back;
    /// `cargo test --release -- --ignored --nocapture costs`.
    #[test]
    #[ignore = "measures"]
    #[expect(clippy::print_stdout, reason = "it measures")]
    fn costs() {
        fn each<T: Data>(name: &str, value: &T) {
            let time = |what: &dyn Fn() -> usize| {
                let times = 2_000_000 / encode(value).unwrap().len().max(20) + 1;
                let mut best = f64::MAX;
                for _ in 0..20 {
                    let started = std::time::Instant::now();
                    for _ in 0..times {
                        std::hint::black_box(what());
                    }
                    best = best.min(started.elapsed().as_secs_f64() * 1e9 / times as f64);
                }
                best
            };
            let plain = time(&|| rmp_serde::to_vec_named(value).unwrap().len());
            let encoded = time(&|| encode(value).unwrap().len());
            let kept = time(&|| keep(value).unwrap().len());
            let bytes = encode(value).unwrap().len();
            println!(
                "{name:>12} {bytes:>8} B: rmp {plain:>10.0} ns, encode {encoded:>10.0} ns, keep {kept:>10.0} ns"
            );
        }
        each("u64", &7_u64);
        each("text", &"a text of some length".to_owned());
        each("visit", &visit());
        each(
            "node",
            &(0..10).fold(LinkedNode(0, None), |inner, _| {
                LinkedNode(1, Some(Box::new(inner)))
            }),
        );
        each(
            "200 bytes",
            &(0..6)
                .map(|n| (format!("a text number {n}"), n, 0.5))
                .collect::<Vec<_>>(),
        );
        each(
            "1000 rows",
            &(0..1_000)
                .map(|n| (format!("a text number {n}"), n, 0.5))
                .collect::<Vec<_>>(),
        );
        each("100 visits", &(0..100).map(|_| visit()).collect::<Vec<_>>());
        each("floats", &(0..100_000).map(f64::from).collect::<Vec<_>>());
        each(
            "map",
            &(0..1_000)
                .map(|n| (format!("key {n}"), n))
                .collect::<HashMap<_, u32>>(),
        );
    }

    #[test]
    fn type_name_is_shown_without_its_modules() {
        let name = OutputType::name;
        assert_eq!(name(OutputType::of::<Vec<String>>()), "Vec<String>");
        assert_eq!(
            name(OutputType::of::<(u32, Option<std::time::Duration>)>()),
            "(u32, Option<Duration>)"
        );
        assert_eq!(name(OutputType::of::<()>()), "()");
    }

    #[test]
    fn lengths_that_the_format_cannot_hold_are_refused() {
        assert!(within(bounds::RESULT).is_ok());
        let refused = within(bounds::RESULT + 1).unwrap_err().to_string();
        assert!(
            refused.contains("4294967295") && refused.contains("4294967296"),
            "{refused}"
        );
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        let bytes = encode(&("a", 1)).unwrap();
        assert_eq!(
            decode::<(String, u32)>(&bytes).unwrap(),
            ("a".to_owned(), 1)
        );
        assert!(decode::<u32>(&bytes).is_err());
        assert!(decode::<u32>(&[1, 0xff]).is_err());
    }
}
