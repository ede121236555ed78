//! The canonical encoding of values for cache keys: the same value has the same bytes in every
//! process and release.
//!
//! Different values have different bytes, and no value's bytes are a prefix of another's, so
//! several values can be fed one after the other. Each begins with a tag:
//!
//! | a value | its bytes after the tag |
//! |---|---|
//! | `()` or a unit struct, `None`, `true`, `false` | |
//! | an integer, of whatever type | 1 from 0 to 255, 8 where 64 bits hold it, or else 16 |
//! | a float, of whatever type | the 8 of the `f64`; every NaN is the same one, and `-0.0` is not `0.0` |
//! | `char` | 4 bytes |
//! | a string; bytes | the length, 8 bytes, and the content |
//! | `Some` | the value |
//! | a sequence; a tuple, an array or a tuple struct | the elements, `END` |
//! | a set | the elements, sorted by their bytes, `END` |
//! | a map | the entries, each the key and the value, sorted by their bytes, `END` |
//! | a struct | the fields that are not skipped, each the name and the value, as declared, `END` |
//! | a variant, of four kinds | the name, and what it holds, as above |
//!
//! A newtype struct is encoded as its content. The names of structs and enums and the indices of
//! variants are not encoded and may change; the names of fields and variants are. All numbers are
//! little-endian.
//!
//! `-0.0` and `0.0` are different values, since a body can distinguish them by division. All NaNs
//! are the same value, since they differ only in their bits.
//!
//! For serde, a `HashSet` is a sequence, whose order matters: the caller of [`feed`] has to mark
//! it, which is possible only for the outermost one. A struct with `#[serde(flatten)]` is a map for
//! serde, and so it is here.

use std::fmt::Display;

use serde::ser::{self, Serialize};

use super::guard::{Guard, Observations, WireFormat};
use crate::error::PanicReport;

/// The number of bytes buffered before the hasher is called: enough for BLAKE3 to use the widest
/// vectors.
///
/// A multiple of its 1 KiB chunks, so that none is left incomplete.
const BLOCK: usize = 16 * 1024;

/// The initial capacity, enough for most parameters; it grows up to [`BLOCK`].
const CAPACITY: usize = 128;

/// The canonical NaN: the quiet one without a sign or payload.
const NAN: u64 = 0x7ff8_0000_0000_0000;

type EncodeResult = Result<(), CanonicalError>;
type PartsResult<'a, 'h> = Result<CanonicalParts<'a, 'h>, CanonicalError>;

/// The tags with which values begin. Changing one changes every key.
mod tag {
    /// The end of values without a length; no value begins with it.
    pub(super) const END: u8 = 0;
    pub(super) const UNIT: u8 = 1;
    pub(super) const NONE: u8 = 2;
    pub(super) const SOME: u8 = 3;
    pub(super) const FALSE: u8 = 4;
    pub(super) const TRUE: u8 = 5;
    /// 0 to 2^8 - 1. A `Vec<u8>` is a sequence for serde, and would otherwise take nine times its
    /// length.
    pub(super) const BYTE: u8 = 6;
    /// 2^8 to 2^64 - 1.
    pub(super) const NATURAL: u8 = 7;
    /// From 2^64.
    pub(super) const WIDE_NATURAL: u8 = 8;
    /// -2^63 to -1.
    pub(super) const NEGATIVE: u8 = 9;
    /// Below -2^63.
    pub(super) const WIDE_NEGATIVE: u8 = 10;
    pub(super) const FLOAT: u8 = 11;
    pub(super) const CHAR: u8 = 12;
    pub(super) const STR: u8 = 13;
    pub(super) const BYTES: u8 = 14;
    pub(super) const SEQ: u8 = 15;
    pub(super) const SET: u8 = 16;
    pub(super) const TUPLE: u8 = 17;
    pub(super) const MAP: u8 = 18;
    pub(super) const STRUCT: u8 = 19;
    pub(super) const UNIT_VARIANT: u8 = 20;
    pub(super) const NEWTYPE_VARIANT: u8 = 21;
    pub(super) const TUPLE_VARIANT: u8 = 22;
    pub(super) const STRUCT_VARIANT: u8 = 23;
}

/// A value could not be encoded: its own `Serialize` failed, or it is too deep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value's `Serialize` {message}")]
pub(crate) struct CanonicalError {
    message: String,
}

impl CanonicalError {
    pub(super) fn panicked(panicked: &PanicReport) -> Self {
        Self {
            message: panicked.to_string(),
        }
    }
}

impl ser::Error for CanonicalError {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            message: format!("failed: {message}"),
        }
    }
}

/// Feeds a value to the hasher.
///
/// `unordered` marks the value's own (outermost) sequence as a set, whose elements are sorted by
/// their encodings. The sequence may be inside newtype structs and `Some`; for other values the
/// mark has no effect. A set is never the same as a sequence.
///
/// # Errors
///
/// Returns an error if the value's `Serialize` fails, or if values are nested too deeply. The
/// hasher may then have been fed a part of the value, and must not be used.
pub(crate) fn feed<T: Serialize + ?Sized>(
    hasher: &mut blake3::Hasher,
    value: &T,
    unordered: bool,
) -> Result<(), CanonicalError> {
    let mut sink = Sink {
        hasher,
        bytes: Vec::with_capacity(CAPACITY),
        sorting: 0,
    };
    let watch = Observations::new(WireFormat::Hashed);
    value.serialize(Guard::new(
        Encoder {
            sink: &mut sink,
            unordered,
        },
        &watch,
    ))?;
    sink.hasher.update(&sink.bytes);
    Ok(())
}

/// A buffered hasher: calling it for each byte would cost more than the hashing.
struct Sink<'h> {
    hasher: &'h mut blake3::Hasher,
    /// The bytes that the hasher has not been fed: less than a [`BLOCK`], and the parts that are
    /// being sorted.
    bytes: Vec<u8>,
    /// The number of open maps and sets around the next value. Inside them, nothing is passed to
    /// the hasher.
    sorting: usize,
}

