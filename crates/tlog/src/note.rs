//! Signed texts and the keys that sign them (C2SP `signed-note`, `tlog-cosignature`).
//!
//! ```text
//! key's hash  = first 4 bytes of SHA-256(name ‖ "\n" ‖ algorithm ‖ public key)
//! verifier    = NAME+HASH in hex+BASE64(algorithm ‖ public key)
//! log, 0x01   : Ed25519 over the text
//! witness, 0x04: Ed25519 over "cosignature/v1\ntime SECONDS\n" ‖ text; the 8 bytes of SECONDS before it
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::error::TlogError;

const MAX_NAME_CHARS: usize = 100;
/// A checkpoint and more signatures than a log of ours ever has.
const MAX_NOTE_BYTES: usize = 16 * 1024;
const MAX_SIGNATURES: usize = 64;
const DASH: &str = "\u{2014} ";
const SECRET: &str = "PRIVATE+KEY+";

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// A log's own checkpoints.
    Log,
    /// Checkpoints of logs that it watches, with the time.
    Witness,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Log, Self::Witness].into_iter().find(|one| one.byte() == byte)
    }
}

/// Whose signatures are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The name beside its signatures.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether whoever holds one key holds the other, whatever they are called.
    #[must_use]
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }

    fn hash(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update(b"\n")
            .chain_update([self.algorithm.byte()])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// When a witness signed, in seconds since 1970, or zero for a log; `None` where the signature is not this
    /// key's.
    fn verifies(&self, text: &str, signature: &[u8]) -> Option<u64> {
        let (time, signature) = match self.algorithm {
            Algorithm::Log => (None, signature),
            Algorithm::Witness => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                (Some(u64::from_be_bytes(*time)), signature)
            }
        };
        let signature = Signature::from_slice(signature).ok()?;
        self.key.verify_strict(&signed_bytes(time, text), &signature).ok()?;
        Some(time.unwrap_or(0))
    }
}

impl FromStr for VerifierKey {
    type Err = TlogError;

    fn from_str(text: &str) -> Result<Self, TlogError> {
        let read = || {
            let (name, rest) = text.split_once('+')?;
            let (hash, encoded) = rest.split_once('+')?;
            let bytes = BASE64.decode(encoded).ok()?;
            let (algorithm, key) = bytes.split_first()?;
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
            let algorithm = Algorithm::from_byte(*algorithm)?;
            let read = Self { name: checked(name).ok()?, algorithm, key };
            (hex(read.hash()) == hash).then_some(read)
        };
        read().ok_or(TlogError::VerifierKey)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.algorithm.byte()][..], self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, hex(self.hash()), BASE64.encode(key))
    }
}

/// A key that signs. It prints as nothing.
pub struct SecretKey {
    public: VerifierKey,
    key: SigningKey,
}

impl SecretKey {
    /// From 32 random bytes.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn new(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Result<Self, TlogError> {
        let key = SigningKey::from_bytes(seed);
        let public = VerifierKey { name: checked(name)?, algorithm, key: key.verifying_key() };
        Ok(Self { public, key })
    }

    /// Reads what [`SecretKey::reveal`] wrote.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, TlogError> {
        let read = || {
            let (name, rest) = text.trim_end().strip_prefix(SECRET)?.split_once('+')?;
            let (hash, encoded) = rest.split_once('+')?;
            let bytes = BASE64.decode(encoded).ok()?;
            let (algorithm, seed) = bytes.split_first()?;
            let algorithm = Algorithm::from_byte(*algorithm)?;
            let read = Self::new(name, algorithm, seed.try_into().ok()?).ok()?;
            (hex(read.public.hash()) == hash).then_some(read)
        };
        read().ok_or(TlogError::SecretKey)
    }

    /// As it is kept in a file that only its owner reads.
    #[must_use]
    pub fn reveal(&self) -> String {
        let key = [&[self.public.algorithm.byte()][..], self.key.as_bytes()].concat();
        let hash = hex(self.public.hash());
        format!("{SECRET}{}+{hash}+{}\n", self.public.name, BASE64.encode(key))
    }

    /// The key that verifies.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// The line that signs a text; a witness signs the time too, in seconds since 1970.
    fn line(&self, text: &str, now_secs: u64) -> String {
        let time = (self.public.algorithm == Algorithm::Witness).then_some(now_secs);
        let signature = self.key.sign(&signed_bytes(time, text)).to_bytes();
        let time = time.map(u64::to_be_bytes);
        let time = time.as_ref().map_or(&[][..], |bytes| bytes);
        let signed = [&self.public.hash()[..], time, &signature].concat();
        format!("{DASH}{} {}\n", self.public.name, BASE64.encode(signed))
    }
}

/// A text and its signatures, none of them believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    /// Name, hash of the key, and the rest.
    signatures: Vec<(String, [u8; 4], Vec<u8>)>,
    signed: String,
}

impl Note {
    /// A text that one key signed. It ends with a newline.
    ///
    /// # Errors
    /// Where the text cannot be signed.
    pub fn sign(text: &str, key: &SecretKey, now_secs: u64) -> Result<Self, TlogError> {
        Self::parse(&format!("{text}\n{}", key.line(text, now_secs)))
    }

