//! An attestation report as it travels: one JSON object, sections as base64 of the hashed bytes.
//!
//! The sections are opaque here; what they hold is for [`verify`](crate::verify) to judge. A report
//! is as long as its sender likes, so every bound is checked before anything is decoded.
//!
//! One rule for what is not expected: a field that is not known is refused, in the report and in every
//! JSON section that is ours; so is hexadecimal in upper case, base64 without its padding, and a field
//! that comes twice. Only Intel's collateral, whose form is not ours, may hold more than is read.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    binding::{BINDING, Nonce},
    encoding::{base64, hex, unbase64, unhex_array},
    nonces::{MAX_DEPTH, NoncePath},
    platform::Platform,
};

/// The longest report that is read.
pub const MAX_REPORT_BYTES: usize = 2 * 1024 * 1024;

const FORMAT: &str = "obscura/attestation/v2";
const MAX_KEYSET_BYTES: usize = 4 * 1024;
const MAX_MANIFEST_BYTES: usize = 256 * 1024;
/// Eight GPUs take 100 KiB.
const MAX_DEVICE_EVIDENCE_BYTES: usize = 512 * 1024;
const MAX_EVENT_LOG_BYTES: usize = 64 * 1024;
const MAX_QUOTE_BYTES: usize = 32 * 1024;
const MAX_COLLATERAL_BYTES: usize = 256 * 1024;

/// What a verifier gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which hardware signed the quote. Simulation is a platform of its own.
    pub platform: Platform,
    /// The nonce that the node says it bound, or [`Nonce::ABSENT`]. For a reader's convenience: a
    /// verifier compares with the nonce it sent.
    pub nonce: Nonce,
    /// How that nonce leads to the root that the quote binds.
    pub nonce_path: NoncePath,
    /// The keyset's JSON bytes.
    pub keyset: Vec<u8>,
    /// The keyset's signature by its own Ed25519 key.
    pub possession: [u8; 64],
    /// The model manifest: one line a file, `{sha256 in hex}  {bytes}  {name}`; one a LoRA, `lora {weight}  {sha256}
    /// {bytes}`; of several models, `model {name}` before the lines of each. Opaque here.
    pub model_manifest: Vec<u8>,
    /// What the GPUs signed; empty where there are none.
    pub device_evidence: Vec<u8>,
    /// What the guest extended into RTMR3; empty on SEV-SNP.
    pub event_log: Vec<u8>,
    /// The TDX quote, or the SEV-SNP report.
    pub quote: Vec<u8>,
    /// What it takes to verify the quote without asking a third party.
    pub collateral: Vec<u8>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// Where it is too long, of another format or platform, or not well formed.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        if json.len() > MAX_REPORT_BYTES {
            return Err(ReportError::TooLong { max_bytes: MAX_REPORT_BYTES });
        }
        // A later format may have other fields; it is unsupported, not malformed.
        let head: Head = serde_json::from_slice(json).map_err(ReportError::Json)?;
        if head.format != FORMAT || head.binding.is_some_and(|binding| binding != BINDING) {
            return Err(ReportError::UnknownFormat);
        }
        let platform = Platform::from_name(&head.platform).ok_or(ReportError::UnknownPlatform)?;
        let wire: Wire = serde_json::from_slice(json).map_err(ReportError::Json)?;
        let nonce = match wire.nonce {
            Some(text) => text.parse().map_err(|_| ReportError::Section { name: "nonce" })?,
            None => Nonce::ABSENT,
        };
        let possession = section("possession", &wire.possession, 64)?;
        Ok(Self {
            platform,
            nonce,
            nonce_path: wire
                .nonce_path
                .read()
                .ok_or(ReportError::Section { name: "nonce_path" })?,
            keyset: section("keyset", &wire.keyset, MAX_KEYSET_BYTES)?,
            possession: possession
                .try_into()
                .map_err(|_| ReportError::Section { name: "possession" })?,
            model_manifest: section("model_manifest", &wire.model_manifest, MAX_MANIFEST_BYTES)?,
            device_evidence: section(
                "device_evidence",
                &wire.device_evidence,
                MAX_DEVICE_EVIDENCE_BYTES,
            )?,
            event_log: section("event_log", &wire.event_log, MAX_EVENT_LOG_BYTES)?,
            quote: section("quote", &wire.quote, MAX_QUOTE_BYTES)?,
            collateral: section("collateral", &wire.collateral, MAX_COLLATERAL_BYTES)?,
        })
    }

    /// The JSON that travels.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            format: FORMAT.to_owned(),
            binding: BINDING.to_owned(),
            platform: self.platform.name().to_owned(),
            nonce: (self.nonce != Nonce::ABSENT).then(|| self.nonce.to_string()),
            nonce_path: WirePath::of(&self.nonce_path),
            keyset: base64(&self.keyset),
            possession: base64(&self.possession),
            model_manifest: base64(&self.model_manifest),
            device_evidence: base64(&self.device_evidence),
            event_log: base64(&self.event_log),
            quote: base64(&self.quote),
            collateral: base64(&self.collateral),
        };
        serde_json::to_vec(&wire).expect("strings always serialise")
    }
}

