//! Who may ask: holders of a bearer key, and proxies that sign what they forward.

mod spent;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName},
    middleware::Next,
    response::Response,
};
use protocol::ConfidentialComputeRequest;
use seal::{SuiSignature, TrustedSigner, body_hash, find_trusted_signer};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use web::credentials::{bearer, only};

use self::spent::SpentSignatures;
use crate::error::ApiError;

const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");

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

/// What lets a request in.
#[derive(Default)]
pub(crate) struct Accepted {
    /// Bearer keys.
    pub(crate) keys: Vec<ApiKeyDigest>,
    /// Bearer keys that open figures alone.
    pub(crate) metrics_keys: Vec<ApiKeyDigest>,
    /// Proxies that sign what they forward.
    pub(crate) proxies: Vec<TrustedSigner>,
}

/// Who is let in. With neither keys nor proxies everybody is, which the configuration allows on
/// loopback alone.
pub(crate) struct Credentials {
    keys: Vec<ApiKeyDigest>,
    metrics_keys: Vec<ApiKeyDigest>,
    proxies: Vec<TrustedSigner>,
    spent: SpentSignatures,
}

impl Credentials {
    pub(crate) fn new(accepted: Accepted) -> Self {
        let Accepted { keys, metrics_keys, proxies } = accepted;
        Self { keys, metrics_keys, proxies, spent: SpentSignatures::new() }
    }

    /// Whether this node asks for credentials at all.
    pub(crate) fn are_asked_for(&self) -> bool {
        !self.keys.is_empty() || !self.proxies.is_empty()
    }

    /// Whether clients are told apart by what they ask with: there are several keys, or proxies.
    pub(crate) fn are_several(&self) -> bool {
        self.keys.len() + self.proxies.len() > 1
    }

    /// Whether the bearer key alone lets this request in.
    pub(crate) fn admit_key(&self, headers: &HeaderMap) -> bool {
        !self.are_asked_for() || self.accepted_key(headers).is_some()
    }

    /// The digest of the bearer key, where it is one of ours.
    pub(crate) fn accepted_key(&self, headers: &HeaderMap) -> Option<ApiKeyDigest> {
        bearer(headers).filter(|key| is_one_of(&self.keys, key)).map(ApiKeyDigest::of)
    }

    /// Whether these figures may be seen: by holders of a metrics key where there are such keys. They
    /// tell what all clients do, so a client's key does not open them.
    pub(crate) fn admit_metrics(&self, headers: &HeaderMap) -> bool {
        match self.metrics_keys.as_slice() {
            [] => !self.are_asked_for(),
            keys => bearer(headers).is_some_and(|key| is_one_of(keys, key)),
        }
    }

    /// The same on the listener for probes, whose network the operator chose: where there are no
    /// metrics keys, everybody there may see them.
    pub(crate) fn admit_metrics_probe(&self, headers: &HeaderMap) -> bool {
        self.metrics_keys.is_empty() || self.admit_metrics(headers)
    }

    /// What can be said of a request from its head alone: a valid key, or a signature that is
    /// well-formed and a trusted proxy's by the public key in it. What it signed is only known once
    /// the body is here.
    fn admit_head(&self, headers: &HeaderMap, signatures: Signatures) -> Result<(), ApiError> {
        let signed = || match signatures {
            Signatures::Count => signature(headers).is_some_and(|header| self.is_of_proxy(header)),
            Signatures::DoNotCount => false,
        };
        if self.admit_key(headers) || signed() {
            return Ok(());
        }
        match bearer(headers) {
            Some(_) => Err(ApiError::InvalidKey),
            None => Err(ApiError::Unauthorized),
        }
    }

    fn is_of_proxy(&self, header: &str) -> bool {
        SuiSignature::from_base64(header).is_ok_and(|signature| {
            self.proxies.iter().any(|proxy| proxy.is(signature.public_key()))
        })
    }

