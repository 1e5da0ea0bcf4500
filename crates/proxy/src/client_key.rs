//! Bearer keys of callers.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use web::credentials::bearer;

/// The key that callers need, as its digest: comparing takes the same time whatever is sent.
pub(crate) struct ClientKey([u8; 32]);

impl ClientKey {
    pub(crate) fn new(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(key) = bearer(headers) else { return false };
        let found: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        found.ct_eq(&self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_key_is_compared_whole() {
        let with = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            HeaderMap::from_iter([(HeaderName::from_static("authorization"), value)])
        };
        let key = ClientKey::new("sesame");
        for (header, admitted) in [
            ("Bearer sesame", true),
            ("bearer   sesame", true),
            ("Bearer sesam", false),
            ("Bearer sesame2", false),
            ("Basic sesame", false),
            ("sesame", false),
            ("Bearer ", false),
        ] {
            assert_eq!(key.admits(&with(header)), admitted, "{header}");
        }
        assert!(!key.admits(&HeaderMap::new()));
    }
}
