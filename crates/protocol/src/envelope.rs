//! The encrypted envelope, as the OpenAPI document of atoma-proxy 0.1.0 gives it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Delivery, ErrorObject, ImageRequest, InvalidParameter, Usage};

/// A request that only the node can read. Binary fields are standard, padded base64; they are
/// decoded, with their lengths checked, where they are opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfidentialComputeRequest {
    /// The sealed body, tag included.
    pub ciphertext: String,
    /// The client's X25519 public key, 32 bytes.
    pub client_dh_public_key: String,
    /// The model asked for, in clear text, for routing.
    pub model_name: String,
    /// The node's X25519 public key that the body is sealed to, 32 bytes.
    pub node_dh_public_key: String,
    /// The AES-GCM nonce, 12 bytes.
    pub nonce: String,
    /// Pixels to make, n × width × height, where the client counts them.
    #[serde(default)]
    pub num_compute_units: Option<u64>,
    /// BLAKE2b-256 of the body before sealing, 32 bytes.
    pub plaintext_body_hash: String,
    /// The HKDF salt, 16 bytes.
    pub salt: String,
    /// The proxy's billing stack; nothing to this node.
    pub stack_small_id: u64,
    /// Whether the answer is to be an event stream.
    #[serde(default)]
    pub stream: Option<bool>,
}

impl ConfidentialComputeRequest {
    /// Compares what the envelope says in clear text with what was sealed inside it. AES-GCM binds
    /// none of these fields in version 1 of the wire, so a proxy could have changed them.
    ///
    /// # Errors
    /// Names the field that differs.
    pub fn check_binding(&self, request: &ImageRequest) -> Result<(), InvalidParameter> {
        if self.model_name != request.model {
            return Err(InvalidParameter::ModelMismatch);
        }
        if self.num_compute_units.is_some_and(|units| units != request.pixels()) {
            return Err(InvalidParameter::UnitsMismatch);
        }
        if self.stream.unwrap_or(false) != (request.delivery != Delivery::Whole) {
            return Err(InvalidParameter::StreamMismatch);
        }
        Ok(())
    }
}

/// A response that only the client can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfidentialComputeResponse {
    /// The sealed body, tag included.
    pub ciphertext: String,
    /// The AES-GCM nonce, 12 bytes, never the request's.
    pub nonce: String,
    /// BLAKE2b-256 of the body before sealing, padding included.
    pub response_hash: Option<String>,
    /// `0x00 ‖ Ed25519 signature over the 32 hash bytes ‖ public key`, 97 bytes.
    pub signature: Option<String>,
    /// What the request is billed by; absent where nothing was made.
    pub usage: Option<Usage>,
    /// Our extension: a signature that binds request, response, keys, model and keyset. Clients
    /// that do not know it ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

impl ConfidentialComputeResponse {
    /// The envelope as JSON. Base64 needs no escapes, so that megabytes of ciphertext are copied as they
    /// are into a buffer of the right size.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        const INFALLIBLE: &str = "strings and numbers always serialise";
        const BEGINNING: &str = r#"{"ciphertext":""#;
        let needs_escapes = self
            .ciphertext
            .bytes()
            // All of it, whatever is found: a loop that cannot end early works on many bytes at a time.
            .fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
        let around = Self {
            ciphertext: String::new(),
            nonce: self.nonce.clone(),
            response_hash: self.response_hash.clone(),
            signature: self.signature.clone(),
            usage: self.usage,
            receipt: self.receipt.clone(),
        };
        let around = serde_json::to_vec(&around).expect(INFALLIBLE);
        match around.strip_prefix(BEGINNING.as_bytes()) {
            Some(rest) if !needs_escapes => {
                [BEGINNING.as_bytes(), self.ciphertext.as_bytes(), rest].concat()
            }
            _ => serde_json::to_vec(self).expect(INFALLIBLE),
        }
    }
}

// The unsalted hash of a short prompt can be guessed, and a ciphertext may be megabytes: neither belongs in a
// log.

impl fmt::Debug for ConfidentialComputeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfidentialComputeRequest({} base64 characters)", self.ciphertext.len())
    }
}

impl fmt::Debug for ConfidentialComputeResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfidentialComputeResponse({} base64 characters)", self.ciphertext.len())
    }
}

/// The answer to a request that was opened but breaks a rule: which rule is sealed like a response,
/// only the family of the error is in clear text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfidentialErrorResponse {
    /// An [`crate::ErrorBody`], sealed.
    #[serde(flatten)]
    pub envelope: ConfidentialComputeResponse,
    /// What everybody may read.
    pub error: ErrorObject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_written_as_serde_writes_it() {
        for ciphertext in ["", "AAAA+/8=", "no \"base64\"", "\u{1}", "\\", "狐"] {
            let envelope = ConfidentialComputeResponse {
                ciphertext: ciphertext.to_owned(),
                nonce: "AAAA".to_owned(),
                response_hash: Some("BBBB".to_owned()),
                signature: None,
                usage: Some(Usage::new(1, 2)),
                receipt: None,
            };
            assert_eq!(envelope.to_json(), serde_json::to_vec(&envelope).unwrap());
        }
    }
}
