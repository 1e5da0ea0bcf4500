//! The binding agrees byte for byte with `make_binding.py`.

use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;

use super::fixture;
use crate::{
    binding::{Bound, Keyset, KeysetBody, Nonce, gpu_nonce, possession_holds, sha256},
    encoding::{hex, unhex_array},
    nonces::NoncePath,
};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    ed25519_seed: String,
    nonce: String,
    nonce_path: Path,
    nonce_root: String,
    keyset: String,
    model_manifest: String,
    device_evidence: String,
    keyset_digest: String,
    gpu_nonce: String,
    report_data: String,
    possession: String,
}

#[derive(Deserialize)]
struct Path {
    blind: String,
    index: u32,
    siblings: Vec<String>,
}

#[test]
fn the_binding_is_what_the_python_generator_makes() {
    let vectors: Vectors = serde_json::from_slice(&fixture("binding.json")).unwrap();
    assert!(vectors.cases.len() >= 9);
    // The field that came later is in one of them, and has changed none of the others.
    let names_tls = |case: &&Case| case.keyset.contains("tls_spki_sha256");
    assert_eq!(vectors.cases.iter().filter(names_tls).count(), 1);
    for case in vectors.cases {
        let name = &case.name;
        let nonce = case.nonce.parse().unwrap_or(Nonce::ABSENT);
        assert_eq!(nonce.to_string(), case.nonce, "{name}");
        let siblings = case.nonce_path.siblings.iter();
        let path = NoncePath {
            blind: unhex_array(&case.nonce_path.blind).unwrap(),
            index: case.nonce_path.index,
            siblings: siblings.map(|sibling| unhex_array(sibling).unwrap()).collect(),
        };
        let nonce_root = path.root(nonce).unwrap();
        assert_eq!(hex(&nonce_root), case.nonce_root, "{name}");
        let body: KeysetBody = serde_json::from_str(&case.keyset).unwrap();
        let keyset = Keyset::new(&body);
        assert_eq!(keyset.as_bytes(), case.keyset.as_bytes(), "{name}");
        assert_eq!(hex(&keyset.digest()), case.keyset_digest, "{name}");
        assert_eq!(hex(&gpu_nonce(nonce_root, keyset.digest())), case.gpu_nonce, "{name}");
        let bound = Bound {
            nonce_root,
            keyset: keyset.digest(),
            model_manifest: sha256(case.model_manifest.as_bytes()),
            device_evidence: case.device_evidence.as_bytes(),
        };
        assert_eq!(hex(&bound.report_data()), case.report_data, "{name}");

        let signer = SigningKey::from_bytes(&unhex_array(&case.ed25519_seed).unwrap());
        let signed = keyset.clone().prove_possession(|message| signer.sign(message).to_bytes());
        let signature = signed.possession;
        assert_eq!(hex(&signature), case.possession, "{name}");
        let key = body.signing_key().unwrap();
        assert!(possession_holds(keyset.as_bytes(), &key, &signature), "{name}");
        // Without the domain it is another message.
        let bare = signer.sign(keyset.as_bytes()).to_bytes();
        assert!(!possession_holds(keyset.as_bytes(), &key, &bare), "{name}");
        assert!(!possession_holds(b"{}", &key, &signature), "{name}");
    }
}
