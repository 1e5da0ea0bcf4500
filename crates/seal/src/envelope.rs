//! The sealed fields of both envelopes, as text: borrowed from JSON, or owned by who made them.

use std::fmt;

/// The base64 fields of a request that sealing is about, borrowed from its envelope.
#[derive(Clone, Copy)]
pub struct RequestParts<'a> {
    /// AES-256-GCM ciphertext, the 16-byte tag appended.
    pub ciphertext: &'a str,
    /// 12 bytes.
    pub nonce: &'a str,
    /// 16 bytes.
    pub salt: &'a str,
    /// 32 bytes, X25519.
    pub client_dh_public_key: &'a str,
    /// 32 bytes, X25519.
    pub node_dh_public_key: &'a str,
    /// 32 bytes, BLAKE2b-256 of the plaintext.
    pub plaintext_body_hash: &'a str,
}

/// A request that [`seal_request`](crate::seal_request) made; its fields are those of
/// [`RequestParts`].
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "described at RequestParts")]
pub struct SealedRequest {
    pub ciphertext: String,
    pub nonce: String,
    pub salt: String,
    pub client_dh_public_key: String,
    pub node_dh_public_key: String,
    pub plaintext_body_hash: String,
}

/// The base64 fields of a response that sealing is about, borrowed from its envelope.
#[derive(Clone, Copy)]
pub struct ResponseParts<'a> {
    /// AES-256-GCM ciphertext, the 16-byte tag appended.
    pub ciphertext: &'a str,
    /// 12 bytes.
    pub nonce: &'a str,
    /// 32 bytes, BLAKE2b-256 of the plaintext.
    pub response_hash: &'a str,
    /// 97 bytes, 0x00 ‖ Ed25519 signature over the 32 bytes of `response_hash` ‖ public key.
    pub signature: &'a str,
    /// 64 bytes, see [`Receipt`](crate::Receipt); other nodes of this protocol send none.
    pub receipt: Option<&'a str>,
}

/// A response that [`Responder::seal`](crate::Responder::seal) made; its fields are those of
/// [`ResponseParts`], and there is always a receipt.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "described at ResponseParts")]
pub struct SealedResponse {
    pub ciphertext: String,
    pub nonce: String,
    pub response_hash: String,
    pub signature: String,
    pub receipt: String,
}

impl SealedRequest {
    /// The same fields, borrowed.
    pub fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            ciphertext: &self.ciphertext,
            nonce: &self.nonce,
            salt: &self.salt,
            client_dh_public_key: &self.client_dh_public_key,
            node_dh_public_key: &self.node_dh_public_key,
            plaintext_body_hash: &self.plaintext_body_hash,
        }
    }
}

impl SealedResponse {
    /// The same fields, borrowed.
    pub fn parts(&self) -> ResponseParts<'_> {
        ResponseParts {
            ciphertext: &self.ciphertext,
            nonce: &self.nonce,
            response_hash: &self.response_hash,
            signature: &self.signature,
            receipt: Some(&self.receipt),
        }
    }
}

// The unsalted hash of a short prompt can be guessed, and a ciphertext may be megabytes: neither
// belongs in a log.

impl fmt::Debug for RequestParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestParts({} base64 characters)", self.ciphertext.len())
    }
}

impl fmt::Debug for SealedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedRequest({} base64 characters)", self.ciphertext.len())
    }
}

impl fmt::Debug for ResponseParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseParts({} base64 characters)", self.ciphertext.len())
    }
}

impl fmt::Debug for SealedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedResponse({} base64 characters)", self.ciphertext.len())
    }
}
