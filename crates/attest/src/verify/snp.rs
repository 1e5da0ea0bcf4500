//! AMD SEV-SNP reports.
//!
//! The `sev` crate reads reports and checks signatures, and that is all it does: it takes any root
//! that signed itself, any date, and any chip's certificate for any chip's report. The rest is here
//! and in [`snp_certificates`](super::snp_certificates), by AMD's SEV-SNP ABI (56860) and VCEK
//! (57230) specifications.

use sev::{
    Generation,
    certs::snp::Verifiable,
    firmware::{guest::AttestationReport, host::TcbVersion},
    parser::ByteParser,
};

use super::{
    Challenge,
    check::{
        CheckId, Checks, SNP_AUTHOR_KEY, SNP_CHAIN, SNP_FAMILY_ID, SNP_GUEST_POLICY, SNP_HARDWARE,
        SNP_HOST_DATA, SNP_ID_KEY, SNP_IMAGE_ID, SNP_RELEASE, SNP_REPORT, SNP_SIGNATURE,
        SNP_SIGNING_KEY, SNP_SMT, SNP_TCB,
    },
    common::{before_padding, one_hex, one_of, permitted},
    entries::{Entry, one_entry},
    snp_certificates::{Chain, SnpCollateral},
};
use crate::{
    encoding::hex,
    policy::{SnpRelease, SnpRules, SnpTcb},
    roots::{self, AmdRoot},
};

const REPORT_BYTES: usize = 1184;
/// Where a chip's key leads.
pub(super) const ROOTS: &[AmdRoot] = &[roots::MILAN, roots::GENOA, roots::TURIN];

/// A report, and what it is verified with.
pub(super) struct Evidence<'a> {
    pub(super) report: &'a [u8],
    pub(super) collateral: &'a [u8],
    /// Tests have a root of their own.
    pub(super) roots: &'a [AmdRoot],
}

impl Evidence<'_> {
    /// Verifies the report; gives the report data that it signs.
    pub(super) fn appraise(
        &self,
        challenge: &Challenge,
        rules: &SnpRules,
        checks: &mut Checks,
    ) -> Option<[u8; 64]> {
        let report = self.read(rules, checks)?;
        signing_key(&report, checks)?;
        let chain = match SnpCollateral::parse(self.collateral)
            .and_then(|collateral| Chain::new(collateral, self.roots))
        {
            Ok(chain) => chain,
            Err(error) => {
                checks.fail(SNP_CHAIN, error.to_string());
                return None;
            }
        };
        if !(chain.check(challenge.now_secs, generation(&report), checks)) {
            return None;
        }
        chain.check_revocation(challenge.now_secs, rules.crl, checks);
        chain.check_chip(&report, checks);
        let signed = (&chain.vcek, &report).verify().is_ok();
        checks.expect(SNP_SIGNATURE, signed, "");
        if !signed {
            return None;
        }
        guest_policy(&report, checks);
        permitted(SNP_SMT, &rules.smt, report.plat_info.smt_enabled(), checks);
        tcb(&report, chain.root.generation, rules, checks);
        release(&report, rules, checks);
        let chip = hex(&report.chip_id);
        one_of(SNP_HARDWARE, &rules.hardware, &chip, &format!("chip {chip}"), checks);
        Some(report.report_data)
    }

    fn read(&self, rules: &SnpRules, checks: &mut Checks) -> Option<AttestationReport> {
        let report = before_padding(self.report, REPORT_BYTES)
            .and_then(|bytes| Some((bytes, AttestationReport::from_bytes(bytes).ok()?)))
            // Signatures are checked over what was read: nothing may have been left out.
            .filter(|(bytes, report)| report.to_bytes().is_ok_and(|written| written == *bytes))
            .map(|(_, report)| report)
            .filter(|report| is_padded(report.signature.r()) && is_padded(report.signature.s()));
        let Some(report) = report else {
            checks.fail(SNP_REPORT, "not a report of this form");
            return None;
        };
        let min = *checks.rule(SNP_REPORT, &rules.min_report_version)?;
        let detail = format!("version {}, at least {min}", report.version);
        checks.expect(SNP_REPORT, report.version >= min, detail);
        Some(report)
    }
}

/// A number of 48 bytes in a field of 72, little-endian; the crate does not look at the rest.
fn is_padded(scalar: &[u8; 72]) -> bool {
    scalar.iter().skip(48).all(|byte| *byte == 0)
}

/// Which processors a report says it is of. Version 2 does not say.
fn generation(report: &AttestationReport) -> Option<&'static str> {
    match Generation::identify_cpu(report.cpuid_fam_id?, report.cpuid_mod_id?).ok()? {
        Generation::Milan => Some("milan"),
        Generation::Genoa => Some("genoa"),
        Generation::Turin => Some("turin"),
        _ => None,
    }
}

/// KEY_INFO.SIGNING_KEY (AMD 56860, table 23). A VLEK is a key of a cloud's, not of a chip: its chain is
/// another (ASVK), and no chip id vouches for it. It is refused by its name, and not followed here.
fn signing_key(report: &AttestationReport, checks: &mut Checks) -> Option<()> {
    let problem = match report.key_info.signing_key() {
        0 => {
            checks.pass(SNP_SIGNING_KEY, "VCEK");
            return Some(());
        }
        1 => "a VLEK signed the report: a cloud's key, which this verifier does not support",
        7 => "the report is not signed",
        _ => "a key of a kind that is not known signed the report",
    };
    checks.fail(SNP_SIGNING_KEY, problem);
    None
}

