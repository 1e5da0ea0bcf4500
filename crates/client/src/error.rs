//! Why there is no image, and what can go wrong between this client and the node.

use printable::Printable;
use thiserror::Error;

use crate::{Evidence, Refusal};

/// Why there is no image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection to the node failed, or was not to be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node says no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The evidence was accepted, and the time of the keys that it speaks for is over: nothing was
    /// sent.
    #[error(
        "the node's keys were attested until {not_after_secs}, which is over: nothing was sent"
    )]
    Expired {
        /// Seconds since 1970.
        not_after_secs: u64,
    },
    /// The answer is not of the protocol's shape.
    #[error("the node's answer is not of the protocol's shape")]
    NotUnderstood,
    /// A stream ended before its last event: the node or the connection died, or somebody cut it.
    #[error("the node's answer was cut off before its end")]
    StreamCut,
    /// An event is not the one that was due: somebody left one out, repeated one or moved one.
    #[error("event {found} of the node's answer came where {expected} was due")]
    StreamOrder {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The node's evidence is refused: nothing was sent.
    #[error("the node's evidence was refused, and nothing was sent to it\n\n{appraisal}")]
    Untrusted {
        /// Check by check.
        appraisal: Box<attest::verify::Appraisal>,
        /// What was judged.
        evidence: Box<Evidence>,
    },
    /// The policy asks for TLS that ends at the attested key, and evidence from elsewhere says nothing of the
    /// connection that requests would take: nothing was sent.
    #[error(
        "the policy asks for TLS that ends at the attested key, which cannot be shown of a connection to another address \
         than the evidence came from: nothing was sent"
    )]
    UnattestedTls,
    /// The key is not 32 bytes.
    #[error("the node's key is not an X25519 public key")]
    InvalidNodeKey,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The request cannot be sealed.
    #[error(transparent)]
    Seal(#[from] seal::SealError),
    /// The response does not hold up.
    #[error(transparent)]
    Response(#[from] seal::ResponseError),
}

impl ClientError {
    /// Whether the request is sealed to a key that the node does not hold, or goes to a TLS key that
    /// it does not have: ask for its evidence again. Nothing was opened.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_stale_key(),
            Self::Expired { .. } | Self::Http(HttpError::OtherTlsKey { .. }) => true,
            _ => false,
        }
    }

    /// Whether the node did not open the request, so that another one may be sent in its place
    /// without work being done twice. Who refuses in clear text may be anybody on the way.
    #[must_use]
    pub fn is_unopened(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_unopened(),
            Self::Http(error) => error.is_unsent(),
            Self::Expired { .. } | Self::Untrusted { .. } | Self::UnattestedTls => true,
            _ => false,
        }
    }
}

/// What can go wrong between here and the node.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not an `http` or `https` URL of a node.
    #[error(
        "the node's URL must begin with http:// or https:// and name a host, and no user, query or fragment"
    )]
    Url,
    /// The base of the API, which people know from OpenAI's clients.
    #[error("the node's URL ends before /v1: leave that out")]
    Versioned,
    /// No connection, or one that broke.
    #[error("the node cannot be reached")]
    Connection(#[source] reqwest::Error),
    /// TLS that cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// Nothing by which this machine could judge a certificate: the peer's may be a good one.
    #[error(
        "this machine has no certificate roots to judge the peer's certificate by: install \
         ca-certificates, or name a file of roots in SSL_CERT_FILE"
    )]
    NoRoots,
    /// Somebody else than the attested node answers, or a node that has started anew since.
    #[error(
        "the connection ends at the TLS key {found}, and not at {attested}, which the evidence names: \
         nothing was sent"
    )]
    OtherTlsKey {
        /// SHA-256 of the attested SubjectPublicKeyInfo, hex.
        attested: String,
        /// SHA-256 of the SubjectPublicKeyInfo that the peer has, hex.
        found: String,
    },
    /// More than one connection, and not all with the same peer.
    #[error("several peers with different TLS keys answered in one go")]
    SeveralPeers,
    /// A bearer key would be readable on the way.
    #[error(
        "the API key is not sent to {host} over plain http://, where everyone on the way can read it"
    )]
    KeyInClearText {
        /// The node's host name or address.
        host: Printable,
    },
    /// A bearer key that no header carries.
    #[error("the API key must be 1 to {} visible ASCII characters", crate::MAX_KEY_BYTES)]
    InvalidKey,
    /// The answer is of another kind, such as a proxy's page.
    #[error("the node's answer is of the type \"{found}\", not {expected}")]
    Type {
        /// What it should be.
        expected: &'static str,
        /// What it says it is.
        found: Printable,
    },
    /// The stream goes on and on.
    #[error("the node's stream has more than {max_lines} lines")]
    TooManyLines {
        /// The most that are read.
        max_lines: usize,
    },
    /// Another status than a document has.
    #[error("the answer has the status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer does not end.
    #[error("the node's answer is longer than {max_bytes} bytes")]
    TooLong {
        /// The most that is read.
        max_bytes: usize,
    },
}

impl HttpError {
    /// Whether certainly nothing of a request reached the node: the connection did not come about.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Url
            | Self::Versioned
            | Self::Tls(_)
            | Self::NoRoots
            | Self::OtherTlsKey { .. }
            | Self::KeyInClearText { .. }
            | Self::InvalidKey => true,
            Self::Connection(error) => error.is_connect(),
            _ => false,
        }
    }
}

pub(crate) fn connection(error: reqwest::Error) -> HttpError {
    HttpError::Connection(error.without_url())
}
