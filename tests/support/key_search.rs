//! Memory searched for keys as whoever holds a dump of it and a recording of the traffic would: each window
//! of 32 bytes is tried.

use aes_gcm::aes::{
    Aes256,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use x25519_dalek::{PublicKey, StaticSecret};

const KEY_BYTES: usize = 32;
/// Distinct bytes of a window that is worth a try. Of 32 random ones 30 are, and less than 20 in one of
/// many millions.
const DISTINCT_BYTES: usize = 20;
/// Where the memory allocator puts what holds an X25519 secret.
const SECRET_ALIGN: usize = 8;

/// A message sealed with AES-256-GCM, as far as it tells whether a key opens it.
pub struct Recorded {
    counter: [u8; 16],
    keystream: [u8; 16],
}

impl Recorded {
    /// A message of 16 bytes at least. Comparing its first block with what is known to be in it costs a
    /// tenth of opening all of it, and says the same.
    ///
    /// # Panics
    /// Where the nonce has not 12 bytes, or the message is shorter.
    #[must_use]
    pub fn new(nonce: &[u8], ciphertext: &[u8], plaintext: &[u8]) -> Self {
        // The first block's counter is 2: NIST SP 800-38D, 7.1.
        let mut counter = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        counter[..12].copy_from_slice(nonce);
        Self { counter, keystream: std::array::from_fn(|at| ciphertext[at] ^ plaintext[at]) }
    }

    fn opens_with(&self, cipher: &Aes256) -> bool {
        let mut block = self.counter.into();
        cipher.encrypt_block(&mut block);
        block[..] == self.keystream
    }
}

/// Where in `memory` a key begins that opens one of the messages: at any byte.
#[must_use]
pub fn aes_keys(memory: &[u8], recorded: &[Recorded]) -> Vec<usize> {
    candidates(memory, 1)
        .filter(|(_, key)| {
            let cipher = Aes256::new(&(**key).into());
            recorded.iter().any(|message| message.opens_with(&cipher))
        })
        .map(|(at, _)| at)
        .collect()
}

/// Where in `memory` the secret of one of these public keys begins.
#[must_use]
pub fn x25519_secrets(memory: &[u8], public_keys: &[[u8; 32]]) -> Vec<usize> {
    candidates(memory, SECRET_ALIGN)
        .filter(|(_, secret)| !are_weights(secret))
        .filter(|(_, secret)| {
            public_keys.contains(PublicKey::from(&StaticSecret::from(**secret)).as_bytes())
        })
        .map(|(at, _)| at)
        .collect()
}

/// Whether these are eight numbers as a model's weights are. A random secret looks so once in three
/// hundred million; leaving them out spares most of the time.
fn are_weights(window: &[u8; KEY_BYTES]) -> bool {
    const USUAL: std::ops::Range<f32> = 1e-6..4.0;
    window.as_chunks().0.iter().all(|bytes| USUAL.contains(&f32::from_le_bytes(*bytes).abs()))
}

/// Windows that could be a key, and where they begin.
fn candidates(memory: &[u8], align: usize) -> impl Iterator<Item = (usize, &[u8; KEY_BYTES])> {
    let mut counts = [0_u8; 256];
    let mut distinct = 0;
    let mut end = 0;
    memory.array_windows::<KEY_BYTES>().enumerate().filter(move |(at, window)| {
        while end < at + KEY_BYTES {
            let count = &mut counts[usize::from(memory[end])];
            distinct += usize::from(*count == 0);
            *count += 1;
            end += 1;
        }
        let is_candidate = distinct >= DISTINCT_BYTES && at.is_multiple_of(align);
        let count = &mut counts[usize::from(window[0])];
        *count -= 1;
        distinct -= usize::from(*count == 0);
        is_candidate
    })
}
