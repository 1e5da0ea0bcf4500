//! Provenance in requests and answers: what a client asks for, and what it gets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{InvalidParameter, SecretString};

/// What is to be said of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenanceKind {
    /// The client did not say: whatever the route does.
    Unsaid,
    /// Nothing.
    None,
    /// A receipt beside the image.
    Receipt,
    /// That, and an invisible mark in its pixels.
    Mark,
    /// A receipt, and a C2PA manifest in the image's file.
    C2pa,
    /// All three.
    C2paAndMark,
}

impl ProvenanceKind {
    /// Those that a request can name.
    pub const NAMES: &str = "none, receipt, mark, c2pa, c2pa+mark";

    /// Whether anything is said.
    #[must_use]
    pub fn has_receipt(self) -> bool {
        !matches!(self, Self::Unsaid | Self::None)
    }

    /// Whether a manifest is in the file.
    #[must_use]
    pub fn has_manifest(self) -> bool {
        matches!(self, Self::C2pa | Self::C2paAndMark)
    }

    /// Whether the pixels are marked.
    #[must_use]
    pub fn has_mark(self) -> bool {
        matches!(self, Self::Mark | Self::C2paAndMark)
    }
}

/// What a client wants said of its images. Holds a salt: no `Debug`, no `Clone`, wiped when dropped.
pub struct ProvenanceWish {
    /// How much.
    pub kind: ProvenanceKind,
    /// What commitments are salted with, where the client chose it.
    pub salt: Option<Zeroizing<[u8; 32]>>,
}

impl ProvenanceWish {
    pub(crate) fn parse(
        kind: Option<&str>,
        salt: Option<&SecretString>,
    ) -> Result<Self, InvalidParameter> {
        let kind = match kind {
            None => ProvenanceKind::Unsaid,
            Some("none") => ProvenanceKind::None,
            Some("receipt") => ProvenanceKind::Receipt,
            Some("mark") => ProvenanceKind::Mark,
            Some("c2pa") => ProvenanceKind::C2pa,
            Some("c2pa+mark") => ProvenanceKind::C2paAndMark,
            Some(_) => {
                return Err(InvalidParameter::Choice {
                    param: "provenance",
                    choices: ProvenanceKind::NAMES,
                });
            }
        };
        let salt = salt.map(|text| bytes_of(text).ok_or(InvalidParameter::Salt)).transpose()?;
        Ok(Self { kind, salt })
    }

    /// Refuses a salt that nothing is salted with, where this is what is said: `kind`, or, where that is
    /// [`ProvenanceKind::Unsaid`], what the route made of it.
    ///
    /// # Errors
    /// [`InvalidParameter::SaltAlone`].
    pub fn check_salt(&self, kind: ProvenanceKind) -> Result<(), InvalidParameter> {
        match &self.salt {
            Some(_) if !kind.has_receipt() => Err(InvalidParameter::SaltAlone),
            _ => Ok(()),
        }
    }
}

/// 64 lower-case hexadecimal digits.
fn bytes_of(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 64 || text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Our extension: what proves where an image is from. Kept, and shown with the prompt, it opens the
/// commitment in receipt and manifest. Holds the salt: no `Debug`, no `Clone`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ImageProvenance {
    /// COSE_Sign1 (RFC 9052) in base64: which node drew which pixels with which model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// What the commitment is salted with, 64 hexadecimal digits. For the client alone.
    #[schema(value_type = String)]
    pub salt: SecretString,
    /// This image's own.
    pub seed: u64,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// How many steps the sampler took.
    pub steps: u64,
    /// The guidance scale, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f32>,
    /// `vivid`, where the prompt was added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// Of an edit: SHA-256 of each input image's file, in their order, 64 hexadecimal digits each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Of an edit under a mask: SHA-256 of the mask's file, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
}

impl ImageProvenance {
    /// How many bytes it takes in a message, at most, but for what nobody sends: room that writers keep for it.
    pub const ABOUT_BYTES: usize = 2560;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_one_of_five_words_and_a_salt_64_digits() {
        let salt: SecretString = "0f".repeat(32).into();
        let wish = ProvenanceWish::parse(Some("c2pa"), Some(&salt)).ok().unwrap();
        assert_eq!((wish.kind, *wish.salt.unwrap()), (ProvenanceKind::C2pa, [15; 32]));
        for kind in ProvenanceKind::NAMES.split(", ") {
            let wish = ProvenanceWish::parse(Some(kind), None).ok().unwrap().kind;
            assert_eq!(wish.has_manifest(), kind.contains("c2pa"), "{kind}");
            assert_eq!(wish.has_mark(), kind.contains("mark"), "{kind}");
            assert_eq!(wish.has_receipt(), kind != "none", "{kind}");
        }
        let salted = |kind| ProvenanceWish::parse(kind, Some(&salt)).ok().unwrap();
        for kind in [None, Some("none")] {
            let wish = salted(kind);
            assert_eq!(wish.check_salt(wish.kind), Err(InvalidParameter::SaltAlone));
            assert_eq!(wish.check_salt(ProvenanceKind::Receipt), Ok(()), "the route's own word");
        }
        assert_eq!(salted(Some("mark")).check_salt(ProvenanceKind::Mark), Ok(()));
        let refused = |kind, salt: &str| {
            ProvenanceWish::parse(Some(kind), Some(&salt.to_owned().into())).err().unwrap()
        };
        for wrong in ["C2PA", "", "mark+c2pa", "c2pa,mark", "c2pa+mark+mark"] {
            assert_eq!(refused(wrong, &salt).param(), Some("provenance"));
        }
        for wrong in ["", "0f", &"0F".repeat(32), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(refused("receipt", wrong), InvalidParameter::Salt);
        }
    }
}
