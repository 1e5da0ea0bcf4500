//! Requests to the node, and answers no longer than they may be.

use std::{net::IpAddr, sync::Once, time::Duration};

use printable::Printable;
use reqwest::{RequestBuilder, Response, Url, header::CONTENT_TYPE, redirect};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    ClientError,
    lines::{LineCutter, StreamLimits},
};

/// The longest answer that is read: ten images of 1024² in base64, twice each, encrypted, in
/// base64 again.
pub(crate) const MAX_ANSWER_BYTES: usize = 160 * 1024 * 1024;
/// The longest stream, and the longest of its events: images on the way come on top.
const STREAM: StreamLimits =
    StreamLimits { bytes: 4 * MAX_ANSWER_BYTES, line_bytes: 64 * 1024 * 1024, lines: 100_000 };
/// The longest answer that holds no image: a key, or why the node refuses.
pub(crate) const MAX_WORDS_BYTES: usize = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An image on a slow machine, behind a full queue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// A quote, behind others that are made first.
const GET_TIMEOUT: Duration = Duration::from_secs(90);

/// The bearer key that a node or proxy asks for. Wiped when dropped, never printed.
pub struct ApiKey {
    key: Option<Zeroizing<String>>,
    insecure_http: bool,
}

impl ApiKey {
    /// For nodes that ask for none.
    #[must_use]
    pub fn none() -> Self {
        Self { key: None, insecure_http: false }
    }

    /// A key. It is sent through TLS, and in clear text to this very machine alone.
    #[must_use]
    pub fn new(key: impl Into<Zeroizing<String>>) -> Self {
        Self { key: Some(key.into()), insecure_http: false }
    }

    /// Sends the key over plain `http://` too, wherever the node is: everyone on the way can read it.
    #[must_use]
    pub fn over_insecure_http(self) -> Self {
        Self { insecure_http: true, ..self }
    }
}

pub(crate) struct Http {
    client: reqwest::Client,
    base: Url,
    key: ApiKey,
}

impl Http {
    pub(crate) fn new(base_url: &str, key: ApiKey) -> Result<Self, HttpError> {
        // rustls takes its cryptography from the process; whoever was first is as good.
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let base = Url::parse(base_url).map_err(|_| HttpError::Url)?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(HttpError::Url);
        }
        if key.key.is_some() && !key.insecure_http && in_clear_text(&base) {
            return Err(HttpError::KeyInClearText {
                host: base.host_str().unwrap_or_default().into(),
            });
        }
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A node has no reason to send a sealed request, or whoever has a key, elsewhere.
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy of the environment would be told what was meant for this machine alone.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| HttpError::Connection(error.without_url()))?;
        Ok(Self { client, base, key })
    }

    /// Posts JSON; gives the answer, whatever its status is.
    pub(crate) async fn post<T: Serialize + Sync>(
        &self,
        path: &str,
        body: &T,
        max_bytes: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let url = self.base.join(path).map_err(|_| HttpError::Url)?;
        self.send(self.client.post(url).json(body), max_bytes).await
    }

    /// Gets; gives the answer, whatever its status is.
    pub(crate) async fn get(&self, path: &str, max_bytes: usize) -> Result<HttpAnswer, HttpError> {
        let url = self.base.join(path).map_err(|_| HttpError::Url)?;
        self.send(self.client.get(url).timeout(GET_TIMEOUT), max_bytes).await
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        max_bytes: usize,
    ) -> Result<HttpAnswer, HttpError> {
        if let Some(key) = &self.key.key {
            request = request.bearer_auth(key.as_str());
        }
        let response = request.send().await.map_err(connection)?;
        Ok(HttpAnswer { response, max_bytes })
    }
}

/// An answer whose body is still to come.
pub(crate) struct HttpAnswer {
    response: Response,
    max_bytes: usize,
}

