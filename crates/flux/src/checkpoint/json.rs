//! JSON from a model directory, read within bounds.
//!
//! `serde_json` bounds the depth and refuses numbers that are none; it keeps the last of two equal keys in
//! silence, and builds as many values as a file asks for. Both are errors here, so that what was read is
//! what everybody else who reads the file sees, and a short file cannot ask for much memory.

use std::{cell::Cell, fmt};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// Values of one file. The largest tokenizer in use, of 131,072 tokens and 269,443 merges, has 1.1 million.
const MAX_VALUES: usize = 2_000_000;

/// Reads a file's JSON into `T`.
///
/// # Errors
/// Where it is no JSON, has a key twice in one object, too many values, or not the fields of `T`.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(value(bytes)?)
}

/// Reads a file's JSON.
///
/// # Errors
/// Where it is no JSON, has a key twice in one object, or too many values.
pub(crate) fn value(bytes: &[u8]) -> serde_json::Result<Value> {
    let left = Cell::new(MAX_VALUES);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: &left }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// Reads one value, and counts it.
#[derive(Clone, Copy)]
struct Strict<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        let too_many = || D::Error::custom(format_args!("more than {MAX_VALUES} values"));
        self.left.set(left.ok_or_else(too_many)?);
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// `1000.0` is an integer, as JSON Schema has it (2020-12, 4.2.3): some writers know no others.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        let is_whole = value.fract() == 0.0 && value.abs() < EXACT;
        Ok(if is_whole { (value as i64).into() } else { value.into() })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if let Some(twice) = twice(&values, &key) {
                return Err(A::Error::custom(twice));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// What is wrong with a key, where it is there already. Cut short: the key is the file's.
fn twice(values: &Map<String, Value>, key: &str) -> Option<String> {
    let start: String = key.chars().take(80).collect();
    values.contains_key(key).then(|| format!("the key {start:?} is there twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,3.5,null,true,"x\ny"],"b":{"c":{}}} "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn whole_numbers_are_integers_however_they_are_written() {
        let read = |text: &str| value(text.as_bytes()).unwrap().as_i64();
        assert_eq!([read("1000.0"), read("1e3"), read("-0.0")], [Some(1000), Some(1000), Some(0)]);
        assert_eq!([read("0.5"), read("1e30")], [None, None]);
        assert_eq!(super::read::<f64>(b"3.0").unwrap(), 3.0);
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e999}"#,
            r#"{"a":1} {"#,
            r#"{"a":1"#,
            "",
        ] {
            assert!(value(text.as_bytes()).is_err(), "{text}");
        }
        let twice = value(br#"{"layers":1,"layers":2}"#).unwrap_err().to_string();
        assert!(twice.contains(r#""layers" is there twice"#), "{twice}");
    }

    #[test]
    fn bounds_depth_and_count() {
        let deep = "[".repeat(100_000);
        assert!(value(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(value(many.as_bytes()).unwrap_err().to_string().contains("more than 2000000"));
    }
}
