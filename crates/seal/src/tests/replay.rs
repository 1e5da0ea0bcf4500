//! No request opens twice.

use std::sync::Barrier;

use curve25519_dalek::{constants::EIGHT_TORSION, montgomery::MontgomeryPoint};

use super::*;
use crate::{
    OpenError, Responder, SealError,
    encoding::{decode_array, encode},
};

#[test]
fn the_second_copy_is_refused() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let first = node.open(&request, now()).unwrap();
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    first.1.accept().unwrap();
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    let (other, _) = sealed_to(&node);
    assert!(node.open(&other, now()).is_ok());
}

/// A node that has no room behind the opening says so, and its client sends the same bytes again.
#[test]
fn what_was_not_answered_can_be_sent_again_and_is_answered_once() {
    let node = node();
    let (request, _) = sealed_to(&node);
    for _ in 0..3 {
        drop(node.open(&request, now()).unwrap());
    }
    accept(&node, &request).unwrap();
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    // Work may have been done for it.
    let (request, _) = sealed_to(&node);
    node.open(&request, now()).unwrap().1.use_up();
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    // There was no room to remember it, and then there is.
    let node = Keyring::new(epoch_with_room_for(1, 1), LIMITS);
    let (request, _) = sealed_to(&node);
    let others: Vec<_> = (0..Keyring::MAX_EPOCHS).map(|_| sealed_to(&node).0).collect();
    others.iter().for_each(|other| drop(accept(&node, other).unwrap()));
    assert_eq!(accept(&node, &request).unwrap_err(), OpenError::ReplayCacheFull);
    assert_eq!(accept(&node, &request).unwrap_err(), OpenError::ReplayCacheFull, "not 409");
}

/// Who leaves while its request still waits may send the same bytes again; once work has begun, not.
#[test]
fn what_is_accepted_can_be_given_back_until_work_begins() {
    let node = Keyring::new(epoch_with_room_for(1, 4), LIMITS);
    let (request, _) = sealed_to(&node);
    let seal = |responder: Responder| responder.seal(body(RESPONSE), &MODEL_MANIFEST);
    let left = accept(&node, &request).unwrap();
    let (waits, late) = (left.unbegun(), left.unbegun());
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    drop(waits);
    assert_eq!(node.current().replays.fill_ratio(), 0.0);

    // What was handed out before answers nothing any more, and gives nothing else back.
    let again = accept(&node, &request).unwrap();
    assert_eq!(seal(left).unwrap_err(), SealError::GivenBack);
    drop(late);
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    again.unbegun().unwrap().begin();
    drop(again);
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);

    // Nor is a request given back that something was sealed for, be it one event.
    let (request, _) = sealed_to(&node);
    let responder = accept(&node, &request).unwrap();
    let waits = responder.unbegun();
    let mut parts = responder.into_stream().unwrap();
    parts.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    drop(waits);
    assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    assert_eq!(node.current().replays.fill_ratio(), 0.5);
}

