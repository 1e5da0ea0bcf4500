//! Reading a manifest, and holding the file against it.

use std::ops::Range;

use coset::{
    CoseSign1, TaggedCborSerializable,
    cbor::value::Value,
    iana::{EnumI64, HeaderParameter},
};
use sha2::{Digest, Sha256};

use super::{
    ACTIONS, ASSERTIONS, CLAIM, GENERATION, GENERATOR, HASH, MANIFEST_PREFIX, MAX_MANIFEST_BYTES,
    SIGNATURE, STORE,
    container::Container,
    draft::{actions, header},
    jumbf::{Kind, Superbox},
    key::PublicKey,
};
use crate::{
    cbor::{Entries, decode},
    error::ProvenanceError,
    statement::Statement,
};

const WHAT: &str = "the manifest";
const CLAIM_WHAT: &str = "the manifest's claim";
const HASH_WHAT: &str = "the manifest's hash of the file";
const SIGNATURE_WHAT: &str = "the manifest's signature";

/// A manifest as a node writes it, read from a file. That it can be read says nothing: its parts are
/// checked by [`check_bytes`](Self::check_bytes) and [`check_signature`](Self::check_signature), and
/// whose key signed it is for evidence to say.
#[derive(Debug)]
pub struct Manifest {
    /// What the node says.
    pub statement: Statement,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that is named as the signer.
    pub signer_spki_sha256: [u8; 32],
    /// Where it lies, which no hash is over.
    range: Range<usize>,
    /// Where it says that it lies.
    excluded: Range<usize>,
    file_hash: Vec<u8>,
    /// Of each assertion: as the claim has it, and as it is.
    assertion_hashes: Vec<(Vec<u8>, [u8; 32])>,
    /// COSE's Sig_structure.
    signed: Vec<u8>,
    signature: Vec<u8>,
    key: Vec<u8>,
}

impl Manifest {
    /// Reads the manifest of a PNG, JPEG or WebP.
    ///
    /// # Errors
    /// Where there is none, or one that is malformed, or not as a node writes it.
    pub fn read(file: &[u8]) -> Result<Self, ProvenanceError> {
        let container = Container::of(file)?;
        let found = container.find(file)?;
        if found.range.len() > MAX_MANIFEST_BYTES {
            return Err(ProvenanceError::Foreign { what: "it is longer" });
        }
        let boxes = Boxes::read(found.manifest)?;
        let [actions_box, generation, hash] = boxes.assertions;
        if decode(actions_box.cbor()?, WHAT)? != actions() {
            return Err(ProvenanceError::Foreign { what: "it tells of other actions" });
        }
        let (excluded, file_hash) = data_hash(hash.cbor()?)?;
        let claimed = claim(boxes.claim, &boxes.label)?;
        let hashes = boxes.assertions.map(|assertion| Sha256::digest(assertion.hashed).into());
        let Signed { message, signature, certificate } = signed(boxes.signature, boxes.claim)?;
        Ok(Self {
            statement: Statement::from_value(decode(generation.cbor()?, WHAT)?)?,
            signer_spki_sha256: PublicKey::of_certificate(&certificate)?.spki_sha256(),
            range: found.range,
            excluded,
            file_hash,
            assertion_hashes: claimed.into_iter().zip(hashes).collect(),
            signed: message,
            signature,
            key: certificate,
        })
    }

    /// Holds the file that it was read from, and its own assertions, against what was signed.
    ///
    /// # Errors
    /// Names the part that differs.
    pub fn check_bytes(&self, file: &[u8]) -> Result<(), ProvenanceError> {
        if self.assertion_hashes.iter().any(|(claimed, found)| claimed != found) {
            return Err(ProvenanceError::OtherBytes { what: "an assertion" });
        }
        if self.excluded != self.range {
            return Err(ProvenanceError::OtherBytes { what: "the manifest's place in the file" });
        }
        let parts = file.get(..self.range.start).zip(file.get(self.range.end..));
        let (head, tail) = parts.ok_or(ProvenanceError::NotAnImage)?;
        let hash = Sha256::new().chain_update(head).chain_update(tail).finalize();
        match self.file_hash == *hash {
            true => Ok(()),
            false => Err(ProvenanceError::OtherBytes { what: "the image" }),
        }
    }

    /// Whether the key that is named has signed it.
    ///
    /// # Errors
    /// Where it has not.
    pub fn check_signature(&self) -> Result<(), ProvenanceError> {
        let key = PublicKey::of_certificate(&self.key)?;
        match key.has_signed(&self.signed, &self.signature) {
            true => Ok(()),
            false => Err(ProvenanceError::Signature { what: WHAT }),
        }
    }
}

