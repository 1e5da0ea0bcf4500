//! Every rule that a policy can have, as its TOML has them.

use serde::Deserialize;

use super::terms::{Allow, Hex, Need, NotAppraised, Permit, PlatformName};

/// Every rule there is; each is missing until it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    pub(crate) platforms: Option<Vec<PlatformName>>,
    /// A nonce of the verifier's own.
    pub(crate) fresh_nonce: Option<Need>,
    #[serde(default)]
    pub(crate) keyset: KeysetRules,
    #[serde(default)]
    pub(crate) configuration: ConfigurationRules,
    #[serde(default)]
    pub(crate) model: ModelRules,
    #[serde(default)]
    pub(crate) tdx: TdxRules,
    #[serde(default)]
    pub(crate) snp: SnpRules,
    #[serde(default)]
    pub(crate) gpu: GpuRules,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysetRules {
    pub(crate) max_lifetime_secs: Option<u64>,
    pub(crate) builds: Option<Allow<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigurationRules {
    /// SHA-256 of the texts.
    pub(crate) digests: Option<Allow<Hex<32>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelRules {
    /// SHA-256 of the manifests.
    pub(crate) manifests: Option<Allow<Hex<32>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TdxRules {
    pub(crate) tcb_statuses: Option<Vec<dcap_qvl::TcbStatus>>,
    /// Intel's advisories that may be open on the platform.
    pub(crate) advisories: Option<Allow<String>>,
    pub(crate) min_tcb_evaluation_data_number: Option<u32>,
    pub(crate) dynamic_platform: Option<Permit>,
    pub(crate) cached_keys: Option<Permit>,
    pub(crate) smt: Option<Permit>,
    /// Whether RTMR3 must hold the model manifest's event.
    pub(crate) rtmr3_model_event: Option<Need>,
    /// PPIDs, in hex.
    pub(crate) hardware: Option<Allow<Hex<16>>>,
    /// Platform and image together, entry by entry.
    pub(crate) releases: Option<Allow<TdxRelease>>,
    /// Or each for itself, and then both: any of these machines, with any of these images.
    pub(crate) platforms: Option<Allow<TdxPlatform>>,
    pub(crate) images: Option<Allow<TdxImage>>,
}

/// One shape of machine: its firmware, its memory, its tables, and how its host must set the guest up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TdxPlatform {
    pub(crate) name: String,
    pub(crate) mrtd: Hex<48>,
    pub(crate) rtmr0: Hex<48>,
    /// Which parts of a processor's state the guest may use.
    pub(crate) xfam: Option<Allow<Hex<8>>>,
    pub(crate) td_attributes: Option<Allow<Hex<8>>>,
    /// The TDX module, its signer and its attributes.
    pub(crate) mrseam: Option<Allow<Hex<48>>>,
    pub(crate) mrsignerseam: Option<Allow<Hex<48>>>,
    pub(crate) seam_attributes: Option<Allow<Hex<8>>>,
}

/// What runs: kernel, initrd, command line, and what of the host's words it may be handed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TdxImage {
    pub(crate) name: String,
    pub(crate) rtmr1: Hex<48>,
    pub(crate) rtmr2: Hex<48>,
    /// What the host gave the guest at its launch: init data, the owner and its configuration.
    pub(crate) mrconfigid: Option<Allow<Hex<48>>>,
    pub(crate) mrowner: Option<Allow<Hex<48>>>,
    pub(crate) mrownerconfig: Option<Allow<Hex<48>>>,
}

/// What a release measures into. One release has several, where virtual machines differ in shape. The
/// four registers say which entry it is; the rules after them say how the guest must be set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TdxRelease {
    pub(crate) name: String,
    pub(crate) mrtd: Hex<48>,
    pub(crate) rtmr0: Hex<48>,
    pub(crate) rtmr1: Hex<48>,
    pub(crate) rtmr2: Hex<48>,
    /// What the host gave the guest at its launch: init data, the owner and its configuration.
    pub(crate) mrconfigid: Option<Allow<Hex<48>>>,
    pub(crate) mrowner: Option<Allow<Hex<48>>>,
    pub(crate) mrownerconfig: Option<Allow<Hex<48>>>,
    /// Which parts of a processor's state the guest may use.
    pub(crate) xfam: Option<Allow<Hex<8>>>,
    pub(crate) td_attributes: Option<Allow<Hex<8>>>,
    /// The TDX module, its signer and its attributes.
    pub(crate) mrseam: Option<Allow<Hex<48>>>,
    pub(crate) mrsignerseam: Option<Allow<Hex<48>>>,
    pub(crate) seam_attributes: Option<Allow<Hex<8>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnpRules {
    pub(crate) min_report_version: Option<u32>,
    #[serde(default)]
    pub(crate) min_tcb: SnpFloors,
    /// Whether AMD's revocation list must be there.
    pub(crate) crl: Option<Need>,
    pub(crate) smt: Option<Permit>,
    /// Chip ids, in hex.
    pub(crate) hardware: Option<Allow<String>>,
    pub(crate) releases: Option<Allow<SnpRelease>>,
}

/// The oldest firmware that is trusted, by generation of the processor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnpFloors {
    pub(crate) milan: Option<SnpTcb>,
    pub(crate) genoa: Option<SnpTcb>,
    pub(crate) turin: Option<SnpTcb>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnpTcb {
    /// Turin's alone, and there no report passes without it.
    pub(crate) fmc: Option<u8>,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnpRelease {
    pub(crate) name: String,
    /// The machine that the measurement is of: for people, since the measurement itself holds both.
    pub(crate) cpu: Option<String>,
    pub(crate) vcpus: Option<u32>,
    pub(crate) measurement: Hex<48>,
    /// What the host gave the guest at its launch, such as the digest of init data.
    pub(crate) host_data: Option<Allow<Hex<32>>>,
    /// Of the ID block, and of the keys that signed it; zeros where there was none.
    pub(crate) family_id: Option<Allow<Hex<16>>>,
    pub(crate) image_id: Option<Allow<Hex<16>>>,
    pub(crate) id_key_digest: Option<Allow<Hex<48>>>,
    pub(crate) author_key_digest: Option<Allow<Hex<48>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpuRules {
    pub(crate) evidence: Option<Need>,
    pub(crate) reference_measurements: Option<NotAppraised>,
    pub(crate) revocation: Option<NotAppraised>,
}
