//! A receipt for one image, that anybody can check who has the node's evidence.
//!
//! COSE_Sign1 of RFC 9052 §4.2, tagged, with its payload inside:
//!
//! ```text
//! protected    alg (1): EdDSA (-8)                      RFC 9053 §2.2, on Ed25519
//!              content type (3): "application/vnd.obscura.receipt+cbor"
//!              kid (4): the Ed25519 public key, 32 bytes
//! unprotected  empty
//! payload      {statement, pixels_sha256, file_sha256}   deterministic CBOR, RFC 8949 §4.2.1 without its order of keys
//! signature    Ed25519 over Sig_structure, whose first bytes ("Signature1") no other message of this key has
//! pixels_sha256 = SHA-256("obscura/pixels/v1\0" ‖ width ‖ height ‖ RGB)   u32 each, big-endian; rows from the top
//! ```
//! It is no receipt of a transparency log (draft-ietf-cose-merkle-tree-proofs): nobody keeps a log of
//! images. It names no request either: who keeps sealed requests could find the one by it.

use coset::{
    CoseSign1, CoseSign1Builder, HeaderBuilder, ProtectedHeader, TaggedCborSerializable,
    cbor::value::Value, iana::Algorithm,
};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::{
    cbor::{self, Entries, map},
    error::ProvenanceError,
    hex,
    statement::Statement,
};

/// The longest receipt that is read.
pub const MAX_RECEIPT_BYTES: usize = 4096;

const CONTENT_TYPE: &str = "application/vnd.obscura.receipt+cbor";
const PIXELS_DOMAIN: &[u8] = b"obscura/pixels/v1\0";
const WHAT: &str = "the receipt";

/// What a node says of an image, and which image that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who drew it, and what for.
    pub statement: Statement,
    /// Of the pixels as the model drew them, before a file lost any: [`pixels_digest`].
    pub pixels: [u8; 32],
    /// SHA-256 of the file that the client got.
    pub file: [u8; 32],
}

impl Receipt {
    /// Signs it: `sign` makes the Ed25519 signature of `signing_key` over the message it is given.
    ///
    /// # Errors
    /// What `sign` says.
    pub fn sign<E>(
        &self,
        signing_key: &[u8; 32],
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
    ) -> Result<Vec<u8>, E> {
        let payload = cbor::encode(&map([
            ("statement", self.statement.to_value()),
            ("pixels_sha256", Value::from(hex::encode(&self.pixels))),
            ("file_sha256", Value::from(hex::encode(&self.file))),
        ]));
        let signed = CoseSign1Builder::new()
            .protected(header(signing_key))
            .payload(payload)
            .try_create_signature(&[], |message| sign(message).map(Vec::from))?
            .build();
        Ok(signed.to_tagged_vec().expect("a header of ours is CBOR"))
    }
}

fn header(signing_key: &[u8; 32]) -> coset::Header {
    HeaderBuilder::new()
        .algorithm(Algorithm::EdDSA)
        .content_type(CONTENT_TYPE.to_owned())
        .key_id(signing_key.to_vec())
        .build()
}

/// A receipt whose signature is that of the key it names. Whose key that is, evidence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// What is signed.
    pub receipt: Receipt,
    /// Ed25519.
    pub signing_key: [u8; 32],
}

impl SignedReceipt {
    /// Reads a receipt and checks its signature, by RFC 8032's strict rules.
    ///
    /// # Errors
    /// Where it is too long, malformed, of another kind, or not signed by the key that it names.
    pub fn read(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        let malformed = ProvenanceError::Malformed { what: WHAT };
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(ProvenanceError::TooLong { what: WHAT, max_bytes: MAX_RECEIPT_BYTES });
        }
        // One encoding, down to what coset would pass over.
        cbor::decode(bytes, WHAT)?;
        let signed = CoseSign1::from_tagged_slice(bytes).map_err(|_| malformed)?;
        let signing_key: [u8; 32] =
            signed.protected.header.key_id.as_slice().try_into().map_err(|_| malformed)?;
        if !is_plain(&signed, &signing_key) {
            return Err(malformed);
        }
        let signature = <[u8; 64]>::try_from(signed.signature.as_slice()).map_err(|_| malformed)?;
        let holds = VerifyingKey::from_bytes(&signing_key).and_then(|key| {
            key.verify_strict(&signed.tbs_data(&[]), &Signature::from_bytes(&signature))
        });
        holds.map_err(|_| ProvenanceError::Signature { what: WHAT })?;
        let payload = cbor::decode(signed.payload.as_deref().unwrap_or_default(), WHAT)?;
        let mut entries = Entries::of(payload, WHAT)?;
        let receipt = Receipt {
            statement: Statement::from_value(entries.take("statement")?)?,
            pixels: entries.hex("pixels_sha256")?,
            file: entries.hex("file_sha256")?,
        };
        entries.end()?;
        Ok(Self { receipt, signing_key })
    }
}

/// Whether its headers are those of ours and nothing more.
fn is_plain(signed: &CoseSign1, signing_key: &[u8; 32]) -> bool {
    let expected = ProtectedHeader { original_data: None, header: header(signing_key) };
    let bytes = |protected: &ProtectedHeader| protected.clone().cbor_bstr().ok();
    signed.unprotected.is_empty()
        && bytes(&signed.protected).is_some()
        && bytes(&signed.protected) == bytes(&expected)
}

/// SHA-256 of an image's pixels, three bytes each, rows from the top.
#[must_use]
pub fn pixels_digest(width_px: u32, height_px: u32, rgb: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(PIXELS_DOMAIN)
        .chain_update(width_px.to_be_bytes())
        .chain_update(height_px.to_be_bytes())
        .chain_update(rgb)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn receipt() -> Receipt {
        Receipt { statement: crate::tests::statement(), pixels: [4; 32], file: [5; 32] }
    }

    fn signed_by(key: &SigningKey, named: &SigningKey) -> Vec<u8> {
        let sign = |message: &[u8]| Ok::<_, ProvenanceError>(key.sign(message).to_bytes());
        receipt().sign(&named.verifying_key().to_bytes(), sign).unwrap()
    }

    #[test]
    fn a_receipt_is_read_as_it_was_signed() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let bytes = signed_by(&key, &key);
        let read = SignedReceipt::read(&bytes).unwrap();
        assert_eq!(read.receipt, receipt());
        assert_eq!(read.signing_key, key.verifying_key().to_bytes());
        assert!(bytes.len() < 1200);
    }

    #[test]
    fn no_byte_may_change() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let bytes = signed_by(&key, &key);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(SignedReceipt::read(&changed).is_err(), "byte {place}");
            assert!(SignedReceipt::read(&bytes[..place]).is_err(), "cut at {place}");
        }
        let stranger = SigningKey::from_bytes(&[8; 32]);
        assert_eq!(
            SignedReceipt::read(&signed_by(&stranger, &key)),
            Err(ProvenanceError::Signature { what: WHAT })
        );
        let long = vec![0; MAX_RECEIPT_BYTES + 1];
        assert!(matches!(SignedReceipt::read(&long), Err(ProvenanceError::TooLong { .. })));
    }

    #[test]
    fn pixels_have_a_shape() {
        assert_ne!(pixels_digest(2, 1, &[0; 6]), pixels_digest(1, 2, &[0; 6]));
    }
}
