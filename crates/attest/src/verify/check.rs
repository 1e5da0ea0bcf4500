//! One line of a verdict: what was looked at, and how it came out.

use std::fmt;

use printable::Printable;
use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not hold, or the policy has no rule for it.
    Fail,
    /// It was not looked at; the verdict names it.
    Skip,
    /// Nothing to hold: for the reader to know.
    Info,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
            Self::Info => "INFO",
        })
    }
}

/// What a check is called. Ids are stable: scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckId {
    /// For machines.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
}

/// A check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// [`CheckId::id`].
    pub id: &'static str,
    /// [`CheckId::title`].
    pub title: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, fit to be printed: whatever a peer sent is escaped.
    pub detail: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:<24} {}", self.outcome, self.id, self.title)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " — {}", self.detail) }
    }
}

/// The checks of one appraisal, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Checks(pub(crate) Vec<Check>);

impl Checks {
    pub(crate) fn pass(&mut self, check: CheckId, detail: impl Into<String>) {
        self.add(check, Outcome::Pass, detail);
    }

    pub(crate) fn fail(&mut self, check: CheckId, detail: impl Into<String>) {
        self.add(check, Outcome::Fail, detail);
    }

    pub(crate) fn skip(&mut self, check: CheckId, detail: impl Into<String>) {
        self.add(check, Outcome::Skip, detail);
    }

    pub(crate) fn info(&mut self, check: CheckId, detail: impl Into<String>) {
        self.add(check, Outcome::Info, detail);
    }

    /// Passes where `holds`, with what was found either way.
    pub(crate) fn expect(&mut self, check: CheckId, holds: bool, detail: impl Into<String>) {
        self.add(check, if holds { Outcome::Pass } else { Outcome::Fail }, detail);
    }

    /// The policy's rule, or a refusal: what the policy does not speak of does not pass.
    pub(crate) fn rule<'p, T>(&mut self, check: CheckId, rule: &'p Option<T>) -> Option<&'p T> {
        if rule.is_none() {
            self.fail(check, "the policy has no rule for this");
        }
        rule.as_ref()
    }

    fn add(&mut self, check: CheckId, outcome: Outcome, detail: impl Into<String>) {
        let CheckId { id, title } = check;
        let detail = Printable::new(&detail.into()).into_string();
        self.0.push(Check { id, title, outcome, detail });
    }
}

macro_rules! checks {
    ($($name:ident = $id:literal, $title:literal;)*) => {
        $(pub(crate) const $name: CheckId = CheckId { id: $id, title: $title };)*
        /// Every check there is.
        pub const ALL_CHECKS: &[CheckId] = &[$($name),*];
    };
}

