//! TLS that ends in the node, at a key that its evidence names.
//!
//! TLS 1.3 alone (RFC 8446): every client that can check evidence speaks it, and whoever holds a recorded
//! connection and the key later learns nothing. Connections are not resumed and carry no early data: the
//! node keeps no secret of a connection beyond its end, and every connection proves the key anew.

mod files;
mod own;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// The protocols that are spoken inside, as ALPN names them (RFC 7301).
pub(crate) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A certificate and its key, ready for connections.
///
/// rustls and ring keep the key for as long as the process lives, in memory of theirs that they do not
/// wipe; the program's allocator wipes it when it is freed, and core dumps are off. What is made or read
/// on the way to them is wiped here.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    spki_sha256: String,
}

impl Tls {
    /// A key of the node's own, and a certificate for it that names these names.
    ///
    /// # Errors
    /// Where no key can be made.
    pub(crate) fn self_signed(names: &[String]) -> Result<Self, TlsError> {
        own::self_signed(names)
    }

    /// A certificate and its key from PEM files.
    ///
    /// # Errors
    /// Names the file that is none, and what is wrong with it.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        files::read(certificate, key)
    }

    /// Handshakes with this key.
    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7), in lower-case hex: what
    /// evidence binds.
    pub(crate) fn spki_sha256(&self) -> &str {
        &self.spki_sha256
    }

    /// # Errors
    /// Where the key is of no kind that is known here, or not the certificate's.
    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, Unfit> {
        // Of a borrowed key: what is handed over is freed without being wiped.
        let key = ring::sign::any_supported_type(key).map_err(|_| Unfit::Key)?;
        // Of the key that signs, and not as a certificate may write it.
        let spki = key.public_key().ok_or(Unfit::Key)?;
        let spki_sha256 = hex::encode(Sha256::digest(&spki));
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Unfit::Pair,
            _ => Unfit::Certificate,
        })?;
        // Named here: the process has a default only where somebody else set one.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|_| Unfit::Key)?
            .with_no_client_auth()
            // One certificate, whatever name a client sends (SNI): that text is never looked at.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), spki_sha256 })
    }
}

/// What is wrong with a certificate and a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    Key,
    Certificate,
    Pair,
}

/// Why TLS cannot be had. Names files, and nothing of what is in them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Files were asked for, and not both are named.
    #[error("`tls = \"files\"` needs `tls_certificate` and `tls_key`")]
    FilesUnnamed,
    /// The node's own key.
    #[error("a TLS key of the node's own could not be made")]
    OwnKey,
    /// A file cannot be read.
    #[error("{path} (`{setting}`) cannot be read")]
    Read {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A pipe, a device, a folder.
    #[error("{path} (`{setting}`) is no regular file")]
    NotAFile {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Longer than any certificate or key.
    #[error("{path} (`{setting}`) is longer than {max_bytes} bytes")]
    TooLong {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max_bytes: usize,
    },
    /// Not PEM, or of something else.
    #[error("{path} (`{setting}`) does not hold {expected}")]
    NotPem {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Each may be good, but they are not of one pair.
    #[error(
        "the key in {key} (`tls_key`) is not that of the certificate in {certificate} (`tls_certificate`)"
    )]
    NotOfOnePair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}
