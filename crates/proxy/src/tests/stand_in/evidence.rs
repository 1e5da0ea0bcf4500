//! The stand-in's evidence, sound or not.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use attest::{
    Platform, Report,
    binding::{Bound, Keyset, KeysetBody, Nonce},
    event_log::EventLog,
    nonces::NoncePath,
    simulator::{Flaw, Simulator},
};
use axum::{
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use seal::{Epoch, Keyring, KeyringLimits, NodeKeys};
use sha2::{Digest, Sha256};

use super::{Inner, MANIFEST, redirect};

/// What is wrong with the evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Evidence {
    Sound,
    /// The first report that was ever given, whatever the nonce.
    Old,
    /// A sound quote, and another key in the keyset beside it.
    SwappedKey,
    /// Of other keys than the node's own, and sound.
    OfAnother,
    Expired,
    Flawed(Flaw),
    Garbage,
    Endless,
    Redirected,
}

pub(super) struct Keys {
    keyset: Keyset,
    possession: [u8; 64],
    pub(super) ring: Keyring,
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn keys(lifetime: Duration) -> Keys {
    let keys = NodeKeys::generate().unwrap();
    let keyset = Keyset::new(&KeysetBody {
        x25519: hex::encode(keys.exchange_public()),
        ed25519: hex::encode(keys.signing_public()),
        key_id: "0123456789abcdef".to_owned(),
        epoch: 0,
        not_before: now_secs() - 10,
        not_after: now_secs() + lifetime.as_secs(),
        build_id: "obscura/test".to_owned(),
        tls_spki_sha256: None,
        configuration_sha256: None,
        c2pa_spki_sha256: None,
    });
    let digest = keyset.digest();
    let signed = keyset.prove_possession(|message| keys.prove_possession(message));
    let limits = KeyringLimits { grace: Duration::ZERO, max_ciphertext_bytes: 1 << 20 };
    Keys {
        keyset: signed.keyset,
        possession: signed.possession,
        ring: Keyring::new(Epoch::new(keys, digest, 1000), limits),
    }
}

pub(super) async fn attestation(
    State(node): State<Arc<Inner>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let evidence = *node.evidence.lock().unwrap();
    let nonce: Nonce = query["nonce"].parse().unwrap();
    let own = node.keys.lock().unwrap().clone();
    let json =
        |report: Vec<u8>| ([(header::CONTENT_TYPE, "application/json")], report).into_response();
    let report = match evidence {
        Evidence::Sound | Evidence::Old => report(&own, nonce, Simulator::new()),
        Evidence::SwappedKey => {
            let mut swapped = report(&own, nonce, Simulator::new());
            let mut body: KeysetBody = serde_json::from_slice(&swapped.keyset).unwrap();
            body.x25519 = hex::encode(NodeKeys::generate().unwrap().exchange_public());
            swapped.keyset = Keyset::new(&body).as_bytes().to_vec();
            swapped
        }
        Evidence::OfAnother => report(&keys(Duration::from_secs(3600)), nonce, Simulator::new()),
        Evidence::Expired => {
            let mut expired = report(&own, nonce, Simulator::new());
            let mut body: KeysetBody = serde_json::from_slice(&expired.keyset).unwrap();
            body.not_after = now_secs() - 1;
            expired.keyset = Keyset::new(&body).as_bytes().to_vec();
            expired
        }
        Evidence::Flawed(flaw) => report(&own, nonce, Simulator::with(flaw)),
        Evidence::Garbage => return json(b"{}".to_vec()),
        Evidence::Endless => return json(vec![b' '; attest::MAX_REPORT_BYTES + 1]),
        Evidence::Redirected => return redirect(&node),
    };
    let report = report.to_json();
    let mut first = node.first_report.lock().unwrap();
    let first = first.get_or_insert_with(|| report.clone());
    json(if evidence == Evidence::Old { first.clone() } else { report })
}

fn report(keys: &Keys, nonce: Nonce, mut guest: Simulator) -> Report {
    let digest = Sha256::digest(MANIFEST).into();
    let mut log = EventLog::default();
    guest.extend(&log.push_model(digest));
    let nonce_path = NoncePath::alone([9; 32]);
    let bound = Bound {
        nonce_root: nonce_path.root(nonce).unwrap(),
        keyset: keys.keyset.digest(),
        model_manifest: digest,
        device_evidence: b"",
    };
    let quote = guest.quote(&bound.report_data(), now_secs());
    Report {
        platform: Platform::Simulated,
        nonce,
        nonce_path,
        keyset: keys.keyset.as_bytes().to_vec(),
        possession: keys.possession,
        model_manifest: MANIFEST.to_vec(),
        device_evidence: Vec::new(),
        event_log: log.to_json(),
        quote: quote.quote,
        collateral: quote.collateral,
    }
}
