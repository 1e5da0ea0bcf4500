//! Opening a request.

use std::time::Instant;

use protocol::ConfidentialComputeRequest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    cipher::{NONCE_BYTES, TAG_BYTES},
    encoding::{decode_array, decode_bounded},
    error::OpenError,
    exchange::{self, Exchange, SALT_BYTES},
    hash::blake2b_256,
    keyring::Keyring,
    pending::Pending,
    plaintext::Plaintext,
};

impl Keyring {
    /// Opens a request: its plaintext, and what accepts or refuses it and can seal its response.
    ///
    /// In this order: every field's length and base64; the node's key, which must be one that
    /// serves at `now`; the agreed key; the tag; the body's hash; and last, once the request is
    /// known to be whole, whether it was opened before. What fails therefore leaves no trace.
    ///
    /// The request is known from then on, unless its [`Pending`] is dropped.
    pub fn open(
        &self,
        request: &ConfidentialComputeRequest,
        now: Instant,
    ) -> Result<(Plaintext, Pending), OpenError> {
        wipe::stack(|| self.open_here(request, now))
    }

    /// Leaves keys and plaintext on the stack.
    fn open_here(
        &self,
        request: &ConfidentialComputeRequest,
        now: Instant,
    ) -> Result<(Plaintext, Pending), OpenError> {
        let request =
            Decoded::parse(request, self.max_ciphertext_bytes()).ok_or(OpenError::Unopenable)?;
        let epoch = self.epoch_of(&request.node_public, now)?;
        let key = exchange::agree(&epoch.exchange, &request.client_public, &request.salt)
            .ok_or(OpenError::Unopenable)?;

        // From here on the buffer may hold plaintext, so it is wiped on every way out.
        let mut body = Zeroizing::new(request.ciphertext);
        key.open_in_place(&request.nonce, &mut body).map_err(|_| OpenError::Unopenable)?;
        if !bool::from(blake2b_256(&body).ct_eq(&request.body_hash)) {
            return Err(OpenError::Unopenable);
        }
        let fingerprint = key.fingerprint();
        let exchange = Exchange {
            key,
            request_nonce: request.nonce,
            request_hash: request.body_hash,
            client_public: request.client_public,
            node_public: request.node_public,
        };
        let pending = Pending::new(epoch, fingerprint, exchange)?;
        Ok((Plaintext::new(body), pending))
    }
}

/// The 32 raw bytes of a request's `plaintext_body_hash`, over which a proxy signs.
pub fn body_hash(request: &ConfidentialComputeRequest) -> Result<[u8; 32], OpenError> {
    decode_array(&request.plaintext_body_hash).ok_or(OpenError::Unopenable)
}

/// A request whose fields all have their length.
struct Decoded {
    ciphertext: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    salt: [u8; SALT_BYTES],
    client_public: [u8; 32],
    node_public: [u8; 32],
    body_hash: [u8; 32],
}

impl Decoded {
    fn parse(request: &ConfidentialComputeRequest, max_ciphertext_bytes: usize) -> Option<Self> {
        Some(Self {
            nonce: decode_array(&request.nonce)?,
            salt: decode_array(&request.salt)?,
            client_public: decode_array(&request.client_dh_public_key)?,
            node_public: decode_array(&request.node_dh_public_key)?,
            body_hash: decode_array(&request.plaintext_body_hash)?,
            ciphertext: decode_bounded(&request.ciphertext, max_ciphertext_bytes)
                .filter(|ciphertext| ciphertext.len() >= TAG_BYTES)?,
        })
    }
}
