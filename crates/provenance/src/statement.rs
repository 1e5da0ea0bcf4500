//! What a node says of an image it drew.

use coset::cbor::value::Value;

use crate::{
    cbor::{Entries, map},
    error::ProvenanceError,
    hex,
};

const VERSION: u64 = 1;
/// A TDX guest has four, a SEV-SNP guest one.
const MAX_MEASUREMENTS: usize = 8;
const WHAT: &str = "the node's statement";

/// Which attested node drew an image, with which model, and a commitment to what it was asked for.
///
/// As a CBOR map (RFC 8949) of texts, so that every tool shows it; digests are lower-case hexadecimal
/// digits:
///
/// ```text
/// version                1
/// platform               "tdx", "snp", "simulated"
/// measurements           [384 bits each] TDX: MRTD, RTMR0, RTMR1, RTMR2; SEV-SNP: the launch digest
/// model_manifest_sha256  what the evidence's model manifest hashes to
/// keyset_sha256          what the evidence's keyset hashes to
/// commitment_sha256      see Drawing
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose hardware the node runs in, by the name that evidence gives it.
    pub platform: String,
    /// What that hardware measured of the guest before it ran.
    pub measurements: Vec<[u8; 48]>,
    /// SHA-256 of the model manifest.
    pub model_manifest: [u8; 32],
    /// SHA-256 of the keyset.
    pub keyset: [u8; 32],
    /// [`Drawing::commitment`](crate::Drawing::commitment).
    pub commitment: [u8; 32],
}

impl Statement {
    pub(crate) fn to_value(&self) -> Value {
        let measured = self.measurements.iter().map(|bytes| Value::from(hex::encode(bytes)));
        map([
            ("version", Value::from(VERSION)),
            ("platform", Value::from(self.platform.as_str())),
            ("measurements", Value::Array(measured.collect())),
            ("model_manifest_sha256", Value::from(hex::encode(&self.model_manifest))),
            ("keyset_sha256", Value::from(hex::encode(&self.keyset))),
            ("commitment_sha256", Value::from(hex::encode(&self.commitment))),
        ])
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, ProvenanceError> {
        let malformed = ProvenanceError::Malformed { what: WHAT };
        let mut entries = Entries::of(value, WHAT)?;
        if entries.number("version")? != VERSION {
            return Err(ProvenanceError::Foreign { what: "its statement is of another version" });
        }
        let measurements = entries.array("measurements")?;
        if measurements.len() > MAX_MEASUREMENTS {
            return Err(malformed);
        }
        let measurements =
            measurements.iter().map(|value| value.as_text().and_then(hex::decode).ok_or(malformed));
        let statement = Self {
            platform: entries.text("platform")?,
            measurements: measurements.collect::<Result<_, _>>()?,
            model_manifest: entries.hex("model_manifest_sha256")?,
            keyset: entries.hex("keyset_sha256")?,
            commitment: entries.hex("commitment_sha256")?,
        };
        entries.end()?;
        Ok(statement)
    }
}
