//! Bytes in, bytes out: node keys, opening a request, sealing its response, hashes, signature, receipt.
//!
//! Both halves of version 1 of the confidential-images protocol live here, since they share every
//! primitive. The node's half is [`Keyring::open`], which yields a [`Plaintext`] and a [`Pending`]
//! request that is refused, or accepted to get the one [`Responder`] that can answer it; the client's half is
//! [`seal_request`], which yields the envelope to send and the one [`Opener`] that can read its answer.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use seal::{Attested, Epoch, Keyring, KeyringLimits, NodeKeys, Zeroizing, seal_request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (keyset_digest, model_manifest) = ([1; 32], [2; 32]);
//! let epoch = Epoch::new(NodeKeys::generate()?, keyset_digest, 100_000);
//! let (node_public, signing_key) = (epoch.exchange_public(), epoch.signing_public());
//! let limits = KeyringLimits { grace: Duration::from_secs(300), max_ciphertext_bytes: 1 << 20 };
//! let node = Keyring::new(epoch, limits);
//!
//! let prompt = Zeroizing::new(br#"{"model":"m","prompt":"a fox"}"#.to_vec());
//! let (request, opener) = seal_request(&node_public, prompt)?;
//!
//! let (plaintext, pending) = node.open(&request, Instant::now())?;
//! assert!(plaintext.as_bytes().starts_with(br#"{"model":"m""#));
//! let responder = pending.accept()?;
//! let answer = Zeroizing::new(br#"{"created":0,"data":[]}"#.to_vec());
//! let response = responder.seal(answer, &model_manifest)?;
//!
//! let attested = Attested { signing_key, keyset_digest, model_manifest };
//! let opened = opener.open_attested(&response, &attested)?;
//! assert!(opened.body.as_bytes().starts_with(br#"{"created":0"#));
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol, and where each step is written
//!
//! | step | formula | source |
//! |---|---|---|
//! | agreement | S = X25519(own secret, peer public), refused where S = 0 | RFC 7748 §5, §6.1 |
//! | key | K = HKDF-SHA256(ikm = S, salt, info = "", L = 32) | RFC 5869 |
//! | cipher | AES-256-GCM(K, nonce, no associated data), the tag appended | NIST SP 800-38D |
//! | hash | H(x) = BLAKE2b(x) with a 32-byte digest, unkeyed | RFC 7693 |
//! | signature | 0x00 ‖ Ed25519(H(response)) ‖ public key | RFC 8032, Sui's layout |
//! | receipt | see [`Receipt`] | RFC 8032 |
//!
//! # What this crate does not do
//!
//! It reads no clock (time is passed in), no file and no network; its only input from outside is
//! the operating system's randomness.
//!
//! # What is left in memory
//!
//! Keys and plaintext are wiped when they are dropped; what computes with them wipes the stack it ran
//! on ([`wipe::stack`]). A node's long-lived keys lie on pages of their own, locked into memory where
//! the system allows it. Buffers that libraries free on the way are for a wiping allocator, which is
//! the program's to install. Registers are not wiped.

mod acceptance;
mod cipher;
mod client;
pub mod dangerous;
mod encoding;
mod epoch;
mod error;
mod exchange;
mod hash;
mod key_id;
mod keyring;
mod keys;
mod locked;
mod open;
mod padding;
mod pending;
mod plaintext;
mod random;
mod receipt;
mod replay;
mod responder;
mod signer;
mod stream;
mod sui;
#[cfg(test)]
mod tests;

pub use acceptance::Unbegun;
pub use client::{Attested, Opened, Opener, Verified, seal_request};
pub use epoch::{Epoch, StatementSigner};
pub use error::{OpenError, ResponseError, SealError, SignatureError, TooManyEpochs};
pub use hash::blake2b_256;
pub use key_id::KeyId;
pub use keyring::{Keyring, KeyringLimits};
pub use keys::NodeKeys;
pub use open::body_hash;
pub use padding::padded_capacity;
pub use pending::Pending;
pub use plaintext::Plaintext;
pub use receipt::Receipt;
pub use responder::Responder;
pub use signer::{TrustedSigner, find_trusted_signer};
pub use stream::{StreamOpener, StreamResponder};
pub use sui::{SuiAddress, SuiPublicKey, SuiSignature};
pub use zeroize::Zeroizing;
