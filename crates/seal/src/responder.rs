//! Sealing the response to one request.

use std::{fmt, mem, sync::Arc};

use ed25519_dalek::Signer;
use protocol::ConfidentialComputeResponse;
use zeroize::Zeroizing;

use crate::{
    acceptance::{Acceptance, Unbegun},
    cipher::NONCE_BYTES,
    encoding::encode,
    epoch::{Signer as NodeSigner, StatementSigner},
    error::SealError,
    exchange::Exchange,
    hash::blake2b_256,
    key_id::KeyId,
    padding, random,
    receipt::Receipt,
    sui::SuiSignature,
};

/// The one way to answer a request: it holds the key agreed with its client, and the signing key of
/// the epoch that opened it, so an epoch that ends in between changes nothing. The key that opens
/// requests it does not hold: a client that is slow to take its answer keeps that one no longer.
///
/// [`seal`](Responder::seal) consumes it, so a request has at most one response; a stream of numbered
/// events consumes it into a [`StreamResponder`](crate::StreamResponder).
pub struct Responder {
    signer: Arc<NodeSigner>,
    exchange: Exchange,
    /// `None` where the request is refused.
    acceptance: Option<Arc<Acceptance>>,
}

impl Responder {
    pub(crate) fn of_accepted(
        signer: Arc<NodeSigner>,
        exchange: Exchange,
        acceptance: Arc<Acceptance>,
    ) -> Self {
        Self { signer, exchange, acceptance: Some(acceptance) }
    }

    pub(crate) fn of_refused(signer: Arc<NodeSigner>, exchange: Exchange) -> Self {
        Self { signer, exchange, acceptance: None }
    }

    /// For whoever begins the work: until then the request can still be given back. Without this it stays taken,
    /// whether or not it is ever answered.
    pub fn unbegun(&self) -> Option<Unbegun> {
        self.acceptance.clone().map(Unbegun::new)
    }

    /// The key the request was sealed to.
    pub fn key_id(&self) -> KeyId {
        self.signer.key_id
    }

    /// The key that signs the answer, for statements that are read apart from it.
    pub fn statement_signer(&self) -> StatementSigner {
        StatementSigner(self.signer.clone())
    }

    /// Pads, hashes, signs and seals a JSON body; `model_manifest` is the digest of the manifest of
    /// the model that made it, for the receipt. Usage, which is told in the clear, is the caller's to add.
    ///
    /// The body is encrypted where it lies if its capacity is at least
    /// [`padded_capacity`](crate::padded_capacity) of its length; otherwise it moves once, and the
    /// old buffer is wiped. No other copy of it is made.
    pub fn seal(
        self,
        body: Zeroizing<Vec<u8>>,
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        let nonce = other_than(random::public()?, &self.exchange.request_nonce);
        self.seal_exact(padding::pad(body), nonce, model_manifest)
    }

    pub(crate) fn request_nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.exchange.request_nonce
    }

    /// Hashes, signs and seals exactly these bytes under exactly this nonce.
    pub(crate) fn seal_exact(
        &self,
        body: Zeroizing<Vec<u8>>,
        nonce: [u8; NONCE_BYTES],
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        if self.acceptance.as_ref().is_some_and(|acceptance| !acceptance.take_up()) {
            return Err(SealError::GivenBack);
        }
        wipe::stack(|| self.seal_here(body, nonce, model_manifest))
    }

    /// Leaves keys and plaintext on the stack.
    fn seal_here(
        &self,
        mut body: Zeroizing<Vec<u8>>,
        nonce: [u8; NONCE_BYTES],
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        let response_hash = blake2b_256(&body);
        let signing = &*self.signer.key;
        let signature =
            SuiSignature::ed25519(signing.sign(&response_hash), &signing.verifying_key());
        let receipt = self.receipt(response_hash, *model_manifest).sign(signing);

        let body_bytes = body.len();
        self.exchange
            .key
            .seal_in_place(&nonce, &mut body)
            .map_err(|_| SealError::BodyTooLong { body_bytes })?;
        // Ciphertext by now: to wipe megabytes of it would only cost time.
        let ciphertext = mem::take(&mut *body);

        Ok(ConfidentialComputeResponse {
            ciphertext: encode(ciphertext),
            nonce: encode(nonce),
            response_hash: Some(encode(response_hash)),
            signature: Some(encode(signature.to_bytes())),
            usage: None,
            receipt: Some(encode(receipt)),
        })
    }

    fn receipt(&self, response_hash: [u8; 32], model_manifest: [u8; 32]) -> Receipt {
        Receipt {
            request_hash: self.exchange.request_hash,
            response_hash,
            client_public: self.exchange.client_public,
            node_public: self.exchange.node_public,
            model_manifest,
            keyset_digest: self.signer.keyset_digest,
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// `nonce`, or its neighbour if it is the forbidden one: under AES-GCM a repeated nonce gives away
/// the difference of two plaintexts and the key that authenticates. To draw again instead could
/// loop for ever where randomness is broken.
pub(crate) fn other_than(
    mut nonce: [u8; NONCE_BYTES],
    forbidden: &[u8; NONCE_BYTES],
) -> [u8; NONCE_BYTES] {
    if nonce == *forbidden {
        nonce[0] ^= 1;
    }
    nonce
}
