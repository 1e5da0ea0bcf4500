//! Who may ask: holders of a bearer key, and proxies that sign what they forward.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use seal::{TrustedSigner, find_trusted_signer};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// SHA-256 of a bearer key. The key itself is never configured, only its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyDigest([u8; 32]);

impl ApiKeyDigest {
    /// The digest of a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ApiKeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
        let digest: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
            .collect();
        digest
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("must be 64 hex digits: the SHA-256 of a key"))
    }
}

/// Who is let in. With neither keys nor proxies everybody is, which the configuration allows on
/// loopback alone.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) keys: Vec<ApiKeyDigest>,
    pub(crate) proxies: Vec<TrustedSigner>,
}

impl Credentials {
    /// Whether the bearer key alone lets this request in.
    pub(crate) fn admit_key(&self, headers: &HeaderMap) -> bool {
        if self.keys.is_empty() && self.proxies.is_empty() {
            return true;
        }
        self.accepted_key(headers).is_some()
    }

    /// The digest of the bearer key, where it is one of ours.
    pub(crate) fn accepted_key(&self, headers: &HeaderMap) -> Option<ApiKeyDigest> {
        let key = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let digest = ApiKeyDigest::of(key);
        // Every digest is compared, so that the time tells neither which one matched nor how far.
        let known = self.keys.iter().fold(Choice::from(0), |known, accepted| {
            known | accepted.0.as_slice().ct_eq(digest.0.as_slice())
        });
        bool::from(known).then_some(digest)
    }

    /// Whether a trusted proxy signed the hash of this request's body (`X-Signature`).
    pub(crate) fn admit_signature(&self, headers: &HeaderMap, body_hash: &[u8; 32]) -> bool {
        headers
            .get("x-signature")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| find_trusted_signer(&self.proxies, value, body_hash).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_by_digest() {
        let credentials = Credentials { keys: vec![ApiKeyDigest::of("k1")], proxies: vec![] };
        let admit = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            credentials.admit_key(&headers)
        };
        assert!(admit("Bearer k1"));
        assert!(!admit("Bearer k2") && !admit("Basic k1") && !admit("Bearer ") && !admit("k1"));
        assert!(!credentials.admit_key(&HeaderMap::new()));
    }

    #[test]
    fn digests_are_read_from_hex() {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<ApiKeyDigest>,
        }
        let read = |text: &str| toml::from_str::<Keys>(&format!("keys = [\"{text}\"]"));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(read(abc).unwrap().keys, [ApiKeyDigest::of("abc")]);
        for wrong in ["", "ba78", &abc[1..], "zz7816bf", &format!("{abc}00")] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
