//! Signatures of proxies.

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::{SignatureError, SuiSignature, TrustedSigner, encoding::encode, find_trusted_signer};

const MESSAGE: [u8; 32] = [0x5a; 32];

/// flag ‖ signature ‖ key of one signer for each scheme.
fn signatures() -> [Vec<u8>; 3] {
    [ed25519(), secp256k1(), secp256r1()]
}

fn ed25519() -> Vec<u8> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let signature = key.sign(&MESSAGE).to_bytes();
    [&[0], signature.as_slice(), key.verifying_key().as_bytes()].concat()
}

fn secp256k1() -> Vec<u8> {
    let key = k256::ecdsa::SigningKey::from_slice(&[2; 32]).unwrap();
    let signature: k256::ecdsa::Signature = key.sign(&MESSAGE);
    let public = key.verifying_key().to_sec1_point(true);
    [&[1], signature.normalize_s().to_bytes().as_slice(), public.as_bytes()].concat()
}

fn secp256r1() -> Vec<u8> {
    let key = p256::ecdsa::SigningKey::from_slice(&[3; 32]).unwrap();
    let signature: p256::ecdsa::Signature = key.sign(&MESSAGE);
    let public = key.verifying_key().to_sec1_point(true);
    [&[2], signature.normalize_s().to_bytes().as_slice(), public.as_bytes()].concat()
}

#[test]
fn every_scheme_verifies() {
    for bytes in signatures() {
        let signature = SuiSignature::from_base64(&encode(&bytes)).unwrap();
        assert_eq!(signature.verify(&MESSAGE), Ok(()));
        assert_eq!(signature.to_bytes(), bytes);
        assert_eq!(signature.verify(&[0; 32]), Err(SignatureError::Mismatch));
    }
}

#[test]
fn every_bit_of_every_signature_counts() {
    for bytes in signatures() {
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let verdict = SuiSignature::from_bytes(&flipped).and_then(|s| s.verify(&MESSAGE));
            assert!(verdict.is_err(), "flag {}, bit {bit}", bytes[0]);
        }
    }
}

#[test]
fn lengths_and_flags() {
    for bytes in signatures() {
        for length in 0..bytes.len() {
            assert!(SuiSignature::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(SuiSignature::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        let mut unknown = bytes.clone();
        unknown[0] = 3;
        let error = SuiSignature::from_bytes(&unknown).unwrap_err();
        assert_eq!(error, SignatureError::UnknownScheme { flag: 3 });
    }
    assert_eq!(SuiSignature::from_base64("?"), Err(SignatureError::NotBase64));
    let huge = "A".repeat(1 << 20);
    assert_eq!(SuiSignature::from_base64(&huge), Err(SignatureError::NotBase64));
}

#[test]
fn the_upper_s_is_refused_on_both_curves() {
    let [_, mut k1, mut r1] = signatures();
    let low = k256::ecdsa::Signature::from_slice(&k1[1..65]).unwrap();
    let (r, s) = low.split_scalars();
    let high = k256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    k1[1..65].copy_from_slice(&high.to_bytes());
    let low = p256::ecdsa::Signature::from_slice(&r1[1..65]).unwrap();
    let (r, s) = low.split_scalars();
    let high = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    r1[1..65].copy_from_slice(&high.to_bytes());
    for bytes in [k1, r1] {
        let signature = SuiSignature::from_bytes(&bytes).unwrap();
        assert_eq!(signature.verify(&MESSAGE), Err(SignatureError::HighS));
    }
}

#[test]
fn only_compressed_keys() {
    for prefix in [0x00, 0x04, 0x05, 0x06] {
        for mut bytes in [secp256k1(), secp256r1()] {
            bytes[65] = prefix;
            let error = SuiSignature::from_bytes(&bytes).unwrap_err();
            assert_eq!(error, SignatureError::UnusableKey);
        }
    }
}

/// Ed25519 with the neutral point as key and R, and s = 0, would verify any message.
#[test]
fn a_signature_by_nobody() {
    let mut bytes = [0; 97];
    (bytes[1], bytes[65]) = (1, 1);
    let signature = SuiSignature::from_bytes(&bytes).unwrap();
    assert_eq!(signature.verify(&MESSAGE), Err(SignatureError::Mismatch));
}

#[test]
fn an_address_is_the_hash_of_flag_and_key() {
    for bytes in signatures() {
        let signature = SuiSignature::from_bytes(&bytes).unwrap();
        let preimage = [&bytes[..1], &bytes[65..]].concat();
        assert_eq!(signature.public_key().address().0, blake2b_256(&preimage));
    }
}

#[test]
fn signers_are_known_by_address_or_key() {
    for bytes in signatures() {
        let header = encode(&bytes);
        let key = SuiSignature::from_bytes(&bytes).unwrap();
        let by_address: TrustedSigner = key.public_key().address().to_string().parse().unwrap();
        let text = encode([&bytes[..1], &bytes[65..]].concat());
        let by_key: TrustedSigner = text.parse().unwrap();
        assert_eq!(by_key, TrustedSigner::Key(*key.public_key()));

        let stranger = TrustedSigner::Address(crate::SuiAddress([0; 32]));
        for trusted in [by_address, by_key] {
            let list = [stranger, trusted];
            assert_eq!(find_trusted_signer(&list, &header, &MESSAGE), Ok(&trusted));
            let wrong = find_trusted_signer(&list, &header, &[0; 32]);
            assert_eq!(wrong, Err(SignatureError::Mismatch));
        }
        for list in [&[][..], &[stranger]] {
            let unknown = find_trusted_signer(list, &header, &MESSAGE);
            assert_eq!(unknown, Err(SignatureError::NotTrusted));
        }
    }
}

#[test]
fn a_signer_is_written_in_one_way() {
    let digits = "ab".repeat(32);
    assert!(format!("0x{digits}").parse::<TrustedSigner>().is_ok());
    assert!(format!("0x{}", digits.to_uppercase()).parse::<TrustedSigner>().is_ok());
    let mut texts = vec![String::new(), "0x".into(), "0xab".into(), "proxy".into(), digits.clone()];
    texts.push(format!("0x{}", &digits[1..]));
    texts.push(format!("0x{digits}0"));
    texts.push(format!("0x{digits}00"));
    texts.push(format!("0x{}zz", &digits[2..]));
    texts.push(format!("0x{}+1", &digits[2..]));
    texts.push(format!("0x{}é", &digits[2..]));
    texts.push(encode([0; 32]));
    texts.push(encode([0; 34]));
    texts.push(encode([1; 33]));
    texts.push(encode([9; 33]));
    for text in texts {
        assert!(text.parse::<TrustedSigner>().is_err(), "{text}");
    }
}
