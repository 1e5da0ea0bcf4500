//! What a verifier trusts. A rule that is missing refuses: nothing is trusted by silence.
//!
//! The production policy is `attestation/policy.toml`, compiled in. A policy file can name Intel and
//! AMD; no file and no rule in one makes a simulated node acceptable, see [`Policy::dangerous`].

mod rules;
mod terms;

use thiserror::Error;

pub(crate) use self::{
    rules::*,
    terms::{Allow, Hex, Need, Permit, PlatformName},
};
use crate::{
    binding::{Digest32, sha256},
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

    /// Whether it [does](Self::require_attested_tls).
    #[must_use]
    pub fn requires_attested_tls(&self) -> bool {
        matches!(self.attested_tls, Need::Required)
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
    fn the_staging_policies_stand_beside_production() {
        for staging in [
            include_str!("../../../attestation/staging.toml"),
            include_str!("../../../attestation/staging-cpu.toml"),
        ] {
            assert!(staging.starts_with("# COMPUTED, NOT YET SEEN ON HARDWARE."));
            let staging = Policy::from_toml(staging).unwrap();
            assert!(staging.rules.tdx.platforms.is_some() && staging.rules.tdx.images.is_some());
        }
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
