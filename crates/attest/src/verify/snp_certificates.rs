//! The certificates behind a SEV-SNP report: AMD Root Key → SEV signing key → the chip's VCEK.

use ring::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sev::{
    certs::snp::{Certificate as SevCertificate, Verifiable, ca},
    firmware::guest::AttestationReport,
};
use thiserror::Error;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    crl::CertificateList,
    der::{Decode, DecodePem, Encode, oid::ObjectIdentifier},
};

use super::check::{Checks, SNP_CHAIN, SNP_CHIP, SNP_CRL};
use crate::{
    encoding::{base64, unbase64},
    policy::Need,
    roots::AmdRoot,
};

/// AMD numbers its certificates with zero, which RFC 5280 does not have: no profile of it here.
type Certificate = CertificateInner<Raw>;

const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;
const MAX_CRL_BYTES: usize = 128 * 1024;

/// VCEK extensions (AMD 57230, table 9): which chip, and which firmware the key was made for.
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");

/// What a node sends beside its report, as JSON: base64 of DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnpCollateral {
    /// The chip's certificate.
    pub(crate) vcek: Vec<u8>,
    /// AMD's revocation list of this generation of processors.
    pub(crate) crl: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    vcek: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crl: Option<String>,
}

impl SnpCollateral {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, SnpChainError> {
        let wire: Wire = serde_json::from_slice(json).map_err(|_| SnpChainError::Collateral)?;
        for (what, text) in [("vcek", Some(&wire.vcek)), ("crl", wire.crl.as_ref())] {
            if text.is_some_and(|text| unbase64(text, MAX_CRL_BYTES).is_some_and(is_text)) {
                return Err(SnpChainError::NotDer { what });
            }
        }
        let crl = wire.crl.map(|text| unbase64(&text, MAX_CRL_BYTES));
        Ok(Self {
            vcek: unbase64(&wire.vcek, MAX_CERTIFICATE_BYTES).ok_or(SnpChainError::Collateral)?,
            crl: crl.map(|crl| crl.ok_or(SnpChainError::Collateral)).transpose()?,
        })
    }

    /// The JSON that travels.
    #[must_use]
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let wire = Wire { vcek: base64(&self.vcek), crl: self.crl.as_deref().map(base64) };
        serde_json::to_vec(&wire).expect("strings always serialise")
    }
}

/// A chain that is read, and not yet checked.
pub(super) struct Chain<'a> {
    pub(super) root: &'a AmdRoot,
    pub(super) vcek: SevCertificate,
    authority: ca::Chain,
    leaf: Certificate,
    ark: Certificate,
    ask: Certificate,
    crl: Option<Vec<u8>>,
}

impl<'a> Chain<'a> {
    /// The chain from the chip's certificate to the pinned root whose signing key it names.
    pub(super) fn new(
        collateral: SnpCollateral,
        roots: &'a [AmdRoot],
    ) -> Result<Self, SnpChainError> {
        let leaf = Certificate::from_der(&collateral.vcek).map_err(SnpChainError::Certificate)?;
        let vcek = SevCertificate::from_der(&collateral.vcek).map_err(SnpChainError::Sev)?;
        for root in roots {
            let ask = Certificate::from_pem(root.ask).map_err(SnpChainError::Certificate)?;
            if ask.tbs_certificate().subject() != leaf.tbs_certificate().issuer() {
                continue;
            }
            return Ok(Self {
                root,
                vcek,
                authority: ca::Chain::from_pem(root.ark, root.ask).map_err(SnpChainError::Sev)?,
                leaf,
                ark: Certificate::from_pem(root.ark).map_err(SnpChainError::Certificate)?,
                ask,
                crl: collateral.crl,
            });
        }
        Err(SnpChainError::UnknownIssuer)
    }

    /// Signatures, dates, and that the chip is of the generation the report speaks of.
    pub(super) fn check(
        &self,
        now_secs: u64,
        generation: Option<&str>,
        checks: &mut Checks,
    ) -> bool {
        let signed = self.authority.verify().and_then(|ask| (ask, &self.vcek).verify()).is_ok();
        let in_time = [&self.ark, &self.ask, &self.leaf].iter().all(|one| valid_at(one, now_secs));
        let same_generation = generation.is_none_or(|name| name == self.root.generation);
        let problem = match (signed, in_time, same_generation) {
            (false, ..) => "a signature does not hold",
            (_, false, _) => "a certificate is not valid at this time",
            (_, _, false) => "the certificate is of another generation of processors",
            _ => "",
        };
        let detail = if problem.is_empty() { self.root.generation } else { problem };
        checks.expect(SNP_CHAIN, problem.is_empty(), detail);
        problem.is_empty()
    }

