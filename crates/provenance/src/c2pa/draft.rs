//! Writing a manifest into a file.

use coset::{
    CoseSign1Builder, Header, HeaderBuilder, TaggedCborSerializable,
    cbor::value::Value,
    iana::EnumI64,
    iana::{Algorithm, HeaderParameter},
};
use sha2::{Digest, Sha256};

use super::{
    ACTIONS, ASSERTIONS, CLAIM, DIGITAL_SOURCE, GENERATION, GENERATOR, HASH, MANIFEST_PREFIX,
    MAX_MANIFEST_BYTES, ManifestSigner, SIGNATURE, STORE,
    container::Container,
    jumbf::{Kind, cbor_superbox, hashed, superbox},
};
use crate::{
    cbor::{encode, map},
    error::ProvenanceError,
    hex,
    statement::Statement,
};

const SIGNATURE_BYTES: usize = 64;

/// The same image with a manifest that says `statement`, signed. The file must be a PNG, JPEG or WebP
/// without a manifest. It is as secret as it was: the vector that is returned has just its length, and no
/// other holds any of its pixels.
///
/// # Errors
/// Where it is no such file, or the system gives no randomness.
pub fn embed(
    file: &[u8],
    statement: &Statement,
    signer: &ManifestSigner,
) -> Result<Vec<u8>, ProvenanceError> {
    let container = Container::of(file)?;
    match container.find(file) {
        Err(ProvenanceError::NoManifest) => {}
        Err(error) => return Err(error),
        Ok(_) => return Err(ProvenanceError::Foreign { what: "the file has one already" }),
    }
    let place = container.place(file)?;
    let draft = Draft { name: uuid()?, instance: uuid()?, statement, signer };

    // How long it is decides how its own length is written, which hardly ever changes how long it is. Of even
    // length, since readers differ in whether the byte that fills up a chunk of a WebP belongs to it.
    let mut excluded = Excluded { start: place, bytes: 0, pad_bytes: 0, hash: [0; 32] };
    loop {
        let store_bytes = draft.store(&excluded, &[0; SIGNATURE_BYTES]).len();
        let bytes = container.wrapped_bytes(store_bytes);
        if store_bytes % 2 == 1 {
            excluded.pad_bytes ^= 1;
        } else if bytes == excluded.bytes {
            break;
        }
        excluded.bytes = bytes;
    }
    if excluded.bytes > MAX_MANIFEST_BYTES {
        return Err(ProvenanceError::TooLong {
            what: "the manifest",
            max_bytes: MAX_MANIFEST_BYTES,
        });
    }
    let head = container.head(file, place, excluded.bytes);
    excluded.hash =
        Sha256::new().chain_update(&head).chain_update(&file[place..]).finalize().into();
    let signature = signer.sign(&draft.to_be_signed(&excluded))?;

    let mut signed = Vec::with_capacity(file.len() + excluded.bytes);
    signed.extend_from_slice(&head);
    signed.extend_from_slice(&container.wrap(&draft.store(&excluded, &signature)));
    signed.extend_from_slice(&file[place..]);
    Ok(signed)
}

/// The bytes of the file that hold the manifest, and the hash of the others.
struct Excluded {
    start: usize,
    bytes: usize,
    /// Zeros that fill the manifest up.
    pad_bytes: usize,
    hash: [u8; 32],
}

struct Draft<'a> {
    name: String,
    instance: String,
    statement: &'a Statement,
    signer: &'a ManifestSigner,
}

impl Draft<'_> {
    fn store(&self, excluded: &Excluded, signature: &[u8]) -> Vec<u8> {
        let assertions = self.assertions(excluded);
        let claim = cbor_superbox(Kind::Claim, CLAIM, &self.claim(&assertions));
        let cose = CoseSign1Builder::new()
            .protected(header(self.signer.certificate()))
            .signature(signature.to_vec())
            .build();
        let cose = cose.to_tagged_vec().expect("a header of ours is CBOR");
        let signature = cbor_superbox(Kind::Signature, SIGNATURE, &cose);
        let assertions = superbox(Kind::AssertionStore, ASSERTIONS, &assertions.concat());
        let content = [assertions, claim, signature].concat();
        superbox(Kind::Store, STORE, &superbox(Kind::Manifest, &self.label(), &content))
    }

    /// COSE's Sig_structure, around a claim that the signature does not hold itself.
    fn to_be_signed(&self, excluded: &Excluded) -> Vec<u8> {
        let claim = self.claim(&self.assertions(excluded));
        let signed = CoseSign1Builder::new().protected(header(self.signer.certificate())).build();
        signed.tbs_detached_data(&claim, &[])
    }

    fn label(&self) -> String {
        format!("{MANIFEST_PREFIX}{}", self.name)
    }

    fn assertions(&self, excluded: &Excluded) -> [Vec<u8>; 3] {
        let exclusion =
            map([("start", number(excluded.start)), ("length", number(excluded.bytes))]);
        let data = map([
            ("exclusions", Value::Array(vec![exclusion])),
            ("name", Value::from("jumbf manifest")),
            ("alg", Value::from("sha256")),
            ("hash", Value::Bytes(excluded.hash.to_vec())),
            ("pad", Value::Bytes(vec![0; excluded.pad_bytes])),
        ]);
        [(ACTIONS, actions()), (GENERATION, self.statement.to_value()), (HASH, data)]
            .map(|(label, value)| cbor_superbox(Kind::Cbor, label, &encode(&value)))
    }

    /// C2PA 2.1 §10.3.1, claim-map-v2.
    fn claim(&self, assertions: &[Vec<u8>; 3]) -> Vec<u8> {
        let labels = [ACTIONS, GENERATION, HASH];
        let created = labels.iter().zip(assertions).map(|(label, assertion)| {
            let hash: [u8; 32] = Sha256::digest(hashed(assertion)).into();
            map([
                ("url", Value::from(format!("self#jumbf={ASSERTIONS}/{label}"))),
                ("hash", Value::Bytes(hash.to_vec())),
            ])
        });
        encode(&map([
            ("instanceID", Value::from(format!("xmp:iid:{}", self.instance))),
            ("claim_generator_info", generator()),
            ("signature", Value::from(format!("self#jumbf=/{STORE}/{}/{SIGNATURE}", self.label()))),
            ("created_assertions", Value::Array(created.collect())),
            ("alg", Value::from("sha256")),
        ]))
    }
}

/// The one action: a model that was trained made this.
pub(super) fn actions() -> Value {
    let created = map([
        ("action", Value::from("c2pa.created")),
        ("digitalSourceType", Value::from(DIGITAL_SOURCE)),
        ("softwareAgent", map([("name", Value::from(GENERATOR))])),
    ]);
    map([("actions", Value::Array(vec![created]))])
}

fn generator() -> Value {
    map([("name", Value::from(GENERATOR)), ("version", Value::from(env!("CARGO_PKG_VERSION")))])
}

/// ES256, and the certificate (RFC 9360 §2), both protected.
pub(super) fn header(certificate: &[u8]) -> Header {
    HeaderBuilder::new()
        .algorithm(Algorithm::ES256)
        .value(HeaderParameter::X5Chain.to_i64(), Value::Bytes(certificate.to_vec()))
        .build()
}

fn number(of: usize) -> Value {
    Value::from(of as u64)
}

/// A random UUID (RFC 9562 §5.4).
fn uuid() -> Result<String, ProvenanceError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ProvenanceError::NoKey)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}
