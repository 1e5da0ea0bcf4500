//! An image that proves itself: which attested node drew it, with which model, and nothing of what was asked for.
//!
//! Bytes in, bytes out: this crate reads no clock, no file and no network; its only input besides is the
//! operating system's randomness.
//!
//! # What goes which way
//!
//! ```text
//! start     the node makes a key (ECDSA, P-256) in its memory, and every keyset names it: c2pa_spki_sha256.
//!           So the quote covers it, as it covers the keys that requests are sealed to.
//! request   "provenance": "receipt" | "mark" | "c2pa" | "c2pa+mark", and perhaps "provenance_salt"; inside the seal
//! answer    pixels → mark → file → manifest → hash, receipt of the answer, seal
//!             Statement     platform, measurements, model manifest, keyset, commitment
//!             C2PA          the Statement in the file, signed by that key            (manifest)
//!             Receipt       the Statement, pixels (unmarked) and file, signed by the key that signs answers
//!             mark          "made by AI" and a short id of that key, in the pixels; proves nothing
//!             salt          back to the client, beside the image, inside the seal
//! verifier  evidence → keyset → key → manifest → file; with salt and prompt, the commitment too
//! ```
//!
//! | who | sees |
//! |---|---|
//! | the operator of a sealed request | nothing: not even that it was asked for, since answers of one size have one length |
//! | whoever gets the image | that a model made it, which model, which measured guest, which day's keyset: not the prompt, the seed or the client |
//! | whoever gets salt, prompt and parameters too | that this is what was asked for |
//!
//! The commitment ([`Drawing`]) is salted, since prompts can be guessed.
//!
//! # Why the manifest is written here
//!
//! The published C2PA library brings some eighty crates, parsers of many formats and HTTP clients into the
//! enclave, and turns on a feature of `serde_json` that orders every JSON of the program differently. A node
//! writes one kind of manifest, into three formats, from files that it has just encoded itself: a few hundred
//! lines, which that library checks from outside, in the tests.

mod c2pa;
mod cbor;
mod commitment;
mod error;
mod hex;
mod mark;
mod receipt;
mod statement;

pub use c2pa::{MAX_FILE_BYTES, MAX_MANIFEST_BYTES, Manifest, ManifestSigner, embed};
pub use commitment::{Drawing, Salt};
pub use error::ProvenanceError;
pub use mark::{FALSE_POSITIVE_RATE, FoundMark, MIN_MARKED_SIDE_PX, MarkId, find_mark, mark};
pub use receipt::{MAX_RECEIPT_BYTES, Receipt, SignedReceipt, pixels_digest};
pub use statement::Statement;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn statement() -> Statement {
        Statement {
            platform: "tdx".to_owned(),
            measurements: vec![[6; 48]; 4],
            model_manifest: [1; 32],
            keyset: [2; 32],
            commitment: [3; 32],
        }
    }
}
