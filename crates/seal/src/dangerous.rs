//! Knobs that break secrecy outside of tests.

use protocol::ConfidentialComputeRequest;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::{
    client::{ClientSecrets, Opener, seal_exact},
    error::SealError,
    keys::NodeKeys,
};

/// Node keys from known secrets, for test vectors: whoever knows them reads every request.
///
/// The node itself makes its keys with [`NodeKeys::generate`] after it has started, so that no
/// image and no operator ever held them.
pub fn node_keys(exchange_secret: [u8; 32], signing_seed: [u8; 32]) -> NodeKeys {
    NodeKeys::from_secrets(&exchange_secret, &signing_seed)
}

/// What a client draws for one request. Whoever knows `secret` reads the request and its answer.
pub struct ClientDraws {
    /// X25519.
    pub secret: [u8; 32],
    /// HKDF's salt.
    pub salt: [u8; 16],
    /// AES-GCM's nonce.
    pub nonce: [u8; 12],
}

/// Seals exactly these bytes with exactly these draws, for test vectors: two bodies under the same draws are
/// no longer secret, nor is one whose length nobody padded.
///
/// # Errors
/// As [`seal_request`](crate::seal_request).
pub fn seal_exactly(
    node_public: &[u8; 32],
    body: Zeroizing<Vec<u8>>,
    draws: ClientDraws,
) -> Result<(ConfidentialComputeRequest, Opener), SealError> {
    let ClientDraws { secret, salt, nonce } = draws;
    wipe::stack(|| {
        let secrets = ClientSecrets { exchange: StaticSecret::from(secret), salt, nonce };
        seal_exact(node_public, body, secrets)
    })
}
