//! Signatures in Sui's layout: flag ‖ signature ‖ public key.
//!
//! | flag | scheme | signature | public key | signed |
//! |---|---|---|---|---|
//! | 0x00 | Ed25519 (RFC 8032) | 64 bytes | 32 bytes | the message |
//! | 0x01 | ECDSA on secp256k1 (SEC 1) | r ‖ s, 64 bytes | 33 bytes, compressed | SHA-256 of the message |
//! | 0x02 | ECDSA on secp256r1 (FIPS 186-5) | r ‖ s, 64 bytes | 33 bytes, compressed | SHA-256 of the message |
//!
//! ECDSA signatures with s above half the group order are refused on both curves. From (r, s) anyone
//! makes (r, n - s), which verifies as well; Sui's own verifier accepts only the lower of the two,
//! and its wallets make no other. To follow it leaves each signature one form, so a copy of it is
//! known as a copy, and costs no signer anything.

use std::fmt;

use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey as Ed25519Key};
use k256::ecdsa::signature::Verifier;

use crate::{encoding::decode_bounded, error::SignatureError, hash::blake2b_256_of};

const SIGNATURE_BYTES: usize = 64;
/// Longer than every layout: what is beyond it is no signature, and is not decoded.
const MAX_BYTES: usize = 128;

/// A well-formed signature and the key that is said to have made it. It is worth something only
/// after [`verify`](SuiSignature::verify), from a key that is trusted for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuiSignature {
    signature: [u8; SIGNATURE_BYTES],
    public_key: SuiPublicKey,
}

impl SuiSignature {
    /// From a header or field.
    pub fn from_base64(text: &str) -> Result<Self, SignatureError> {
        let bytes = decode_bounded(text, MAX_BYTES).ok_or(SignatureError::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// From flag ‖ signature ‖ public key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let (&flag, rest) = split_flag(bytes)?;
        let (signature, key) = rest.split_at(SIGNATURE_BYTES.min(rest.len()));
        Ok(Self { signature: sized(signature)?, public_key: SuiPublicKey::new(flag, key)? })
    }

    pub(crate) fn ed25519(signature: Ed25519Signature, key: &Ed25519Key) -> Self {
        Self { signature: signature.to_bytes(), public_key: SuiPublicKey::Ed25519(key.to_bytes()) }
    }

    /// flag ‖ signature ‖ public key.
    pub fn to_bytes(&self) -> Vec<u8> {
        let key = self.public_key.as_bytes();
        [&[self.public_key.flag()], self.signature.as_slice(), key].concat()
    }

    /// The key that is said to have signed.
    pub fn public_key(&self) -> &SuiPublicKey {
        &self.public_key
    }

    /// Whether the key it carries signed this message.
    pub fn verify(&self, message: &[u8]) -> Result<(), SignatureError> {
        match &self.public_key {
            SuiPublicKey::Ed25519(key) => verify_ed25519(key, &self.signature, message),
            SuiPublicKey::Secp256k1(key) => verify_secp256k1(key, &self.signature, message),
            SuiPublicKey::Secp256r1(key) => verify_secp256r1(key, &self.signature, message),
        }
    }
}

/// A public key of one of the schemes, by the bytes of its one encoding. Whether they are a point
/// of the curve is found when a signature is verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum SuiPublicKey {
    /// Flag 0x00.
    Ed25519([u8; 32]),
    /// Flag 0x01, compressed.
    Secp256k1([u8; 33]),
    /// Flag 0x02, compressed.
    Secp256r1([u8; 33]),
}

impl SuiPublicKey {
    /// From flag ‖ public key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let (&flag, key) = split_flag(bytes)?;
        Self::new(flag, key)
    }

    /// Its Sui address: BLAKE2b-256(flag ‖ public key).
    pub fn address(&self) -> SuiAddress {
        SuiAddress(blake2b_256_of(&[&[self.flag()], self.as_bytes()]))
    }

    fn new(flag: u8, key: &[u8]) -> Result<Self, SignatureError> {
        match flag {
            0 => Ok(Self::Ed25519(sized(key)?)),
            1 => Ok(Self::Secp256k1(compressed(sized(key)?)?)),
            2 => Ok(Self::Secp256r1(compressed(sized(key)?)?)),
            flag => Err(SignatureError::UnknownScheme { flag }),
        }
    }

    fn flag(&self) -> u8 {
        match self {
            Self::Ed25519(_) => 0,
            Self::Secp256k1(_) => 1,
            Self::Secp256r1(_) => 2,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key,
            Self::Secp256k1(key) | Self::Secp256r1(key) => key,
        }
    }
}

/// A Sui address, which names a public key of any scheme.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SuiAddress(pub [u8; 32]);

impl fmt::Display for SuiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SuiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SuiAddress({self})")
    }
}

impl fmt::Debug for SuiPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SuiPublicKey(flag {}, address {})", self.flag(), self.address())
    }
}

/// RFC 8032 §5.1.7, and no key or R of small order: those hold for messages nobody signed.
fn verify_ed25519(
    key: &[u8; 32],
    signature: &[u8; SIGNATURE_BYTES],
    message: &[u8],
) -> Result<(), SignatureError> {
    Ed25519Key::from_bytes(key)
        .map_err(|_| SignatureError::UnusableKey)?
        .verify_strict(message, &Ed25519Signature::from_bytes(signature))
        .map_err(|_| SignatureError::Mismatch)
}

fn verify_secp256k1(
    key: &[u8; 33],
    signature: &[u8; SIGNATURE_BYTES],
    message: &[u8],
) -> Result<(), SignatureError> {
    use k256::ecdsa::{Signature, VerifyingKey};
    let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| SignatureError::UnusableKey)?;
    let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Mismatch)?;
    if signature.normalize_s() != signature {
        return Err(SignatureError::HighS);
    }
    key.verify(message, &signature).map_err(|_| SignatureError::Mismatch)
}

fn verify_secp256r1(
    key: &[u8; 33],
    signature: &[u8; SIGNATURE_BYTES],
    message: &[u8],
) -> Result<(), SignatureError> {
    use p256::ecdsa::{Signature, VerifyingKey};
    let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| SignatureError::UnusableKey)?;
    let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Mismatch)?;
    if signature.normalize_s() != signature {
        return Err(SignatureError::HighS);
    }
    key.verify(message, &signature).map_err(|_| SignatureError::Mismatch)
}

/// Only SEC 1's compressed form (§2.3.3): its 33 bytes begin with the parity of y. The curve crates
/// also read other forms, which would give one key two addresses.
fn compressed(key: [u8; 33]) -> Result<[u8; 33], SignatureError> {
    match key[0] {
        0x02 | 0x03 => Ok(key),
        _ => Err(SignatureError::UnusableKey),
    }
}

fn split_flag(bytes: &[u8]) -> Result<(&u8, &[u8]), SignatureError> {
    bytes.split_first().ok_or(SignatureError::WrongLength { expected_bytes: 1, found_bytes: 0 })
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SignatureError> {
    bytes
        .try_into()
        .map_err(|_| SignatureError::WrongLength { expected_bytes: N, found_bytes: bytes.len() })
}