impl<'h> Sink<'h> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend_from_slice(&bytes);
        self.settle();
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() >= BLOCK && self.sorting == 0 {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
            self.hasher.update(bytes);
        } else {
            self.bytes.extend_from_slice(bytes);
            self.settle();
        }
    }

    /// Passes a block to the hasher, if one is complete.
    #[inline]
    fn settle(&mut self) {
        if self.bytes.len() >= BLOCK && self.sorting == 0 {
            self.feed_block();
        }
    }

    #[cold]
    fn feed_block(&mut self) {
        self.hasher.update(&self.bytes[..BLOCK]);
        self.bytes.drain(..BLOCK);
    }

    #[inline]
    fn number(&mut self, tag: u8, number: [u8; 8]) {
        let mut bytes = [tag; 9];
        bytes[1..].copy_from_slice(&number);
        self.put(bytes);
    }

    #[inline]
    fn natural(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte) => self.put([tag::BYTE, byte]),
            Err(_) => self.number(tag::NATURAL, value.to_le_bytes()),
        }
    }

    #[inline]
    fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(natural) => self.natural(natural),
            Err(_) => self.number(tag::NEGATIVE, value.to_le_bytes()),
        }
    }

    #[inline]
    fn float(&mut self, value: f64) {
        let value = if value.is_nan() {
            f64::from_bits(NAN)
        } else {
            value
        };
        self.number(tag::FLOAT, value.to_bits().to_le_bytes());
    }

    #[inline]
    fn text(&mut self, tag: u8, content: &[u8]) {
        self.number(tag, (content.len() as u64).to_le_bytes());
        self.write(content);
    }

    /// Begins a value whose parts stay in their order.
    fn open<'a>(&'a mut self, tag: u8) -> CanonicalParts<'a, 'h> {
        self.put([tag]);
        CanonicalParts {
            sink: self,
            starts: None,
        }
    }

    fn open_variant<'a>(&'a mut self, tag: u8, name: &str) -> CanonicalParts<'a, 'h> {
        self.text(tag, name.as_bytes());
        CanonicalParts {
            sink: self,
            starts: None,
        }
    }

    /// Begins a value whose parts are sorted.
    fn open_sorted<'a>(&'a mut self, tag: u8) -> CanonicalParts<'a, 'h> {
        self.put([tag]);
        self.sorting += 1;
        CanonicalParts {
            sink: self,
            starts: Some(Vec::new()),
        }
    }

    /// Sorts the parts that begin at `starts`; the last one reaches to the end.
    ///
    /// No key's bytes are a prefix of another's, so comparing whole entries sorts them by key, and
    /// by value for a repeated key.
    fn sort(&mut self, starts: &[usize]) {
        let Some(&first) = starts.first() else { return };
        let (end, unsorted) = (self.bytes.len(), self.bytes.split_off(first));
        let ends = starts[1..].iter().chain([&end]);
        let mut parts: Vec<&[u8]> = starts
            .iter()
            .zip(ends)
            .map(|(from, to)| &unsorted[from - first..to - first])
            .collect();
        parts.sort_unstable();
        for part in parts {
            self.write(part);
        }
    }
}

/// The serializer of one value.
struct Encoder<'a, 'h> {
    sink: &'a mut Sink<'h>,
    /// Whether the value, if it is a sequence, is a set.
    unordered: bool,
}

impl<'a, 'h> ser::Serializer for Encoder<'a, 'h> {
    type Ok = ();
    type Error = CanonicalError;
    type SerializeSeq = CanonicalParts<'a, 'h>;
    type SerializeTuple = CanonicalParts<'a, 'h>;
    type SerializeTupleStruct = CanonicalParts<'a, 'h>;
    type SerializeTupleVariant = CanonicalParts<'a, 'h>;
    type SerializeMap = CanonicalParts<'a, 'h>;
    type SerializeStruct = CanonicalParts<'a, 'h>;
    type SerializeStructVariant = CanonicalParts<'a, 'h>;