impl HttpAnswer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// All of it, which says that it is JSON, if it says anything.
    pub(crate) async fn json_body(self) -> Result<Vec<u8>, HttpError> {
        self.is_of_type("application/json")?;
        self.body().await
    }

    /// Why the node refuses: all of it, whatever type it says it is of.
    pub(crate) async fn refusal(mut self) -> Result<Vec<u8>, HttpError> {
        self.max_bytes = self.max_bytes.min(MAX_WORDS_BYTES);
        self.body().await
    }

    async fn body(mut self) -> Result<Vec<u8>, HttpError> {
        let mut answer = Vec::new();
        while let Some(chunk) = self.response.chunk().await.map_err(connection)? {
            if answer.len() + chunk.len() > self.max_bytes {
                return Err(HttpError::TooLong { max_bytes: self.max_bytes });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// As the messages of an event stream, which says that it is one, if it says anything.
    pub(crate) fn lines(self) -> Result<Lines, HttpError> {
        self.is_of_type("text/event-stream")?;
        Ok(Lines { response: self.response, cut: LineCutter::new(STREAM) })
    }

    fn is_of_type(&self, expected: &'static str) -> Result<(), HttpError> {
        let Some(found) = self.response.headers().get(CONTENT_TYPE) else { return Ok(()) };
        let essence = found.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().eq_ignore_ascii_case(expected.as_bytes()) {
            true => Ok(()),
            false => Err(HttpError::Type { expected, found: Printable::bytes(found.as_bytes()) }),
        }
    }
}

/// The lines of an event stream, as far as this protocol uses it: a message is one line of `data`.
pub(crate) struct Lines {
    response: Response,
    cut: LineCutter,
}

impl Lines {
    /// What the next message says; nothing at the stream's end.
    pub(crate) async fn next_data(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            while let Some(line) = self.cut.next_line()? {
                // Comments keep the connection alive; names and ids say nothing that a proxy could
                // not have changed.
                if let Some(data) = line.strip_prefix(b"data:") {
                    return Ok(Some(data.trim_ascii().to_vec()));
                }
            }
            // What ends without an end of line is no line, but a cut.
            match self.response.chunk().await.map_err(connection)? {
                Some(chunk) => self.cut.push(&chunk)?,
                None => return Ok(None),
            }
        }
    }
}

/// Whether what is sent to this URL can be read on the way: plain `http://` to another machine.
#[must_use]
pub fn travels_in_clear_text(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| in_clear_text(&url))
}

fn in_clear_text(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// Whether a URL names this very machine: an address of loopback, or `localhost`.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn connection(error: reqwest::Error) -> HttpError {
    HttpError::Connection(error.without_url())
}

pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|_| ClientError::NotUnderstood)
}

/// What can go wrong between here and the node.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not an `http` or `https` URL.
    #[error("the node's URL must begin with http:// or https:// and name a host")]
    Url,
    /// No connection, or one that broke.
    #[error("the node cannot be reached")]
    Connection(#[source] reqwest::Error),
    /// A bearer key would be readable on the way.
    #[error(
        "the API key is not sent to {host} over plain http://, where everyone on the way can read it"
    )]
    KeyInClearText {
        /// The node's.
        host: Printable,
    },
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
    /// The answer does not end.
    #[error("the node's answer is longer than {max_bytes} bytes")]
    TooLong {
        /// The most that is read.
        max_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_this_machine_or_through_tls_unless_told_otherwise() {
        let made = |url: &str, key: ApiKey| Http::new(url, key).map(|_| ());
        for url in [
            "https://node.example",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
            "http://localhost:8080",
        ] {
            made(url, ApiKey::new("k".to_owned())).unwrap();
        }
        for url in [
            "http://node.example",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "http://[::ffff:10.0.0.1]",
            "http://0.0.0.0:8080",
            "http://user@node.example",
            "http://127.0.0.1@node.example",
        ] {
            let refusal = made(url, ApiKey::new("k".to_owned())).unwrap_err();
            assert!(matches!(refusal, HttpError::KeyInClearText { .. }), "{url}: {refusal}");
            made(url, ApiKey::new("k".to_owned()).over_insecure_http()).unwrap();
            made(url, ApiKey::none()).unwrap();
        }
    }
}
