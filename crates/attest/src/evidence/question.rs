//! Requests for evidence, and their answers.

use std::sync::Arc;

use super::{EvidenceError, Source};
use crate::binding::{Nonce, SignedKeyset};

/// What a verifier asks about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its nonce, or [`Nonce::ABSENT`].
    pub nonce: Nonce,
    /// The keys that serve now.
    pub keyset: Arc<SignedKeyset>,
    /// Seconds since 1970.
    pub now_secs: u64,
    /// Who asks, where that is known; all who are not known share one place in the queue.
    pub source: Option<Source>,
}

/// A report, as the JSON that travels.
pub type Answer = Result<Arc<[u8]>, EvidenceError>;