/// The boxes of a store that has one manifest, with what ours have and no more.
struct Boxes<'a> {
    label: String,
    assertions: [Superbox<'a>; 3],
    claim: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Boxes<'a> {
    fn read(store: &'a [u8]) -> Result<Self, ProvenanceError> {
        let foreign = |what| ProvenanceError::Foreign { what };
        let [store] = Superbox::all(store)?[..] else {
            return Err(ProvenanceError::Malformed { what: WHAT });
        };
        if !store.is(Kind::Store, STORE) {
            return Err(foreign("it is no store of manifests"));
        }
        let [manifest] = store.children()?[..] else {
            return Err(foreign("others worked on the image, and added theirs"));
        };
        if !manifest.is(Kind::Manifest, manifest.label)
            || !manifest.label.starts_with(MANIFEST_PREFIX)
        {
            return Err(foreign("it is of another kind"));
        }
        let [store, claim, signature] = manifest.children()?[..] else {
            return Err(foreign("it has other parts"));
        };
        if !store.is(Kind::AssertionStore, ASSERTIONS)
            || !claim.is(Kind::Claim, CLAIM)
            || !signature.is(Kind::Signature, SIGNATURE)
        {
            return Err(foreign("it has other parts"));
        }
        let [actions, generation, hash] = store.children()?[..] else {
            return Err(foreign("it has other assertions"));
        };
        if !actions.is(Kind::Cbor, ACTIONS)
            || !generation.is(Kind::Cbor, GENERATION)
            || !hash.is(Kind::Cbor, HASH)
        {
            return Err(foreign("it has other assertions"));
        }
        Ok(Self {
            label: manifest.label.to_owned(),
            assertions: [actions, generation, hash],
            claim: claim.cbor()?,
            signature: signature.cbor()?,
        })
    }
}

/// Where the manifest says it lies, and the hash of the rest.
fn data_hash(cbor: &[u8]) -> Result<(Range<usize>, Vec<u8>), ProvenanceError> {
    let malformed = ProvenanceError::Malformed { what: HASH_WHAT };
    let mut data = Entries::of(decode(cbor, HASH_WHAT)?, HASH_WHAT)?;
    let [exclusion] = <[Value; 1]>::try_from(data.array("exclusions")?).map_err(|_| malformed)?;
    let mut exclusion = Entries::of(exclusion, HASH_WHAT)?;
    let (start, length) = (exclusion.number("start")?, exclusion.number("length")?);
    exclusion.end()?;
    let hash = data.bytes("hash")?;
    let (alg, name, pad) = (data.text("alg")?, data.text("name")?, data.bytes("pad")?);
    data.end()?;
    if alg != "sha256" || name != "jumbf manifest" || !matches!(pad[..], [] | [0]) {
        return Err(malformed);
    }
    let end = start.checked_add(length).ok_or(malformed)?;
    let number = |of: u64| usize::try_from(of).map_err(|_| malformed);
    Ok((number(start)?..number(end)?, hash))
}

/// The assertions' hashes, in their order.
fn claim(cbor: &[u8], label: &str) -> Result<Vec<Vec<u8>>, ProvenanceError> {
    let malformed = ProvenanceError::Malformed { what: CLAIM_WHAT };
    let mut claim = Entries::of(decode(cbor, CLAIM_WHAT)?, CLAIM_WHAT)?;
    let instance = claim.text("instanceID")?;
    let mut generator = Entries::of(claim.take("claim_generator_info")?, CLAIM_WHAT)?;
    let (name, _version) = (generator.text("name")?, generator.text("version")?);
    generator.end()?;
    let signature = claim.text("signature")?;
    let alg = claim.text("alg")?;
    let created = claim.array("created_assertions")?;
    claim.end()?;
    if name != GENERATOR {
        return Err(ProvenanceError::Foreign { what: "other software wrote it" });
    }
    let own = format!("self#jumbf=/{STORE}/{label}/{SIGNATURE}");
    if !instance.starts_with("xmp:iid:") || signature != own || alg != "sha256" {
        return Err(malformed);
    }
    let labels = [ACTIONS, GENERATION, HASH];
    if created.len() != labels.len() {
        return Err(malformed);
    }
    let hashes = created.into_iter().zip(labels).map(|(entry, label)| {
        let mut entry = Entries::of(entry, CLAIM_WHAT)?;
        let (url, hash) = (entry.text("url")?, entry.bytes("hash")?);
        entry.end()?;
        match url == format!("self#jumbf={ASSERTIONS}/{label}") {
            true => Ok(hash),
            false => Err(malformed),
        }
    });
    hashes.collect()
}

/// A claim's signature.
struct Signed {
    /// COSE's Sig_structure.
    message: Vec<u8>,
    signature: Vec<u8>,
    /// In DER.
    certificate: Vec<u8>,
}

fn signed(cbor: &[u8], claim: &[u8]) -> Result<Signed, ProvenanceError> {
    let malformed = ProvenanceError::Malformed { what: SIGNATURE_WHAT };
    decode(cbor, SIGNATURE_WHAT)?;
    let cose = CoseSign1::from_tagged_slice(cbor).map_err(|_| malformed)?;
    let label = coset::Label::Int(HeaderParameter::X5Chain.to_i64());
    let chain = cose.protected.header.rest.iter().find(|(name, _)| *name == label);
    let certificate = chain.and_then(|(_, value)| value.as_bytes()).ok_or(malformed)?.clone();
    let is_plain = cose.protected.header == header(&certificate)
        && cose.unprotected.is_empty()
        && cose.payload.is_none();
    match is_plain {
        true => Ok(Signed {
            message: cose.tbs_detached_data(claim, &[]),
            signature: cose.signature,
            certificate,
        }),
        false => Err(ProvenanceError::Foreign { what: "it is signed in another way" }),
    }
}
