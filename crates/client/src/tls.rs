//! Whose key a TLS connection ends at, and which connections are made at all.
//!
//! A node that ends TLS itself has a key that no authority vouches for, but its evidence. So evidence is
//! asked for over a connection to whoever answers, which carries nothing secret; whoever it was is
//! remembered, and held against what the evidence says. What follows goes over connections that end at
//! the attested key, or else, as everywhere, at a key that some certificate vouches for.

use std::sync::{Arc, Mutex, PoisonError};

use attest::verify::Channel;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
        verify_tls13_signature,
    },
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
    /// What this machine trusts. `None` where it has no roots, or they decide nothing: then nobody's
    /// certificate is trusted.
    roots: Option<rustls_platform_verifier::Verifier>,
    algorithms: WebPkiSupportedAlgorithms,
    met: Mutex<Met>,
}

/// Whom the handshakes so far were with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Nobody,
    One(SpkiDigest, Trusted),
    /// Not all with one peer: nothing can be said of who answered.
    Several,
}

type Trusted = bool;

impl Peers {
    /// Nobody yet.
    pub(crate) fn new(accept: Accept) -> Arc<Self> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let roots = match accept {
            Accept::Any | Accept::Public => rustls_platform_verifier::Verifier::new(provider).ok(),
            Accept::Key(_) => None,
        };
        Arc::new(Self { accept, roots, algorithms, met: Mutex::new(Met::Nobody) })
    }

    /// Connections whose peers are these.
    ///
    /// # Errors
    /// Where the cryptography has no version of TLS in common with this code.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
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
            Met::One(spki_sha256, is_publicly_valid) => {
                Some(Channel::Tls { spki_sha256, is_publicly_valid })
            }
            Met::Nobody | Met::Several => None,
        }
    }

    /// The attested key and another one, where that turned up in its place.
    pub(crate) fn mismatch(&self) -> Option<(SpkiDigest, SpkiDigest)> {
        match (self.accept, *self.met()) {
            (Accept::Key(attested), Met::One(found, _)) if found != attested => {
                Some((attested, found))
            }
            _ => None,
        }
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut met = self.met();
        *met = match *met {
            Met::Nobody => Met::One(spki_sha256, judged.is_ok()),
            Met::One(before, trusted) if before == spki_sha256 => {
                Met::One(before, trusted && judged.is_ok())
            }
            Met::One(..) | Met::Several => Met::Several,
        };
        match self.accept {
            Accept::Any => Ok(ServerCertVerified::assertion()),
            Accept::Public => judged,
            // The name does not matter, nor who signed, nor for how long: the evidence said whose it is.
            Accept::Key(attested) if attested == spki_sha256 => Ok(ServerCertVerified::assertion()),
            Accept::Key(_) => {
                *met = Met::One(spki_sha256, false);
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
