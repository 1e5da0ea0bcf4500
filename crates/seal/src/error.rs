//! Everything that can go wrong, by who is told: the node's callers little, the client's all of it.

use crate::key_id::KeyId;

/// Why a node did not open a request.
///
/// A sender may learn that its key is stale or its request was seen; anything else would be a
/// decryption oracle, so every failure from base64 to body hash is the one [`OpenError::Unopenable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Base64, lengths, an unusable public key, a failed tag or a body that is not the one hashed.
    #[error("the request could not be opened")]
    Unopenable,

    /// The request is sealed to a key this node does not hold, or no longer serves. Found before
    /// anything is decrypted.
    #[error("the request is sealed to another key; this node's current key is {current_key_id}")]
    StaleKey {
        /// The key to seal to instead.
        current_key_id: KeyId,
    },

    /// This request was opened before, or is an answer to one that was.
    #[error("the request was opened before")]
    Replayed,

    /// No room to remember another request under any key: refused, since to forget an old one would
    /// let it be replayed. The end of a key's grace period makes room.
    #[error("no room to remember another request until an old key is forgotten")]
    ReplayCacheFull,
}

/// Keys were to be rotated while [`Keyring::MAX_EPOCHS`](crate::Keyring::MAX_EPOCHS) epochs serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "as many keys serve as may; the next can take over when the oldest one's grace period ends"
)]
pub struct TooManyEpochs;

/// Why keys, a request or a response could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness(#[from] getrandom::Error),

    /// The node's public key is of low order or not reduced: no honest node has such a key.
    #[error("the node's public key is not a usable X25519 key")]
    NodeKeyUnusable,

    /// AES-GCM seals at most 2^36 - 32 bytes under one nonce (NIST SP 800-38D §5.2.1.1).
    #[error("{body_bytes} bytes are more than one nonce may seal")]
    BodyTooLong {
        /// The padded body's length.
        body_bytes: usize,
    },

    /// The request was given back before work for it began: somebody else may answer it.
    #[error("the request was given back before it was answered")]
    GivenBack,

    /// Something else than COSE was to be signed as a statement.
    #[error("only COSE is signed as a statement")]
    NotCose,
}

/// Why a client did not accept a response. Exact, since the client is the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The response comes without hash or signature.
    #[error("the response is not signed")]
    Unsigned,

    /// A field is not base64 of the length it must have.
    #[error("the response's `{field}` is not base64 of the right length")]
    Malformed {
        /// The field's name on the wire.
        field: &'static str,
    },

    /// The response carries the request's own nonce: the request, sent back.
    #[error("the response reuses the request's nonce")]
    ReflectedNonce,

    /// The tag does not match: altered, or sealed for someone else.
    #[error("the response was altered, or was not sealed for this request")]
    Decryption,

    /// `response_hash` is not the hash of what was decrypted.
    #[error("`response_hash` is not the hash of the response")]
    HashMismatch,

    /// `signature` does not hold.
    #[error("the response's signature does not hold: {0}")]
    Signature(#[from] SignatureError),

    /// Signed, but not by the key the attestation names.
    #[error("the response is signed by a key that is not the attested one")]
    UnexpectedSigner {
        /// The Ed25519 key that signed.
        found: [u8; 32],
    },

    /// The attested node gives receipts, and this response has none.
    #[error("the response carries no receipt")]
    ReceiptMissing,

    /// The receipt does not tie this request, response, node and model together.
    #[error("the receipt does not match this request, response, node and model")]
    ReceiptInvalid,
}

/// Why a Sui-layout signature, key or address was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not base64.
    #[error("not base64")]
    NotBase64,

    /// The first byte names no scheme that is known here.
    #[error("unknown signature scheme {flag:#04x}")]
    UnknownScheme {
        /// The first byte.
        flag: u8,
    },

    /// A flag, signature or public key has not the length of its scheme.
    #[error("{found_bytes} bytes where {expected_bytes} are due")]
    WrongLength {
        /// What the scheme's layout has at this place.
        expected_bytes: usize,
        /// What was left there.
        found_bytes: usize,
    },

    /// The public key is no point of the curve, or not in its one compressed form.
    #[error("not a usable public key")]
    UnusableKey,

    /// ECDSA with s in the upper half of the group order.
    #[error("an ECDSA signature with a high s")]
    HighS,

    /// Well formed, and not a signature of this message by this key.
    #[error("the signature does not match the message")]
    Mismatch,

    /// A valid scheme, but the node signs with Ed25519 alone.
    #[error("not an Ed25519 signature")]
    NotEd25519,

    /// Not `0x` and 64 hexadecimal digits, nor base64 of flag ‖ public key.
    #[error("neither a Sui address (0x and 64 hexadecimal digits) nor base64 of flag ‖ public key")]
    UnknownSignerText,

    /// Nobody on the list of trusted signers.
    #[error("the signer is not a trusted one")]
    NotTrusted,
}
