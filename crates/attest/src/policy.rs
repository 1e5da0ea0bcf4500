//! What a verifier trusts. A rule that is missing refuses: nothing is trusted by silence.
//!
//! The production policy is `attestation/policy.toml`, compiled in. A policy file can name Intel and
//! AMD; no file and no rule in one makes a simulated node acceptable, see [`Policy::dangerous`].

use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use crate::{
    binding::{Digest32, sha256},
    encoding::{hex, unhex_array},
    platform::Platform,
};

pub(crate) const PRODUCTION: &str = include_str!("../../../attestation/policy.toml");
pub(crate) const SIMULATED: &str = include_str!("../../../attestation/simulated.toml");

/// The rules an appraisal follows.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Rules,
    /// Rules for simulated nodes, where they were asked for in code.
    simulated: Option<Rules>,
    /// Whether TLS must end at the key that the keyset names.
    attested_tls: Need,
    /// SHA-256 of the text that the rules were read from.
    digest: Digest32,
}

impl Policy {
    /// The policy of this release.
    #[must_use]
    pub fn production() -> Self {
        Self::from_toml(PRODUCTION).expect("a test reads the policy that is compiled in")
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// Where it is no policy, or holds a rule that is not known.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let rules: Rules = toml::from_str(text)?;
        if rules.platforms.iter().flatten().any(|name| name.0 == Platform::Simulated) {
            return Err(PolicyError::Simulated);
        }
        let digest = sha256(text.as_bytes());
        Ok(Self { rules, simulated: None, attested_tls: Need::Optional, digest })
    }

    /// SHA-256 of the TOML that it was read from, by which an audit finds the rules again.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        self.digest
    }

    /// Whether simulated nodes, which prove nothing, are accepted.
    #[must_use]
    pub fn accepts_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Refuses every connection that does not end at the TLS key that the evidence names: plain HTTP, and
    /// gateways that end TLS before the node, whatever their certificate.
    #[must_use]
    pub fn require_attested_tls(self) -> Self {
        Self { attested_tls: Need::Required, ..self }
    }

    /// Knobs under which evidence proves nothing.
    #[must_use]
    pub fn dangerous(self) -> DangerousPolicy {
        DangerousPolicy(self)
    }

    /// A policy of these rules, and these for simulated nodes.
    #[cfg(all(test, feature = "simulator"))]
    pub(crate) fn of(rules: Rules, simulated: Option<Rules>) -> Self {
        Self { rules, simulated, attested_tls: Need::Optional, digest: [0; 32] }
    }

    /// A policy whose rules for simulated nodes are these.
    #[cfg(all(test, feature = "simulator"))]
    pub(crate) fn simulated_by(toml: &str) -> Self {
        let rules = toml::from_str(toml).expect("a test's own rules");
        Self { simulated: Some(rules), ..Self::production() }
    }

    /// The rules for a report of this platform.
    pub(crate) fn rules_for(&self, platform: Platform) -> &Rules {
        match (platform, &self.simulated) {
            (Platform::Simulated, Some(rules)) => rules,
            _ => &self.rules,
        }
    }

    pub(crate) fn attested_tls(&self) -> Need {
        self.attested_tls
    }
}

/// See [`Policy::dangerous`].
#[derive(Debug)]
pub struct DangerousPolicy(Policy);

impl DangerousPolicy {
    /// Accepts simulated nodes too, by the rules of `attestation/simulated.toml`. Whoever runs such a
    /// node reads every prompt.
    #[must_use]
    pub fn accept_simulated(self) -> Policy {
        let rules = toml::from_str(SIMULATED).expect("a test reads the rules that are compiled in");
        Policy { simulated: Some(rules), ..self.0 }
    }

    /// The same, by these rules instead.
    ///
    /// # Errors
    /// Where they are no policy.
    pub fn accept_simulated_by(self, toml: &str) -> Result<Policy, PolicyError> {
        Ok(Policy { simulated: Some(toml::from_str(toml)?), ..self.0 })
    }
}

