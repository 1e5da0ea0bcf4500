//! What verification reads: reports, quotes, GPU evidence, event logs, and the files of a release.

use std::{fs, path::Path};

use attest::{
    Platform, Policy, Report,
    binding::Nonce,
    event_log::EventLog,
    gpu_evidence::{self, GpuEvidence},
    measure::{
        AcpiTables, CommandLine, Firmware, FirmwareLog, Image, Memory, Platform as Machine,
        SnpMachine, Vcpus, snp_launch_digest,
    },
    nonces::NoncePath,
    verify::{Challenge, appraise, verify},
};
use serde_json::Value;

/// A whole report, by the rules for simulated nodes.
pub(super) fn report(input: &[u8]) {
    let _ = appraise(input, &simulated(), &challenge());
}

pub(super) fn report_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    vec![attestation(fixtures, "simulated/report.json")]
}

fn simulated() -> Policy {
    Policy::production().dangerous().accept_simulated()
}

fn challenge() -> Challenge {
    let nonce = Nonce::new([7; 32]).expect("not all zeros");
    Challenge { nonce, now_secs: 1_800_000_000 }
}

/// A quote and its collateral. The first byte says whose; two more, where the quote ends.
pub(super) fn quote(input: &[u8]) {
    let Some((&[kind, low, high], rest)) = input.split_first_chunk() else { return };
    let end = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (quote, collateral) = rest.split_at(end);
    let platform = if kind.is_multiple_of(2) { Platform::Tdx } else { Platform::Snp };
    let report = Report {
        platform,
        quote: quote.to_vec(),
        collateral: collateral.to_vec(),
        ..empty_report()
    };
    let _ = verify(&report, &Policy::production(), &challenge());
}

pub(super) fn quote_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let seed = |kind: u8, quote: &str, collateral: Option<&str>| {
        let quote = attestation(fixtures, quote);
        let mut bytes = vec![kind];
        bytes.extend((quote.len() as u16).to_le_bytes());
        bytes.extend(&quote);
        bytes.extend(collateral.map(|name| attestation(fixtures, name)).unwrap_or_default());
        bytes
    };
    vec![
        seed(0, "tdx/v4.quote", Some("tdx/v4.collateral.json")),
        seed(0, "tdx/v5-td15ex.quote", Some("tdx/v5-td15ex.collateral.json")),
        seed(0, "tdx/sgx.quote", Some("tdx/sgx.collateral.json")),
        seed(1, "snp/milan-v2.report", Some("snp/milan.chain.pem")),
    ]
}

fn empty_report() -> Report {
    Report {
        platform: Platform::Tdx,
        nonce: Nonce::ABSENT,
        nonce_path: NoncePath::alone([0; 32]),
        keyset: Vec::new(),
        possession: [0; 64],
        model_manifest: Vec::new(),
        device_evidence: Vec::new(),
        event_log: Vec::new(),
        quote: Vec::new(),
        collateral: Vec::new(),
    }
}

/// What a GPU signs: an SPDM message of so many bytes as the first two say, then its certificates.
pub(super) fn gpu(input: &[u8]) {
    let Some((&length, rest)) = input.split_first_chunk() else { return };
    let end = usize::from(u16::from_le_bytes(length)).min(rest.len());
    let (report, certificates) = rest.split_at(end);
    let gpu = GpuEvidence { report: report.to_vec(), certificates: certificates.to_vec() };
    let report = Report { device_evidence: gpu_evidence::encode(&[gpu]), ..empty_report() };
    let _ = verify(&report, &Policy::production(), &challenge());
}

pub(super) fn gpu_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let report = attestation(fixtures, "gpu/hopper.report");
    let mut bytes = (report.len() as u16).to_le_bytes().to_vec();
    bytes.extend(&report);
    bytes.extend(attestation(fixtures, "gpu/hopper.chain.pem"));
    vec![bytes]
}

pub(super) fn event_log(input: &[u8]) {
    if let Ok(log) = EventLog::parse(input) {
        let _ = log.replay();
        assert_eq!(EventLog::parse(&log.to_json()).ok().as_ref(), Some(&log));
    }
}

pub(super) fn event_log_seeds(_: &Path) -> Vec<Vec<u8>> {
    let mut log = EventLog::default();
    log.push_model([7; 32]);
    log.push("another", b"payload");
    vec![log.to_json(), b"[]".to_vec()]
}

/// A file of a release, as each of the things that it may be.
pub(super) fn measure(input: &[u8]) {
    let line: CommandLine = "console=ttyS0".parse().expect("printable");
    let known = Image::new(&efi_image(), b"initrd", &line).expect("the smallest EFI image");
    let _ = Image::new(input, b"initrd", &line);
    let _ = FirmwareLog::parse(input).map(|log| log.differences(1, &known.rtmr1_events()));
    let Ok(firmware) = Firmware::new(input) else { return };
    let acpi = AcpiTables::new(&[0; 128], b"RSD PTR 000000000000", b"FACS").expect("their form");
    let memory = Memory::new(2 << 30).expect("a machine's");
    let _ = Machine::new(&firmware, memory, &acpi).map(|machine| machine.rtmr0());
    let vcpus = Vcpus::new(2).expect("a machine's");
    let cpu = "EPYC-v4".parse().expect("one of QEMU's");
    let _ = snp_launch_digest(&firmware, &known, &SnpMachine::new(cpu, vcpus));
}

pub(super) fn measure_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let guest = fixtures.join("attestation/guest");
    let file = |name| fs::read(guest.join(name)).expect("a fixture");
    let published: Value = serde_json::from_slice(&file("tdx-2g.json")).expect("JSON");
    let log = published["event_log"].as_str().expect("a log").as_bytes().to_vec();
    vec![file("ovmf_AmdSev_suffix.bin"), file("ovmf_OvmfX64_suffix.bin"), log, efi_image()]
}

/// Headers, and one section.
fn efi_image() -> Vec<u8> {
    let mut file = vec![0; 0x300];
    for (at, bytes) in [
        (0, &b"MZ"[..]),
        (0x3c, &[0x40]),
        (0x40, b"PE\0\0\x64\x86\x01"),
        (0x54, &[0xa0]),
        (0x58, &[0x0b, 2]),
        (0x58 + 61, &[2]),
        (0x58 + 108, &[6]),
        (0x58 + 0xa0 + 17, &[1]),
        (0x58 + 0xa0 + 21, &[2]),
    ] {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

fn attestation(fixtures: &Path, name: &str) -> Vec<u8> {
    fs::read(fixtures.join("attestation").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}
