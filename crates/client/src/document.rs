//! Fetches public documents: an attestation service's certificates and lists.

use std::time::Duration;

use crate::{
    HttpError,
    http::{install_crypto_provider, parse},
    tls::Accept,
    transport::Transport,
};

/// Such services are asked by timers, and answer at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A document, and what its answer's head says besides.
#[derive(Debug, Clone)]
pub struct Document {
    /// All of it.
    pub body: Vec<u8>,
    headers: reqwest::header::HeaderMap,
}

impl Document {
    /// The value of a header, where there is one and it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Gets a document of at most so many bytes, without any key; redirects are not followed.
///
/// # Errors
/// Where there is no answer, or one of another status than 200, or one that is longer.
pub async fn document(url: &str, max_bytes: usize) -> Result<Document, HttpError> {
    install_crypto_provider();
    let url = parse(url)?;
    let transport = Transport::new(&url, Accept::Public)?;
    let request = transport.client.get(url).timeout(TIMEOUT);
    let answer = transport.send(request, max_bytes).await?;
    if answer.status() != 200 {
        return Err(HttpError::Status { status: answer.status() });
    }
    let headers = answer.headers().clone();
    Ok(Document { body: answer.body().await?, headers })
}
