//! CBOR (RFC 8949) as it is written here, and read back: one encoding for each value.

use coset::cbor::{de, ser, value::Value};

use crate::error::ProvenanceError;

/// Deeper than anything of ours.
const MAX_DEPTH: usize = 16;

/// A map whose keys are texts, in the order in which they are given.
pub(crate) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (Value::from(key), value)).into())
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ser::into_writer(value, &mut bytes).expect("a vector takes every byte");
    bytes
}

/// Reads one value that takes up all of `bytes`, and is written as [`encode`] writes it: numbers and
/// lengths in their shortest form, no lengths left open.
pub(crate) fn decode(bytes: &[u8], what: &'static str) -> Result<Value, ProvenanceError> {
    let mut rest = bytes;
    let value: Value = de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|_| ProvenanceError::Malformed { what })?;
    match rest.is_empty() && encode(&value) == bytes {
        true => Ok(value),
        false => Err(ProvenanceError::Malformed { what }),
    }
}

/// The entries of a map, each of which is taken once; what is left over is refused.
pub(crate) struct Entries {
    entries: Vec<(Value, Value)>,
    what: &'static str,
}

impl Entries {
    pub(crate) fn of(value: Value, what: &'static str) -> Result<Self, ProvenanceError> {
        let entries = value.into_map().map_err(|_| ProvenanceError::Malformed { what })?;
        Ok(Self { entries, what })
    }

    pub(crate) fn take(&mut self, key: &str) -> Result<Value, ProvenanceError> {
        let place = self.entries.iter().position(|(name, _)| name.as_text() == Some(key));
        let place = place.ok_or(self.malformed())?;
        Ok(self.entries.remove(place).1)
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<String, ProvenanceError> {
        self.take(key)?.into_text().map_err(|_| self.malformed())
    }

    /// So many bytes, as lower-case hexadecimal digits.
    pub(crate) fn hex<const N: usize>(&mut self, key: &str) -> Result<[u8; N], ProvenanceError> {
        crate::hex::decode(&self.text(key)?).ok_or(self.malformed())
    }

    pub(crate) fn array(&mut self, key: &str) -> Result<Vec<Value>, ProvenanceError> {
        self.take(key)?.into_array().map_err(|_| self.malformed())
    }

    pub(crate) fn bytes(&mut self, key: &str) -> Result<Vec<u8>, ProvenanceError> {
        self.take(key)?.into_bytes().map_err(|_| self.malformed())
    }

    pub(crate) fn number(&mut self, key: &str) -> Result<u64, ProvenanceError> {
        let number = self.take(key)?.into_integer().map_err(|_| self.malformed())?;
        u64::try_from(number).map_err(|_| self.malformed())
    }

    pub(crate) fn end(self) -> Result<(), ProvenanceError> {
        match self.entries.is_empty() {
            true => Ok(()),
            false => Err(self.malformed()),
        }
    }

    fn malformed(&self) -> ProvenanceError {
        ProvenanceError::Malformed { what: self.what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_encoding() {
        let bytes = encode(&map([("a", Value::from(300)), ("b", Value::Bytes(vec![7; 3]))]));
        assert!(decode(&bytes, "x").is_ok());
        let mut longer = bytes.clone();
        longer.push(0);
        for other in [
            &longer[..],
            &bytes[..bytes.len() - 1],
            // 1 as two bytes, a text of open length, nesting without end, a length beyond the end.
            &[0x18, 1],
            &[0x7f, 0x61, b'a', 0xff],
            &[0x81; 64],
            &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
            &[],
        ] {
            assert!(decode(other, "x").is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_map_holds_what_is_asked_for_and_no_more() {
        let entries =
            || Entries::of(map([("a", Value::from("00ff")), ("n", Value::from(-1))]), "x");
        let mut read = entries().unwrap();
        assert_eq!(read.hex("a").unwrap(), [0, 255]);
        assert!(read.number("n").is_err() && read.take("a").is_err());
        assert!(entries().unwrap().end().is_err());
        assert!(entries().unwrap().hex::<3>("a").is_err());
        assert!(Entries::of(Value::from(1), "x").is_err());
    }
}
