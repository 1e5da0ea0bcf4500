//! NVIDIA GPUs in confidential-computing mode.
//!
//! The signature shows that a GPU of NVIDIA's measured itself for this nonce and keyset. What the
//! measurements ought to be (RIM) and whether a certificate was revoked (OCSP) is not appraised here,
//! and is never reported as passed.

use std::collections::BTreeSet;

use x509_cert::der::oid::ObjectIdentifier;

use super::{
    Challenge,
    check::{
        CheckId, Checks, GPU_CHAIN, GPU_DISTINCT, GPU_EVIDENCE, GPU_FIRMWARE, GPU_LOCALITY,
        GPU_NONCE, GPU_REFERENCE, GPU_REVOCATION, GPU_SIGNATURE,
    },
    p384_chain::Leaf,
    spdm::Measurements,
};
use crate::{
    binding::{gpu_nonce, sha256},
    gpu_evidence::{GpuEvidence, decode},
    policy::{Need, Rules},
    report::Report,
    roots,
};

/// TCG DICE TcbInfo, which holds the firmware's id.
const DICE_TCB_INFO: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("2.23.133.5.4.1"),
    ObjectIdentifier::new_unwrap("2.23.133.5.4.1.1"),
];

pub(super) fn devices(report: &Report, challenge: &Challenge, rules: &Rules, checks: &mut Checks) {
    let Some(&need) = checks.rule(GPU_EVIDENCE, &rules.gpu.evidence) else { return };
    if report.device_evidence.is_empty() {
        match need {
            Need::Required => checks.fail(GPU_EVIDENCE, "the node sent none"),
            Need::Optional => checks.skip(GPU_EVIDENCE, "the node sent none"),
        }
        return;
    }
    let gpus = decode(&report.device_evidence).unwrap_or_default();
    let messages: Vec<_> = gpus.iter().filter_map(|gpu| Measurements::parse(&gpu.report)).collect();
    if gpus.is_empty() || messages.len() != gpus.len() {
        return checks.fail(GPU_EVIDENCE, "not the evidence of one or more GPUs");
    }
    checks.pass(GPU_EVIDENCE, describe(&messages));
    let nonce = report
        .nonce_path
        .root(challenge.nonce)
        .map(|nonce_root| gpu_nonce(nonce_root, sha256(&report.keyset)));
    all(GPU_NONCE, messages.iter().map(|message| Some(message.nonce) == nonce), checks);
    signatures(&gpus, &messages, challenge.now_secs, checks);
    if checks.rule(GPU_REFERENCE, &rules.gpu.reference_measurements).is_some() {
        checks.skip(GPU_REFERENCE, "not appraised");
    }
    if checks.rule(GPU_REVOCATION, &rules.gpu.revocation).is_some() {
        checks.skip(GPU_REVOCATION, "not appraised");
    }
    checks.info(GPU_LOCALITY, "that these GPUs are attached to this very machine is not shown");
}

fn signatures(
    gpus: &[GpuEvidence],
    messages: &[Measurements<'_>],
    now_secs: u64,
    checks: &mut Checks,
) {
    let mut leaves = Vec::new();
    for (index, gpu) in gpus.iter().enumerate() {
        match Leaf::verify(&gpu.certificates, roots::NVIDIA, now_secs) {
            Ok(leaf) => leaves.push(leaf),
            Err(error) => return checks.fail(GPU_CHAIN, format!("GPU {index}: {error}")),
        }
    }
    checks.pass(GPU_CHAIN, "");
    distinct(&leaves, checks);
    let pairs = || leaves.iter().zip(messages);
    all(GPU_FIRMWARE, pairs().map(|(leaf, message)| is_firmware(leaf, message)), checks);
    all(
        GPU_SIGNATURE,
        pairs().map(|(leaf, message)| leaf.signed(message.signed, message.signature)),
        checks,
    );
}

/// One GPU that is asked twice, or whose evidence is sent twice, is one GPU. Its key tells: a card has
/// one, whatever it signs and however often its certificate is issued.
fn distinct(leaves: &[Leaf], checks: &mut Checks) {
    let mut seen = BTreeSet::new();
    let again: Vec<_> = leaves
        .iter()
        .enumerate()
        .filter(|(_, leaf)| !seen.insert(leaf.key()))
        .map(|(index, _)| format!("GPU {index} is one of those before it"))
        .collect();
    checks.expect(
        GPU_DISTINCT,
        again.is_empty(),
        match again.is_empty() {
            true => format!("{} keys", leaves.len()),
            false => again.join(", "),
        },
    );
}

/// The signing key is derived from the firmware: its certificate names the digest, and so does the
/// message. Messages of older firmware do not.
fn is_firmware(leaf: &Leaf, message: &Measurements<'_>) -> bool {
    let Some(id) = message.firmware_id else { return true };
    // An OCTET STRING of 48 bytes.
    let mut octets = vec![0x04, 48];
    octets.extend(id);
    DICE_TCB_INFO
        .iter()
        .filter_map(|oid| leaf.extension(oid))
        .any(|info| info.windows(octets.len()).any(|window| window == octets))
}

fn all(check: CheckId, holds: impl Iterator<Item = bool>, checks: &mut Checks) {
    let failing: Vec<_> =
        holds.enumerate().filter(|(_, holds)| !holds).map(|(i, _)| format!("GPU {i}")).collect();
    checks.expect(check, failing.is_empty(), failing.join(", "));
}

fn describe(messages: &[Measurements<'_>]) -> String {
    let versions: BTreeSet<_> = messages
        .iter()
        .map(|message| {
            let driver = String::from_utf8_lossy(message.driver_version);
            let vbios = crate::encoding::hex(message.vbios_version);
            format!("driver {driver}, VBIOS {vbios}, {} measurements", message.blocks)
        })
        .collect();
    let versions: Vec<_> = versions.into_iter().collect();
    format!("{} GPU(s): {}", messages.len(), versions.join("; "))
}