/// Why a policy does not stand.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not this TOML.
    #[error("the policy cannot be understood")]
    Toml(#[from] toml::de::Error),
    /// A file asks for what only code may.
    #[error("no policy file can make a simulated node acceptable")]
    Simulated,
}

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
    /// Turin's alone.
    #[serde(default)]
    pub(crate) fmc: u8,
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

/// Whether something must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    Required,
    Optional,
}

/// Whether something may be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Permit {
    Allow,
    Refuse,
}

/// What this verifier cannot appraise yet, and a policy has to say that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum NotAppraised {
    #[serde(rename = "not appraised")]
    NotAppraised,
}

/// Which values are trusted: these, or, written out, `"any"`.
#[derive(Debug, Clone)]
pub(crate) enum Allow<T> {
    Any,
    Only(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Allow<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<T> {
            Word(String),
            List(Vec<T>),
        }
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == "any" => Ok(Self::Any),
            Form::Word(_) => Err(de::Error::custom("must be a list, or \"any\"")),
            Form::List(list) => Ok(Self::Only(list)),
        }
    }
}

/// A platform by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlatformName(pub(crate) Platform);

impl<'de> Deserialize<'de> for PlatformName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let platform = Platform::from_name(&name);
        platform.map(Self).ok_or_else(|| de::Error::custom("must be tdx or snp"))
    }
}

/// `N` bytes in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex_array(&text);
        bytes.map(Self).ok_or_else(|| {
            de::Error::custom(format!("must be {} lower-case hexadecimal digits", 2 * N))
        })
    }
}

impl<const N: usize> std::fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_that_are_compiled_in_stand() {
        let production = Policy::production();
        assert!(production.simulated.is_none());
        let platforms = production.rules_for(Platform::Simulated).platforms.clone().unwrap();
        assert_eq!(platforms, [PlatformName(Platform::Tdx), PlatformName(Platform::Snp)]);
        let demo = production.dangerous().accept_simulated();
        let platforms = demo.rules_for(Platform::Simulated).platforms.clone().unwrap();
        assert_eq!(platforms, [PlatformName(Platform::Simulated)]);
        let platforms = demo.rules_for(Platform::Tdx).platforms.clone().unwrap();
        assert!(!platforms.contains(&PlatformName(Platform::Simulated)));
    }

    /// Computed is not seen: production trusts nothing of it.
    #[test]
    fn the_staging_policy_stands_beside_production() {
        let staging = include_str!("../../../attestation/staging.toml");
        assert!(staging.starts_with("# COMPUTED, NOT YET SEEN ON HARDWARE."));
        let staging = Policy::from_toml(staging).unwrap();
        assert!(staging.rules.tdx.platforms.is_some() && staging.rules.tdx.images.is_some());
        let production = Policy::production().rules;
        assert!(matches!(&production.tdx.releases, Some(Allow::Only(list)) if list.is_empty()));
        assert!(matches!(&production.snp.releases, Some(Allow::Only(list)) if list.is_empty()));
        assert!(production.tdx.platforms.is_none() && production.tdx.images.is_none());
    }

    #[test]
    fn no_file_accepts_simulation() {
        let refusal = Policy::from_toml("platforms = [\"tdx\", \"simulated\"]").unwrap_err();
        assert!(matches!(refusal, PolicyError::Simulated));
        assert!(Policy::from_toml(SIMULATED).is_err());
    }

    #[test]
    fn a_rule_that_is_misspelt_is_no_policy() {
        for text in [
            "platform = [\"tdx\"]",
            "[tdx]\nsmt = \"yes\"",
            "[model]\nmanifests = \"all\"",
            "[model]\nmanifests = [\"AA\"]",
            "[gpu]\nrevocation = \"passed\"",
        ] {
            assert!(matches!(Policy::from_toml(text), Err(PolicyError::Toml(_))), "{text}");
        }
    }
}