    /// AMD's root signs the list of what it has revoked. A chip's own key cannot be revoked so: old
    /// firmware is what the policy's floor keeps out.
    pub(super) fn check_revocation(&self, now_secs: u64, rule: Option<Need>, checks: &mut Checks) {
        let Some(&need) = checks.rule(SNP_CRL, &rule) else { return };
        match (&self.crl, need) {
            (None, Need::Required) => checks.fail(SNP_CRL, "the revocation list is missing"),
            (None, Need::Optional) => {
                checks.skip(SNP_CRL, "no revocation list came along; the policy takes that");
            }
            (Some(crl), _) => match self.revoked(crl, now_secs) {
                Ok(false) => checks.pass(SNP_CRL, ""),
                Ok(true) => checks.fail(SNP_CRL, "AMD has revoked its signing key"),
                Err(error) => checks.fail(SNP_CRL, error.to_string()),
            },
        }
    }

    fn revoked(&self, der: &[u8], now_secs: u64) -> Result<bool, SnpChainError> {
        let crl = CertificateList::<Raw>::from_der(der).map_err(SnpChainError::Crl)?;
        let list = &crl.tbs_cert_list;
        let root = self.ark.tbs_certificate();
        let message = list.to_der().map_err(SnpChainError::Crl)?;
        let key = root.subject_public_key_info().subject_public_key.raw_bytes();
        let signed = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key)
            .verify(&message, crl.signature.raw_bytes());
        if signed.is_err() || list.issuer != *root.subject() {
            return Err(SnpChainError::CrlSignature);
        }
        let next = list.next_update.map(|time| time.to_unix_duration().as_secs());
        // A list whose next one is due now is the one before it.
        let in_time = list.this_update.to_unix_duration().as_secs() <= now_secs
            && next.is_some_and(|next| now_secs < next);
        if !in_time {
            return Err(SnpChainError::CrlTime);
        }
        let serial = self.ask.tbs_certificate().serial_number();
        let mut entries = list.revoked_certificates.iter().flatten();
        Ok(entries.any(|entry| entry.serial_number == *serial))
    }

    /// The certificate is of the chip and of the firmware that the report names.
    pub(super) fn check_chip(&self, report: &AttestationReport, checks: &mut Checks) {
        let tcb = report.reported_tcb;
        let expected = [
            (BOOTLOADER, Some(tcb.bootloader)),
            (TEE, Some(tcb.tee)),
            (SNP, Some(tcb.snp)),
            (MICROCODE, Some(tcb.microcode)),
            (FMC, tcb.fmc),
        ];
        let firmware = expected.iter().all(|(oid, level)| self.level(oid) == *level);
        let chip = self.extension(&HWID).is_some_and(|id| is_chip(id, &report.chip_id));
        let problem = match (chip, firmware) {
            (false, _) => "the certificate is of another chip",
            (_, false) => "the certificate is of another version of the firmware",
            _ => "",
        };
        checks.expect(SNP_CHIP, problem.is_empty(), problem);
    }

    fn extension(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        let mut extensions = self.leaf.tbs_certificate().extensions()?.iter();
        extensions.find(|one| one.extn_id == *oid).map(|one| one.extn_value.as_bytes())
    }

    /// A security patch level: an INTEGER of one byte.
    fn level(&self, oid: &ObjectIdentifier) -> Option<u8> {
        u8::from_der(self.extension(oid)?).ok()
    }
}

/// Turin's ids are 8 bytes, padded with zeros in reports; those before are 64. A masked id, all
/// zeros, is no chip's.
fn is_chip(id: &[u8], reported: &[u8; 64]) -> bool {
    let rest = reported.strip_prefix(id);
    matches!(id.len(), 8 | 64)
        && *reported != [0; 64]
        && rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

fn valid_at(certificate: &Certificate, now_secs: u64) -> bool {
    let validity = certificate.tbs_certificate().validity();
    let secs = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    secs(&validity.not_before) <= now_secs && now_secs <= secs(&validity.not_after)
}

/// PEM, or base64 of it once more: DER begins with a SEQUENCE, whose byte is `0`, and hardly goes on as text.
fn is_text(bytes: Vec<u8>) -> bool {
    bytes.starts_with(b"-----BEGIN") || bytes.starts_with(b"MII")
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SnpChainError {
    #[error("the collateral is not the JSON object it should be")]
    Collateral,
    #[error(
        "`{what}` is PEM or base64 of DER, not DER; `obscura collateral fetch` writes it as it should be"
    )]
    NotDer { what: &'static str },
    #[error("the chip's certificate cannot be read")]
    Certificate(#[source] x509_cert::der::Error),
    #[error("the chip's certificate cannot be read")]
    Sev(#[source] std::io::Error),
    #[error("the chip's certificate is not from a signing key of AMD that is pinned here")]
    UnknownIssuer,
    #[error("the revocation list cannot be read")]
    Crl(#[source] x509_cert::der::Error),
    #[error("the revocation list is not signed by AMD's root")]
    CrlSignature,
    #[error("the revocation list is not of this time")]
    CrlTime,
}
