//! The key that signs manifests, and the certificate that C2PA wants beside it.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd,
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
    },
};
use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Encode};
use zeroize::Zeroizing;

use crate::error::ProvenanceError;

/// id-kp of C2PA for signing claims (C2PA 2.1 §14.5.1).
const CLAIM_SIGNING: [u64; 9] = [1, 3, 6, 1, 4, 1, 62558, 2, 1];
/// What a SubjectPublicKeyInfo of a key on P-256 begins with (RFC 5480 §2); its point follows, 65 bytes.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_SPKI_BYTES: usize = 91;
/// The longest certificate that is read.
const MAX_CERTIFICATE_BYTES: usize = 2048;

/// An ECDSA key on P-256 (ES256, RFC 9053 §2.1) that was made here, and a certificate for it.
///
/// C2PA takes no certificate that signed itself, so that one's issuer is made for it and forgotten. No
/// authority vouches for it: evidence does, by the digest of its key. It never leaves: no `Clone`, no
/// `Debug`, no accessor.
pub struct ManifestSigner {
    key: EcdsaKeyPair,
    random: SystemRandom,
    certificate: Vec<u8>,
    spki_sha256: [u8; 32],
}

impl ManifestSigner {
    /// A fresh one.
    ///
    /// # Errors
    /// [`ProvenanceError::NoKey`] where the system gives no randomness.
    pub fn generate() -> Result<Self, ProvenanceError> {
        make().ok_or(ProvenanceError::NoKey)
    }

    /// SHA-256 of its SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7): by this, keysets name it.
    #[must_use]
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// ECDSA with SHA-256; r ‖ s, 32 bytes each.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ProvenanceError> {
        let signed = self.key.sign(&self.random, message).map_err(|_| ProvenanceError::NoKey)?;
        Ok(signed.as_ref().to_vec())
    }
}

fn make() -> Option<ManifestSigner> {
    // Wipes the encoded keys. What ring holds of them is freed without being wiped.
    let issuer_key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).ok()?);
    let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).ok()?);
    let mut issuer = params("Obscura node, issuer of one certificate")?;
    issuer.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut subject = params("Obscura node")?;
    subject.is_ca = IsCa::ExplicitNoCa;
    subject.use_authority_key_identifier_extension = true;
    subject.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Readers know the older purpose of the two, or both.
    subject.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::EmailProtection,
        ExtendedKeyUsagePurpose::Other(CLAIM_SIGNING.to_vec()),
    ];
    let certificate = subject.signed_by(&*key, &Issuer::from_params(&issuer, &*issuer_key)).ok()?;
    let random = SystemRandom::new();
    let encoded = Zeroizing::new(key.serialize_der());
    Some(ManifestSigner {
        key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &encoded, &random).ok()?,
        random,
        certificate: certificate.der().to_vec(),
        spki_sha256: Sha256::digest(key.subject_public_key_info()).into(),
    })
}

fn params(name: &str) -> Option<CertificateParams> {
    let mut params = CertificateParams::new([]).ok()?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "Obscura");
    // The key ends with the process, which no certificate can say beforehand; images are looked at for years.
    // What bounds its time is the keyset that names it.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    Some(params)
}

/// The public key of a certificate that was read.
pub(super) struct PublicKey {
    spki: Vec<u8>,
}

impl PublicKey {
    pub(super) fn of_certificate(der: &[u8]) -> Result<Self, ProvenanceError> {
        let malformed = ProvenanceError::Malformed { what: "the signature's certificate" };
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(malformed);
        }
        let certificate = x509_cert::Certificate::from_der(der).map_err(|_| malformed)?;
        let spki = certificate.tbs_certificate().subject_public_key_info();
        let spki = spki.to_der().map_err(|_| malformed)?;
        match spki.len() == P256_SPKI_BYTES && spki.starts_with(&P256_PREFIX) {
            true => Ok(Self { spki }),
            false => Err(ProvenanceError::Foreign { what: "its key is not of P-256" }),
        }
    }

    pub(super) fn spki_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let point = &self.spki[P256_PREFIX.len()..];
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
    }
}
