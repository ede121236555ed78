//! A serializer wrapper that refuses values which could not be decoded again.
//!
//! All serialization goes through it: the bytes in a store, the JSON of parameters, and the bytes
//! of cache keys. Values that are too deep for the stack, or ambiguous in a format, are therefore
//! errors everywhere, by the same rule.

use std::cell::Cell;
use std::fmt::Display;

use serde::ser::{self, Error as _, Serialize, Serializer};

use super::json::{self, WIDE};

/// The maximum nesting of values: lists, maps, structs, variants, `Some`s.
///
/// Each level uses stack when it is written and when it is read: some kilobytes in a debug build,
/// while a tokio thread has two megabytes.
pub(crate) const LEVELS: u16 = 256;

/// The output format, which determines what cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireFormat {
    /// MessagePack, which cannot distinguish an empty value inside `Some` from `None`.
    Packed,
    /// JSON that is read again. This also applies to unit structs, and numbers cannot be NaN or
    /// infinite.
    Json,
    /// JSON that is only displayed.
    Shown,
    /// Cache keys, which can express everything.
    Hashed,
}

/// The observations on a value while it is written.
#[derive(Debug)]
pub(super) struct Observations {
    format: WireFormat,
    /// Whether a type asked for the human-readable form, and so may have two forms.
    has_forms: Cell<bool>,
}

impl Observations {
    pub(super) fn new(format: WireFormat) -> Self {
        Self {
            format,
            has_forms: Cell::new(false),
        }
    }

    pub(super) fn has_forms(&self) -> bool {
        self.has_forms.get()
    }
}

/// The place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValuePosition {
    Plain,
    InSome,
    Key,
}

/// The serializer of one value.
#[derive(Debug)]
pub(super) struct Guard<'w, S> {
    inner: S,
    watch: &'w Observations,
    place: ValuePosition,
    /// The number of values around this one.
    level: u16,
}

impl<'w, S: Serializer> Guard<'w, S> {
    pub(super) fn new(inner: S, watch: &'w Observations) -> Self {
        Self {
            inner,
            watch,
            place: ValuePosition::Plain,
            level: 0,
        }
    }

    /// Returns the level of the values inside this one.
    #[inline]
    fn deeper(&self) -> Result<u16, S::Error> {
        if self.level >= LEVELS {
            let levels = if self.watch.format == WireFormat::Json {
                json::LEVELS
            } else {
                LEVELS
            };
            return Err(S::Error::custom(TooDeep(levels)));
        }
        Ok(self.level + 1)
    }

    /// Returns an error for an empty value that would be decoded as `None`.
    #[inline]
    fn check_nothing(&self, name: &dyn Display) -> Result<(), S::Error> {
        if self.place == ValuePosition::InSome
            && matches!(self.watch.format, WireFormat::Packed | WireFormat::Json)
        {
            return Err(S::Error::custom(format_args!(
                "`Some({name})` would be read back as `None`: use an enum instead of the `Option`"
            )));
        }
        Ok(())
    }

    #[inline]
    fn check_number(&self, number: f64) -> Result<(), S::Error> {
        if !number.is_finite() && self.watch.format == WireFormat::Json {
            return Err(S::Error::custom(format_args!(
                "JSON cannot represent {number}"
            )));
        }
        Ok(())
    }

    /// Writes an integer beyond 64 bits, which a JSON value cannot hold.
    fn wide(self, digits: &dyn Display) -> Result<S::Ok, S::Error> {
        use ser::SerializeMap as _;
        let mut map = self.inner.serialize_map(Some(1))?;
        map.serialize_entry(WIDE, &digits.to_string())?;
        map.end()
    }

    fn is_json(&self) -> bool {
        matches!(self.watch.format, WireFormat::Json | WireFormat::Shown)
            && self.place != ValuePosition::Key
    }
}

/// The error of a value that is nested too deeply.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooDeep(pub(super) u16);

impl Display for TooDeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected at most {} levels of nesting, got more", self.0)
    }
}

/// A value inside another one.
struct GuardedValue<'w, 'v, T: ?Sized> {
    value: &'v T,
    watch: &'w Observations,
    place: ValuePosition,
    level: u16,
}

impl<T: Serialize + ?Sized> Serialize for GuardedValue<'_, '_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            value,
            watch,
            place,
            level,
        } = *self;
        value.serialize(Guard {
            inner: serializer,
            watch,
            place,
            level,
        })
    }
}

/// The parts of a compound value.
#[derive(Debug)]
pub(super) struct GuardedParts<'w, P> {
    inner: P,
    watch: &'w Observations,
    level: u16,
}