    /// Whether a request may be opened: its key or its signature lets it in. `envelope` is `None`
    /// where the body is none, so that a signature says nothing.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] where nothing does.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        envelope: Option<&ConfidentialComputeRequest>,
    ) -> Result<Admission, ApiError> {
        if self.admit_key(headers) {
            return Ok(Admission::Key);
        }
        let signed = || {
            let hash = body_hash(envelope?).ok()?;
            let header = signature(headers)?;
            find_trusted_signer(&self.proxies, header, &hash).ok()?;
            // By its bytes: in base64 of another form it would be the same signature.
            Some(SuiSignature::from_base64(header).ok()?.to_bytes())
        };
        signed().map(Admission::Signature).ok_or(ApiError::Unauthorized)
    }

    /// Lets an opened request be worked on. Asked for once it is open, so that a request that is sent
    /// away may be sealed anew.
    ///
    /// # Errors
    /// [`ApiError::SignatureSpent`] where its signature has paid for many other sealings of its body.
    pub(crate) fn spend(
        &self,
        admission: Admission,
        envelope: &ConfidentialComputeRequest,
    ) -> Result<(), ApiError> {
        let Admission::Signature(signature) = admission else { return Ok(()) };
        match self.spent.spend(&signature, envelope, Instant::now()) {
            true => Ok(()),
            false => Err(ApiError::SignatureSpent),
        }
    }
}

/// Why a request is let in. Spent where it is worked on.
pub(crate) enum Admission {
    /// It has a valid key, or none is asked for.
    Key,
    /// A trusted proxy signed its body's hash.
    Signature(Vec<u8>),
}

/// Whether a route accepts what a trusted proxy signed.
#[derive(Debug, Clone, Copy)]
enum Signatures {
    Count,
    DoNotCount,
}

/// Lets in holders of a key, before a byte of the body is read.
pub(crate) async fn require_key(
    State(credentials): State<Arc<Credentials>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    credentials.admit_head(request.headers(), Signatures::DoNotCount)?;
    Ok(next.run(request).await)
}

/// Lets in holders of a key, and for now whatever says that a trusted proxy signed it.
pub(crate) async fn require_key_or_signature(
    State(credentials): State<Arc<Credentials>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    credentials.admit_head(request.headers(), Signatures::Count)?;
    Ok(next.run(request).await)
}

fn signature(headers: &HeaderMap) -> Option<&str> {
    only(headers, &X_SIGNATURE)
}

fn is_one_of(keys: &[ApiKeyDigest], key: &str) -> bool {
    let digest = ApiKeyDigest::of(key);
    // Every digest is compared, so that the time tells neither which one matched nor how far.
    let known = keys.iter().fold(Choice::from(0), |known, accepted| {
        known | accepted.0.as_slice().ct_eq(digest.0.as_slice())
    });
    known.into()
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;

    use super::*;

    fn credentials(keys: &[&str], metrics_keys: &[&str]) -> Credentials {
        let digests = |keys: &[&str]| keys.iter().map(|key| ApiKeyDigest::of(key)).collect();
        Credentials::new(Accepted {
            keys: digests(keys),
            metrics_keys: digests(metrics_keys),
            proxies: Vec::new(),
        })
    }

    fn with(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn keys_are_compared_by_digest() {
        let credentials = credentials(&["k1"], &[]);
        assert!(credentials.admit_key(&with(&["Bearer k1"])));
        for bad in ["Bearer k2", "Basic k1", "", "Bearer k1 k1"] {
            assert!(!credentials.admit_key(&with(&[bad])), "{bad}");
        }
        assert!(!credentials.admit_key(&with(&[])));
    }

    #[test]
    fn figures_are_for_metrics_keys_alone() {
        let open = credentials(&[], &[]);
        assert!(open.admit_metrics(&with(&[])) && open.admit_metrics_probe(&with(&[])));
        let keyed = credentials(&["k"], &[]);
        assert!(!keyed.admit_metrics(&with(&["Bearer k"])));
        assert!(keyed.admit_metrics_probe(&with(&[])));
        let both = credentials(&["k"], &["m"]);
        for (header, admitted) in [("Bearer k", false), ("Bearer m", true)] {
            assert_eq!(both.admit_metrics(&with(&[header])), admitted);
            assert_eq!(both.admit_metrics_probe(&with(&[header])), admitted);
        }
        assert!(!both.admit_key(&with(&["Bearer m"])));
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
