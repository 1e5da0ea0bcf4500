//! Knobs that break secrecy outside of tests.

use crate::keys::NodeKeys;

/// Node keys from known secrets, for test vectors: whoever knows them reads every request.
///
/// The node itself makes its keys with [`NodeKeys::generate`] after it has started, so that no
/// image and no operator ever held them.
pub fn node_keys(exchange_secret: [u8; 32], signing_seed: [u8; 32]) -> NodeKeys {
    NodeKeys::from_secrets(&exchange_secret, &signing_seed)
}
