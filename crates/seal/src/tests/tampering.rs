//! Whatever is wrong with a request, the node says the same.

use base64::{Engine, engine::general_purpose::STANDARD};
use x25519_dalek::StaticSecret;

use super::*;
use crate::{
    OpenError, ResponseError,
    cipher::SessionKey,
    client::{ClientSecrets, seal_exact},
    encoding::encode,
    exchange,
};

/// Every u-coordinate of small order on Curve25519 or its twist, and their unreduced forms, least
/// significant byte first (RFC 7748 §7; the list at <https://cr.yp.to/ecdh.html#validate>).
pub(super) const LOW_ORDER: [&str; 12] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1
    "cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
    "4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
    "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", // 2p - 1
    "daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", // 2p
    "dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", // 2p + 1
];

type Field = fn(&mut ConfidentialComputeRequest) -> &mut String;

const FIELDS: [(&str, Field); 6] = [
    ("ciphertext", |r| &mut r.ciphertext),
    ("nonce", |r| &mut r.nonce),
    ("salt", |r| &mut r.salt),
    ("client_dh_public_key", |r| &mut r.client_dh_public_key),
    ("node_dh_public_key", |r| &mut r.node_dh_public_key),
    ("plaintext_body_hash", |r| &mut r.plaintext_body_hash),
];

/// Sealed with fixed secrets and without padding: the same request and opener each time, and few
/// bits to flip.
fn sealed_unpadded(node: &Keyring, plaintext: &[u8]) -> (ConfidentialComputeRequest, Opener) {
    let exchange = StaticSecret::from([9; 32]);
    let secrets = ClientSecrets { exchange, salt: [3; 16], nonce: [4; 12] };
    seal_exact(&node.current().exchange_public(), body(plaintext), secrets).unwrap()
}

/// The request is refused, in the same words as any other, and leaves no trace in the cache.
fn assert_unopenable(node: &Keyring, request: &ConfidentialComputeRequest, what: &str) {
    let error = node.open(request, now()).unwrap_err();
    assert_eq!(error, OpenError::Unopenable, "{what}");
    assert_eq!(error.to_string(), "the request could not be opened", "{what}");
    assert_eq!(format!("{error:?}"), "Unopenable", "{what}");
    assert_eq!(node.current().replays.fill_ratio(), 0.0, "{what}");
}

#[test]
fn every_field_malformed_in_turn() {
    let node = node();
    let (request, _) = sealed_to(&node);
    for (name, field) in FIELDS {
        let mut tampered = request.clone();
        let good = field(&mut tampered).clone();
        let bytes = STANDARD.decode(&good).unwrap();
        let malformed = [
            String::new(),
            "=".into(),
            "====".into(),
            "not base64!".into(),
            "狐".into(),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{good}="),
            good[..good.len() - 1].into(),
            good.replace('=', "."),
            format!("{good}{good}"),
            STANDARD.encode(&bytes[..bytes.len() - 1]),
            STANDARD.encode([bytes.as_slice(), &[0]].concat()),
            STANDARD.encode([0; 15]),
            "A".repeat(1 << 20),
        ];
        // Where the length is no multiple of three there is no padding to replace.
        for bad in malformed.into_iter().filter(|bad| *bad != good) {
            *field(&mut tampered) = bad.clone();
            let shown = &bad[..bad.len().min(40)];
            assert_unopenable(&node, &tampered, &format!("{name} = {shown:?}"));
        }
    }
    assert!(node.open(&request, now()).is_ok());
}

#[test]
fn every_bit_of_every_field_flipped() {
    let node = node();
    let current_key_id = node.current().key_id();
    let (request, _) = sealed_unpadded(&node, REQUEST);
    for (name, field) in FIELDS {
        let mut tampered = request.clone();
        let bytes = STANDARD.decode(field(&mut tampered)).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            *field(&mut tampered) = STANDARD.encode(flipped);
            let parts = tampered.clone();
            if name == "node_dh_public_key" {
                // Well formed and not ours: the one thing the sender is told.
                let error = node.open(&parts, now()).unwrap_err();
                assert_eq!(error, OpenError::StaleKey { current_key_id }, "bit {bit}");
            } else {
                assert_unopenable(&node, &parts, &format!("{name}, bit {bit}"));
            }
        }
    }
    assert!(node.open(&request, now()).is_ok());
}

#[test]
fn low_order_and_unreduced_client_keys() {
    let node = node();
    let (request, _) = sealed_to(&node);
    for key in LOW_ORDER {
        let key: [u8; 32] = unhex(key);
        let client = encode(key);
        let parts =
            ConfidentialComputeRequest { client_dh_public_key: client.clone(), ..request.clone() };
        assert_unopenable(&node, &parts, &client);
        assert!(exchange::agree(&StaticSecret::from([9; 32]), &key, &[0; 16]).is_none());
    }
}

