//! What a node answers to a challenge, before and while it is judged.

use std::fmt;

use attest::{
    Policy,
    verify::{Appraisal, Challenge, Channel, appraise_over},
};

/// A node's answer to a challenge, unjudged.
#[derive(Clone)]
pub struct Evidence {
    /// The report, byte for byte as it came.
    pub report: Vec<u8>,
    /// What it was asked with.
    pub challenge: Challenge,
    /// What it came over.
    pub channel: Channel,
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({} bytes)", self.report.len())
    }
}

impl Evidence {
    /// Judges the report, and by it the connection that it came over.
    pub fn appraise(&self, policy: &Policy) -> Appraisal {
        appraise_over(&self.report, policy, &self.challenge, &self.channel)
    }
}
