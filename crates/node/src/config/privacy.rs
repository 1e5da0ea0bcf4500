//! What of the configuration can change who reads a prompt, as a text whose digest every keyset names.
//!
//! ```text
//! obscura/configuration/v1
//! allow_plaintext = false
//! ...                               a line a setting, by name; values as in JSON
//! configuration_sha256 = SHA-256(text)
//! ```
//! An operator who is hostile chooses the configuration too. What cannot change privacy (addresses,
//! limits, digests of keys, who may call) stays out, so that a verifier can pin few digests:
//! - models, and what LoRAs they are merged with, are bound by their manifest, the TEE named by the report, keys' lifetimes by the keyset;
//! - `public_url` is in answers in clear text alone, sealed ones hold their images;
//! - of an exporter it counts whether there is one: what it is sent is in the measured code.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Config;

const HEAD: &str = "obscura/configuration/v1\n";

/// Settings that the program around the node decides by, beside the node's own: by name, as JSON.
pub type LaunchEvidence = BTreeMap<&'static str, serde_json::Value>;

impl Config {
    /// The text.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut lines = self.launch_evidence.clone();
        lines.insert("allow_plaintext", self.allow_plaintext.into());
        lines.insert("gpu_evidence", self.gpu_evidence.into());
        lines.insert("tls", serde_json::to_value(self.tls).unwrap_or_default());
        let lines = lines.iter().map(|(name, value)| format!("{name} = {value}\n"));
        std::iter::once(HEAD.to_owned()).chain(lines).collect()
    }

    /// SHA-256 of the text, hex.
    #[must_use]
    pub fn evidence_sha256(&self) -> String {
        hex::encode(Sha256::digest(self.evidence()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_privacy_changes_the_digest_and_nothing_else_does() {
        let base = Config::default();
        let text = "obscura/configuration/v1\nallow_plaintext = false\ngpu_evidence = false\ntls = \"off\"\n";
        assert_eq!(base.evidence(), text);
        let digest = base.evidence_sha256();
        let changed: [fn(&mut Config); 4] = [
            |config| config.allow_plaintext = true,
            |config| config.gpu_evidence = true,
            |config| config.tls = super::super::TlsChoice::Files,
            |config| drop(config.launch_evidence.insert("log", "trace".into())),
        ];
        for change in changed {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(other.evidence_sha256(), digest);
        }
        let free: [fn(&mut Config); 3] = [
            |config| config.listen = ([0, 0, 0, 0], 1).into(),
            |config| config.queue_capacity = 1,
            |config| config.public_url = Some("https://other.example".to_owned()),
        ];
        for change in free {
            let mut other = base.clone();
            change(&mut other);
            assert_eq!(other.evidence_sha256(), digest);
        }
    }

    /// A value cannot make a line of its own.
    #[test]
    fn a_value_stays_on_its_line() {
        let mut config = Config::default();
        config.launch_evidence.insert("log", "info\nallow_plaintext = false".into());
        assert_eq!(config.evidence().lines().count(), 5);
    }
}
