//! Key agreement: two keys and a salt become the one key of an exchange (X25519, HKDF-SHA256).

use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::cipher::SessionKey;

/// A salt's length on the wire.
pub(crate) const SALT_BYTES: usize = 16;

/// What both ends know of one request: enough to seal or open its response.
pub(crate) struct Exchange {
    pub(crate) key: SessionKey,
    /// No response may carry it: one key serves both directions.
    pub(crate) request_nonce: [u8; 12],
    pub(crate) request_hash: [u8; 32],
    pub(crate) client_public: [u8; 32],
    pub(crate) node_public: [u8; 32],
}

/// K = HKDF-SHA256(ikm = X25519(own, peer), salt, info = "", L = 32); RFC 7748 §5, RFC 5869.
///
/// Nothing where `peer` is not reduced modulo 2^255 - 19, or where the shared secret is zero
/// because `peer` has low order (RFC 7748 §6.1). X25519 itself would accept an unreduced `peer` and
/// ignore its highest bit; but no honest end sends one, and to refuse it leaves one name for a key.
///
/// Secrets stay behind on the stack, which the caller wipes.
pub(crate) fn agree(
    own: &StaticSecret,
    peer: &[u8; 32],
    salt: &[u8; SALT_BYTES],
) -> Option<SessionKey> {
    if !is_reduced(peer) {
        return None;
    }
    let shared = own.diffie_hellman(&PublicKey::from(*peer));
    if !shared.was_contributory() {
        return None;
    }
    Some(SessionKey::new(hkdf_sha256(shared.as_bytes(), salt)))
}

/// HKDF-SHA256 with an empty `info` and 32 bytes of output (RFC 5869 §2).
pub(crate) fn hkdf_sha256(ikm: &[u8], salt: &[u8]) -> Box<Zeroizing<[u8; 32]>> {
    let mut key = Box::new(Zeroizing::new([0; 32]));
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(&[], key.as_mut_slice())
        .expect("one block is below HKDF's limit of 255");
    key
}

/// Whether the little-endian coordinate is below p = 2^255 - 19. It is public: no constant time.
fn is_reduced(u: &[u8; 32]) -> bool {
    let [lowest, middle @ .., highest] = u;
    let top_is_below_p = *highest < 0x7f || *highest == 0x7f && middle.iter().any(|&b| b != 0xff);
    top_is_below_p || *highest == 0x7f && *lowest < 0xed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduced_means_below_p() {
        let mut u = [0xff; 32];
        (u[0], u[31]) = (0xec, 0x7f); // p - 1
        assert!(is_reduced(&u));
        u[0] = 0xed; // p
        assert!(!is_reduced(&u));
        u[0] = 0xff; // 2^255 - 1
        assert!(!is_reduced(&u));
        u[1] = 0xfe;
        assert!(is_reduced(&u));
        let mut high_bit = [0; 32];
        assert!(is_reduced(&high_bit));
        high_bit[31] = 0x80; // 2^255, which X25519 would read as zero
        assert!(!is_reduced(&high_bit));
    }
}
