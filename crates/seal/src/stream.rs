//! An answer in several parts: each sealed, signed and receipted on its own.
//!
//! Which part comes first, and which is the last, is for the parts themselves to say: their bytes
//! are under the tag, so whoever numbers them inside is believed.

use protocol::ConfidentialComputeResponse;
use zeroize::Zeroizing;

use crate::{
    cipher::NONCE_BYTES,
    client::{Attested, Opened, Opener},
    error::{ResponseError, SealError},
    padding, random,
    responder::{Responder, other_than},
};

/// Seals the parts of one answer.
pub struct StreamResponder {
    responder: Responder,
    first_nonce: [u8; NONCE_BYTES],
    sealed: u64,
}

impl Responder {
    /// Answers in parts instead of at once.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn into_stream(self) -> Result<StreamResponder, SealError> {
        Ok(StreamResponder { responder: self, first_nonce: random::public()?, sealed: 0 })
    }
}

impl StreamResponder {
    /// Pads, hashes, signs and seals one part; see [`Responder::seal`].
    ///
    /// # Errors
    /// Where the body is too long for one nonce.
    pub fn seal(
        &mut self,
        body: Zeroizing<Vec<u8>>,
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        let nonce = nth_nonce(self.first_nonce, self.sealed);
        self.sealed += 1;
        let nonce = other_than(nonce, self.responder.request_nonce());
        self.responder.seal_exact(padding::pad(body), nonce, model_manifest)
    }

    /// The same for the last part: there is no way to seal another.
    ///
    /// # Errors
    /// Where the body is too long for one nonce.
    pub fn seal_last(
        mut self,
        body: Zeroizing<Vec<u8>>,
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        self.seal(body, model_manifest)
    }
}

/// No two parts share a nonce: the last eight bytes count. The first four stay as they were drawn, so
/// that [`other_than`], which changes the first, never meets another part's nonce.
fn nth_nonce(mut first: [u8; NONCE_BYTES], n: u64) -> [u8; NONCE_BYTES] {
    for (byte, count) in first[4..].iter_mut().zip(n.to_le_bytes()) {
        *byte ^= count;
    }
    first
}

/// Opens the parts of one answer.
pub struct StreamOpener {
    opener: Opener,
    attested: Option<Attested>,
    signing_key: Option<[u8; 32]>,
}

impl Opener {
    /// For an answer in parts, from a node whose attestation was verified.
    #[must_use]
    pub fn stream_attested(self, attested: Attested) -> StreamOpener {
        StreamOpener { opener: self, attested: Some(attested), signing_key: None }
    }

    /// For an answer in parts, from a node that nothing is known of.
    #[must_use]
    pub fn stream_unattested(self) -> StreamOpener {
        StreamOpener { opener: self, attested: None, signing_key: None }
    }
}

impl StreamOpener {
    /// Opens one part. All of them must be signed by one key.
    ///
    /// # Errors
    /// Where the part does not hold up.
    pub fn open(&mut self, part: &ConfidentialComputeResponse) -> Result<Opened, ResponseError> {
        let opened = self.opener.open_checked(part, self.attested.as_ref())?;
        let found = opened.verified.signing_key;
        match self.signing_key.replace(found) {
            Some(first) if first != found => Err(ResponseError::UnexpectedSigner { found }),
            _ => Ok(opened),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nonces_never_meet() {
        let first = [0xff; NONCE_BYTES];
        let nonces: BTreeSet<_> = (0..2000).map(|n| nth_nonce(first, n)).collect();
        assert_eq!(nonces.len(), 2000);
        // Nor does the one that makes way for the request's.
        let request = nth_nonce(first, 7);
        assert!(!nonces.contains(&other_than(request, &request)));
    }
}
