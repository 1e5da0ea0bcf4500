//! A key of the node's own: made in its memory at each start, and never written anywhere.
//!
//! No authority vouches for its certificate. Evidence does: who accepts the evidence knows that the key
//! exists in that TEE alone, which no authority could say.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{Tls, TlsError};

const A_DAY_LESS_A_SECOND: Duration = Duration::from_secs(24 * 3600 - 1);

/// A fresh ECDSA key on P-256, which every client knows, and a certificate for these names.
///
/// # Errors
/// Where the system gives no randomness, or a name fits into no certificate.
pub(super) fn self_signed(names: &[String]) -> Result<Tls, TlsError> {
    // Wipes the encoded key. What ring holds of it is freed without being wiped, here and in rustls.
    let key = Zeroizing::new(KeyPair::generate().map_err(|_| TlsError::OwnKey)?);
    let mut params = CertificateParams::new(names).map_err(|_| TlsError::OwnKey)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Obscura node");
    // The key ends with the process. A clock that is wrong must not end it before: so it begins long ago,
    // and has RFC 5280's date for what has no end (§4.1.2.5).
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31) + A_DAY_LESS_A_SECOND;
    let certificate = params.self_signed(&*key).map_err(|_| TlsError::OwnKey)?;
    let encoded = PrivateKeyDer::try_from(key.serialized_der()).map_err(|_| TlsError::OwnKey)?;
    Tls::new(vec![certificate.der().clone()], &encoded).map_err(|_| TlsError::OwnKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "::1", "node.example"].map(str::to_owned).to_vec()
    }

    #[test]
    fn every_start_has_a_key_of_its_own() {
        let [first, second] = [(); 2].map(|()| self_signed(&names()).unwrap());
        assert_ne!(first.spki_sha256(), second.spki_sha256());
    }
}