/// Under one key go a request and its answers, so an answer opens as a request would.
#[test]
fn the_node_takes_none_of_its_own_answers_for_a_request() {
    let as_request = |request: &ConfidentialComputeRequest,
                      answer: &ConfidentialComputeResponse| {
        ConfidentialComputeRequest {
            ciphertext: answer.ciphertext.clone(),
            nonce: answer.nonce.clone(),
            plaintext_body_hash: answer.response_hash.clone().unwrap(),
            ..request.clone()
        }
    };
    let node = node();
    let open = |request: &ConfidentialComputeRequest| node.open(request, now());
    let pending = |request| open(request).unwrap().1;
    let (request, _) = sealed_to(&node);
    let whole = pending(&request).accept().unwrap();
    let answer = whole.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert_eq!(open(&as_request(&request, &answer)).unwrap_err(), OpenError::Replayed);

    let (request, _) = sealed_to(&node);
    let mut parts = pending(&request).accept().unwrap().into_stream().unwrap();
    let middle = parts.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert_eq!(open(&as_request(&request, &middle)).unwrap_err(), OpenError::Replayed);
    let last = parts.seal_last(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    for part in [&middle, &last] {
        assert_eq!(open(&as_request(&request, part)).unwrap_err(), OpenError::Replayed);
    }

    let (request, _) = sealed_to(&node);
    let refusal = pending(&request).refuse(body(b"{}"), &MODEL_MANIFEST).unwrap();
    assert_eq!(open(&as_request(&request, &refusal)).unwrap_err(), OpenError::Replayed);

    // What is not whole is told nothing of this.
    let mut broken = as_request(&request, &answer);
    broken.plaintext_body_hash = encode([0; 32]);
    assert_eq!(open(&broken).unwrap_err(), OpenError::Unopenable);
}

#[test]
fn what_is_refused_takes_no_room() {
    let node = Keyring::new(epoch_with_room_for(1, 2), LIMITS);
    for _ in 0..50 {
        let (request, _) = sealed_to(&node);
        let (_, pending) = node.open(&request, now()).unwrap();
        pending.refuse(body(b"{}"), &MODEL_MANIFEST).unwrap();
        assert_eq!(node.open(&request, now()).unwrap_err(), OpenError::Replayed);
    }
    assert_eq!(node.current().replays.fill_ratio(), 0.0);
}

#[test]
fn of_many_copies_at_once_exactly_one_opens() {
    const COPIES: usize = 16;
    for _ in 0..20 {
        let node = node();
        let (request, _) = sealed_to(&node);
        let start = Barrier::new(COPIES);
        let results: Vec<_> = std::thread::scope(|scope| {
            let copy = || {
                start.wait();
                node.open(&request, now())
            };
            let threads: Vec<_> = (0..COPIES).map(|_| scope.spawn(copy)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let refused = results.iter().filter(|result| matches!(result, Err(OpenError::Replayed)));
        assert_eq!(refused.count(), COPIES - 1);
    }
}

/// X25519 multiplies by a multiple of eight, so a point of order eight added to the client's key
/// changes its bytes and not the secret. Whoever carries a request can make such copies.
#[test]
fn a_copy_under_another_name_of_the_client_key() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let original = MontgomeryPoint(decode_array(&request.client_dh_public_key).unwrap());
    let names: Vec<_> = EIGHT_TORSION
        .iter()
        .map(|torsion| (original.to_edwards(0).unwrap() + torsion).to_montgomery().to_bytes())
        .collect();
    assert!(names[1..].iter().all(|name| *name != names[0]), "all are other bytes");

    let _opened = node.open(&request, now()).unwrap();
    for name in names {
        let client = encode(name);
        let copy =
            ConfidentialComputeRequest { client_dh_public_key: client.clone(), ..request.clone() };
        assert_eq!(node.open(&copy, now()).unwrap_err(), OpenError::Replayed);
    }
}

#[test]
fn what_did_not_open_is_not_remembered() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let wrong_hash = with_hash_of(&request, b"another body");
    assert_eq!(node.open(&wrong_hash, now()).unwrap_err(), OpenError::Unopenable);
    assert!(node.open(&request, now()).is_ok());
}

#[test]
fn a_full_keyring_refuses_and_forgets_nothing() {
    let node = Keyring::new(epoch_with_room_for(1, 2), LIMITS);
    let start = now();
    let fresh = || sealed_to(&node).0;
    let victim = fresh();
    // All but one place through one key, as an attacker would who is after that key.
    let opened: Vec<_> = (1..2 * Keyring::MAX_EPOCHS).map(|_| fresh()).collect();
    for (count, request) in (1..).zip(&opened) {
        accept(&node, request).unwrap();
        assert_eq!(node.current().replays.fill_ratio(), f64::from(count) / 2.0);
    }
    assert!(accept(&node, &victim).is_ok(), "worn out is not full");
    assert_eq!(accept(&node, &fresh()).unwrap_err(), OpenError::ReplayCacheFull);
    for request in &opened {
        assert_eq!(node.open(request, start).unwrap_err(), OpenError::Replayed);
    }
    // A rotation makes no room; the end of the old keys does.
    node.rotate(epoch_with_room_for(2, 2), start).unwrap();
    assert_eq!(node.current().replays.fill_ratio(), 0.0);
    assert_eq!(accept(&node, &fresh()).unwrap_err(), OpenError::ReplayCacheFull);
    node.expire(start + GRACE);
    assert!(accept(&node, &fresh()).is_ok());
}

#[test]
fn without_room_nothing_is_accepted() {
    let node = Keyring::new(epoch_with_room_for(1, 0), LIMITS);
    assert_eq!(node.current().replays.fill_ratio(), 1.0);
    let (request, _) = sealed_to(&node);
    assert_eq!(accept(&node, &request).unwrap_err(), OpenError::ReplayCacheFull);
}

fn accept(node: &Keyring, request: &ConfidentialComputeRequest) -> Result<Responder, OpenError> {
    node.open(request, now())?.1.accept()
}