checks! {
    REPORT_FORMAT = "report.format", "the report has the form this verifier reads";
    PLATFORM_ALLOWED = "platform.allowed", "the policy trusts this kind of TEE";
    NONCE_FRESH = "nonce.fresh", "the verifier chose the nonce";
    NONCE_PATH = "nonce.path", "the report leads the verifier's nonce to the root it binds";
    KEYSET_FORMAT = "keyset.format", "the keyset names an X25519 and an Ed25519 key";
    KEYSET_POSSESSION = "keyset.possession", "the keyset is signed by its own Ed25519 key";
    KEYSET_VALID_NOW = "keyset.valid_now", "the keyset is valid now";
    KEYSET_LIFETIME = "keyset.lifetime", "the keyset lives no longer than the policy grants";
    KEYSET_BUILD = "keyset.build", "the policy trusts this build";
    CONFIGURATION_DIGEST = "configuration.digest", "the policy trusts how the node is configured";
    MODEL_MANIFEST = "model.manifest", "the policy trusts this model's files";
    TLS_KEY = "tls.key", "the connection ends at the TLS key that the keyset names";
    REPORT_DATA = "binding.report_data", "the quote binds nonces, keyset, model and GPU evidence";
    TDX_QUOTE = "tdx.quote", "Intel's keys signed the quote, and vouch for the platform";
    SIMULATED_QUOTE = "simulated.quote", "published keys signed the quote: no hardware vouches";
    TDX_ATTRIBUTES = "tdx.attributes", "the guest is closed to debuggers and profilers";
    TDX_COLLATERAL = "tdx.collateral", "all collateral has begun, and is not due for renewal";
    TDX_TCB_STATUS = "tdx.tcb_status", "the platform's firmware has a status the policy allows";
    TDX_ADVISORIES = "tdx.advisories", "the policy allows Intel's open advisories";
    TDX_TCB_EVALUATION = "tdx.tcb_evaluation", "the platform was judged by recent enough data";
    TDX_DYNAMIC_PLATFORM = "tdx.dynamic_platform", "packages added later are as the policy says";
    TDX_CACHED_KEYS = "tdx.cached_keys", "keys cached by Intel are as the policy says";
    TDX_SMT = "tdx.smt", "hyperthreading is as the policy says";
    TDX_RELEASE = "tdx.release", "MRTD and RTMR0 to 2 are those of a trusted release";
    TDX_PLATFORM = "tdx.platform", "MRTD and RTMR0 are those of a trusted platform";
    TDX_IMAGE = "tdx.image", "RTMR1 and RTMR2 are those of a trusted image";
    TDX_CONFIG_ID = "tdx.mrconfigid", "MRCONFIGID is as the release says: what the host configured";
    TDX_OWNER = "tdx.mrowner", "MROWNER is as the release says";
    TDX_OWNER_CONFIG = "tdx.mrownerconfig", "MROWNERCONFIG is as the release says";
    TDX_XFAM = "tdx.xfam", "XFAM is as the release says: which processor state the guest may use";
    TDX_TD_ATTRIBUTES = "tdx.td_attributes", "TDATTRIBUTES are as the release says, bit by bit";
    TDX_MODULE = "tdx.mrseam", "MRSEAM is as the release says: the TDX module";
    TDX_MODULE_SIGNER = "tdx.mrsignerseam", "MRSIGNERSEAM is as the release says";
    TDX_MODULE_ATTRIBUTES = "tdx.seam_attributes", "SEAMATTRIBUTES are as the release says";
    TDX_RTMR3 = "tdx.rtmr3", "RTMR3 is the replayed event log, and holds the model manifest";
    TDX_HARDWARE = "tdx.hardware", "the policy trusts this machine";
    SNP_REPORT = "snp.report", "the report is whole, and recent enough in form";
    SNP_SIGNING_KEY = "snp.signing_key", "the chip's own key signs (VCEK), and no other";
    SNP_CHAIN = "snp.chain", "AMD's pinned root signed the chip's key";
    SNP_CRL = "snp.crl", "AMD has revoked none of the keys";
    SNP_CHIP = "snp.chip", "the chip's certificate is of this chip and this firmware";
    SNP_SIGNATURE = "snp.signature", "the chip's key signed the report";
    SNP_GUEST_POLICY = "snp.guest_policy", "no debugging, no migration agent, VMPL 0";
    SNP_SMT = "snp.smt", "hyperthreading is as the policy says";
    SNP_TCB = "snp.tcb", "the firmware is no older than the policy allows";
    SNP_RELEASE = "snp.release", "the launch measurement is that of a trusted release";
    SNP_HOST_DATA = "snp.host_data", "HOST_DATA is as the release says: what the host configured";
    SNP_FAMILY_ID = "snp.family_id", "FAMILY_ID is as the release says";
    SNP_IMAGE_ID = "snp.image_id", "IMAGE_ID is as the release says";
    SNP_ID_KEY = "snp.id_key_digest", "ID_KEY_DIGEST is as the release says";
    SNP_AUTHOR_KEY = "snp.author_key_digest", "AUTHOR_KEY_DIGEST is as the release says";
    SNP_HARDWARE = "snp.hardware", "the policy trusts this machine";
    GPU_EVIDENCE = "gpu.evidence", "GPU evidence is there, and readable";
    GPU_CHAIN = "gpu.chain", "NVIDIA's pinned root signed each GPU's key";
    GPU_DISTINCT = "gpu.distinct", "each report is of a GPU of its own";
    GPU_FIRMWARE = "gpu.firmware", "each GPU's certificate is of the firmware it runs";
    GPU_SIGNATURE = "gpu.signature", "each GPU's key signed its report";
    GPU_NONCE = "gpu.nonce", "each GPU was challenged with these nonces and keyset";
    GPU_REFERENCE = "gpu.reference", "measurements compared with NVIDIA's reference (RIM)";
    GPU_REVOCATION = "gpu.revocation", "revocation asked of NVIDIA (OCSP)";
    GPU_LOCALITY = "gpu.locality", "what GPU evidence does not show";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique() {
        let ids: BTreeSet<_> = ALL_CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), ALL_CHECKS.len());
    }
}
