//! Keys that come and go.

use std::sync::Arc;

use super::*;
use crate::{KeyId, OpenError};

const TICK: Duration = Duration::from_nanos(1);

#[test]
fn the_previous_epoch_opens_until_its_grace_ends() {
    let node = node();
    let requests: Vec<_> = (0..4).map(|_| sealed_to(&node).0).collect();
    let old = node.current().key_id();
    let start = now();
    assert!(node.open(&requests[0].parts(), start).is_ok());
    node.rotate(epoch(2), start);
    assert_ne!(node.current().key_id(), old);

    assert!(node.open(&requests[1].parts(), start).is_ok());
    assert!(node.open(&requests[2].parts(), start + GRACE - TICK).is_ok());
    let replayed = node.open(&requests[0].parts(), start + GRACE - TICK).unwrap_err();
    assert_eq!(replayed, OpenError::Replayed, "the old epoch keeps its cache");
    let stale = OpenError::StaleKey { current_key_id: node.current().key_id() };
    for late in [start + GRACE, start + 2 * GRACE] {
        assert_eq!(node.open(&requests[3].parts(), late).unwrap_err(), stale);
    }
}

#[test]
fn the_longest_and_the_shortest_grace() {
    for (grace, opens) in [(Duration::MAX, true), (Duration::ZERO, false)] {
        let node = Keyring::new(epoch(1), KeyringLimits { grace, ..LIMITS });
        let (request, _) = sealed_to(&node);
        let start = now();
        node.rotate(epoch(2), start);
        assert_eq!(node.open(&request.parts(), start).is_ok(), opens);
    }
}

#[test]
fn an_epoch_two_rotations_old_stops_at_once() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let start = now();
    node.rotate(epoch(2), start);
    node.rotate(epoch(3), start);
    let stale = OpenError::StaleKey { current_key_id: node.current().key_id() };
    assert_eq!(node.open(&request.parts(), start).unwrap_err(), stale);
}

#[test]
fn a_response_is_sealed_by_the_epoch_that_opened_its_request() {
    let node = node();
    let (before, start) = (attested(&node), now());
    let (request, opener) = sealed_to(&node);
    let (_, responder) = node.open(&request.parts(), start).unwrap();
    node.rotate(epoch(2), start);
    node.rotate(epoch(3), start);
    assert_eq!(responder.key_id(), KeyId::of(&epoch(1).exchange_public()));
    let response = responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert!(opener.open_attested(&response.parts(), &before).is_ok());
}

#[test]
fn an_epoch_is_dropped_when_it_stops_and_its_last_request_is_answered() {
    let node = node();
    let first = Arc::downgrade(&node.current());
    let (request, _) = sealed_to(&node);
    let start = now();
    let (_, responder) = node.open(&request.parts(), start).unwrap();
    node.rotate(epoch(2), start);
    node.expire(start + GRACE - TICK);
    drop(responder);
    assert!(first.upgrade().is_some(), "still in its grace period");
    node.expire(start + GRACE);
    assert!(first.upgrade().is_none(), "wiped");

    let second = Arc::downgrade(&node.current());
    let (request, _) = sealed_to(&node);
    let (_, responder) = node.open(&request.parts(), start).unwrap();
    node.rotate(epoch(3), start);
    node.expire(start + GRACE);
    assert!(second.upgrade().is_some(), "a request is unanswered");
    responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert!(second.upgrade().is_none(), "wiped");
}

#[test]
fn a_stale_request_is_told_the_current_key_without_being_decrypted() {
    let node = node();
    let other = Keyring::new(epoch(9), LIMITS);
    let (mut request, _) = sealed_to(&other);
    let stale = OpenError::StaleKey { current_key_id: node.current().key_id() };
    assert_eq!(node.open(&request.parts(), now()).unwrap_err(), stale);
    // Nothing in it would decrypt under any key.
    request.ciphertext = "AAAA".repeat(100);
    assert_eq!(node.open(&request.parts(), now()).unwrap_err(), stale);
    assert!(stale.to_string().contains(&node.current().key_id().to_string()));
}

#[test]
fn key_ids_are_16_hexadecimal_digits() {
    let id = KeyId::of(&[0; 32]).to_string();
    assert_eq!(id.len(), 16);
    assert!(id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
    assert_eq!(unhex::<8>(&id), blake2b_256(&[0; 32])[..8]);
}
