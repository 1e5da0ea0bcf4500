//! The client's half: sealing a request, opening its response.

use std::fmt;

use protocol::{ConfidentialComputeRequest, ConfidentialComputeResponse};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{
    cipher::NONCE_BYTES,
    encoding::{decode_array, decode_bounded, encode},
    error::{ResponseError, SealError, SignatureError},
    exchange::{self, Exchange, SALT_BYTES},
    hash::blake2b_256,
    padding,
    plaintext::Plaintext,
    random,
    receipt::Receipt,
    sui::{SuiPublicKey, SuiSignature},
};

/// Seals a JSON body to a node's X25519 key with a fresh client key, salt and nonce, and gives with
/// it the one opener for its response.
///
/// What the envelope says beside the sealed fields, the model and the rest of what is there for routing, is
/// empty, and the caller's to fill in: `ConfidentialComputeRequest { model_name, ..sealed }`.
///
/// The body is padded as responses are, so its length does not tell the prompt's. Its hash travels
/// in the clear and unsalted, as version 1 of the protocol has it: a caller with a guessable prompt
/// puts a random field into the body.
pub fn seal_request(
    node_public: &[u8; 32],
    body: Zeroizing<Vec<u8>>,
) -> Result<(ConfidentialComputeRequest, Opener), SealError> {
    wipe::stack(|| {
        let fresh = ClientSecrets {
            exchange: StaticSecret::from(*random::secret()?),
            salt: random::public()?,
            nonce: random::public()?,
        };
        seal_exact(node_public, padding::pad(body), fresh)
    })
}

/// What a client draws for one request.
pub(crate) struct ClientSecrets {
    pub(crate) exchange: StaticSecret,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) nonce: [u8; NONCE_BYTES],
}

/// Seals exactly these bytes with exactly these secrets.
pub(crate) fn seal_exact(
    node_public: &[u8; 32],
    mut body: Zeroizing<Vec<u8>>,
    secrets: ClientSecrets,
) -> Result<(ConfidentialComputeRequest, Opener), SealError> {
    let ClientSecrets { exchange: secret, salt, nonce } = secrets;
    let key = exchange::agree(&secret, node_public, &salt).ok_or(SealError::NodeKeyUnusable)?;
    let client_public = PublicKey::from(&secret).to_bytes();
    let (request_hash, body_bytes) = (blake2b_256(&body), body.len());
    key.seal_in_place(&nonce, &mut body).map_err(|_| SealError::BodyTooLong { body_bytes })?;

    let request = ConfidentialComputeRequest {
        ciphertext: encode(&*body),
        client_dh_public_key: encode(client_public),
        model_name: String::new(),
        node_dh_public_key: encode(node_public),
        nonce: encode(nonce),
        num_compute_units: None,
        plaintext_body_hash: encode(request_hash),
        salt: encode(salt),
        stack_small_id: 0,
        stream: None,
    };
    let exchange = Exchange {
        key,
        request_nonce: nonce,
        request_hash,
        client_public,
        node_public: *node_public,
    };
    Ok((request, Opener { exchange }))
}

/// Opens the response to one request.
pub struct Opener {
    exchange: Exchange,
}

/// What a verified attestation says of the node a request was sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attested {
    /// The node's Ed25519 public key.
    pub signing_key: [u8; 32],
    /// The digest of the attested keyset.
    pub keyset_digest: [u8; 32],
    /// The digest of the model's manifest.
    pub model_manifest: [u8; 32],
}

/// A response, and what is known of it.
#[derive(Debug)]
pub struct Opened {
    /// The JSON body, followed by the spaces that padded it.
    pub body: Plaintext,
    /// Everything below was checked.
    pub verified: Verified,
}

/// What held when a response was opened: its tag under the key agreed for this request, its hash,
/// and the signature over the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// BLAKE2b-256 of the request's plaintext.
    pub request_hash: [u8; 32],
    /// BLAKE2b-256 of the response's plaintext, padding included.
    pub response_hash: [u8; 32],
    /// The Ed25519 key that signed the response.
    pub signing_key: [u8; 32],
    /// Where it is there, the key that signed is the attested one, and the receipt ties this request
    /// and response to the attested keyset and model. Without it, anyone who could seal the response
    /// could have signed it.
    pub attested: Option<Attested>,
}

