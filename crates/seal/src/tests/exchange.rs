//! Whole exchanges between our own two ends.

use proptest::prelude::*;

use super::*;
use crate::{
    Receipt, ResponseError, SealError, SuiSignature,
    encoding::{decode_array, encode},
    padded_capacity,
    responder::other_than,
};

fn answered() -> (Keyring, ConfidentialComputeRequest, Opener, ConfidentialComputeResponse) {
    let node = node();
    let (request, opener) = sealed_to(&node);
    let (_, pending) = node.open(&request, now()).unwrap();
    let responder = pending.accept().unwrap();
    let response = responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    (node, request, opener, response)
}

#[test]
fn an_attested_exchange() {
    let (node, request, opener, response) = answered();
    let opened = opener.open_attested(&response, &attested(&node)).unwrap();
    assert_eq!(opened.body.as_bytes().trim_ascii_end(), RESPONSE);
    assert_eq!(opened.body.len(), 4096);
    assert_eq!(opened.verified.attested, Some(attested(&node)));
    assert_eq!(opened.verified.request_hash, crate::body_hash(&request).unwrap());
    assert_eq!(Some(encode(opened.verified.response_hash)), response.response_hash);
}

#[test]
fn padding_is_white_space_to_a_json_parser() {
    let (_, _, opener, response) = answered();
    let opened = opener.open_unattested(&response).unwrap();
    let value: serde_json::Value = serde_json::from_slice(opened.body.as_bytes()).unwrap();
    assert_eq!(value["created"], 1_700_000_000);
}

#[test]
fn bodies_of_unlike_length_seal_alike() {
    let node = node();
    let ciphertext = |request: &[u8], response: &[u8]| {
        let node_public = node.current().exchange_public();
        let (request, _) = seal_request(&node_public, body(request)).unwrap();
        let (_, pending) = node.open(&request, now()).unwrap();
        let responder = pending.accept().unwrap();
        let response = responder.seal(body(response), &MODEL_MANIFEST).unwrap();
        (request.ciphertext.len(), response.ciphertext.len())
    };
    assert_eq!(ciphertext(b"{}", b"{}"), ciphertext(&[b'1'; 4000], &[b'2'; 3000]));
}

#[test]
fn the_request_nonce_never_returns() {
    let (_, request, _, response) = answered();
    assert_ne!(request.nonce, response.nonce);
    assert_eq!(other_than([7; 12], &[8; 12]), [7; 12]);
    assert_ne!(other_than([8; 12], &[8; 12]), [8; 12]);
}

#[test]
fn every_request_has_its_own_key_salt_and_nonce() {
    let node = node();
    let (a, b) = (sealed_to(&node).0, sealed_to(&node).0);
    assert_ne!(a.client_dh_public_key, b.client_dh_public_key);
    assert_ne!(a.salt, b.salt);
    assert_ne!(a.nonce, b.nonce);
}

#[test]
fn a_response_to_another_request_does_not_open() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let (_, other_opener) = sealed_to(&node);
    let (_, pending) = node.open(&request, now()).unwrap();
    let responder = pending.accept().unwrap();
    let response = responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    let error = other_opener.open_unattested(&response).unwrap_err();
    assert_eq!(error, ResponseError::Decryption);
}

#[test]
fn the_request_sent_back_is_no_response() {
    let (_, request, opener, response) = answered();
    let reflected = ConfidentialComputeResponse {
        ciphertext: request.ciphertext.clone(),
        nonce: request.nonce.clone(),
        response_hash: Some(request.plaintext_body_hash.clone()),
        ..response
    };
    let error = opener.open_unattested(&reflected).unwrap_err();
    assert_eq!(error, ResponseError::ReflectedNonce);
}

#[test]
fn another_node_of_the_protocol_gives_no_receipt() {
    let (_, _, opener, response) = answered();
    let without = ConfidentialComputeResponse { receipt: None, ..response };
    assert!(opener.open_unattested(&without).is_ok());
    let (node, _, opener, response) = answered();
    let without = ConfidentialComputeResponse { receipt: None, ..response };
    let error = opener.open_attested(&without, &attested(&node)).unwrap_err();
    assert_eq!(error, ResponseError::ReceiptMissing);
}

#[test]
fn an_answer_without_hash_or_signature_is_refused() {
    type Field = fn(&mut ConfidentialComputeResponse) -> &mut Option<String>;
    let fields: [Field; 2] = [|r| &mut r.response_hash, |r| &mut r.signature];
    for field in fields {
        let (_, _, opener, mut response) = answered();
        *field(&mut response) = None;
        assert_eq!(opener.open_unattested(&response).unwrap_err(), ResponseError::Unsigned);
    }
}

#[test]
fn the_attestation_must_name_the_signer_the_keyset_and_the_model() {
    let open = |change: fn(&mut Attested)| {
        let (node, _, opener, response) = answered();
        let mut attested = attested(&node);
        change(&mut attested);
        opener.open_attested(&response, &attested).unwrap_err()
    };
    let found = node().current().signing_public();
    assert_eq!(open(|a| a.signing_key[0] ^= 1), ResponseError::UnexpectedSigner { found });
    assert_eq!(open(|a| a.keyset_digest[0] ^= 1), ResponseError::ReceiptInvalid);
    assert_eq!(open(|a| a.model_manifest[0] ^= 1), ResponseError::ReceiptInvalid);
}

