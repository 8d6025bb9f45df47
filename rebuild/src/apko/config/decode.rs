//! Reads records field by field from any serde format and names everything that it does not know.
//!
//! Invariant: after a document was read, every key of every object in it was either stored or
//! reported with its path. A key that stands twice is an error: two readers would disagree on it.
//! `null` is "not set" everywhere. Text fields take what stands in a YAML scalar as it is written.

use attest::{Gap, GapCode};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{cell::RefCell, collections::BTreeMap, fmt, marker::PhantomData};

/// Gaps that are listed one by one. A document of a million unknown keys needs no million lines.
const GAPS_MAX: usize = 100;
/// Items of one list or map; real configurations have some hundred packages.
const ITEMS_MAX: usize = 100_000;

/// What a document said that is not known.
#[derive(Debug, Default)]
pub struct Report {
    unknown: RefCell<Vec<String>>,
    unsupported: RefCell<Vec<String>>,
}

impl Report {
    /// Paths of keys that no record has.
    pub fn unknown(self) -> (Vec<String>, Vec<String>) {
        (self.unknown.into_inner(), self.unsupported.into_inner())
    }

    fn add(list: &RefCell<Vec<String>>, path: String) {
        let mut list = list.borrow_mut();
        if list.len() < GAPS_MAX {
            list.push(path);
        }
    }
}

/// The gap for a field.
pub fn field_gap(path: impl Into<String>) -> Gap {
    Gap::new(GapCode::UnsupportedField, path)
}

/// A place in a document.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    report: &'a Report,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The whole document.
    pub fn root(report: &'a Report) -> Self {
        Self { parent: None, step: Step::Root, report }
    }

    /// A field of the object at this place.
    pub fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At { parent: Some(self), step: Step::Key(key), report: self.report }
    }

    fn index<'b>(&'b self, index: usize) -> At<'b> {
        At { parent: Some(self), step: Step::Index(index), report: self.report }
    }

    /// Notes a key that no record has.
    pub fn unknown(&self) {
        Report::add(&self.report.unknown, self.to_string());
    }

    /// Notes a key that apko knows and Assay does not do.
    pub fn unsupported(&self) {
        Report::add(&self.report.unsupported, self.to_string());
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                let dot = if matches!(parent.step, Step::Root) { "" } else { "." };
                let shown: String = key.chars().take(100).collect();
                write!(f, "{dot}{shown}")
            }
        }
    }
}

/// A type that a field can have.
pub trait Field: Sized + Default {
    /// What is expected, for messages.
    const EXPECTED: &'static str;

    /// Reads a value that is not null.
    fn read<'de, D: Deserializer<'de>>(from: D, at: &At<'_>) -> Result<Self, D::Error>;
}

/// A field as a serde seed: null gives the default.
pub struct Seed<'a, T>(pub &'a At<'a>, PhantomData<T>);

impl<'a, T> Seed<'a, T> {
    /// A seed for the value at this place.
    pub fn new(at: &'a At<'a>) -> Self {
        Self(at, PhantomData)
    }
}

impl<'de, T: Field> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, T: Field> Visitor<'de> for Seed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", T::EXPECTED, self.0)
    }

    fn visit_none<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::read(from, self.0)
    }
}

/// A visitor for one scalar, saying where it stands.
struct Scalar<'a, T>(&'a At<'a>, PhantomData<T>);

macro_rules! scalar {
    ($type:ty, $expected:literal, $method:ident, { $($visit:tt)+ }) => {
        impl Field for $type {
            const EXPECTED: &'static str = $expected;

            fn read<'de, D: Deserializer<'de>>(from: D, at: &At<'_>) -> Result<Self, D::Error> {
                from.$method(Scalar::<$type>(at, PhantomData))
            }
        }

        impl<'de> Visitor<'de> for Scalar<'_, $type> {
            type Value = $type;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} at {}", <$type>::EXPECTED, self.0)
            }

            $($visit)+
        }
    };
}

scalar!(String, "text", deserialize_string, {
    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
});

scalar!(bool, "true or false", deserialize_bool, {
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
});