impl<'w, P> GuardedParts<'w, P> {
    #[inline]
    fn part<'v, T: ?Sized>(&self, value: &'v T) -> GuardedValue<'w, 'v, T> {
        GuardedValue {
            value,
            watch: self.watch,
            place: ValuePosition::Plain,
            level: self.level,
        }
    }

    #[inline]
    fn key<'v, T: ?Sized>(&self, value: &'v T) -> GuardedValue<'w, 'v, T> {
        GuardedValue {
            place: ValuePosition::Key,
            ..self.part(value)
        }
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty);)+) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )+};
}

macro_rules! parts {
    ($($method:ident($($name:ident: $type:ty),*) -> $parts:ident;)+) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<Self::$parts, S::Error> {
            let level = self.deeper()?;
            Ok(GuardedParts { inner: self.inner.$method($($name),*)?, watch: self.watch, level })
        }
    )+};
}

impl<'w, S: Serializer> Serializer for Guard<'w, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = GuardedParts<'w, S::SerializeSeq>;
    type SerializeTuple = GuardedParts<'w, S::SerializeTuple>;
    type SerializeTupleStruct = GuardedParts<'w, S::SerializeTupleStruct>;
    type SerializeTupleVariant = GuardedParts<'w, S::SerializeTupleVariant>;
    type SerializeMap = GuardedParts<'w, S::SerializeMap>;
    type SerializeStruct = GuardedParts<'w, S::SerializeStruct>;
    type SerializeStructVariant = GuardedParts<'w, S::SerializeStructVariant>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.watch.has_forms.set(true);
        self.inner.is_human_readable()
    }

    scalars! {
        serialize_bool(bool); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        match (u64::try_from(value), i64::try_from(value)) {
            // the shorter form, which every reader takes as a number
            (Ok(value), _) if self.watch.format == WireFormat::Packed => {
                self.inner.serialize_u64(value)
            }
            (_, Ok(value)) if self.watch.format == WireFormat::Packed => {
                self.inner.serialize_i64(value)
            }
            (Err(_), Err(_)) if self.is_json() => self.wide(&value),
            _ => self.inner.serialize_i128(value),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        match u64::try_from(value) {
            Ok(value) if self.watch.format == WireFormat::Packed => self.inner.serialize_u64(value),
            Err(_) if self.is_json() => self.wide(&value),
            _ => self.inner.serialize_u128(value),
        }
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.check_number(value.into())?;
        if self.watch.format == WireFormat::Shown && value.is_finite() {
            // the shortest text that parses to the same value, not that of the nearest `f64`
            return self
                .inner
                .serialize_f64(value.to_string().parse().unwrap_or(value.into()));
        }
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.check_number(value)?;
        self.inner.serialize_f64(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.check_nothing(&"None")?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let level = self.deeper()?;
        self.inner.serialize_some(&GuardedValue {
            value,
            watch: self.watch,
            place: ValuePosition::InSome,
            level,
        })
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.check_nothing(&"()")?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        if self.watch.format == WireFormat::Json {
            self.check_nothing(&name)?;
        }
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        // encoded as its content, in any place
        let level = self.deeper()?;
        self.inner.serialize_newtype_struct(
            name,
            &GuardedValue {
                value,
                watch: self.watch,
                place: self.place,
                level,
            },
        )
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let level = self.deeper()?;
        let value = GuardedValue {
            value,
            watch: self.watch,
            place: ValuePosition::Plain,
            level,
        };
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    parts! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant;
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident;)+) => {$(
        impl<P: ser::$trait> ser::$trait for GuardedParts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                let value = self.part(value);
                self.inner.$method(&value)
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        }
    )+};
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! fields {
    ($($trait:ident;)+) => {$(
        impl<P: ser::$trait> ser::$trait for GuardedParts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), P::Error> {
                let value = self.part(value);
                self.inner.serialize_field(name, &value)
            }

            #[inline]
            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.inner.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        }
    )+};
}

fields! { SerializeStruct; SerializeStructVariant; }

impl<P: ser::SerializeMap> ser::SerializeMap for GuardedParts<'_, P> {
    type Ok = P::Ok;
    type Error = P::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        let key = self.key(key);
        self.inner.serialize_key(&key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        let value = self.part(value);
        self.inner.serialize_value(&value)
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), P::Error> {
        let (key, value) = (self.key(key), self.part(value));
        self.inner.serialize_entry(&key, &value)
    }

    #[inline]
    fn end(self) -> Result<P::Ok, P::Error> {
        self.inner.end()
    }
}