/// Why a report cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Longer than any report.
    #[error("the report is longer than {max_bytes} bytes")]
    TooLong {
        /// The most that is read.
        max_bytes: usize,
    },
    /// Not this JSON.
    #[error("the report is not the JSON object it should be")]
    Json(#[source] serde_json::Error),
    /// A field is not what it should be, or longer.
    #[error("`{name}` is malformed or too long")]
    Section {
        /// Which.
        name: &'static str,
    },
    /// From a later version, perhaps.
    #[error("the report is of a format this verifier does not know")]
    UnknownFormat,
    /// From a later version, perhaps.
    #[error("the report is of a platform this verifier does not know")]
    UnknownPlatform,
}

#[derive(Deserialize)]
struct Head {
    format: String,
    binding: Option<String>,
    platform: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    binding: String,
    platform: String,
    nonce: Option<String>,
    nonce_path: WirePath,
    keyset: String,
    possession: String,
    model_manifest: String,
    device_evidence: String,
    event_log: String,
    quote: String,
    collateral: String,
}

/// A path in hex, lowest sibling first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePath {
    blind: String,
    index: u32,
    siblings: Vec<String>,
}

impl WirePath {
    fn of(path: &NoncePath) -> Self {
        let NoncePath { blind, index, siblings } = path;
        let siblings = siblings.iter().map(|sibling| hex(sibling)).collect();
        Self { blind: hex(blind), index: *index, siblings }
    }

    fn read(&self) -> Option<NoncePath> {
        if self.siblings.len() > MAX_DEPTH {
            return None;
        }
        let siblings = self.siblings.iter().map(|sibling| unhex_array(sibling));
        Some(NoncePath {
            blind: unhex_array(&self.blind)?,
            index: self.index,
            siblings: siblings.collect::<Option<_>>()?,
        })
    }
}

fn section(name: &'static str, text: &str, max_bytes: usize) -> Result<Vec<u8>, ReportError> {
    unbase64(text, max_bytes).ok_or(ReportError::Section { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            platform: Platform::Tdx,
            nonce: Nonce::new([7; 32]).unwrap(),
            nonce_path: NoncePath { blind: [1; 32], index: 1, siblings: vec![[2; 32], [3; 32]] },
            keyset: b"{}".to_vec(),
            possession: [1; 64],
            model_manifest: b"m".to_vec(),
            device_evidence: Vec::new(),
            event_log: Vec::new(),
            quote: b"q".to_vec(),
            collateral: b"c".to_vec(),
        }
    }

    #[test]
    fn sections_travel_byte_for_byte() {
        let absent = Report { nonce: Nonce::ABSENT, ..report() };
        for report in [report(), absent] {
            assert_eq!(Report::parse(&report.to_json()).unwrap(), report);
        }
    }

    #[test]
    fn bounds_hold() {
        let deep = NoncePath { siblings: vec![[0; 32]; MAX_DEPTH + 1], ..report().nonce_path };
        let refusal =
            Report::parse(&Report { nonce_path: deep, ..report() }.to_json()).unwrap_err();
        assert!(matches!(refusal, ReportError::Section { name: "nonce_path" }));
        let long = Report { quote: vec![0; MAX_QUOTE_BYTES + 1], ..report() };
        let refusal = Report::parse(&long.to_json()).unwrap_err();
        assert!(matches!(refusal, ReportError::Section { name: "quote" }));
        let refusal = Report::parse(&vec![b' '; MAX_REPORT_BYTES + 1]).unwrap_err();
        assert!(matches!(refusal, ReportError::TooLong { .. }));
        let deep = "[".repeat(MAX_REPORT_BYTES);
        assert!(matches!(Report::parse(deep.as_bytes()), Err(ReportError::Json(_))));
    }

    #[test]
    fn another_format_is_unsupported_and_another_field_malformed() {
        let json = String::from_utf8(report().to_json()).unwrap();
        let parse = |json: String| Report::parse(json.as_bytes()).unwrap_err();
        assert!(matches!(parse(json.replace("tion/v2", "tion/v1")), ReportError::UnknownFormat));
        assert!(matches!(parse(json.replace("data/v2", "data/v3")), ReportError::UnknownFormat));
        let upper = json.replace(&"07".repeat(32), &"AB".repeat(32));
        assert!(matches!(parse(upper), ReportError::Section { name: "nonce" }));
        let more = json.replacen('{', r#"{"more":"","#, 1);
        assert!(matches!(parse(more), ReportError::Json(_)));
        assert!(matches!(parse(json.replace("tdx", "sgx")), ReportError::UnknownPlatform));
        assert!(matches!(parse(json.replace("quote", "quota")), ReportError::Json(_)));
        let twice = json.replacen('{', r#"{"quote":"","#, 1);
        assert!(matches!(parse(twice), ReportError::Json(_)));
    }
}
