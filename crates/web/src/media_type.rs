//! Media types: whether a body says that it is JSON.

use axum::http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

/// Whether the body is `application/json`, whatever its parameters, and not compressed. A page of another site can
/// send any body without asking first, but none of this type.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let is_as_it_is = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(|coding| is_as_it_is(coding.as_bytes())) {
        return false;
    }
    headers.get(CONTENT_TYPE).is_some_and(|media_type| {
        let essence = media_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_essence() {
        let is =
            |value: &str| is_json(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]));
        for json in ["application/json", "Application/JSON ; charset=utf-8", "application/json;"] {
            assert!(is(json), "{json}");
        }
        for other in ["", "text/plain", "application/json5", "text/plain; application/json"] {
            assert!(!is(other), "{other}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let coded = |coding: &str| {
            let json = (CONTENT_TYPE, "application/json".parse().unwrap());
            is_json(&HeaderMap::from_iter([json, (CONTENT_ENCODING, coding.parse().unwrap())]))
        };
        assert!(coded("identity") && !coded("gzip") && !coded("identity, gzip"));
    }
}
