//! The bearer key of a request, from `Authorization` or `api-key`.

use axum::http::{HeaderMap, HeaderName, header::AUTHORIZATION};

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The key of `Authorization: Bearer KEY`: the scheme in any case, one blank or more before the key
/// (RFC 9110, 11.4; RFC 6750, 2.1). Of two headers neither counts. Azure's clients send `api-key: KEY`
/// instead.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    if !headers.contains_key(AUTHORIZATION) {
        return only(headers, &API_KEY).filter(|key| !key.is_empty());
    }
    let (scheme, key) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    let key = key.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// The value of a header that stands there once.
#[must_use]
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_stands_behind_its_scheme() {
        let of = |value: &str| {
            let headers = headers(&[(&AUTHORIZATION, value)]);
            bearer(&headers).map(str::to_owned)
        };
        for good in ["Bearer k1", "bearer k1", "BEARER   k1", "Bearer k1 "] {
            assert_eq!(of(good).as_deref(), Some("k1"), "{good}");
        }
        for bad in ["Basic k1", "Bearer ", "Bearer", "k1", ""] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_key_counts_and_azures_header_where_there_is_no_other() {
        let of = |lines: &[(&HeaderName, &str)]| bearer(&headers(lines)).map(str::to_owned);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(&API_KEY, "k1")]).as_deref(), Some("k1"));
        assert_eq!(of(&[(&API_KEY, "")]), None);
        assert_eq!(of(&[(&API_KEY, "k1"), (&API_KEY, "k1")]), None, "which of them?");
        let twice = [(&AUTHORIZATION, "Bearer k1"), (&AUTHORIZATION, "Bearer k1")];
        assert_eq!(of(&twice), None, "which of them?");
        let both = [(&AUTHORIZATION, "Bearer k2"), (&API_KEY, "k1")];
        assert_eq!(of(&both).as_deref(), Some("k2"), "`Authorization` is the one that counts");
    }
}
