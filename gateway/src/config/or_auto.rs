//! A value or the word `auto`: left to Weir, which knows more once the model is loaded. Must never stand for a value
//! that has a default of its own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{F64Deserializer, I64Deserializer, StrDeserializer, U64Deserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, Visitor};
use serde::{Serialize, Serializer};

/// The word.
pub(super) const AUTO: &str = "auto";

/// A value as typed; `None` for `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OrAuto<T>(pub Option<T>);

impl<T: Serialize> Serialize for OrAuto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrAuto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueOrAuto(PhantomData))
    }
}

struct ValueOrAuto<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ValueOrAuto<T> {
    type Value = OrAuto<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or `auto`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == AUTO {
            return Ok(OrAuto(None));
        }
        let text: StrDeserializer<'_, E> = text.into_deserializer();
        T::deserialize(text).map(|value| OrAuto(Some(value)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(U64Deserializer::new(number)).map(|value| OrAuto(Some(value)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(I64Deserializer::new(number)).map(|value| OrAuto(Some(value)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        T::deserialize(F64Deserializer::new(number)).map(|value| OrAuto(Some(value)))
    }
}
