//! The test PKI: certificates and revocation lists under keys that everybody knows.

use p256::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer};
use sha2::{Digest, Sha256};

use super::der::{bits, integer, octets, oid, sequence, set, tagged, text, time};
use crate::encoding::base64;

pub(crate) const ROOT: Subject = Subject { name: "SIMULATED - NOT A TEE", serial: 1 };
pub(crate) const PCK_CA: Subject = Subject { name: "SIMULATED - NOT A TEE, PCK CA", serial: 2 };
pub(crate) const PCK: Subject = Subject { name: "SIMULATED - NOT A TEE, PCK", serial: 3 };
pub(crate) const TCB: Subject = Subject { name: "SIMULATED - NOT A TEE, TCB signing", serial: 4 };
pub(crate) const ATTESTATION: Subject = Subject { name: "attestation key", serial: 5 };

pub(crate) const FMSPC: [u8; 6] = *b"SIMULA";

/// Of lists and collateral: thirty days, like Intel's.
pub(crate) const LIFETIME_SECS: u64 = 30 * 24 * 3600;

/// 2026 and 2056.
const NOT_BEFORE: u64 = 1_767_225_600;
const NOT_AFTER: u64 = 2_713_910_400;

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";

/// Somebody with a key that follows from the name.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    name: &'static str,
    serial: u8,
}

impl Subject {
    fn key(self) -> SigningKey {
        let secret = Sha256::digest(format!("obscura simulator: {}", self.name));
        SigningKey::from_slice(&secret).expect("these hashes are below the order of the group")
    }

    /// x and y.
    pub(crate) fn public(self) -> [u8; 64] {
        let point = self.key().verifying_key().to_sec1_point(false);
        let (_, coordinates) = point.as_bytes().split_at(1);
        coordinates.try_into().expect("an uncompressed point of P-256 is 65 bytes")
    }

    /// r and s. Deterministic (RFC 6979): the same bytes have the same signature.
    pub(crate) fn sign(self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key().sign(message);
        signature.to_bytes().into()
    }

    fn dn(self) -> Vec<u8> {
        sequence(&[set(&[sequence(&[oid("2.5.4.3"), text(self.name)])])])
    }
}

/// The root, DER.
pub(crate) fn root() -> Vec<u8> {
    certificate(ROOT, ROOT, &authority())
}

/// Chip's certificate, its issuer, root: PEM.
pub(crate) fn pck_chain() -> String {
    let pck = certificate(PCK, PCK_CA, &[key_usage(0x80), sgx_extension()]);
    let ca = certificate(PCK_CA, ROOT, &authority());
    [pck, ca, root()].iter().map(|der| pem(der)).collect()
}

/// Issuer of the PCK revocation list, root: PEM.
pub(crate) fn pck_ca_chain() -> String {
    [certificate(PCK_CA, ROOT, &authority()), root()].iter().map(|der| pem(der)).collect()
}

/// Signer of TCB info and QE identity, root: PEM.
pub(crate) fn tcb_chain() -> String {
    let tcb = certificate(TCB, ROOT, &[key_usage(0x80)]);
    [tcb, root()].iter().map(|der| pem(der)).collect()
}

/// A revocation list (RFC 5280 §5.1), DER.
pub(crate) fn crl(issuer: Subject, from_secs: u64, revoked: &[Subject]) -> Vec<u8> {
    let entries: Vec<_> = revoked
        .iter()
        .map(|subject| sequence(&[integer(subject.serial), time(from_secs)]))
        .collect();
    let mut fields = vec![
        integer(1),
        algorithm(),
        issuer.dn(),
        time(from_secs),
        time(from_secs + LIFETIME_SECS),
    ];
    if !entries.is_empty() {
        fields.push(sequence(&entries));
    }
    let number = extension("2.5.29.20", false, &integer(1));
    fields.push(tagged(0xA0, &sequence(&[number])));
    signed(sequence(&fields), issuer)
}

fn certificate(subject: Subject, issuer: Subject, extensions: &[Vec<u8>]) -> Vec<u8> {
    let key = sequence(&[
        sequence(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]),
        bits(&[&[0x04], subject.public().as_slice()].concat()),
    ]);
    let tbs = sequence(&[
        tagged(0xA0, &integer(2)),
        integer(subject.serial),
        algorithm(),
        issuer.dn(),
        sequence(&[time(NOT_BEFORE), time(NOT_AFTER)]),
        subject.dn(),
        key,
        tagged(0xA3, &sequence(extensions)),
    ]);
    signed(tbs, issuer)
}

fn signed(tbs: Vec<u8>, issuer: Subject) -> Vec<u8> {
    let signature: DerSignature = issuer.key().sign(&tbs);
    sequence(&[tbs, algorithm(), bits(signature.as_bytes())])
}

fn algorithm() -> Vec<u8> {
    sequence(&[oid(ECDSA_SHA256)])
}

/// May issue certificates and revocation lists.
fn authority() -> [Vec<u8>; 2] {
    let constraints = sequence(&[tagged(0x01, &[0xFF])]);
    [extension("2.5.29.19", true, &constraints), key_usage(0x06)]
}

fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros()).expect("a byte has eight bits");
    extension("2.5.29.15", true, &tagged(0x03, &[unused, bits]))
}

/// What Intel writes into a chip's certificate: its id, its model, its firmware.
fn sgx_extension() -> Vec<u8> {
    let entry =
        |path: &str, value: Vec<u8>| sequence(&[oid(&format!("{SGX_EXTENSION}{path}")), value]);
    let components = (1..=16).map(|n| entry(&format!(".2.{n}"), integer(0)));
    let versions = [entry(".2.17", integer(0)), entry(".2.18", octets(&[0; 16]))];
    let tcb: Vec<_> = components.chain(versions).collect();
    let value = sequence(&[
        entry(".1", octets(&[0; 16])),
        entry(".2", sequence(&tcb)),
        entry(".3", octets(&[0; 2])),
        entry(".4", octets(&FMSPC)),
        entry(".5", tagged(0x0A, &[0])),
    ]);
    extension(SGX_EXTENSION, false, &value)
}

fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut fields = vec![oid(id)];
    if critical {
        fields.push(tagged(0x01, &[0xFF]));
    }
    fields.push(octets(value));
    sequence(&fields)
}

fn pem(der: &[u8]) -> String {
    let body = base64(der);
    // Base64 is ASCII, so that its bytes are its characters.
    let lines: String = body
        .as_bytes()
        .chunks(64)
        .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
