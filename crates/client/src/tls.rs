//! Whose key a TLS connection ends at, and which connections are made at all.
//!
//! A node that ends TLS itself has a key that no authority vouches for, but its evidence. So evidence is
//! asked for over a connection to whoever answers, which carries nothing secret; whoever it was is
//! remembered, and held against what the evidence says. What follows goes over connections that end at
//! the attested key, or else, as everywhere, at a key that some certificate vouches for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attest::verify::Channel;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};

/// SHA-256 of a SubjectPublicKeyInfo.
pub(crate) type SpkiDigest = [u8; 32];

/// Which peers a connection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Anybody: for a request and an answer that anybody may read and write.
    Any,
    /// Those with a certificate that this machine trusts, for the host of the URL.
    Public,
    /// The one with this key.
    Key(SpkiDigest),
}

/// Judges the peer of each handshake, and remembers it. Every handshake is a full one, so that none passes
/// by here.
#[derive(Debug)]
pub(crate) struct Peers {
    accept: Accept,
    /// What this machine trusts. `None` where it has no roots, such as a container without `ca-certificates`,
    /// or they decide nothing: then nobody's certificate is trusted.
    roots: Option<rustls_platform_verifier::Verifier>,
    algorithms: WebPkiSupportedAlgorithms,
    met: Mutex<Met>,
    /// The key of the last one who was not let in.
    refused: Mutex<Option<SpkiDigest>>,
}

/// Whom the handshakes so far were with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Nobody,
    /// This one, whose certificate this machine trusts, or does not.
    One {
        spki_sha256: SpkiDigest,
        is_publicly_valid: bool,
    },
    /// Not all with one peer: nothing can be said of who answered.
    Several,
}

impl Met {
    /// After one handshake more.
    fn and(self, spki_sha256: SpkiDigest, is_publicly_valid: bool) -> Self {
        match self {
            Self::Nobody => Self::One { spki_sha256, is_publicly_valid },
            Self::One { spki_sha256: before, is_publicly_valid: was } if before == spki_sha256 => {
                Self::One { spki_sha256, is_publicly_valid: was && is_publicly_valid }
            }
            Self::One { .. } | Self::Several => Self::Several,
        }
    }
}

impl Peers {
    /// Nobody yet.
    pub(crate) fn new(accept: Accept) -> Arc<Self> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let roots = match accept {
            Accept::Any | Accept::Public => rustls_platform_verifier::Verifier::new(provider).ok(),
            Accept::Key(_) => None,
        };
        let (met, refused) = (Mutex::new(Met::Nobody), Mutex::new(None));
        Arc::new(Self { accept, roots, algorithms, met, refused })
    }

    /// Connections whose peers are these.
    ///
    /// # Errors
    /// Where the cryptography has no version of TLS in common with this code.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// What the connections so far were, where they were all with one peer.
    pub(crate) fn channel(&self) -> Option<Channel> {
        match *self.met() {
            Met::One { spki_sha256, is_publicly_valid } => {
                Some(Channel::Tls { spki_sha256, is_publicly_valid })
            }
            Met::Nobody | Met::Several => None,
        }
    }

    /// The attested key and another one, where that turned up in its place since this was last asked.
    pub(crate) fn mismatch(&self) -> Option<(SpkiDigest, SpkiDigest)> {
        let Accept::Key(attested) = self.accept else { return None };
        self.refused().take().map(|found| (attested, found))
    }

    /// Whether somebody was refused since this was last asked, whose certificate nothing here could judge.
    pub(crate) fn lacked_roots(&self) -> bool {
        let cannot_judge = self.accept == Accept::Public && self.roots.is_none();
        cannot_judge && self.refused().take().is_some()
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Option<SpkiDigest>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let spki_sha256 = Sha256::digest(&spki).into();
        let judged = match &self.roots {
            Some(roots) => {
                roots.verify_server_cert(certificate, intermediates, host, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        {
            let mut met = self.met();
            *met = met.and(spki_sha256, judged.is_ok());
        }
        match self.accept {
            Accept::Any => Ok(ServerCertVerified::assertion()),
            Accept::Public => {
                if judged.is_err() {
                    *self.refused() = Some(spki_sha256);
                }
                judged
            }
            // The name does not matter, nor who signed, nor for how long: the evidence said whose it is.
            Accept::Key(attested) if attested == spki_sha256 => Ok(ServerCertVerified::assertion()),
            Accept::Key(_) => {
                *self.refused() = Some(spki_sha256);
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    // What shows that the peer has the key, and is never left out.

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_is_known_of_one_peer_alone() {
        let one = Met::Nobody.and([1; 32], true);
        assert_eq!(one, Met::One { spki_sha256: [1; 32], is_publicly_valid: true });
        assert_eq!(one.and([1; 32], true), one);
        // The same key, once with a certificate that is not trusted.
        let doubted = one.and([1; 32], false);
        assert_eq!(doubted, Met::One { spki_sha256: [1; 32], is_publicly_valid: false });
        assert_eq!(one.and([2; 32], true), Met::Several);
        assert_eq!(Met::Several.and([1; 32], true), Met::Several);
    }

    /// A certificate that nothing here can judge is told apart from one that was judged and found wanting.
    #[test]
    fn a_machine_without_roots_says_so() {
        let root = include_bytes!("../../../attestation/roots/intel-sgx-root.der");
        let certificate = CertificateDer::from(&root[..]);
        let host = ServerName::try_from("node.example").unwrap();
        let peers = |roots| {
            let peers = Arc::into_inner(Peers::new(Accept::Public)).unwrap();
            Peers { roots, ..peers }
        };
        let judge = |peers: &Peers| {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
            peers.verify_server_cert(&certificate, &[], &host, &[], now).unwrap_err()
        };
        let without = peers(None);
        assert!(!without.lacked_roots(), "nobody was there yet");
        judge(&without);
        assert!(without.lacked_roots() && !without.lacked_roots());
        let provider = Arc::new(ring::default_provider());
        let root = [certificate.clone().into_owned()];
        let roots = rustls_platform_verifier::Verifier::new_with_extra_roots(root, provider);
        let with = peers(Some(roots.unwrap()));
        judge(&with);
        assert!(!with.lacked_roots(), "it was judged");
    }
}