/// VMPL 0 is the guest's own most privileged level; a report of a lower one can be had by code that
/// the measurement does not speak for. A report is signed by the chip's key, and by no other here.
fn guest_policy(report: &AttestationReport, checks: &mut Checks) {
    let policy = report.policy;
    let found = [
        (policy.debug_allowed(), "debugging"),
        (policy.migrate_ma_allowed(), "a migration agent"),
        (report.vmpl != 0, "VMPL above 0"),
        (report.key_info.mask_chip_key(), "a masked chip key"),
    ];
    let found: Vec<_> = found.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    checks.expect(SNP_GUEST_POLICY, found.is_empty(), found.join(", "));
}

/// Reported: what the signing key vouches for. Committed: what firmware cannot be rolled back under.
/// Launch: what the guest was measured by.
fn tcb(report: &AttestationReport, generation: &str, rules: &SnpRules, checks: &mut Checks) {
    let floors = &rules.min_tcb;
    let floor = match generation {
        "milan" => &floors.milan,
        "genoa" => &floors.genoa,
        "turin" => &floors.turin,
        _ => &None,
    };
    let Some(floor) = checks.rule(SNP_TCB, floor) else { return };
    let versions = [report.reported_tcb, report.committed_tcb, report.launch_tcb];
    let holds = versions.iter().all(|version| reaches(version, floor));
    let TcbVersion { fmc, bootloader, tee, snp, microcode } = report.reported_tcb;
    let fmc = match (fmc, floor.fmc) {
        (None, _) => String::new(),
        (Some(fmc), Some(_)) => format!("fmc {fmc}, "),
        (Some(fmc), None) => format!("fmc {fmc}, for which the policy has no rule, "),
    };
    let detail = format!(
        "{generation}: {fmc}bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}"
    );
    checks.expect(SNP_TCB, holds, detail);
}

fn reaches(version: &TcbVersion, floor: &SnpTcb) -> bool {
    let fmc = match (version.fmc, floor.fmc) {
        (found, Some(floor)) => found.unwrap_or(0) >= floor,
        // What the policy does not name is not trusted.
        (found, None) => found.is_none(),
    };
    fmc && version.bootloader >= floor.bootloader
        && version.tee >= floor.tee
        && version.snp >= floor.snp
        && version.microcode >= floor.microcode
}

/// The measurement says which release it is; the release says the rest.
fn release(report: &AttestationReport, rules: &SnpRules, checks: &mut Checks) {
    let found = format!("measurement {}", hex(&report.measurement));
    one_entry((SNP_RELEASE, &found), &rules.releases, report, checks);
}

impl Entry<AttestationReport> for SnpRelease {
    fn name(&self) -> String {
        let machine: Vec<_> = [self.vcpus.map(|vcpus| format!("{vcpus} vCPU")), self.cpu.clone()]
            .into_iter()
            .flatten()
            .collect();
        let machine =
            if machine.is_empty() { String::new() } else { format!(" on {}", machine.join(" ")) };
        format!("release {}{machine}", self.name)
    }

    fn measures(&self, report: &AttestationReport) -> bool {
        self.measurement.0 == report.measurement
    }

    fn compare(&self, report: &AttestationReport, checks: &mut Checks) {
        one_hex(SNP_HOST_DATA, &self.host_data, report.host_data, checks);
        one_hex(SNP_FAMILY_ID, &self.family_id, report.family_id, checks);
        one_hex(SNP_IMAGE_ID, &self.image_id, report.image_id, checks);
        one_hex(SNP_ID_KEY, &self.id_key_digest, report.id_key_digest, checks);
        one_hex(SNP_AUTHOR_KEY, &self.author_key_digest, report.author_key_digest, checks);
    }

    fn settings(report: &AttestationReport) -> Vec<(CheckId, String)> {
        vec![
            (SNP_HOST_DATA, hex(&report.host_data)),
            (SNP_FAMILY_ID, hex(&report.family_id)),
            (SNP_IMAGE_ID, hex(&report.image_id)),
            (SNP_ID_KEY, hex(&report.id_key_digest)),
            (SNP_AUTHOR_KEY, hex(&report.author_key_digest)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_firmware_has_an_fmc_a_floor_names_it() {
        let floor = |fmc| SnpTcb { fmc, bootloader: 1, tee: 1, snp: 1, microcode: 1 };
        let turin = TcbVersion::new(Some(2), 1, 1, 1, 1);
        assert!(reaches(&turin, &floor(Some(2))));
        assert!(!reaches(&turin, &floor(Some(3))));
        // What is not named is not trusted.
        assert!(!reaches(&turin, &floor(None)));
        let milan = TcbVersion::new(None, 1, 1, 1, 1);
        assert!(reaches(&milan, &floor(None)));
        assert!(!reaches(&milan, &floor(Some(1))));
    }
}
