//! Strings that are wiped, as serde reads and writes them; and JSON that leaves no copy behind.

use serde::Serialize;
use zeroize::Zeroizing;

/// Serialises into a buffer that is wiped, and that never grows and so never leaves a copy behind:
/// a first pass only counts the bytes.
pub(crate) fn to_wiped_json<T: Serialize>(
    value: &T,
    capacity: impl FnOnce(usize) -> usize,
) -> Zeroizing<Vec<u8>> {
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    const INFALLIBLE: &str = "strings and numbers always serialise, and memory takes every write";
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).expect(INFALLIBLE);
    let mut body = Zeroizing::new(Vec::with_capacity(capacity(length.0).max(length.0)));
    serde_json::to_writer(&mut *body, value).expect(INFALLIBLE);
    body
}

/// Serde for a string that is wiped when dropped.
pub(crate) mod string {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// The same, for an optional one.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(
        text: &Option<Zeroizing<String>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match text {
            Some(text) => serializer.serialize_some(text.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Zeroizing<String>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
    }
}
