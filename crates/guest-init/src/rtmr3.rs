//! The first event in a TDX guest's RTMR3: how the node is configured. The node adds the model's.
//!
//! The event's form, and the log's, are the node's: `attest::event_log`.

use sha2::{Digest, Sha384};

use crate::hex;

/// The event's name. Its payload is the SHA-256 of the configuration file that the node gets.
pub const CONFIGURATION_EVENT: &str = "node-configuration";
const EVENT_DOMAIN: &[u8] = b"obscura/event/v1\0";

/// An event, and what the register and its log become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstEvent {
    /// SHA-384: what the register is extended with.
    pub digest: [u8; 48],
    /// The register after it, from zeros.
    pub register: [u8; 48],
    /// The log that the node goes on from, JSON.
    pub log: String,
}

impl FirstEvent {
    /// Of a configuration whose SHA-256 this is.
    #[must_use]
    pub fn new(configuration_sha256: &[u8; 32]) -> Self {
        let name_bytes = u32::try_from(CONFIGURATION_EVENT.len()).unwrap_or(u32::MAX);
        let digest: [u8; 48] = Sha384::new()
            .chain_update(EVENT_DOMAIN)
            .chain_update(name_bytes.to_le_bytes())
            .chain_update(CONFIGURATION_EVENT)
            .chain_update(configuration_sha256)
            .finalize()
            .into();
        let register = Sha384::new().chain_update([0; 48]).chain_update(digest).finalize().into();
        let (payload, shown) = (hex(configuration_sha256), hex(&digest));
        let log = format!(
            r#"[{{"name":"{CONFIGURATION_EVENT}","payload":"{payload}","digest":"{shown}"}}]"#
        );
        Self { digest, register, log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node's own test reads this log: `attest::event_log`, `the_guests_first_event_is_read`.
    #[test]
    fn the_log_is_the_nodes() {
        let event = FirstEvent::new(&[9; 32]);
        assert_eq!(
            event.log,
            include_str!("../../../tests/fixtures/attestation/guest-rtmr3.json").trim_end()
        );
    }
}