#[test]
fn the_receipt_speaks_of_every_part() {
    let (node, request, _, response) = answered();
    let receipt = Receipt {
        request_hash: crate::body_hash(&request).unwrap(),
        response_hash: decode_array(response.response_hash.as_ref().unwrap()).unwrap(),
        client_public: decode_array(&request.client_dh_public_key).unwrap(),
        node_public: node.current().exchange_public(),
        model_manifest: MODEL_MANIFEST,
        keyset_digest: KEYSET_DIGEST,
    };
    let signing_key = node.current().signing_public();
    let signature = decode_array(response.receipt.as_ref().unwrap()).unwrap();
    assert!(receipt.is_signed_by(&signing_key, &signature));
    let parts: [fn(&mut Receipt) -> &mut [u8; 32]; 6] = [
        |r| &mut r.request_hash,
        |r| &mut r.response_hash,
        |r| &mut r.client_public,
        |r| &mut r.node_public,
        |r| &mut r.model_manifest,
        |r| &mut r.keyset_digest,
    ];
    for part in parts {
        let mut other = receipt;
        part(&mut other)[31] ^= 1;
        assert!(!other.is_signed_by(&signing_key, &signature));
    }
    // Nor are two parts of equal length exchanged unseen.
    let mut swapped = receipt;
    std::mem::swap(&mut swapped.request_hash, &mut swapped.response_hash);
    assert!(!swapped.is_signed_by(&signing_key, &signature));
}

#[test]
fn the_signature_is_no_receipt_and_the_receipt_no_signature() {
    let (_, _, opener, response) = answered();
    let signature =
        SuiSignature::from_base64(response.signature.as_ref().unwrap()).unwrap().to_bytes();
    let receipt: [u8; 64] = decode_array(response.receipt.as_ref().unwrap()).unwrap();
    let forged = [&signature[..1], &receipt, &signature[65..]].concat();
    let swapped = ConfidentialComputeResponse { signature: Some(encode(forged)), ..response };
    let error = opener.open_unattested(&swapped).unwrap_err();
    assert_eq!(error, ResponseError::Signature(crate::SignatureError::Mismatch));
}

#[test]
fn a_client_refuses_a_node_key_of_low_order() {
    for key in super::tampering::LOW_ORDER {
        let error = seal_request(&unhex(key), body(REQUEST)).unwrap_err();
        assert_eq!(error, SealError::NodeKeyUnusable);
    }
}

/// A receipt's bytes are part of the protocol: other programs check them.
#[test]
fn the_receipt_is_stable() {
    let receipt = Receipt {
        request_hash: [1; 32],
        response_hash: [2; 32],
        client_public: [3; 32],
        node_public: [4; 32],
        model_manifest: [5; 32],
        keyset_digest: [6; 32],
    };
    let key = dangerous::node_keys([0; 32], [7; 32]).signing;
    // Computed with Python's hashlib and the `cryptography` package, from the formula alone.
    let expected =
        "uKrLvoYhY9LCwbIJJZ72zpNO54g1vxKDdJqXsFaCbWgrOYa3uE1OZiaMKduqe1p59qTAoAGTC1MihXaxwpYJDg==";
    assert_eq!(encode(receipt.sign(&key)), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_travel_both_ways(
        request in prop::collection::vec(any::<u8>(), 0..7000),
        response in prop::collection::vec(any::<u8>(), 0..50_000),
        roomy in any::<bool>(),
    ) {
        let node = node();
        let node_public = node.current().exchange_public();
        let (sealed, opener) = seal_request(&node_public, body(&request)).unwrap();
        let (plaintext, pending) = node.open(&sealed, now()).unwrap();
    let responder = pending.accept().unwrap();
        prop_assert!(plaintext.as_bytes().starts_with(&request));
        prop_assert!(plaintext.as_bytes()[request.len()..].iter().all(|&b| b == b' '));

        let capacity = if roomy { padded_capacity(response.len()) } else { response.len() };
        let mut answer = Zeroizing::new(Vec::with_capacity(capacity));
        answer.extend_from_slice(&response);
        let answer = responder.seal(answer, &MODEL_MANIFEST).unwrap();
        let opened = opener.open_attested(&answer, &attested(&node)).unwrap();
        prop_assert!(opened.body.as_bytes().starts_with(&response));
        prop_assert!(opened.body.as_bytes()[response.len()..].iter().all(|&b| b == b' '));
    }
}

#[test]
fn an_answer_in_parts() {
    let node = node();
    let (request, opener) = sealed_to(&node);
    let (_, pending) = node.open(&request, now()).unwrap();
    let responder = pending.accept().unwrap();
    let mut parts = responder.into_stream().unwrap();
    let first = parts.seal(body(b"{\"n\":0}"), &MODEL_MANIFEST).unwrap();
    let last = parts.seal_last(body(b"{\"n\":1}"), &MODEL_MANIFEST).unwrap();
    assert!(first.nonce != last.nonce && first.nonce != request.nonce);
    let mut opener = opener.stream_attested(attested(&node));
    for (part, text) in [(&first, &b"{\"n\":0}"[..]), (&last, b"{\"n\":1}")] {
        let opened = opener.open(part).unwrap();
        assert_eq!(opened.body.as_bytes().trim_ascii_end(), text);
        assert_eq!(opened.verified.attested, Some(attested(&node)));
    }
    let mut stripped = last.clone();
    stripped.receipt = None;
    assert_eq!(opener.open(&stripped).unwrap_err(), ResponseError::ReceiptMissing);
    let (_, _, _, elsewhere) = answered();
    assert_eq!(opener.open(&elsewhere).unwrap_err(), ResponseError::Decryption);
}
