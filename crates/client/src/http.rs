//! Requests to the node, and answers no longer than they may be.

use std::{sync::Once, time::Duration};

use reqwest::{RequestBuilder, Response, Url, redirect};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ClientError;

/// The longest answer that is read: ten pictures of 1024² in base64, twice each, encrypted, in
/// base64 again.
const MAX_ANSWER_BYTES: usize = 160 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A picture on a slow machine, behind a full queue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// A quote, behind others that are made first.
const GET_TIMEOUT: Duration = Duration::from_secs(90);

/// The bearer key that a node or proxy asks for. Wiped when dropped, never printed.
pub struct ApiKey(Option<Zeroizing<String>>);

impl ApiKey {
    /// For nodes that ask for none.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// A key.
    #[must_use]
    pub fn new(key: impl Into<Zeroizing<String>>) -> Self {
        Self(Some(key.into()))
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
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A node has no reason to send a sealed request elsewhere.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| HttpError::Connection(error.without_url()))?;
        Ok(Self { client, base, key })
    }

    /// Posts JSON; gives the answer, whatever its status is.
    pub(crate) async fn post<T: Serialize + Sync>(
        &self,
        path: &str,
        body: &T,
    ) -> Result<HttpAnswer, HttpError> {
        let url = self.base.join(path).map_err(|_| HttpError::Url)?;
        self.send(self.client.post(url).json(body), MAX_ANSWER_BYTES).await
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
        if let Some(key) = &self.key.0 {
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

    /// All of it.
    pub(crate) async fn body(mut self) -> Result<Vec<u8>, HttpError> {
        let mut answer = Vec::new();
        while let Some(chunk) = self.response.chunk().await.map_err(connection)? {
            if answer.len() + chunk.len() > self.max_bytes {
                return Err(HttpError::TooLong { max_bytes: self.max_bytes });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// As the messages of an event stream.
    pub(crate) fn lines(self) -> Lines {
        Lines { answer: self, buffer: Vec::new(), searched: 0 }
    }
}

/// The lines of an event stream, as far as this protocol uses it: a message is one line of `data`.
pub(crate) struct Lines {
    answer: HttpAnswer,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no end of a line.
    searched: usize,
}

impl Lines {
    /// What the next message says; nothing at the stream's end.
    pub(crate) async fn next_data(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        while let Some(line) = self.next_line().await? {
            // Comments keep the connection alive; names and ids say nothing that a proxy could not
            // have changed.
            if let Some(data) = line.strip_prefix(b"data:") {
                return Ok(Some(data.trim_ascii().to_vec()));
            }
        }
        Ok(None)
    }

    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            // What ends without an end of line is no line, but a cut.
            let Some(chunk) = self.answer.response.chunk().await.map_err(connection)? else {
                return Ok(None);
            };
            let max_bytes = self.answer.max_bytes;
            if self.buffer.len() + chunk.len() > max_bytes {
                return Err(HttpError::TooLong { max_bytes });
            }
            self.buffer.extend_from_slice(&chunk);
        }
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
    /// The answer does not end.
    #[error("the node's answer is longer than {max_bytes} bytes")]
    TooLong {
        /// The most that is read.
        max_bytes: usize,
    },
}