    /// The same, signed by one more.
    ///
    /// # Errors
    /// Where it has as many signatures as are read.
    pub fn cosign(&self, key: &SecretKey, now_secs: u64) -> Result<Self, TlogError> {
        Self::parse(&format!("{}{}", self.signed, key.line(&self.text, now_secs)))
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(note: &str) -> Result<Self, TlogError> {
        Self::read(note).ok_or(TlogError::Note)
    }

    fn read(note: &str) -> Option<Self> {
        let control = |c: char| c.is_control() && c != '\n';
        if note.len() > MAX_NOTE_BYTES || note.contains(control) {
            return None;
        }
        // Signatures hold no empty line.
        let at = note.rfind("\n\n")?;
        let (text, lines) = (&note[..=at], note[at + 2..].strip_suffix('\n')?);
        let signatures: Vec<_> = lines.split('\n').map(signature).collect::<Option<_>>()?;
        (signatures.len() <= MAX_SIGNATURES).then(|| Self {
            text: text.to_owned(),
            signatures,
            signed: note.to_owned(),
        })
    }

    /// The text, if this key signed it, and when, where a witness did.
    ///
    /// # Errors
    /// Where it did not.
    pub fn signed_by(&self, key: &VerifierKey) -> Result<(&str, u64), TlogError> {
        let hash = key.hash();
        let own = self.signatures.iter().filter(|(name, of, _)| *name == key.name && *of == hash);
        let mut times = own.map(|(.., signature)| key.verifies(&self.text, signature));
        // One that does not hold is not made good by another.
        let first = times.next().flatten().filter(|_| times.all(|time| time.is_some()));
        let unsigned = || TlogError::Unsigned { name: key.name.clone() };
        Ok((&self.text, first.ok_or_else(unsigned)?))
    }

    /// As it is published.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.signed
    }
}

fn signature(line: &str) -> Option<(String, [u8; 4], Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = BASE64.decode(encoded).ok()?;
    let (hash, signature) = bytes.split_first_chunk::<4>()?;
    Some((checked(name).ok()?, *hash, signature.to_vec()))
}

fn signed_bytes(time: Option<u64>, text: &str) -> Vec<u8> {
    let head = time.map(|secs| format!("cosignature/v1\ntime {secs}\n")).unwrap_or_default();
    (head + text).into_bytes()
}

fn checked(name: &str) -> Result<String, TlogError> {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
    fits.then(|| name.to_owned()).ok_or(TlogError::Name)
}

fn hex(bytes: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str, algorithm: Algorithm) -> SecretKey {
        SecretKey::new(name, algorithm, &[7; 32]).unwrap()
    }

    /// The key and the note of the documentation of Go's golang.org/x/mod/sumdb/note.
    #[test]
    fn a_note_of_another_implementation_verifies() {
        let peter: VerifierKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let note = Note::parse(note).unwrap();
        assert!(note.signed_by(&peter).unwrap().0.starts_with("If you think"));
        assert_eq!(
            peter.to_string(),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
    }

    #[test]
    fn who_signed_is_known_and_who_did_not_is_not() {
        let (log, witness) = (key("log.example", Algorithm::Log), key("w", Algorithm::Witness));
        let note = Note::sign("a\nb\n", &log, 0).unwrap();
        assert_eq!(note.signed_by(log.public()).unwrap(), ("a\nb\n", 0));
        assert!(note.signed_by(witness.public()).is_err());
        let both = note.cosign(&witness, 1234).unwrap();
        assert_eq!(both.signed_by(witness.public()).unwrap().1, 1234);
        assert!(both.signed_by(log.public()).is_ok());
        let other = both.as_str().replacen('b', "c", 1);
        let other = Note::parse(&other).unwrap();
        assert!(
            other.signed_by(log.public()).is_err() && other.signed_by(witness.public()).is_err()
        );
        // The same key under another name, or for another use, is another.
        let named = key("other", Algorithm::Log);
        assert!(note.signed_by(named.public()).is_err());
        assert!(note.signed_by(key("log.example", Algorithm::Witness).public()).is_err());
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let log = key("log.example/a", Algorithm::Log);
        let public: VerifierKey = log.public().to_string().parse().unwrap();
        assert_eq!(public, *log.public());
        assert_eq!(SecretKey::parse(&log.reveal()).unwrap().public(), &public);
        let text = public.to_string();
        for refused in [
            text.replacen("log", "lag", 1),
            text.replacen('+', "", 1),
            text[..text.len() - 4].to_owned(),
            format!("{text} "),
            log.reveal(),
        ] {
            assert!(refused.parse::<VerifierKey>().is_err(), "{refused}");
        }
        assert!(SecretKey::parse(&text).is_err());
        for name in ["", "a b", "a+b", "ä", &"a".repeat(101)] {
            assert!(SecretKey::new(name, Algorithm::Log, &[7; 32]).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_note_is_read_or_refused(text in "(a|\n|\u{2014} | |[A-Za-z0-9+/]{0,12}={0,2}){0,12}") {
            if let Ok(note) = Note::parse(&text) {
                prop_assert!(note.signed_by(key("a", Algorithm::Log).public()).is_err());
            }
        }
    }
}
