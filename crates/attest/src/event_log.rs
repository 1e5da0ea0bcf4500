//! The event log of RTMR3: what a guest extended, in order, so that a verifier can replay the register.
//!
//! ```text
//! digest  = SHA-384("obscura/event/v1\0" ‖ length of name as u32, little-endian ‖ name ‖ payload)
//! RTMR3_0 = 48 zero bytes;   RTMR3_{i+1} = SHA-384(RTMR3_i ‖ digest_i)      (TDG.MR.RTMR.EXTEND)
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};
use thiserror::Error;

use crate::{
    binding::Digest32,
    encoding::{hex, unhex, unhex_array},
};

/// The event whose payload is the SHA-256 of the model manifest.
pub const MODEL_EVENT: &str = "model-manifest";

const EVENT_DOMAIN: &[u8] = b"obscura/event/v1\0";
/// Far more than a node ever extends.
const MAX_EVENTS: usize = 256;

/// A value of a runtime measurement register.
pub type Rtmr = [u8; 48];

/// The events, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    name: String,
    /// Hex.
    payload: String,
    /// SHA-384, hex: what was extended.
    digest: String,
}

impl EventLog {
    /// Adds an event, and gives the digest to extend the register with.
    pub fn push(&mut self, name: &str, payload: &[u8]) -> Rtmr {
        let digest = event_digest(name, payload);
        self.events.push(Event {
            name: name.to_owned(),
            payload: hex(payload),
            digest: hex(&digest),
        });
        digest
    }

    /// Adds the model manifest's event.
    pub fn push_model(&mut self, manifest: Digest32) -> Rtmr {
        self.push(MODEL_EVENT, &manifest)
    }

    /// Reads a log; each digest must be that of its event.
    ///
    /// # Errors
    /// Where the log is not one.
    pub fn parse(json: &[u8]) -> Result<Self, EventLogError> {
        let events: Vec<Event> = serde_json::from_slice(json).map_err(EventLogError::Json)?;
        if events.len() > MAX_EVENTS {
            return Err(EventLogError::TooMany { max: MAX_EVENTS });
        }
        for (index, event) in events.iter().enumerate() {
            let payload = unhex(&event.payload).ok_or(EventLogError::Digest { index })?;
            if unhex_array(&event.digest) != Some(event_digest(&event.name, &payload)) {
                return Err(EventLogError::Digest { index });
            }
        }
        Ok(Self { events })
    }

    /// The JSON that travels.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.events).expect("strings always serialise")
    }

    /// The register after these events.
    #[must_use]
    pub fn replay(&self) -> Rtmr {
        self.events
            .iter()
            .filter_map(|event| unhex_array(&event.digest))
            .fold([0; 48], |register, digest| extend(&register, &digest))
    }

    /// Payloads, in hex, of the events of this name.
    pub(crate) fn payloads<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.events.iter().filter(move |event| event.name == name).map(|e| e.payload.as_str())
    }
}

/// A register after one more digest.
#[must_use]
pub fn extend(register: &Rtmr, digest: &Rtmr) -> Rtmr {
    Sha384::new().chain_update(register).chain_update(digest).finalize().into()
}

/// Why an event log cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// Not this JSON.
    #[error("the event log is not the JSON array it should be")]
    Json(#[source] serde_json::Error),
    /// Longer than any log.
    #[error("the event log has more than {max} events")]
    TooMany {
        /// The most that is read.
        max: usize,
    },
    /// A digest belongs to another event.
    #[error("event {index} does not have the digest it says")]
    Digest {
        /// Which.
        index: usize,
    },
}

fn event_digest(name: &str, payload: &[u8]) -> Rtmr {
    let name_bytes = u32::try_from(name.len()).unwrap_or(u32::MAX);
    Sha384::new()
        .chain_update(EVENT_DOMAIN)
        .chain_update(name_bytes.to_le_bytes())
        .chain_update(name)
        .chain_update(payload)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_replays_to_what_was_extended() {
        let mut log = EventLog::default();
        let first = log.push("boot", b"x");
        let second = log.push_model([3; 32]);
        let register = extend(&extend(&[0; 48], &first), &second);
        assert_eq!(log.replay(), register);
        let read = EventLog::parse(&log.to_json()).unwrap();
        assert_eq!(read.replay(), register);
        assert_eq!(read.payloads(MODEL_EVENT).collect::<Vec<_>>(), ["03".repeat(32)]);
    }

    /// As the guest's first process writes it, before the node goes on from there.
    #[test]
    fn the_guests_first_event_is_read() {
        let text = include_str!("../../../tests/fixtures/attestation/guest-rtmr3.json").trim_end();
        let log = EventLog::parse(text.as_bytes()).unwrap();
        assert_eq!(log.to_json(), text.as_bytes());
        assert_eq!(log.payloads("node-configuration").collect::<Vec<_>>(), ["09".repeat(32)]);
    }

    #[test]
    fn an_event_cannot_be_renamed() {
        let mut log = EventLog::default();
        log.push("boot", b"x");
        let renamed = String::from_utf8(log.to_json()).unwrap().replace("boot", "root");
        let refusal = EventLog::parse(renamed.as_bytes()).unwrap_err();
        assert!(matches!(refusal, EventLogError::Digest { index: 0 }));
    }
}
