//! What was asked for, as a digest that tells nothing until its salt is told.
//!
//! ```text
//! commitment = SHA-256("obscura/commitment/v1\0" ‖ salt ‖ JSON)      22 + 32 bytes + JSON
//! JSON       = {"guidance":null,"prompt":"…","seed":"7","size":"256x256","steps":4}
//!              {"guidance":null,"images":["<SHA-256 of a file>",…],"prompt":…}     of an edit, in their order
//!              {"guidance":null,"images":[…],"mask":"<SHA-256 of its file>","prompt":…}   of one under a mask
//! ```
//! The JSON is canonical (RFC 8785): keys in their order, no white space, UTF-8, only the escapes that
//! JSON asks for. Seeds are texts, since JSON's numbers end at 2⁵³; so are guidance scales, in the
//! fewest digits that give the same f32 back; `null` is the model's own.

use std::io::Write;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{ProvenanceError, hex};

const DOMAIN: &[u8] = b"obscura/commitment/v1\0";
/// The longest that JSON writes a byte of a text.
const ESCAPED_BYTES: usize = 6;
/// Names and numbers.
const AROUND_BYTES: usize = 170;
/// A digest in quotes, and a comma.
const DIGEST_BYTES: usize = 67;

/// 32 random bytes, without which nobody can try prompts against a commitment. Wiped when dropped.
pub struct Salt([u8; 32]);

impl Salt {
    /// A fresh one from the operating system.
    ///
    /// # Errors
    /// Where it gives no randomness.
    pub fn fresh() -> Result<Self, ProvenanceError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| ProvenanceError::NoKey)?;
        Ok(Self(bytes))
    }

    /// One that a client chose.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn from_hex(text: &str) -> Result<Self, ProvenanceError> {
        hex::decode(text).map(Self).ok_or(ProvenanceError::InvalidSalt)
    }

    /// As 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(&self.0))
    }
}

impl Drop for Salt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Everything besides the model that decides what an image shows.
pub struct Drawing<'a> {
    /// As it was drawn: with a style's suffix, where there was one.
    pub prompt: &'a str,
    /// This image's own.
    pub seed: u64,
    /// In pixels.
    pub width_px: u32,
    /// In pixels.
    pub height_px: u32,
    /// Of the sampler.
    pub steps: usize,
    /// The scale, where one was asked for.
    pub guidance: Option<f32>,
    /// Of an edit: SHA-256 of each input image's file, in their order.
    pub inputs: &'a [[u8; 32]],
    /// Of an edit under a mask: SHA-256 of the mask's file.
    pub mask: Option<&'a [u8; 32]>,
}

