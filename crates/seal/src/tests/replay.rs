//! No request opens twice.

use std::sync::Barrier;

use curve25519_dalek::{constants::EIGHT_TORSION, montgomery::MontgomeryPoint};

use super::*;
use crate::{
    OpenError,
    encoding::{decode_array, encode},
};

#[test]
fn the_second_copy_is_refused() {
    let node = node();
    let (request, _) = sealed_to(&node);
    assert!(node.open(&request.parts(), now()).is_ok());
    assert_eq!(node.open(&request.parts(), now()).unwrap_err(), OpenError::Replayed);
    let (other, _) = sealed_to(&node);
    assert!(node.open(&other.parts(), now()).is_ok());
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
                node.open(&request.parts(), now()).map(drop)
            };
            let threads: Vec<_> = (0..COPIES).map(|_| scope.spawn(copy)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let refused = results.iter().filter(|result| **result == Err(OpenError::Replayed));
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

    assert!(node.open(&request.parts(), now()).is_ok());
    for name in names {
        let client = encode(name);
        let copy = RequestParts { client_dh_public_key: &client, ..request.parts() };
        assert_eq!(node.open(&copy, now()).unwrap_err(), OpenError::Replayed);
    }
}

#[test]
fn what_did_not_open_is_not_remembered() {
    let node = node();
    let (request, _) = sealed_to(&node);
    let mut text = String::new();
    let wrong_hash = with_hash_of(request.parts(), &mut text, b"another body");
    assert_eq!(node.open(&wrong_hash, now()).unwrap_err(), OpenError::Unopenable);
    assert!(node.open(&request.parts(), now()).is_ok());
}

#[test]
fn a_full_cache_refuses_and_forgets_nothing() {
    let node = Keyring::new(epoch_with_room_for(1, 4), LIMITS);
    let opened: Vec<_> = (1..=4)
        .map(|count| {
            let (request, _) = sealed_to(&node);
            assert!(node.open(&request.parts(), now()).is_ok());
            assert_eq!(node.current().replay_fill_ratio(), f64::from(count) / 4.0);
            request
        })
        .collect();
    let (fresh, _) = sealed_to(&node);
    assert_eq!(node.open(&fresh.parts(), now()).unwrap_err(), OpenError::ReplayCacheFull);
    for request in &opened {
        assert_eq!(node.open(&request.parts(), now()).unwrap_err(), OpenError::Replayed);
    }
    // A rotation makes room.
    node.rotate(epoch(2), now());
    assert_eq!(node.current().replay_fill_ratio(), 0.0);
    let (fresh, _) = sealed_to(&node);
    assert!(node.open(&fresh.parts(), now()).is_ok());
}

#[test]
fn without_room_nothing_opens() {
    let node = Keyring::new(epoch_with_room_for(1, 0), LIMITS);
    assert_eq!(node.current().replay_fill_ratio(), 1.0);
    let (request, _) = sealed_to(&node);
    assert_eq!(node.open(&request.parts(), now()).unwrap_err(), OpenError::ReplayCacheFull);
}
