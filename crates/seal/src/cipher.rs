//! AES-256-GCM over a buffer that is both the plaintext's and the ciphertext's.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::AeadInOut};
use blake2::{Blake2b, Digest, digest::consts::U16};
use zeroize::Zeroizing;

use crate::replay::Fingerprint;

/// A nonce's length (NIST SP 800-38D's 96 bits).
pub(crate) const NONCE_BYTES: usize = 12;
/// The tag's length, appended to the ciphertext.
pub(crate) const TAG_BYTES: usize = 16;

/// The buffer is longer than AES-GCM seals, or its tag does not match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CipherError;

/// The key of one exchange, for its request and its response alike.
///
/// On the heap, so that a move leaves no copy of it behind. Round keys are made for each use and lie on
/// the stack: whoever seals, opens or names wipes it, see [`wipe::stack`].
pub(crate) struct SessionKey(Box<Zeroizing<[u8; 32]>>);

impl SessionKey {
    pub(crate) fn new(key: Box<Zeroizing<[u8; 32]>>) -> Self {
        Self(key)
    }

    /// Turns plaintext into ciphertext ‖ tag in the same buffer.
    ///
    /// The tag is appended after the bytes are encrypted, so a buffer that must grow for it moves
    /// ciphertext only.
    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        buffer: &mut Vec<u8>,
    ) -> Result<(), CipherError> {
        self.cipher().encrypt_in_place(&Nonce::from(*nonce), b"", buffer).map_err(|_| CipherError)
    }

    /// Turns ciphertext ‖ tag into plaintext in the same buffer; the tag is checked before anything
    /// is decrypted.
    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        buffer: &mut Vec<u8>,
    ) -> Result<(), CipherError> {
        self.cipher().decrypt_in_place(&Nonce::from(*nonce), b"", buffer).map_err(|_| CipherError)
    }

    /// A name for this key, from which the key cannot be found: BLAKE2b-128("obscura-replay-2" ‖ key).
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut hasher = Blake2b::<U16>::new();
        hasher.update(b"obscura-replay-2");
        hasher.update(self.0.as_slice());
        hasher.finalize().into()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&**self.0).into())
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
