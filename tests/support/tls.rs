//! Certificates for tests, and somebody in the middle who has one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What every certificate here is for.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
    /// SHA-256 of the key's SubjectPublicKeyInfo, hex.
    pub spki_sha256: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Who vouches for certificates, to those who trust it.
pub struct Authority {
    /// Its own certificate.
    pub certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// Where there is no randomness.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate_pem = params.self_signed(&key).expect("a certificate").pem();
        Self { certificate_pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for loopback.
    ///
    /// # Panics
    /// Where there is no randomness.
    #[must_use]
    pub fn vouches_for(&self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let signed = params().signed_by(&key, &self.issuer).expect("a certificate");
        Identity::new(&signed, &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// One that nobody vouches for.
    ///
    /// # Panics
    /// Where there is no randomness.
    #[must_use]
    pub fn self_signed() -> Self {
        let key = KeyPair::generate().expect("a key");
        Self::new(&params().self_signed(&key).expect("a certificate"), &key)
    }

    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            spki_sha256: hex(&Sha256::digest(key.subject_public_key_info())),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(HOSTS.map(str::to_owned)).expect("two names")
}

/// SHA-256 of the SubjectPublicKeyInfo in a certificate, hex.
///
/// # Panics
/// Where it is no certificate.
#[must_use]
pub fn spki_sha256(certificate_der: &[u8]) -> String {
    let certificate = CertificateDer::from(certificate_der);
    let parsed = ParsedCertificate::try_from(&certificate).expect("a certificate");
    hex(&Sha256::digest(parsed.subject_public_key_info()))
}

/// Somebody between a client and a node: hands on what both say, and keeps what the client says.
pub struct Middle {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// In clear text, of every connection that it ended.
    pub heard: Arc<Mutex<Vec<u8>>>,
}

impl Middle {
    /// Between clients and the node at this URL. The first `untouched` connections go through as they are.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn before(node_url: &str, identity: &Identity, untouched: usize) -> Self {
        let node = node_url.strip_prefix("https://").expect("a node with TLS").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("it is bound"));
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .expect("a pair");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("a version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let (acceptor, connector) =
            (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let log = heard.clone();
        let count = AtomicUsize::new(0);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let touched = count.fetch_add(1, Ordering::Relaxed) >= untouched;
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                let (node, log) = (node.clone(), log.clone());
                tokio::spawn(async move {
                    let mut behind = TcpStream::connect(node).await?;
                    if !touched {
                        return tokio::io::copy_bidirectional(&mut socket, &mut behind)
                            .await
                            .map(drop);
                    }
                    let client = acceptor.accept(socket).await?;
                    let host = ServerName::try_from("localhost").expect("a name");
                    let node = connector.connect(host, behind).await?;
                    hand_on(client, node, &log).await
                });
            }
        });
        Self { url, heard }
    }

    /// What it heard.
    ///
    /// # Panics
    /// Where a thread panicked while it listened.
    #[must_use]
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("nobody panicked")).into_owned()
    }
}

/// Both ways, until one side ends.
async fn hand_on(
    client: impl AsyncRead + AsyncWrite,
    node: impl AsyncRead + AsyncWrite,
    log: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_node, mut to_node) = tokio::io::split(node);
    let there = async {
        let mut buffer = [0; 4096];
        loop {
            match from_client.read(&mut buffer).await? {
                0 => return to_node.shutdown().await,
                length => {
                    log.lock().expect("nobody panicked").extend(&buffer[..length]);
                    to_node.write_all(&buffer[..length]).await?;
                }
            }
        }
    };
    let back = async {
        tokio::io::copy(&mut from_node, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(there, back).map(drop)
}

/// Takes every peer.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
