//! What is printed of secrets: nothing.

use std::fmt::Debug;

use super::*;
use crate::{NodeKeys, Responder, TrustedSigner};

/// Names both implementations' item where `$type` has the trait, which does not compile.
macro_rules! assert_not_impl {
    ($type:ty: $bound:path) => {{
        trait AmbiguousIfImpl<A> {
            fn item() {}
        }
        impl<T: ?Sized> AmbiguousIfImpl<()> for T {}
        impl<T: ?Sized + $bound> AmbiguousIfImpl<u8> for T {}
        let _ = <$type as AmbiguousIfImpl<_>>::item;
    }};
}

#[test]
fn keys_are_neither_printed_nor_copied() {
    assert_not_impl!(NodeKeys: Debug);
    assert_not_impl!(NodeKeys: Clone);
    assert_not_impl!(Epoch: Clone);
    assert_not_impl!(crate::cipher::SessionKey: Debug);
    assert_not_impl!(crate::cipher::SessionKey: Clone);
    assert_not_impl!(crate::Plaintext: Clone);
    assert_not_impl!(crate::Pending: Clone);
    assert_not_impl!(Responder: Clone);
    assert_not_impl!(Opener: Clone);
}

/// Whatever an attacker who reads logs must not see, as text, hexadecimal, base64 or a list.
struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    fn assert_absent(&self, printed: &str) {
        for secret in &self.0 {
            let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
            let list = format!("{secret:?}");
            let list = list.trim_matches(['[', ']']);
            let base64 = crate::encoding::encode(secret);
            let text = String::from_utf8_lossy(secret);
            for form in [&hex, list, base64.trim_end_matches('='), &text] {
                assert!(!printed.contains(form), "{form} in {printed}");
            }
        }
    }
}

#[test]
fn debug_of_every_public_type_leaks_nothing() {
    let node = node();
    let (request, opener) = sealed_to(&node);
    let (plaintext, pending) = node.open(&request, now()).unwrap();
    let printed_pending = format!("{pending:?}");
    let responder = pending.accept().unwrap();
    let (key, exchange) = (*node.current().exchange.as_bytes(), [1; 32]);
    assert_eq!(key, exchange);
    let secrets = Secrets(vec![
        exchange.to_vec(),
        node.current().signer.key.to_bytes().to_vec(),
        b"a cat".to_vec(),
        REQUEST.to_vec(),
        b"created".to_vec(),
        blake2b_256(plaintext.as_bytes()).to_vec(),
    ]);
    let printed = [
        format!("{node:?}"),
        format!("{:#?}", node.current()),
        format!("{request:?}"),
        format!("{plaintext:?}"),
        format!("{responder:?}"),
        format!("{opener:?}"),
        printed_pending,
    ];
    printed.iter().for_each(|printed| secrets.assert_absent(printed));
    assert_eq!(printed[3], "Plaintext(4096 bytes)");

    let response: ConfidentialComputeResponse =
        responder.seal(body(RESPONSE), &MODEL_MANIFEST).unwrap();
    secrets.assert_absent(&format!("{response:?}"));
    assert!(!format!("{response:?}").contains(&response.ciphertext[..20]));
    let opened = opener.open_attested(&response, &attested(&node)).unwrap();
    assert!(format!("{:?}", opened.body).starts_with("Plaintext("));
    Secrets(secrets.0[..5].to_vec()).assert_absent(&format!("{opened:?}"));

    let signer: TrustedSigner = format!("0x{}", "ab".repeat(32)).parse().unwrap();
    secrets.assert_absent(&format!("{signer:?} {LIMITS:?}"));
}
