//! HTTP errors: what can go wrong between this client and the node.

use printable::Printable;
use thiserror::Error;

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
        /// Of the one that the peer has.
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
        /// The node's.
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