    /// Always `false`: addresses, ids and times have different human-readable forms, which would
    /// change their keys.
    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> EncodeResult {
        self.sink.put([if value { tag::TRUE } else { tag::FALSE }]);
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> EncodeResult {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> EncodeResult {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> EncodeResult {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> EncodeResult {
        self.sink.integer(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> EncodeResult {
        if let Ok(natural) = u128::try_from(value) {
            return self.serialize_u128(natural);
        }
        match i64::try_from(value) {
            Ok(narrow) => self.sink.integer(narrow),
            Err(_) => {
                self.sink.put([tag::WIDE_NEGATIVE]);
                self.sink.put(value.to_le_bytes());
            }
        }
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> EncodeResult {
        self.sink.put([tag::BYTE, value]);
        Ok(())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> EncodeResult {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> EncodeResult {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> EncodeResult {
        self.sink.natural(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> EncodeResult {
        match u64::try_from(value) {
            Ok(narrow) => self.sink.natural(narrow),
            Err(_) => {
                self.sink.put([tag::WIDE_NATURAL]);
                self.sink.put(value.to_le_bytes());
            }
        }
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> EncodeResult {
        self.serialize_f64(value.into())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> EncodeResult {
        self.sink.float(value);
        Ok(())
    }

    #[inline]
    fn serialize_char(self, value: char) -> EncodeResult {
        self.sink.put([tag::CHAR]);
        self.sink.put(u32::from(value).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> EncodeResult {
        self.sink.text(tag::STR, value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> EncodeResult {
        self.sink.text(tag::BYTES, value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> EncodeResult {
        self.sink.put([tag::NONE]);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> EncodeResult {
        self.sink.put([tag::SOME]);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> EncodeResult {
        self.sink.put([tag::UNIT]);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> EncodeResult {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> EncodeResult {
        self.sink.text(tag::UNIT_VARIANT, variant.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> EncodeResult {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> EncodeResult {
        self.sink.text(tag::NEWTYPE_VARIANT, variant.as_bytes());
        value.serialize(Encoder {
            sink: self.sink,
            unordered: false,
        })
    }

    #[inline]
    fn serialize_seq(self, _len: Option<usize>) -> PartsResult<'a, 'h> {
        match self.unordered {
            true => Ok(self.sink.open_sorted(tag::SET)),
            false => Ok(self.sink.open(tag::SEQ)),
        }
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> PartsResult<'a, 'h> {
        Ok(self.sink.open(tag::TUPLE))
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> PartsResult<'a, 'h> {
        Ok(self.sink.open(tag::TUPLE))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> PartsResult<'a, 'h> {
        Ok(self.sink.open_variant(tag::TUPLE_VARIANT, variant))
    }

    #[inline]
    fn serialize_map(self, _len: Option<usize>) -> PartsResult<'a, 'h> {
        Ok(self.sink.open_sorted(tag::MAP))
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> PartsResult<'a, 'h> {
        Ok(self.sink.open(tag::STRUCT))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> PartsResult<'a, 'h> {
        Ok(self.sink.open_variant(tag::STRUCT_VARIANT, variant))
    }
}

/// The parts of a compound value, in the order of serialization.
struct CanonicalParts<'a, 'h> {
    sink: &'a mut Sink<'h>,
    /// The start of each part in the sink's buffer, if they are sorted.
    starts: Option<Vec<usize>>,
}

impl CanonicalParts<'_, '_> {
    #[inline]
    fn begin(&mut self) {
        if let Some(starts) = &mut self.starts {
            starts.push(self.sink.bytes.len());
        }
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        value.serialize(Encoder {
            sink: self.sink,
            unordered: false,
        })
    }

    /// The name is fed as a value, to distinguish it from [`tag::END`].
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> EncodeResult {
        self.sink.text(tag::STR, name.as_bytes());
        self.value(value)
    }

    fn close(self) -> EncodeResult {
        if let Some(starts) = self.starts {
            self.sink.sorting -= 1;
            self.sink.sort(&starts);
        }
        self.sink.put([tag::END]);
        Ok(())
    }
}

impl ser::SerializeSeq for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.begin();
        self.value(value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeTuple for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.value(value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeTupleStruct for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.value(value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeTupleVariant for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.value(value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeMap for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> EncodeResult {
        self.begin();
        self.value(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.value(value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeStruct for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> EncodeResult {
        self.field(name, value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

impl ser::SerializeStructVariant for CanonicalParts<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> EncodeResult {
        self.field(name, value)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, SystemTime};

    use serde::ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    };
    use serde::{Serialize, Serializer};

    use super::*;

    fn key_of<T: Serialize + ?Sized>(value: &T, unordered: bool) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, value, unordered).unwrap();
        hasher.finalize()
    }

    fn key<T: Serialize + ?Sized>(value: &T) -> blake3::Hash {
        key_of(value, false)
    }

    fn set<T: Serialize + ?Sized>(value: &T) -> blake3::Hash {
        key_of(value, true)
    }

    macro_rules! alike {
        ($($value:expr),+ $(,)?) => {{
            let keys = [$((stringify!($value), key(&$value))),+];
            for (name, key) in keys {
                assert_eq!(key, keys[0].1, "{name} is not {}", keys[0].0);
            }
        }};
    }

    macro_rules! different {
        ($($value:expr),+ $(,)?) => {{
            let mut names = HashMap::new();
            $(
                if let Some(other) = names.insert(key(&$value), stringify!($value)) {
                    panic!("{} is {other}", stringify!($value));
                }
            )+
        }};
    }

    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    /// A map with its entries in this order, and as many of a key as are given.
    struct Entries<'a, K, V>(&'a [(K, V)]);

    impl<K: Serialize, V: Serialize> Serialize for Entries<'_, K, V> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
        }
    }

    /// A sequence of unknown length.
    struct Unsized<'a, T>(&'a [T]);

    impl<T: Serialize> Serialize for Unsized<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut elements = serializer.serialize_seq(None)?;
            for element in self.0 {
                elements.serialize_element(element)?;
            }
            elements.end()
        }
    }

    #[derive(Serialize)]
    struct Marker;

    #[derive(Serialize)]
    struct Meters<T>(T);

    #[derive(Serialize)]
    struct Pair(u8, u8);

    #[derive(Serialize)]
    struct Order {
        id: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        items: Vec<OrderItem>,
    }

    #[derive(Serialize)]
    struct OrderItem {
        name: &'static str,
        price: f64,
    }

    #[derive(Serialize)]
    enum Shape {
        Empty,
        Circle(f64),
        Rectangle(f64, f64),
        Text {
            content: &'static str,
            size: Option<u8>,
        },
    }

    fn order(note: Option<&str>) -> Order {
        let items = vec![
            OrderItem {
                name: "tea",
                price: 3.5,
            },
            OrderItem {
                name: "cup",
                price: 12.0,
            },
        ];
        Order {
            id: 7,
            note: note.map(str::to_owned),
            items,
        }
    }

    #[test]
    fn an_integer_is_its_value_whatever_its_type() {
        alike!(
            1u8, 1u16, 1u32, 1u64, 1u128, 1usize, 1i8, 1i16, 1i32, 1i64, 1i128, 1isize
        );
        alike!(
            300u16, 300u32, 300u64, 300u128, 300i16, 300i32, 300i64, 300i128
        );
        alike!(-1i8, -1i16, -1i32, -1i64, -1i128);
        alike!(u64::MAX, u128::from(u64::MAX), i128::from(u64::MAX));
        alike!(i64::MIN, i128::from(i64::MIN));
        alike!(i128::MAX, i128::MAX.unsigned_abs());
        different!(
            0,
            1,
            -1,
            127,
            128,
            -128,
            255,
            256,
            -255,
            -256,
            i64::MAX,
            i64::MIN,
            u64::MAX,
            u128::from(u64::MAX) + 1,
            i128::from(i64::MIN) - 1,
            i128::MAX,
            i128::MIN,
            u128::MAX
        );
    }

    #[test]
    fn a_float_is_its_value_whatever_its_type() {
        alike!(0.1f32, f64::from(0.1f32));
        alike!(f32::INFINITY, f64::INFINITY);
        alike!(f32::MIN_POSITIVE, f64::from(f32::MIN_POSITIVE));
        alike!(-0.0f32, -0.0f64);
        alike!(
            f64::NAN,
            -f64::NAN,
            f32::NAN,
            -f32::NAN,
            f64::from_bits(0x7ff0_0000_0000_0001),
            f64::from_bits(0xffff_ffff_ffff_ffff),
            f32::from_bits(0x7f80_0001),
        );
        different!(
            0.0,
            -0.0,
            0.1,
            0.1f32,
            1.0,
            -1.0,
            f64::EPSILON,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX
        );
    }

    #[test]
    fn values_of_different_kinds_differ() {
        #[derive(Serialize)]
        struct Nothing {}
        different!(
            1,
            1.0,
            "1",
            '1',
            Bytes(b"1"),
            true,
            Some(1),
            [1],
            vec![1],
            Shape::Circle(1.0)
        );
        different!(
            (),
            None::<()>,
            Some(()),
            false,
            0,
            0.0,
            "",
            '\0',
            Bytes(b""),
            [(); 0],
            Vec::<u8>::new()
        );
        different!(
            "abc",
            Bytes(b"abc"),
            ['a', 'b', 'c'],
            vec!['a', 'b', 'c'],
            b"abc",
            b"abc".to_vec()
        );
        different!("a", 'a', Bytes(b"a"), b'a');
        different!(
            (),
            [(); 0],
            Vec::<()>::new(),
            BTreeMap::<(), ()>::new(),
            Nothing {}
        );
        different!(Shape::Empty, "Empty", ["Empty"], Bytes(b"Empty"));
    }

    #[test]
    fn no_content_moves_over_a_boundary() {
        different!(
            ("a", "bc"),
            ("ab", "c"),
            ("abc", ""),
            ("", "abc"),
            ("abc",),
            ("a", "b", "c")
        );
        different!(
            vec![vec![1], vec![2]],
            vec![vec![1, 2]],
            vec![vec![1, 2], vec![]],
            vec![vec![], vec![1, 2]],
            vec![1, 2],
            vec![vec![vec![1], vec![2]]],
        );
        different!(((1, 2), 3), (1, (2, 3)), (1, 2, 3), ((1, 2, 3),));
        different!((Bytes(b"\0"), Bytes(b"")), (Bytes(b""), Bytes(b"\0")));
        different!(
            BTreeMap::from([(1, 2), (3, 4)]),
            BTreeMap::from([(1, 3), (2, 4)]),
            BTreeMap::from([(1, (2, 3, 4))])
        );
    }

    #[test]
    fn every_level_of_an_option_counts() {
        different!(
            None::<u8>,
            Some(None::<u8>),
            Some(Some(None::<u8>)),
            Some(1),
            Some(Some(1)),
            1
        );
        alike!(None::<u8>, None::<String>);
    }

    #[test]
    fn the_names_of_structs_do_not_count_and_those_of_fields_do() {
        #[derive(Serialize)]
        struct Product {
            name: &'static str,
            price: f64,
        }
        #[derive(Serialize)]
        struct Backwards {
            price: f64,
            name: &'static str,
        }
        #[derive(Serialize)]
        struct Renamed {
            title: &'static str,
            price: f64,
        }
        let map: HashMap<&str, u8> = HashMap::from([("a", 1)]);
        #[derive(Serialize)]
        struct OneField {
            a: u8,
        }
        alike!(
            OrderItem {
                name: "tea",
                price: 3.5
            },
            Product {
                name: "tea",
                price: 3.5
            }
        );
        different!(
            OrderItem {
                name: "tea",
                price: 3.5
            },
            OrderItem {
                name: "tea",
                price: 3.0
            },
            Backwards {
                name: "tea",
                price: 3.5
            },
            Renamed {
                title: "tea",
                price: 3.5
            },
            ("tea", 3.5),
        );
        different!(OneField { a: 1 }, map, ("a", 1), (1,));
        alike!(Meters(3), Meters(Meters(3)), 3);
        alike!((), Marker, Meters(()));
        alike!(Pair(1, 2), (1, 2), [1, 2]);
        different!((1, 2), vec![1, 2]);
    }

    #[test]
    fn a_skipped_field_is_absent() {
        #[derive(Serialize)]
        struct Short {
            id: u32,
            items: Vec<OrderItem>,
        }
        alike!(
            order(None),
            Short {
                id: 7,
                items: order(None).items
            }
        );
        different!(order(None), order(Some("")), order(Some("soon")));
    }

    #[test]
    fn a_variant_is_its_name() {
        #[derive(Serialize)]
        enum Reordered {
            Rectangle(f64, f64),
            Text {
                content: &'static str,
                size: Option<u8>,
            },
            Circle(f64),
            Empty,
        }
        let text = || Shape::Text {
            content: "a",
            size: None,
        };
        alike!(Shape::Empty, Reordered::Empty);
        alike!(Shape::Circle(1.0), Reordered::Circle(1.0));
        alike!(Shape::Rectangle(1.0, 2.0), Reordered::Rectangle(1.0, 2.0));
        alike!(
            text(),
            Reordered::Text {
                content: "a",
                size: None
            }
        );
        different!(
            Shape::Empty,
            Shape::Circle(1.0),
            Shape::Circle(2.0),
            Shape::Rectangle(1.0, 2.0),
            Shape::Rectangle(2.0, 1.0),
            text(),
            Shape::Text {
                content: "a",
                size: Some(0)
            },
            Shape::Text {
                content: "b",
                size: None
            },
            "Empty",
            ("Circle", 1.0),
        );
    }

    #[test]
    fn the_four_kinds_of_a_variant_differ() {
        mod unit {
            #[derive(serde::Serialize)]
            pub(super) enum OneVariant {
                A,
            }
        }
        mod newtype {
            #[derive(serde::Serialize)]
            pub(super) enum OneVariant<T> {
                A(T),
            }
        }
        mod tuple {
            #[derive(serde::Serialize)]
            pub(super) enum OneVariant {
                A(),
            }
        }
        mod fields {
            #[derive(serde::Serialize)]
            pub(super) enum OneVariant {
                A {},
            }
        }
        different!(
            unit::OneVariant::A,
            newtype::OneVariant::A(()),
            newtype::OneVariant::A([(); 0]),
            tuple::OneVariant::A(),
            fields::OneVariant::A {}
        );
    }

    #[test]
    fn a_map_hashes_alike_whatever_its_order() {
        let entries: Vec<(String, Vec<u32>)> =
            (0..100).map(|i| (format!("key {i}"), vec![i; 3])).collect();
        let sorted: BTreeMap<_, _> = entries.iter().cloned().collect();
        for _ in 0..10 {
            // Each `HashMap` has a seed of its own.
            let hashed: HashMap<_, _> = entries.iter().cloned().collect();
            assert_eq!(key(&hashed), key(&sorted));
            let nested: HashMap<_, _> = (0..9)
                .map(|i| (i, HashMap::from([(i, &hashed), (i + 1, &hashed)])))
                .collect();
            let again: BTreeMap<_, _> = (0..9)
                .map(|i| (i, BTreeMap::from([(i, &sorted), (i + 1, &sorted)])))
                .collect();
            assert_eq!(key(&nested), key(&again));
            let as_keys: HashMap<_, _> = HashMap::from([(&sorted, 1)]);
            assert_eq!(key(&as_keys), key(&Entries(&[(&hashed, 1)])));
        }
        let mut changed = sorted.clone();
        changed.insert("key 50".to_owned(), vec![50; 2]);
        different!(sorted, changed, entries);
    }

    #[test]
    fn a_key_that_is_there_twice_keeps_both_values() {
        alike!(
            Entries(&[("a", 1), ("a", 2), ("b", 0)]),
            Entries(&[("b", 0), ("a", 2), ("a", 1)])
        );
        different!(
            Entries(&[("a", 1), ("a", 2)]),
            Entries(&[("a", 1)]),
            Entries(&[("a", 2)]),
            Entries(&[("a", 1), ("a", 1)]),
            Entries(&[("a", 1), ("a", 1), ("a", 1)]),
        );
    }

    #[test]
    fn the_length_of_a_sequence_need_not_be_known() {
        alike!([1, 2, 3].as_slice(), Unsized(&[1, 2, 3]));
        alike!(Vec::<u8>::new(), Unsized::<u8>(&[]));
    }

    #[test]
    fn a_set_hashes_alike_whatever_its_order() {
        let words: Vec<String> = (0..100).map(|i| format!("word {i}")).collect();
        let expected = set(&words);
        for _ in 0..10 {
            let hashed: HashSet<_> = words.iter().collect();
            assert_eq!(set(&hashed), expected);
            assert_eq!(set(&Some(&hashed)), set(&Some(&words)));
            assert_eq!(set(&Meters(&hashed)), expected);
        }
        assert_ne!(key(&words), expected, "a set is no sequence");
        assert_ne!(set(&words[1..]), expected);
        assert_ne!(
            set(&[1, 1, 2].as_slice()),
            set(&[1, 2].as_slice()),
            "an element that is there twice stays"
        );
    }

    #[test]
    fn only_the_outermost_sequence_is_a_set() {
        let (forth, back) = (vec![1, 2], vec![2, 1]);
        assert_eq!(set(&vec![&forth, &back]), set(&vec![&back, &forth]));
        assert_ne!(set(&vec![&forth]), set(&vec![&back]));
        assert_ne!(set(&(&forth,)), set(&(&back,)));
        assert_ne!(set(&[1, 2]), set(&[2, 1]), "an array is a tuple");
        assert_ne!(
            set(&BTreeMap::from([(1, &forth)])),
            set(&BTreeMap::from([(1, &back)]))
        );
        assert_eq!(set(&order(None)), key(&order(None)));
    }

    #[test]
    fn several_values_are_fed_one_after_the_other() {
        let all = |values: &[&str]| {
            let mut hasher = blake3::Hasher::new();
            values
                .iter()
                .for_each(|value| feed(&mut hasher, value, false).unwrap());
            hasher.finalize()
        };
        assert_ne!(all(&["a", "bc"]), all(&["ab", "c"]));
        assert_ne!(all(&["a", ""]), all(&["a"]));
    }

    /// The buffer is given to the hasher in blocks, unless something is being sorted: the bytes
    /// have to be the same.
    #[test]
    fn values_larger_than_the_buffer_are_fed_in_order() {
        for length in [
            BLOCK - 20,
            BLOCK - 9,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            3 * BLOCK + 7,
        ] {
            let (text, numbers) = ("x".repeat(length), vec![7u8; length]);
            let size = u64::try_from(length).unwrap().to_le_bytes();
            let bytes = [
                [tag::TUPLE, tag::STR].as_slice(),
                &size,
                text.as_bytes(),
                &[tag::SEQ],
                &[tag::BYTE, 7].repeat(length),
                &[tag::END, tag::END],
            ]
            .concat();
            let value = (&text, &numbers);
            assert_eq!(key(&value), blake3::hash(&bytes), "{length}");
            let map = [
                &[tag::MAP, tag::BYTE, 1],
                bytes.as_slice(),
                &[tag::BYTE, 2],
                &bytes,
                &[tag::END],
            ]
            .concat();
            assert_eq!(
                key(&Entries(&[(2, value), (1, value)])),
                blake3::hash(&map),
                "{length}"
            );
            let around = [&[tag::TUPLE], bytes.as_slice(), &map, &bytes, &[tag::END]].concat();
            assert_eq!(
                key(&(value, Entries(&[(2, value), (1, value)]), value)),
                blake3::hash(&around),
                "{length}"
            );
        }
    }

    #[test]
    fn a_failing_serialize_says_why() {
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let error = feed(&mut blake3::Hasher::new(), &vec![early], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the value's `Serialize` failed: SystemTime must be later than UNIX_EPOCH"
        );
    }

    /// One row per kind of value. The keys are stored, so what they are made of cannot change with
    /// a release.
    #[test]
    fn keys_are_the_same_in_every_release() {
        macro_rules! rows {
            ($($name:literal: $value:expr),+ $(,)?) => { vec![$(($name, key(&$value))),+] };
        }
        let mut rows = rows! {
            "unit": (),
            "unit struct": Marker,
            "false": false,
            "true": true,
            "zero": 0,
            "byte": 255,
            "natural": 256,
            "natural largest": u64::MAX,
            "wide natural": u128::from(u64::MAX) + 1,
            "wide natural largest": u128::MAX,
            "negative": -1,
            "negative least": i64::MIN,
            "wide negative": i128::from(i64::MIN) - 1,
            "wide negative least": i128::MIN,
            "float": 1.5,
            "float of 32 bits": 0.1f32,
            "float zero": 0.0,
            "float negative zero": -0.0,
            "float infinity": f64::INFINITY,
            "float nan": -f64::NAN,
            "char": 'a',
            "char wide": '🦀',
            "string": "héllo",
            "string empty": "",
            "string long": "0123456789".repeat(5_000),
            "bytes": Bytes(b"abc"),
            "none": None::<u8>,
            "some": Some(1),
            "some none": Some(None::<u8>),
            "sequence": vec![1, 2, 300],
            "sequence empty": Vec::<u8>::new(),
            "sequence nested": vec![vec!["a"], vec![], vec!["b", "c"]],
            "sequence long": (0..10_000).collect::<Vec<u32>>(),
            "tuple": (1, "a", 0.5),
            "array": [1, 2],
            "tuple struct": Pair(1, 2),
            "newtype struct": Meters(1.5),
            "map": HashMap::from([("one", 1), ("two", 2), ("three", 3)]),
            "map empty": HashMap::<u8, u8>::new(),
            "map key twice": Entries(&[("a", 2), ("a", 1)]),
            "map nested": HashMap::from([(1, HashMap::from([("x", 1), ("y", 2)])), (0, HashMap::new())]),
            "map long": (0..10_000).map(|i| (i, f64::from(i))).collect::<HashMap<i32, f64>>(),
            "struct": order(Some("soon")),
            "struct field skipped": order(None),
            "unit variant": Shape::Empty,
            "newtype variant": Shape::Circle(1.0),
            "tuple variant": Shape::Rectangle(1.0, 2.0),
            "struct variant": Shape::Text { content: "a", size: Some(12) },
            "address": IpAddr::V4(Ipv4Addr::LOCALHOST),
            "duration": Duration::from_millis(1_500),
        };
        rows.push(("set", set(&HashSet::from(["one", "two", "three"]))));
        rows.push(("set empty", set(&HashSet::<u8>::new())));
        rows.push(("set inside some", set(&Some(HashSet::from([1, 2])))));

        let found: Vec<String> = rows
            .iter()
            .map(|(name, key)| format!("{name},{key}"))
            .collect();
        let stored: Vec<&str> = include_str!("../../tests/fixtures/canonical.csv")
            .lines()
            .skip(1)
            .collect();
        let changed: Vec<&String> = found
            .iter()
            .filter(|row| !stored.contains(&row.as_str()))
            .collect();
        let gone: Vec<&&str> = stored
            .iter()
            .filter(|row| !found.iter().any(|found| found == *row))
            .collect();
        assert!(
            changed.is_empty() && gone.is_empty(),
            "a change to the encoding invalidates every stored cache entry, so take it back; a new row is added to \
             canonical.csv by hand\nfound:  {changed:#?}\nstored: {gone:#?}"
        );
        assert_eq!(
            stored.len(),
            found.len(),
            "a row of canonical.csv is there twice"
        );
    }

    /// A pair's keys are the same exactly where [`Tree::equal`] says that the two are.
    #[test]
    fn a_million_pairs_of_different_inputs_have_different_keys() {
        let mut random = SplitMix64(2026);
        let (mut same, mut different) = ([0, 0], [0, 0]);
        for pair in 0..1_000_000 {
            let is_near = pair % 2 == 1;
            // Some pairs of small trees that were made apart are the same, too.
            let depth = if is_near { 3 } else { random.below(3) };
            let one = Tree::any(&mut random, depth);
            let other = if is_near {
                one.clone().mutated(&mut random)
            } else {
                Tree::any(&mut random, depth)
            };
            let unordered = random.below(4) == 0;
            let equal = one.equal(&other, unordered);
            assert_eq!(
                equal,
                key_of(&one, unordered) == key_of(&other, unordered),
                "pair {pair}, unordered: {unordered}\n{one:?}\n{other:?}"
            );
            (if equal { &mut same } else { &mut different })[usize::from(is_near)] += 1;
        }
        assert!(
            same.into_iter().chain(different).min() > Some(5_000),
            "one-sided, [apart, near]: {same:?} same, {different:?} different"
        );
    }

    /// SplitMix64.
    struct SplitMix64(u64);

    impl SplitMix64 {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() >> 33).unwrap() % bound
        }

        fn pick<T: Copy>(&mut self, from: &[T]) -> T {
            from[self.below(from.len())]
        }
    }

    type SerdeName = &'static str;

    /// Some with bytes that are tags.
    const NAMES: [SerdeName; 8] = ["", "a", "b", "ab", "ba", "\0", "a\rb", "a\u{1}"];

    /// The type that an integer is serialized as, if it fits; otherwise as `i128`.
    #[derive(Clone, Copy, Debug)]
    enum IntegerType {
        I8,
        I16,
        I32,
        I64,
        U8,
        U16,
        U32,
        U64,
        U128,
        I128,
    }

    impl IntegerType {
        const ALL: [Self; 10] = [
            Self::I8,
            Self::I16,
            Self::I32,
            Self::I64,
            Self::U8,
            Self::U16,
            Self::U32,
            Self::U64,
            Self::U128,
            Self::I128,
        ];
    }

    /// Whether the serializer is given the length of a sequence or a map.
    #[derive(Clone, Copy, Debug)]
    enum LengthHint {
        Known,
        Unknown,
    }

    impl LengthHint {
        fn of<T>(self, elements: &[T]) -> Option<usize> {
            match self {
                Self::Known => Some(elements.len()),
                Self::Unknown => None,
            }
        }

        fn changed(self) -> Self {
            match self {
                Self::Known => Self::Unknown,
                Self::Unknown => Self::Known,
            }
        }
    }

    /// Any value that serde knows of.
    #[derive(Clone, Debug)]
    enum Tree {
        Unit,
        UnitStruct(SerdeName),
        Bool(bool),
        Integer(IntegerType, i128),
        Natural(u128),
        F32(f32),
        F64(f64),
        Char(char),
        Str(String),
        Bytes(Vec<u8>),
        None,
        Some(Box<Self>),
        Newtype(SerdeName, Box<Self>),
        Seq(LengthHint, Vec<Self>),
        Tuple(Vec<Self>),
        TupleStruct(SerdeName, Vec<Self>),
        Map(LengthHint, Vec<(Self, Self)>),
        Struct(SerdeName, Fields),
        UnitVariant(u32, SerdeName),
        NewtypeVariant(u32, SerdeName, Box<Self>),
        TupleVariant(u32, SerdeName, Vec<Self>),
        StructVariant(u32, SerdeName, Fields),
    }

    /// `None` is a field that is skipped.
    type Fields = Vec<(SerdeName, Option<Tree>)>;

    impl Serialize for Tree {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            macro_rules! all {
                ($parts:expr, $method:ident, $of:expr) => {{
                    let mut parts = $parts?;
                    for part in $of {
                        parts.$method(part)?;
                    }
                    parts.end()
                }};
            }
            macro_rules! fields {
                ($parts:expr, $of:expr) => {{
                    let mut parts = $parts?;
                    for (name, value) in $of {
                        match value {
                            Some(value) => parts.serialize_field(name, value)?,
                            None => parts.skip_field(name)?,
                        }
                    }
                    parts.end()
                }};
            }
            match self {
                Self::Unit => serializer.serialize_unit(),
                Self::UnitStruct(name) => serializer.serialize_unit_struct(name),
                Self::Bool(value) => serializer.serialize_bool(*value),
                Self::Integer(as_type, value) => integer(*as_type, *value, serializer),
                Self::Natural(value) => serializer.serialize_u128(*value),
                Self::F32(value) => serializer.serialize_f32(*value),
                Self::F64(value) => serializer.serialize_f64(*value),
                Self::Char(value) => serializer.serialize_char(*value),
                Self::Str(value) => serializer.serialize_str(value),
                Self::Bytes(value) => serializer.serialize_bytes(value),
                Self::None => serializer.serialize_none(),
                Self::Some(value) => serializer.serialize_some(value),
                Self::Newtype(name, value) => serializer.serialize_newtype_struct(name, value),
                Self::Seq(length, of) => all!(
                    serializer.serialize_seq(length.of(of)),
                    serialize_element,
                    of
                ),
                Self::Tuple(of) => {
                    all!(serializer.serialize_tuple(of.len()), serialize_element, of)
                }
                Self::TupleStruct(name, of) => {
                    all!(
                        serializer.serialize_tuple_struct(name, of.len()),
                        serialize_field,
                        of
                    )
                }
                Self::Map(length, of) => {
                    let mut entries = serializer.serialize_map(length.of(of))?;
                    for (key, value) in of {
                        entries.serialize_entry(key, value)?;
                    }
                    entries.end()
                }
                Self::Struct(name, of) => fields!(serializer.serialize_struct(name, of.len()), of),
                Self::UnitVariant(index, name) => {
                    serializer.serialize_unit_variant("", *index, name)
                }
                Self::NewtypeVariant(index, name, of) => {
                    serializer.serialize_newtype_variant("", *index, name, of)
                }
                Self::TupleVariant(index, name, of) => {
                    all!(
                        serializer.serialize_tuple_variant("", *index, name, of.len()),
                        serialize_field,
                        of
                    )
                }
                Self::StructVariant(index, name, of) => {
                    fields!(
                        serializer.serialize_struct_variant("", *index, name, of.len()),
                        of
                    )
                }
            }
        }
    }

    fn integer<S: Serializer>(
        as_type: IntegerType,
        value: i128,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        macro_rules! types {
            ($($name:ident: $method:ident),+) => {
                match as_type {
                    $(IntegerType::$name => {
                        if let Ok(value) = value.try_into() {
                            return serializer.$method(value);
                        }
                    })+
                    IntegerType::I128 => {}
                }
            };
        }
        types! {
            I8: serialize_i8, I16: serialize_i16, I32: serialize_i32, I64: serialize_i64,
            U8: serialize_u8, U16: serialize_u16, U32: serialize_u32, U64: serialize_u64,
            U128: serialize_u128
        }
        serializer.serialize_i128(value)
    }

    impl Tree {
        fn any(random: &mut SplitMix64, depth: usize) -> Self {
            let index = u32::try_from(random.below(3)).unwrap();
            let name = random.pick(&NAMES);
            let coin = random.below(2) == 0;
            let length = if coin {
                LengthHint::Known
            } else {
                LengthHint::Unknown
            };
            let inside = depth.saturating_sub(1);
            let (from, to) = match depth {
                0 => (0, 14),
                1 | 2 => (0, 26),
                _ => (14, 26),
            };
            match from + random.below(to - from) {
                0 => Self::Unit,
                1 => Self::UnitStruct(name),
                2 => Self::Bool(coin),
                3 | 4 => {
                    let edge = random.pick(&[
                        0,
                        0,
                        1 << 8,
                        1 << 63,
                        1 << 64,
                        -(1 << 7),
                        -(1 << 63),
                        i128::MAX - 2,
                    ]);
                    Self::Integer(
                        random.pick(&IntegerType::ALL),
                        edge + i128::try_from(random.below(3)).unwrap() - 1,
                    )
                }
                5 => Self::Natural(random.pick(&[
                    0,
                    1,
                    255,
                    256,
                    1 << 64,
                    i128::MAX.unsigned_abs(),
                    u128::MAX,
                ])),
                6 => Self::F32(random.pick(&[
                    0.0,
                    -0.0,
                    1.0,
                    0.5,
                    0.1,
                    f32::NAN,
                    -f32::NAN,
                    f32::INFINITY,
                ])),
                7 => Self::F64(random.pick(&[
                    0.0,
                    -0.0,
                    1.0,
                    0.5,
                    0.1,
                    f64::NAN,
                    -f64::NAN,
                    f64::INFINITY,
                ])),
                8 => Self::Char(random.pick(&['a', 'b', '\0', '1', 'é'])),
                9 | 10 => Self::Str(name.to_owned()),
                11 => Self::Bytes(name.into()),
                12 => Self::None,
                13 => Self::UnitVariant(index, name),
                14 | 15 => Self::Some(Self::any(random, inside).into()),
                16 => Self::Newtype(name, Self::any(random, inside).into()),
                17 | 18 => Self::Seq(length, Self::several(random, inside)),
                19 => Self::Tuple(Self::several(random, inside)),
                20 => Self::TupleStruct(name, Self::several(random, inside)),
                21 | 22 => {
                    let keys = Self::several(random, inside);
                    Self::Map(
                        length,
                        keys.into_iter()
                            .map(|key| (key, Self::any(random, inside)))
                            .collect(),
                    )
                }
                23 => Self::NewtypeVariant(index, name, Self::any(random, inside).into()),
                24 => Self::TupleVariant(index, name, Self::several(random, inside)),
                _ => {
                    let of = (0..random.below(4))
                        .map(|_| Self::field(random, inside))
                        .collect();
                    if coin {
                        Self::Struct(name, of)
                    } else {
                        Self::StructVariant(index, name, of)
                    }
                }
            }
        }

        /// Half of the time all of a kind, so that there are neighbours which content can move
        /// between.
        fn several(random: &mut SplitMix64, depth: usize) -> Vec<Self> {
            let kind = random.below(4);
            (0..random.below(4))
                .map(|_| match kind {
                    0 => Self::Str(random.pick(&NAMES).to_owned()),
                    1 if depth > 0 => {
                        Self::Seq(LengthHint::Known, Self::several(random, depth - 1))
                    }
                    _ => Self::any(random, depth),
                })
                .collect()
        }

        fn field(random: &mut SplitMix64, depth: usize) -> (SerdeName, Option<Self>) {
            (
                random.pick(&NAMES),
                (random.below(4) > 0).then(|| Self::any(random, depth)),
            )
        }

        /// Whether the two have to have the same key.
        fn equal(&self, other: &Self, unordered: bool) -> bool {
            let all = |one: &[Self], other: &[Self]| {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(one, other)| one.equal(other, false))
            };
            let fields = |one: &Fields, other: &Fields| {
                let present =
                    |fields: &Fields| fields.iter().filter(|(_, value)| value.is_some()).count();
                let mut other_fields = other
                    .iter()
                    .filter_map(|(name, value)| Some((name, value.as_ref()?)));
                present(one) == present(other)
                    && one
                        .iter()
                        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
                        .all(|(name, value)| {
                            other_fields.next().is_some_and(|(its, other)| {
                                name == its && value.equal(other, false)
                            })
                        })
            };
            match (self, other) {
                (Self::Newtype(_, one), other) | (other, Self::Newtype(_, one)) => {
                    one.equal(other, unordered)
                }
                (Self::Unit | Self::UnitStruct(_), Self::Unit | Self::UnitStruct(_)) => true,
                (Self::Bool(one), Self::Bool(other)) => one == other,
                (Self::Integer(_, one), Self::Integer(_, other)) => one == other,
                (Self::Natural(one), Self::Natural(other)) => one == other,
                (Self::Integer(_, one), Self::Natural(other))
                | (Self::Natural(other), Self::Integer(_, one)) => {
                    u128::try_from(*one) == Ok(*other)
                }
                (Self::F32(one), Self::F32(other)) => same_float((*one).into(), (*other).into()),
                (Self::F64(one), Self::F64(other)) => same_float(*one, *other),
                (Self::F32(one), Self::F64(other)) | (Self::F64(other), Self::F32(one)) => {
                    same_float((*one).into(), *other)
                }
                (Self::Char(one), Self::Char(other)) => one == other,
                (Self::Str(one), Self::Str(other)) => one == other,
                (Self::Bytes(one), Self::Bytes(other)) => one == other,
                (Self::None, Self::None) => true,
                (Self::Some(one), Self::Some(other)) => one.equal(other, unordered),
                (Self::Seq(_, one), Self::Seq(_, other)) if unordered => {
                    in_some_order(one, other, |one, other| one.equal(other, false))
                }
                (Self::Seq(_, one), Self::Seq(_, other)) => all(one, other),
                (
                    Self::Tuple(one) | Self::TupleStruct(_, one),
                    Self::Tuple(other) | Self::TupleStruct(_, other),
                ) => all(one, other),
                (Self::Map(_, one), Self::Map(_, other)) => {
                    in_some_order(one, other, |one, other| {
                        one.0.equal(&other.0, false) && one.1.equal(&other.1, false)
                    })
                }
                (Self::Struct(_, one), Self::Struct(_, other)) => fields(one, other),
                (Self::UnitVariant(_, one), Self::UnitVariant(_, other)) => one == other,
                (Self::NewtypeVariant(_, name, one), Self::NewtypeVariant(_, its, other)) => {
                    name == its && one.equal(other, false)
                }
                (Self::TupleVariant(_, name, one), Self::TupleVariant(_, its, other)) => {
                    name == its && all(one, other)
                }
                (Self::StructVariant(_, name, one), Self::StructVariant(_, its, other)) => {
                    name == its && fields(one, other)
                }
                _ => false,
            }
        }

        /// Changes one place: often by so little that it is still the same value.
        fn mutated(mut self, random: &mut SplitMix64) -> Self {
            let mut inner = self.inner();
            if !inner.is_empty() && random.below(3) > 0 {
                let at = random.below(inner.len());
                let place = &mut *inner[at];
                *place = std::mem::replace(place, Self::Unit).mutated(random);
                return self;
            }
            let name = random.pick(&NAMES);
            match random.below(24) {
                0 => Self::any(random, 1),
                1 => Self::Some(self.into()),
                2 => Self::Newtype(name, self.into()),
                3 => Self::Seq(LengthHint::Known, vec![self]),
                4 => Self::Tuple(vec![self]),
                5 => Self::NewtypeVariant(0, name, self.into()),
                _ => self.varied(name, random),
            }
        }

        fn inner(&mut self) -> Vec<&mut Self> {
            match self {
                Self::Some(of) | Self::Newtype(_, of) | Self::NewtypeVariant(_, _, of) => vec![of],
                Self::Seq(_, of)
                | Self::Tuple(of)
                | Self::TupleStruct(_, of)
                | Self::TupleVariant(_, _, of) => of.iter_mut().collect(),
                Self::Map(_, of) => of
                    .iter_mut()
                    .flat_map(|(key, value)| [key, value])
                    .collect(),
                Self::Struct(_, of) | Self::StructVariant(_, _, of) => of
                    .iter_mut()
                    .filter_map(|(_, value)| value.as_mut())
                    .collect(),
                _ => Vec::new(),
            }
        }

        fn varied(self, name: SerdeName, random: &mut SplitMix64) -> Self {
            let turn = random.below(6);
            match (self, turn) {
                (Self::Unit, 0) => Self::Tuple(Vec::new()),
                (Self::Unit, 1) => Self::None,
                (Self::Unit | Self::UnitStruct(_), _) => Self::UnitStruct(name),
                (Self::Bool(value), 0) => Self::Integer(IntegerType::I8, value.into()),
                (Self::Bool(value), _) => Self::Bool(!value),
                (Self::Integer(_, value), 0) => Self::Str(value.to_string()),
                (Self::Integer(as_type, value), 1) => {
                    Self::Integer(as_type, value.saturating_add(1))
                }
                (Self::Integer(as_type, value), 2) => Self::Integer(as_type, value.wrapping_neg()),
                (Self::Integer(_, value), 3) => {
                    i16::try_from(value).map_or(Self::Unit, |value| Self::F64(value.into()))
                }
                (Self::Integer(_, value), 4) => {
                    u128::try_from(value).map_or(Self::None, Self::Natural)
                }
                (Self::Integer(_, value), _) => {
                    Self::Integer(random.pick(&IntegerType::ALL), value)
                }
                (Self::Natural(value), 0..3) => Self::Natural(value ^ 1),
                (Self::Natural(value), _) => i128::try_from(value)
                    .map_or(Self::None, |value| Self::Integer(IntegerType::U64, value)),
                (Self::F32(value), 0..2) => Self::F32(-value),
                (Self::F32(value), 2) => Self::F32(f32::from_bits(value.to_bits() ^ 1)),
                (Self::F32(value), _) => Self::F64(value.into()),
                (Self::F64(value), 0..2) => Self::F64(-value),
                (Self::F64(value), 2) => Self::F64(f64::from_bits(value.to_bits() ^ 1)),
                (Self::F64(value), _) => Self::F32(if value == 0.5 { 0.5 } else { 0.1 }),
                (Self::Char(value), 0..3) => Self::Str(value.into()),
                (Self::Char(value), _) => Self::Integer(IntegerType::U32, u32::from(value).into()),
                (Self::Str(value), 0) => Self::Bytes(value.into()),
                (Self::Str(value), 1) => value.chars().next().map_or(Self::Unit, Self::Char),
                (Self::Str(value), 2) => {
                    Self::Seq(LengthHint::Known, value.chars().map(Self::Char).collect())
                }
                (Self::Str(value), _) => Self::Str(value + name),
                (Self::Bytes(value), 0) => Self::Seq(
                    LengthHint::Known,
                    value
                        .iter()
                        .map(|byte| Self::Integer(IntegerType::U8, (*byte).into()))
                        .collect(),
                ),
                (Self::Bytes(value), _) => Self::Bytes([&value, name.as_bytes()].concat()),
                (Self::None, 0) => Self::Unit,
                (Self::None, _) => Self::Some(Self::None.into()),
                (Self::Some(of), _) | (Self::Newtype(_, of), 0..3) => *of,
                (Self::Newtype(_, of), _) => Self::Newtype(name, of),
                (Self::Seq(_, of), 0) => Self::Tuple(of),
                (Self::Seq(length, of), 1) => Self::Seq(length.changed(), of),
                (Self::Seq(length, of), _) => Self::Seq(length, rearranged(of, random)),
                (Self::Tuple(of), 0) => Self::Seq(LengthHint::Known, of),
                (Self::Tuple(of), 1) => Self::TupleStruct(name, of),
                (Self::Tuple(of), _) => Self::Tuple(rearranged(of, random)),
                (Self::TupleStruct(_, of), 0..2) => Self::TupleStruct(name, of),
                (Self::TupleStruct(name, of), 2) => Self::TupleVariant(0, name, of),
                (Self::TupleStruct(name, of), _) => Self::TupleStruct(name, rearranged(of, random)),
                (Self::Map(_, of), 0) => Self::Seq(
                    LengthHint::Known,
                    of.into_iter()
                        .map(|(key, value)| Self::Tuple(vec![key, value]))
                        .collect(),
                ),
                (Self::Map(length, mut of), 1) if of.len() > 1 => {
                    let (one, other) = (random.below(of.len()), random.below(of.len()));
                    let value = of[one].1.clone();
                    of[one].1 = std::mem::replace(&mut of[other].1, value);
                    Self::Map(length, of)
                }
                (Self::Map(length, of), _) => Self::Map(length, shuffled(of, turn, random)),
                (Self::Struct(_, of), 0) => Self::Struct(name, of),
                (Self::Struct(_, of), 1) => {
                    let entry = |(name, value): (SerdeName, Option<Self>)| {
                        Some((Self::Str(name.to_owned()), value?))
                    };
                    Self::Map(
                        LengthHint::Known,
                        of.into_iter().filter_map(entry).collect(),
                    )
                }
                (Self::Struct(name, of), 2) => Self::StructVariant(0, name, of),
                (Self::Struct(its, of), _) => Self::Struct(its, changed(of, name, random)),
                (Self::UnitVariant(_, its), 0) => Self::Str(its.to_owned()),
                (Self::UnitVariant(_, its), 1) => Self::TupleVariant(0, its, Vec::new()),
                (Self::UnitVariant(_, its), 2) => Self::NewtypeVariant(0, its, Self::Unit.into()),
                (Self::UnitVariant(index, its), 3) => Self::UnitVariant(index + 1, its),
                (Self::UnitVariant(index, _), _) => Self::UnitVariant(index, name),
                (Self::NewtypeVariant(_, _, of), 0) => *of,
                (Self::NewtypeVariant(_, its, of), 1) => Self::TupleVariant(0, its, vec![*of]),
                (Self::NewtypeVariant(index, its, of), 2) => {
                    Self::NewtypeVariant(index + 1, its, of)
                }
                (Self::NewtypeVariant(index, _, of), _) => Self::NewtypeVariant(index, name, of),
                (Self::TupleVariant(_, its, of), 0) => {
                    Self::NewtypeVariant(0, its, Self::Tuple(of).into())
                }
                (Self::TupleVariant(index, its, of), 1) => Self::TupleVariant(index + 1, its, of),
                (Self::TupleVariant(index, _, of), 2) => Self::TupleVariant(index, name, of),
                (Self::TupleVariant(index, its, of), _) => {
                    Self::TupleVariant(index, its, rearranged(of, random))
                }
                (Self::StructVariant(_, its, of), 0) => {
                    Self::NewtypeVariant(0, its, Self::Struct(its, of).into())
                }
                (Self::StructVariant(index, its, of), 1) => Self::StructVariant(index + 1, its, of),
                (Self::StructVariant(index, _, of), 2) => Self::StructVariant(index, name, of),
                (Self::StructVariant(index, its, of), _) => {
                    Self::StructVariant(index, its, changed(of, name, random))
                }
            }
        }
    }

    fn same_float(one: f64, other: f64) -> bool {
        (one == other && one.is_sign_negative() == other.is_sign_negative())
            || (one.is_nan() && other.is_nan())
    }

    /// Whether each of one can be given one of the other that it equals.
    fn in_some_order<T>(one: &[T], other: &[T], equal: impl Fn(&T, &T) -> bool) -> bool {
        let mut left: Vec<&T> = other.iter().collect();
        one.len() == other.len()
            && one.iter().all(|one| {
                let found = left.iter().position(|other| equal(one, other));
                found.map(|at| left.swap_remove(at)).is_some()
            })
    }

    /// Reversed, or with an element more or less.
    fn shuffled<T: Clone>(mut of: Vec<T>, turn: usize, random: &mut SplitMix64) -> Vec<T> {
        let at = random.below(of.len().max(1));
        match (turn, of.get(at).cloned()) {
            (2, Some(twice)) => of.push(twice),
            (3, Some(_)) => drop(of.remove(at)),
            _ => of.reverse(),
        }
        of
    }

    /// Moves a boundary between elements.
    fn rearranged(mut of: Vec<Tree>, random: &mut SplitMix64) -> Vec<Tree> {
        let at = random.below(of.len().max(1));
        let turn = random.below(8);
        match (&mut of[at..], turn) {
            ([Tree::Seq(_, one), Tree::Seq(_, other), ..], 0..=3) => match (one.pop(), turn) {
                (Some(last), 0 | 1) => other.insert(0, last),
                (Some(last), _) => {
                    one.extend([last].into_iter().chain(other.drain(..1.min(other.len()))))
                }
                (None, _) => one.append(other),
            },
            ([Tree::Str(one), Tree::Str(other), ..], 0..=3) => match one.pop() {
                Some(last) => other.insert(0, last),
                None => std::mem::swap(one, other),
            },
            ([Tree::Str(one), Tree::Str(other), ..], 4) => {
                *one = [one, other.as_str()].join(char::from(tag::STR).encode_utf8(&mut [0; 4]));
                of.remove(at + 1);
            }
            ([Tree::Seq(_, one), ..], 4) => {
                let flat = std::mem::take(one);
                of.splice(at..=at, flat);
            }
            ([_, ..], 5) => {
                let tail = of.split_off(at);
                of.push(Tree::Seq(LengthHint::Known, tail));
            }
            _ => return shuffled(of, turn % 4, random),
        }
        of
    }

    fn changed(mut of: Fields, name: SerdeName, random: &mut SplitMix64) -> Fields {
        let at = random.below(of.len().max(1));
        match (of.get_mut(at), random.below(4)) {
            (Some(field), 0) => field.0 = name,
            (Some(field), 1) => field.1 = None,
            (Some(_), 2) => of.reverse(),
            _ => of.insert(at, Tree::field(random, 0)),
        }
        of
    }
}
