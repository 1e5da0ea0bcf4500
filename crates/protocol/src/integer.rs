//! Integers as JSON Schema has them (2020-12, 4.2.3): `1.0` is one. Some clients write all numbers so.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Up to here, an f64 holds every integer.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Reads an integer, or null.
///
/// # Errors
/// Where it is something else, or larger than 64 bits.
pub(crate) fn optional<'de, D: Deserializer<'de>>(json: D) -> Result<Option<i64>, D::Error> {
    let wide = json.deserialize_any(Optional)?;
    let narrow = |wide| i64::try_from(wide).map_err(|_| D::Error::custom("an integer of 64 bits"));
    wide.map(narrow).transpose()
}

/// Reads a seed: an integer that is not negative, or -1 or null, by which other servers mean that they are to
/// choose one.
///
/// # Errors
/// Where it is something else, or larger than 64 bits.
pub(crate) fn seed<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    let wide = json.deserialize_any(Optional)?.filter(|wide| *wide != -1);
    let narrow = |wide| u64::try_from(wide).map_err(|_| D::Error::custom("a seed of 64 bits"));
    wide.map(narrow).transpose()
}

struct Optional;

impl Visitor<'_> for Optional {
    type Value = Option<i128>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        if value.fract() == 0.0 && value.abs() <= EXACT {
            Ok(Some(value as i128))
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }
}
