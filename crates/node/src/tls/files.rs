//! A certificate and its key from files that the operator keeps (PEM, RFC 7468).
//!
//! They are read once, at the start: evidence names the key that they held then.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{Tls, TlsError, Unfit};

/// Of a chain, some ten long certificates.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Of a key: RSA's longest that is accepted has a tenth of it.
const MAX_KEY_BYTES: usize = 16 * 1024;
const CERTIFICATE: &str = "tls_certificate";
const KEY: &str = "tls_key";

/// Reads a chain, the node's own certificate first, and the key of that one.
///
/// # Errors
/// Names the file that is wrong.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
    let not_pem = |setting, path: &Path, expected| TlsError::NotPem {
        setting,
        path: path.to_owned(),
        expected,
    };
    let no_chain = || not_pem(CERTIFICATE, certificate, "certificates in PEM");
    let no_key = || not_pem(KEY, key, "a private key in PEM that TLS can sign with");

    let pem = contents(CERTIFICATE, certificate, MAX_CERTIFICATE_BYTES)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(no_chain)?;
    let pem = contents(KEY, key, MAX_KEY_BYTES)?;
    // The decoder's own buffers are freed without being wiped, which the program's allocator then does.
    let secret = Zeroizing::new(PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?);
    Tls::new(chain, &secret).map_err(|unfit| match unfit {
        Unfit::Key => no_key(),
        Unfit::Certificate => no_chain(),
        Unfit::Pair => {
            TlsError::NotOfOnePair { key: key.to_owned(), certificate: certificate.to_owned() }
        }
    })
}

/// All of a regular file, or of one that a link leads to, as in a mounted Kubernetes secret.
fn contents(
    setting: &'static str,
    path: &Path,
    max_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unread = |source: io::Error| TlsError::Read { setting, path: path.to_owned(), source };
    let regular = |metadata: fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(TlsError::NotAFile { setting, path: path.to_owned() }),
    };
    // Before it is opened, since opening a device can do something to it; and after, should it have been
    // exchanged since. A pipe is not waited for.
    regular(fs::metadata(path).map_err(unread)?)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unread(error.into()))?;
    let file = File::from(file);
    regular(file.metadata().map_err(unread)?)?;
    // As much room as may be needed: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max_bytes + 1));
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    match bytes.len() <= max_bytes {
        true => Ok(bytes),
        false => Err(TlsError::TooLong { setting, path: path.to_owned(), max_bytes }),
    }
}