scalar!(u32, "a number from 0 to 4294967295", deserialize_u32, {
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
        let unexpected = de::Unexpected::Unsigned(value);
        u32::try_from(value).map_err(|_| E::invalid_value(unexpected, &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u32, E> {
        let unexpected = de::Unexpected::Signed(value);
        u32::try_from(value).map_err(|_| E::invalid_value(unexpected, &self))
    }
});

impl<T: Field> Field for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read<'de, D: Deserializer<'de>>(from: D, at: &At<'_>) -> Result<Self, D::Error> {
        T::read(from, at).map(Some)
    }
}

impl<T: Field> Field for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn read<'de, D: Deserializer<'de>>(from: D, at: &At<'_>) -> Result<Self, D::Error> {
        struct List<'a, T>(&'a At<'a>, PhantomData<T>);

        impl<'de, T: Field> Visitor<'de> for List<'_, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list at {}", self.0)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) =
                    seq.next_element_seed(Seed::new(&self.0.index(items.len())))?
                {
                    items.push(item);
                    enough(items.len(), self.0)?;
                }
                Ok(items)
            }
        }

        from.deserialize_seq(List(at, PhantomData))
    }
}

fn enough<E: de::Error>(count: usize, at: &At<'_>) -> Result<(), E> {
    if count > ITEMS_MAX {
        return Err(E::custom(format_args!("expected at most {ITEMS_MAX} items at {at}")));
    }
    Ok(())
}

impl Field for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a map of texts";

    fn read<'de, D: Deserializer<'de>>(from: D, at: &At<'_>) -> Result<Self, D::Error> {
        struct Texts<'a>(&'a At<'a>);

        impl<'de> Visitor<'de> for Texts<'_> {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map of texts at {}", self.0)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value_seed(Seed::new(&self.0.key(&key)))?;
                    if texts.contains_key(&key) {
                        return Err(twice(&self.0.key(&key)));
                    }
                    texts.insert(key, value);
                    enough(texts.len(), self.0)?;
                }
                Ok(texts)
            }
        }

        from.deserialize_map(Texts(at))
    }
}

/// The error for a key that stands twice.
pub fn twice<E: de::Error>(at: &At<'_>) -> E {
    E::custom(format_args!("expected the key {at} once, found it twice"))
}

/// Reads past a value and says whether it is set: not null, false, 0, or empty all the way down.
pub struct IsSet;

impl<'de> DeserializeSeed<'de> for IsSet {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IsSet {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<bool, E> {
        Ok(value != 0)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
        Ok(value != 0)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<bool, E> {
        Ok(value != 0.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        Ok(!text.is_empty())
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_none<E: de::Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut any = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(any)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut any = false;
        while map.next_key::<IgnoredAny>()?.is_some() {
            any |= map.next_value_seed(IsSet)?;
        }
        Ok(any)
    }
}

/// Declares a record: its fields with their keys, and the keys that apko has and Assay refuses
/// when they are set.
macro_rules! record {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty,)+
        }
        $(unsupported $($unsupported:literal),+)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl $crate::apko::config::decode::Field for $name {
            const EXPECTED: &'static str = "an object";

            fn read<'de, D: serde::Deserializer<'de>>(
                from: D,
                at: &$crate::apko::config::decode::At<'_>,
            ) -> Result<Self, D::Error> {
                use $crate::apko::config::decode::{At, Seed, twice};

                struct Record<'a>(&'a At<'a>);

                impl<'de> serde::de::Visitor<'de> for Record<'_> {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "an object at {}", self.0)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        let mut record = $name::default();
                        let mut seen: Vec<String> = Vec::new();
                        while let Some(key) = map.next_key::<String>()? {
                            let here = self.0.key(&key);
                            if seen.contains(&key) {
                                return Err(twice(&here));
                            }
                            match key.as_str() {
                                $($key => record.$field = map.next_value_seed(Seed::new(&here))?,)+
                                $($($unsupported => {
                                    use $crate::apko::config::decode::IsSet;
                                    if map.next_value_seed(IsSet)? {
                                        here.unsupported();
                                    }
                                })+)?
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                    here.unknown();
                                    continue;
                                }
                            }
                            seen.push(key);
                        }
                        Ok(record)
                    }
                }

                from.deserialize_map(Record(at))
            }
        }
    };
}

pub(crate) use record;
