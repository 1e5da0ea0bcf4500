//! Reports that are whole: every section bound by the quote, with what a case wants to be otherwise.

use ed25519_dalek::{Signer, SigningKey};
use serde_json::Value;

use super::{Case, table};
use crate::{
    Report,
    binding::{Bound, Keyset, KeysetBody, Nonce, sha256},
    encoding::hex,
    event_log::EventLog,
    gpu_evidence::{GpuEvidence, encode},
    nonces::NoncePath,
    platform::Platform,
    policy::SIMULATED,
    simulator::{Simulator, pki},
};

pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn nonce() -> Nonce {
    Nonce::new([7; 32]).unwrap()
}

/// What a report is made of.
pub(super) struct Parts {
    pub(super) keyset: KeysetBody,
    pub(super) manifest: Vec<u8>,
    pub(super) gpus: Vec<GpuEvidence>,
    pub(super) path: NoncePath,
}

impl Parts {
    /// Keys that are valid around this time.
    pub(super) fn at(now_secs: u64) -> Self {
        let keyset = KeysetBody {
            x25519: "11".repeat(32),
            ed25519: hex(signer().verifying_key().as_bytes()),
            key_id: "0123456789abcdef".to_owned(),
            epoch: 0,
            not_before: now_secs - 10,
            not_after: now_secs + 3600,
            build_id: "obscura/test".to_owned(),
            tls_spki_sha256: None,
            configuration_sha256: Some("22".repeat(32)),
            c2pa_spki_sha256: None,
        };
        let manifest = b"00  7  weights\n".to_vec();
        Self { keyset, manifest, gpus: Vec::new(), path: NoncePath::alone([9; 32]) }
    }

    /// The quote of this guest over these parts, with collateral of this time.
    pub(super) fn simulated(&self, mut guest: Simulator, now_secs: u64) -> Report {
        let mut log = EventLog::default();
        guest.extend(&log.push_model(sha256(&self.manifest)));
        let quote = guest.quote(&self.bound(), now_secs);
        let report = self.report(Platform::Simulated, quote.quote, quote.collateral);
        Report { event_log: log.to_json(), ..report }
    }

    /// What the quote has to hold.
    pub(super) fn bound(&self) -> [u8; 64] {
        Bound {
            nonce_root: self.path.root(nonce()).unwrap(),
            keyset: Keyset::new(&self.keyset).digest(),
            model_manifest: sha256(&self.manifest),
            device_evidence: &encode(&self.gpus),
        }
        .report_data()
    }

    pub(super) fn report(&self, platform: Platform, quote: Vec<u8>, collateral: Vec<u8>) -> Report {
        let keyset = Keyset::new(&self.keyset);
        Report {
            platform,
            nonce: nonce(),
            nonce_path: self.path.clone(),
            keyset: keyset.as_bytes().to_vec(),
            possession: possession(&keyset),
            model_manifest: self.manifest.clone(),
            device_evidence: encode(&self.gpus),
            event_log: Vec::new(),
            quote,
            collateral,
        }
    }
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn possession(keyset: &Keyset) -> [u8; 64] {
    keyset.clone().prove_possession(|message| signer().sign(message).to_bytes()).possession
}

pub(super) fn good() -> Report {
    Parts::at(NOW).simulated(Simulator::new(), NOW)
}

/// A case of a simulated node, by its own rules.
pub(super) fn case(name: impl Into<String>, about: impl Into<String>, report: &Report) -> Case {
    Case {
        name: name.into(),
        about: about.into(),
        report: report.to_json(),
        nonce: nonce(),
        now_secs: NOW,
        policy: None,
        simulated: Some(table(SIMULATED)),
        test_roots: false,
    }
}

/// The same report with its collateral changed.
pub(super) fn with_collateral(report: Report, change: impl FnOnce(&mut Value)) -> Report {
    let mut collateral = serde_json::from_slice(&report.collateral).unwrap();
    change(&mut collateral);
    Report { collateral: collateral.to_string().into_bytes(), ..report }
}

/// Changes TCB info or QE identity, and signs it as Intel would.
pub(super) fn resign(collateral: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    let mut inner = serde_json::from_str(collateral[name].as_str().unwrap()).unwrap();
    change(&mut inner);
    let text = inner.to_string();
    collateral[format!("{name}_signature")] = hex(&pki::TCB.sign(text.as_bytes())).into();
    collateral[name] = text.into();
}

/// Of a name: digits, letters and hyphens.
pub(super) fn slug(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("-").to_lowercase()
}