/// What a sender gets who knows that X25519 with such a key gives zero, and seals with the key
/// that follows from it.
#[test]
fn a_request_sealed_with_the_zero_secret() {
    let node = node();
    let key = SessionKey::new(exchange::hkdf_sha256(&[0; 32], &[0; 16]));
    let mut ciphertext = REQUEST.to_vec();
    key.seal_in_place(&[0; 12], &mut ciphertext).unwrap();
    let (ciphertext, hash) = (encode(ciphertext), encode(blake2b_256(REQUEST)));
    let node_public = encode(node.current().exchange_public());
    for client in LOW_ORDER {
        let client = encode(unhex::<32>(client));
        let parts = ConfidentialComputeRequest {
            ciphertext: ciphertext.clone(),
            nonce: encode([0; 12]),
            salt: encode([0; 16]),
            client_dh_public_key: client.clone(),
            node_dh_public_key: node_public.clone(),
            plaintext_body_hash: hash.clone(),
            ..sealed_to(&node).0
        };
        assert_unopenable(&node, &parts, &client);
    }
}

#[test]
fn the_hash_of_another_body() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let parts = with_hash_of(&request, b"another body");
    assert_unopenable(&node, &parts, "hash of another body");
}

#[test]
fn a_ciphertext_at_the_bound_opens_and_one_beyond_does_not() {
    let node = node();
    let sealed = |ciphertext_bytes| sealed_unpadded(&node, &vec![b' '; ciphertext_bytes - 16]).0;
    for beyond in 1..=4 {
        let request = sealed(MAX_CIPHERTEXT_BYTES + beyond);
        assert_unopenable(&node, &request, &format!("{beyond} bytes beyond"));
    }
    assert!(node.open(&sealed(MAX_CIPHERTEXT_BYTES), now()).is_ok());
}

#[test]
fn an_empty_body_opens() {
    let node = node();
    let (request, _) = sealed_unpadded(&node, b"");
    let (plaintext, _) = node.open(&request, now()).unwrap();
    assert!(plaintext.is_empty());
}

#[test]
fn every_bit_of_a_response_flipped() {
    type Field = fn(&mut ConfidentialComputeResponse) -> &mut String;
    let fields: [Field; 5] = [
        |r| &mut r.ciphertext,
        |r| &mut r.nonce,
        |r| r.response_hash.as_mut().unwrap(),
        |r| r.signature.as_mut().unwrap(),
        |r| r.receipt.as_mut().unwrap(),
    ];
    let node = node();
    let (request, _) = sealed_unpadded(&node, REQUEST);
    let (_, pending) = node.open(&request, now()).unwrap();
    let responder = pending.accept().unwrap();
    let response = responder.seal_exact(body(RESPONSE), [5; 12], &MODEL_MANIFEST).unwrap();
    let open = |response: &ConfidentialComputeResponse| {
        let (_, opener) = sealed_unpadded(&node, REQUEST);
        opener.open_attested(response, &attested(&node)).map(drop)
    };
    assert_eq!(open(&response), Ok(()));
    for field in fields {
        let mut tampered = response.clone();
        let good = field(&mut tampered).clone();
        let bytes = STANDARD.decode(&good).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            *field(&mut tampered) = STANDARD.encode(flipped);
            assert!(open(&tampered).is_err(), "bit {bit}");
        }
        for malformed in ["", "AA=", "AAAA", "not base64!"] {
            *field(&mut tampered) = malformed.into();
            assert!(open(&tampered).is_err(), "{malformed}");
        }
    }
}

#[test]
fn the_client_is_told_what_is_wrong() {
    let open = |change: fn(&mut ConfidentialComputeResponse)| {
        let node = node();
        let (request, opener) = sealed_to(&node);
        let (_, pending) = node.open(&request, now()).unwrap();
        let responder = pending.accept().unwrap();
        let mut response = responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
        change(&mut response);
        opener.open_attested(&response, &attested(&node)).unwrap_err()
    };
    let malformed = |field| ResponseError::Malformed { field };
    assert_eq!(open(|r| r.ciphertext.push('!')), malformed("ciphertext"));
    assert_eq!(open(|r| r.nonce.clear()), malformed("nonce"));
    assert_eq!(open(|r| r.response_hash = Some(String::new())), malformed("response_hash"));
    assert_eq!(open(|r| r.receipt = Some(String::new())), malformed("receipt"));
    assert_eq!(open(|r| r.ciphertext.clear()), ResponseError::Decryption);
    assert_eq!(open(|r| r.response_hash = Some(encode([0; 32]))), ResponseError::HashMismatch);
    assert_eq!(open(|r| r.receipt = Some(encode([0; 64]))), ResponseError::ReceiptInvalid);
    assert!(matches!(open(|r| r.signature = Some(String::new())), ResponseError::Signature(_)));
}
