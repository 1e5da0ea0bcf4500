//! Certificate chains on P-384 to one pinned root, as NVIDIA's devices have them (RFC 5280 §6.1,
//! without names and policies, which these certificates do not constrain).

use ring::signature::{ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use thiserror::Error;
use x509_cert::{
    Certificate,
    der::{Encode, oid::ObjectIdentifier},
    ext::pkix::{BasicConstraints, KeyUsage},
    time::Time,
};

use super::common::without_padding;

/// More than any device has, root included.
const MAX_CERTIFICATES: usize = 8;
/// ecdsa-with-SHA384.
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// The end of a chain that leads to the pinned root.
#[derive(Debug)]
pub(super) struct Leaf {
    certificate: Certificate,
}

impl Leaf {
    /// Verifies a chain, leaf first. The root that it ends with must be the pinned one; it may also
    /// end just before it.
    pub(super) fn verify(pem: &[u8], root_pem: &[u8], now_secs: u64) -> Result<Self, ChainError> {
        let mut chain = load(pem)?;
        let root = load(root_pem)?.pop().ok_or(ChainError::Length)?;
        if chain.last() != Some(&root) {
            chain.push(root);
        }
        if chain.len() < 2 || chain.len() > MAX_CERTIFICATES {
            return Err(ChainError::Length);
        }
        for (depth, certificate) in chain.iter().enumerate() {
            let issuer = chain.get(depth + 1).unwrap_or(certificate);
            check(certificate, issuer, depth, now_secs)?;
        }
        Ok(Self { certificate: chain.swap_remove(0) })
    }

    /// Whether this is the leaf's signature over `message`: r and s, 48 bytes each.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key(&self.certificate))
            .verify(message, signature)
            .is_ok()
    }

    /// The public key's point.
    pub(super) fn key(&self) -> &[u8] {
        key(&self.certificate)
    }

    /// The value of an extension.
    pub(super) fn extension(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        let mut extensions = self.certificate.tbs_certificate().extensions()?.iter();
        extensions.find(|one| one.extn_id == *oid).map(|one| one.extn_value.as_bytes())
    }
}

/// Drivers hand out the text with the rest of their buffer, which is zeros: those may follow, and
/// nothing else may stand before, between or after the certificates.
fn load(pem: &[u8]) -> Result<Vec<Certificate>, ChainError> {
    let text = without_padding(pem);
    if !is_certificates_alone(text) {
        return Err(ChainError::Surplus);
    }
    Certificate::load_pem_chain(text).map_err(ChainError::Pem)
}

/// `-----BEGIN CERTIFICATE-----` and what belongs to it, again and again, with white space around.
fn is_certificates_alone(pem: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut rest = pem.trim_ascii();
    while !rest.is_empty() {
        let Some(body) = rest.strip_prefix(BEGIN) else { return false };
        let Some(end) = body.windows(END.len()).position(|window| window == END) else {
            return false;
        };
        rest = body[end + END.len()..].trim_ascii_start();
    }
    true
}

/// One certificate, `depth` steps above the leaf.
fn check(
    certificate: &Certificate,
    issuer: &Certificate,
    depth: usize,
    now_secs: u64,
) -> Result<(), ChainError> {
    let tbs = certificate.tbs_certificate();
    let secs = |time: &Time| time.to_unix_duration().as_secs();
    let validity = tbs.validity();
    if now_secs < secs(&validity.not_before) || secs(&validity.not_after) < now_secs {
        return Err(ChainError::Time { depth });
    }
    if depth > 0 {
        authority(certificate, depth)?;
    }
    if tbs.issuer() != issuer.tbs_certificate().subject() {
        return Err(ChainError::Issuer { depth });
    }
    let malformed = |_| ChainError::Malformed { depth };
    let message = tbs.to_der().map_err(malformed)?;
    let algorithm = certificate.signature_algorithm();
    if algorithm.oid != ECDSA_SHA384 || algorithm != tbs.signature() {
        return Err(ChainError::Signature { depth });
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key(issuer))
        .verify(&message, certificate.signature().raw_bytes())
        .map_err(|_| ChainError::Signature { depth })
}

/// Whether a certificate may issue others, this far above the leaf.
fn authority(certificate: &Certificate, depth: usize) -> Result<(), ChainError> {
    let tbs = certificate.tbs_certificate();
    let malformed = |_| ChainError::Malformed { depth };
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(malformed)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(malformed)?;
    let may_issue = constraints.is_some_and(|(_, constraints)| {
        // The length counts the authorities between this one and the leaf.
        constraints.ca
            && constraints.path_len_constraint.is_none_or(|max| depth - 1 <= usize::from(max))
    });
    let may_sign = usage.is_none_or(|(_, usage)| usage.key_cert_sign());
    if may_issue && may_sign { Ok(()) } else { Err(ChainError::Authority { depth }) }
}

/// The public key's point. Whether it is one on P-384 is looked at when a signature is checked.
fn key(certificate: &Certificate) -> &[u8] {
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.subject_public_key.raw_bytes()
}

/// Why a chain does not hold. `depth` counts from the leaf.
#[derive(Debug, Error)]
pub(super) enum ChainError {
    #[error("there is more than certificates")]
    Surplus,
    #[error("the certificates cannot be read")]
    Pem(#[source] x509_cert::der::Error),
    #[error("too few certificates, or too many")]
    Length,
    #[error("certificate {depth} cannot be read")]
    Malformed { depth: usize },
    #[error("certificate {depth} is not valid at this time")]
    Time { depth: usize },
    #[error("certificate {depth} may not issue others")]
    Authority { depth: usize },
    #[error("certificate {depth} is not from the one above it")]
    Issuer { depth: usize },
    #[error("the signature of certificate {depth} does not hold")]
    Signature { depth: usize },
}
