//! What a mark says: a key's short id, and bits that nothing else has by chance.

use sha2::{Digest, Sha256};

use super::lattice::{SHIFTS, Shift};

const KEY_DOMAIN: &[u8] = b"obscura/mark/key/v1\0";
const CHECK_DOMAIN: &[u8] = b"obscura/mark/check/v1\0";
/// One in so many payloads has the check that belongs to it.
#[cfg(test)]
pub(super) const CHECKS: f64 = 256.0;

/// 16 bits of the key that signs a node's answers: enough to ask the right node, and no proof. Of 256 keys two
/// have likely the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkId(u16);

impl MarkId {
    /// The first two bytes of SHA-256("obscura/mark/key/v1\0" ‖ Ed25519 public key).
    #[must_use]
    pub fn of_key(signing_key: &[u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(KEY_DOMAIN).chain_update(signing_key).finalize();
        Self(u16::from_be_bytes([digest[0], digest[1]]))
    }

    fn check(self) -> u8 {
        Sha256::new().chain_update(CHECK_DOMAIN).chain_update(self.0.to_be_bytes()).finalize()[0]
    }

    /// The shifts of the second pattern and of the third.
    pub(super) fn shifts(self) -> (Shift, Shift) {
        let bits = (usize::from(self.0) << 8) | usize::from(self.check());
        let shift = |bits: usize| Shift { x: bits / SHIFTS % SHIFTS, y: bits % SHIFTS };
        (shift(bits / (SHIFTS * SHIFTS)), shift(bits))
    }

    /// The id that has these shifts.
    pub(super) fn of_shifts(first: Shift, second: Shift) -> Option<Self> {
        let bits = [first.x, first.y, second.x, second.y];
        let bits = bits.into_iter().fold(0, |bits, shift| bits * SHIFTS + shift);
        let id = u16::try_from(bits >> 8).ok().map(Self)?;
        (usize::from(id.check()) == bits % 256).then_some(id)
    }
}

/// Four hexadecimal digits.
impl std::fmt::Display for MarkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_say_the_id_or_nothing() {
        for id in (0..=u16::MAX).step_by(257).map(MarkId) {
            let (first, second) = id.shifts();
            assert_eq!(MarkId::of_shifts(first, second), Some(id));
            let other = Shift { y: (second.y + 1) % SHIFTS, ..second };
            assert_ne!(MarkId::of_shifts(first, other), Some(id));
        }
        assert_eq!(MarkId::of_key(&[7; 32]).to_string().len(), 4);
        assert_ne!(MarkId::of_key(&[7; 32]), MarkId::of_key(&[8; 32]));
    }
}