impl Opener {
    /// Opens the response of a node whose attestation was verified: besides what
    /// [`open_unattested`](Opener::open_unattested) checks, the signing key must be the attested
    /// one, and the receipt must be there and hold.
    pub fn open_attested(
        self,
        response: &ConfidentialComputeResponse,
        attested: &Attested,
    ) -> Result<Opened, ResponseError> {
        self.open_checked(response, Some(attested))
    }

    /// Opens the response of a node that nothing is known of. That it decrypts shows that its maker
    /// holds the X25519 secret the request was sealed to, and no more.
    pub fn open_unattested(
        self,
        response: &ConfidentialComputeResponse,
    ) -> Result<Opened, ResponseError> {
        self.open(response)
    }

    pub(crate) fn open_checked(
        &self,
        response: &ConfidentialComputeResponse,
        attested: Option<&Attested>,
    ) -> Result<Opened, ResponseError> {
        let mut opened = self.open(response)?;
        let Some(attested) = attested else { return Ok(opened) };
        let found = opened.verified.signing_key;
        if found != attested.signing_key {
            return Err(ResponseError::UnexpectedSigner { found });
        }
        self.check_receipt(response, &opened.verified, attested)?;
        opened.verified.attested = Some(*attested);
        Ok(opened)
    }

    fn open(&self, response: &ConfidentialComputeResponse) -> Result<Opened, ResponseError> {
        wipe::stack(|| self.open_here(response))
    }

    /// Leaves the key and plaintext on the stack.
    fn open_here(&self, response: &ConfidentialComputeResponse) -> Result<Opened, ResponseError> {
        let (Some(response_hash), Some(signature)) = (&response.response_hash, &response.signature)
        else {
            return Err(ResponseError::Unsigned);
        };
        let nonce = field("nonce", decode_array(&response.nonce))?;
        let response_hash: [u8; 32] = field("response_hash", decode_array(response_hash))?;
        let ciphertext = field("ciphertext", decode_bounded(&response.ciphertext, usize::MAX))?;
        if nonce == self.exchange.request_nonce {
            return Err(ResponseError::ReflectedNonce);
        }
        let mut body = Zeroizing::new(ciphertext);
        self.exchange
            .key
            .open_in_place(&nonce, &mut body)
            .map_err(|_| ResponseError::Decryption)?;
        if !bool::from(blake2b_256(&body).ct_eq(&response_hash)) {
            return Err(ResponseError::HashMismatch);
        }
        let verified = Verified {
            request_hash: self.exchange.request_hash,
            response_hash,
            signing_key: signer_of(signature, &response_hash)?,
            attested: None,
        };
        Ok(Opened { body: Plaintext::new(body), verified })
    }

    fn check_receipt(
        &self,
        response: &ConfidentialComputeResponse,
        verified: &Verified,
        attested: &Attested,
    ) -> Result<(), ResponseError> {
        let text = response.receipt.as_deref().ok_or(ResponseError::ReceiptMissing)?;
        let signature = field("receipt", decode_array(text))?;
        let receipt = Receipt {
            request_hash: verified.request_hash,
            response_hash: verified.response_hash,
            client_public: self.exchange.client_public,
            node_public: self.exchange.node_public,
            model_manifest: attested.model_manifest,
            keyset_digest: attested.keyset_digest,
        };
        if !receipt.is_signed_by(&attested.signing_key, &signature) {
            return Err(ResponseError::ReceiptInvalid);
        }
        Ok(())
    }
}

/// The Ed25519 key whose signature over `response_hash` this is.
fn signer_of(signature: &str, response_hash: &[u8; 32]) -> Result<[u8; 32], SignatureError> {
    let signature = SuiSignature::from_base64(signature)?;
    signature.verify(response_hash)?;
    match signature.public_key() {
        SuiPublicKey::Ed25519(key) => Ok(*key),
        _ => Err(SignatureError::NotEd25519),
    }
}

fn field<T>(field: &'static str, decoded: Option<T>) -> Result<T, ResponseError> {
    decoded.ok_or(ResponseError::Malformed { field })
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}