impl Drawing<'_> {
    /// The digest.
    #[must_use]
    pub fn commitment(&self, salt: &Salt) -> [u8; 32] {
        Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(salt.0)
            .chain_update(&*self.canonical_json())
            .finalize()
            .into()
    }

    fn canonical_json(&self) -> Zeroizing<Vec<u8>> {
        let Self { prompt, seed, width_px, height_px, steps, guidance, inputs, mask } = self;
        let digests = inputs.len() + usize::from(mask.is_some());
        let room = AROUND_BYTES + ESCAPED_BYTES * prompt.len() + DIGEST_BYTES * digests;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        let guidance = guidance.map_or_else(|| "null".to_owned(), |scale| format!("\"{scale}\""));
        let digests: Vec<_> = inputs.iter().map(|digest| hex::encode(digest)).collect();
        let images = match inputs {
            [] => String::new(),
            _ => format!("\"images\":[\"{}\"],", digests.join("\",\"")),
        };
        let mask = mask
            .map_or_else(String::new, |digest| format!("\"mask\":\"{}\",", hex::encode(digest)));
        let written = write!(json, "{{\"guidance\":{guidance},{images}{mask}\"prompt\":")
            .and_then(|()| serde_json::to_writer(&mut *json, prompt).map_err(Into::into))
            .and_then(|()| {
                write!(
                    json,
                    ",\"seed\":\"{seed}\",\"size\":\"{width_px}x{height_px}\",\"steps\":{steps}}}"
                )
            });
        written.expect("a vector takes every byte, and a text is JSON");
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(prompt: &str) -> Drawing<'_> {
        Drawing {
            prompt,
            seed: u64::MAX,
            width_px: 256,
            height_px: 128,
            steps: 4,
            guidance: None,
            inputs: &[],
            mask: None,
        }
    }

    /// The digest is of `hashlib.sha256` over `json.dumps(…, ensure_ascii=False, sort_keys=True,
    /// separators=(",", ":"))` in Python.
    #[test]
    fn another_implementation_commits_alike() {
        let asked = Drawing { guidance: Some(3.5), ..drawing("a \"red\" 狐\n\u{1}\u{7f}/") };
        let json = "{\"guidance\":\"3.5\",\"prompt\":\"a \\\"red\\\" 狐\\n\\u0001\u{7f}/\",\
            \"seed\":\"18446744073709551615\",\"size\":\"256x128\",\"steps\":4}";
        assert_eq!(asked.canonical_json().as_slice(), json.as_bytes());
        let digest = hex::encode(&asked.commitment(&Salt::from_bytes([7; 32])));
        assert_eq!(digest, "e1ba60f96531195af7aa3bee19cdb65aa1c0d4101e2f73d5d5395397cd7949f0");

        let edit = Drawing { inputs: &[[1; 32], [0xab; 32]], ..drawing("a") };
        let json = format!(
            "{{\"guidance\":null,\"images\":[\"{}\",\"{}\"],\"prompt\":\"a\",\
            \"seed\":\"18446744073709551615\",\"size\":\"256x128\",\"steps\":4}}",
            "01".repeat(32),
            "ab".repeat(32)
        );
        assert_eq!(edit.canonical_json().as_slice(), json.as_bytes());
        let masked = Drawing { mask: Some(&[0xcd; 32]), ..edit };
        let json = json.replace("],", &format!("],\"mask\":\"{}\",", "cd".repeat(32)));
        assert_eq!(masked.canonical_json().as_slice(), json.as_bytes());
    }

    #[test]
    fn every_part_counts() {
        let salt = Salt::from_bytes([1; 32]);
        let base = drawing("a fox").commitment(&salt);
        let others = [
            drawing("a fox "),
            Drawing { seed: 1, ..drawing("a fox") },
            Drawing { width_px: 128, ..drawing("a fox") },
            Drawing { height_px: 256, ..drawing("a fox") },
            Drawing { steps: 5, ..drawing("a fox") },
            Drawing { guidance: Some(0.0), ..drawing("a fox") },
            Drawing { inputs: &[[1; 32]], ..drawing("a fox") },
            Drawing { inputs: &[[1; 32], [2; 32]], ..drawing("a fox") },
            Drawing { inputs: &[[2; 32], [1; 32]], ..drawing("a fox") },
            Drawing { inputs: &[[1; 32]], mask: Some(&[2; 32]), ..drawing("a fox") },
        ];
        for other in others {
            assert_ne!(other.commitment(&salt), base);
        }
        assert_ne!(drawing("a fox").commitment(&Salt::from_bytes([2; 32])), base);
    }

    #[test]
    fn the_longest_text_fits_where_it_is_written() {
        let prompt = "\u{1}".repeat(1000);
        let inputs = [[0; 32]; 4];
        let guidance = Some(f32::MIN_POSITIVE);
        let asked = Drawing { guidance, inputs: &inputs, mask: Some(&[0; 32]), ..drawing(&prompt) };
        let json = asked.canonical_json();
        let room = AROUND_BYTES + ESCAPED_BYTES * prompt.len() + DIGEST_BYTES * 5;
        assert!(json.len() <= room);
    }

    #[test]
    fn a_salt_is_64_digits() {
        let salt = Salt::fresh().unwrap();
        let text = salt.to_hex();
        assert_eq!(Salt::from_hex(&text).unwrap().0, salt.0);
        for wrong in ["", &text[1..], &text.replace(char::is_numeric, "A"), &"é".repeat(32)] {
            assert!(Salt::from_hex(wrong).is_err());
        }
    }
}
