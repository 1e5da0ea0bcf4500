//! Keys that come and go.

use std::sync::Arc;

use super::*;
use crate::{KeyId, OpenError, TooManyEpochs};

const TICK: Duration = Duration::from_nanos(1);

/// Whether keys that are old would be rotated.
fn is_due(node: &Keyring, now: Instant) -> bool {
    node.is_rotation_due(now, Duration::ZERO, now)
}

#[test]
fn keys_are_due_when_they_are_old_or_worn_out() {
    const LIFETIME: Duration = Duration::from_secs(600);
    let node = Keyring::new(epoch_with_room_for(1, 4), LIMITS);
    let made = now();
    assert!(!node.is_rotation_due(made, LIFETIME, made + LIFETIME - TICK));
    assert!(node.is_rotation_due(made, LIFETIME, made + LIFETIME));
    for accepted in 1..=3 {
        let (request, _) = sealed_to(&node);
        node.open(&request, made).unwrap().1.accept().unwrap();
        assert_eq!(node.is_rotation_due(made, LIFETIME, made), accepted == 3);
    }
}

#[test]
fn the_previous_epoch_opens_until_its_grace_ends() {
    let node = node();
    let requests: Vec<_> = (0..4).map(|_| sealed_to(&node).0).collect();
    let old = node.current().key_id();
    let start = now();
    node.open(&requests[0], start).unwrap().1.accept().unwrap();
    node.rotate(epoch(2), start).unwrap();
    assert_ne!(node.current().key_id(), old);

    assert!(node.open(&requests[1], start).is_ok());
    assert!(node.open(&requests[2], start + GRACE - TICK).is_ok());
    let replayed = node.open(&requests[0], start + GRACE - TICK).unwrap_err();
    assert_eq!(replayed, OpenError::Replayed, "the old epoch keeps its cache");
    let stale = OpenError::StaleKey { current_key_id: node.current().key_id() };
    for late in [start + GRACE, start + 2 * GRACE] {
        assert_eq!(node.open(&requests[3], late).unwrap_err(), stale);
    }
}

#[test]
fn the_longest_and_the_shortest_grace() {
    for (grace, opens) in [(Duration::MAX, true), (Duration::ZERO, false)] {
        let node = Keyring::new(epoch(1), KeyringLimits { grace, ..LIMITS });
        let (request, _) = sealed_to(&node);
        let start = now();
        node.rotate(epoch(2), start).unwrap();
        assert_eq!(node.open(&request, start).is_ok(), opens);
    }
}

/// An attacker who could force rotations would otherwise lock out whoever sealed a moment ago.
#[test]
fn every_epoch_opens_until_its_own_grace_ends_however_many_follow() {
    let node = node();
    let start = now();
    let mut sealed = Vec::new();
    for number in 2..=Keyring::MAX_EPOCHS as u8 {
        sealed.push((0..3).map(|_| sealed_to(&node).0).collect::<Vec<_>>());
        assert!(is_due(&node, start));
        node.rotate(epoch(number), start + u32::from(number) * TICK).unwrap();
    }
    for (requests, number) in sealed.iter().zip(2..) {
        let end = start + number * TICK + GRACE;
        assert!(node.open(&requests[0], start + Keyring::MAX_EPOCHS as u32 * TICK).is_ok());
        assert!(node.open(&requests[1], end - TICK).is_ok(), "{number}");
        let stale = node.open(&requests[2], end).unwrap_err();
        assert!(matches!(stale, OpenError::StaleKey { .. }), "{number}");
    }
}

#[test]
fn a_rotation_too_many_waits_for_the_oldest_epoch_and_changes_nothing() {
    let node = node();
    let start = now();
    let (oldest, _) = sealed_to(&node);
    for number in 2..=Keyring::MAX_EPOCHS as u8 {
        node.rotate(epoch(number), start).unwrap();
    }
    let (newest, _) = sealed_to(&node);
    let current = node.current().key_id();
    let before = start + GRACE - TICK;
    assert!(!is_due(&node, before));
    assert_eq!(node.rotate(epoch(99), before), Err(TooManyEpochs));
    assert_eq!(node.current().key_id(), current);
    assert!(node.open(&oldest, before).is_ok() && node.open(&newest, before).is_ok());
    assert!(is_due(&node, start + GRACE));
    assert_eq!(node.rotate(epoch(99), start + GRACE), Ok(()));
}

#[test]
fn a_response_is_sealed_by_the_epoch_that_opened_its_request() {
    let node = node();
    let (before, start) = (attested(&node), now());
    let (request, opener) = sealed_to(&node);
    let (_, pending) = node.open(&request, start).unwrap();
    let responder = pending.accept().unwrap();
    node.rotate(epoch(2), start).unwrap();
    node.rotate(epoch(3), start).unwrap();
    assert_eq!(responder.key_id(), KeyId::of(&epoch(1).exchange_public()));
    let response = responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert!(opener.open_attested(&response, &before).is_ok());
}

#[test]
fn an_epoch_is_dropped_when_its_grace_ends() {
    let node = node();
    let first = Arc::downgrade(&node.current());
    let start = now();
    node.rotate(epoch(2), start).unwrap();
    node.expire(start + GRACE - TICK);
    assert!(first.upgrade().is_some(), "still in its grace period");
    node.expire(start + GRACE);
    assert!(first.upgrade().is_none(), "wiped");
}

/// A client that is slow to take its answer gets it, but does not keep the key in memory that opens
/// what others sent.
#[test]
fn a_stream_outlives_the_key_that_opened_its_request() {
    let node = node();
    let (before, start) = (attested(&node), now());
    let (request, opener) = sealed_to(&node);
    let (_, pending) = node.open(&request, start).unwrap();
    let mut parts = pending.accept().unwrap().into_stream().unwrap();
    let mut opener = opener.stream_attested(before);
    let first = parts.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();

    let signer = Arc::downgrade(&node.current().signer);
    let epoch_1 = Arc::downgrade(&node.current());
    node.rotate(epoch(2), start).unwrap();
    node.expire(start + GRACE);
    assert!(epoch_1.upgrade().is_none(), "its X25519 secret is wiped");
    assert!(signer.upgrade().is_some(), "an answer is still to be signed");

    let last = parts.seal_last(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    assert!(signer.upgrade().is_none(), "wiped");
    for part in [first, last] {
        opener.open(&part).unwrap();
    }
}

#[test]
fn a_stale_request_is_told_the_current_key_without_being_decrypted() {
    let node = node();
    let other = Keyring::new(epoch(9), LIMITS);
    let (mut request, _) = sealed_to(&other);
    let stale = OpenError::StaleKey { current_key_id: node.current().key_id() };
    assert_eq!(node.open(&request, now()).unwrap_err(), stale);
    // Nothing in it would decrypt under any key.
    request.ciphertext = "AAAA".repeat(100);
    assert_eq!(node.open(&request, now()).unwrap_err(), stale);
    assert!(stale.to_string().contains(&node.current().key_id().to_string()));
}

#[test]
fn key_ids_are_16_hexadecimal_digits() {
    let id = KeyId::of(&[0; 32]).to_string();
    assert_eq!(id.len(), 16);
    assert!(id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
    assert_eq!(unhex::<8>(&id), blake2b_256(&[0; 32])[..8]);
}
