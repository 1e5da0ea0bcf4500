//! Requests to the node, and answers no longer than they may be.

use std::{sync::Once, time::Duration};

use reqwest::{RequestBuilder, Url, redirect};
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

    /// Posts JSON; gives the status and the body, whatever the status is.
    pub(crate) async fn post<T: Serialize + Sync>(
        &self,
        path: &str,
        body: &T,
    ) -> Result<(u16, Vec<u8>), HttpError> {
        let url = self.base.join(path).map_err(|_| HttpError::Url)?;
        self.send(self.client.post(url).json(body), MAX_ANSWER_BYTES).await
    }

    /// Gets; gives the status and the body, whatever the status is.
    pub(crate) async fn get(
        &self,
        path: &str,
        max_bytes: usize,
    ) -> Result<(u16, Vec<u8>), HttpError> {
        let url = self.base.join(path).map_err(|_| HttpError::Url)?;
        self.send(self.client.get(url).timeout(GET_TIMEOUT), max_bytes).await
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        max_bytes: usize,
    ) -> Result<(u16, Vec<u8>), HttpError> {
        if let Some(key) = &self.key.0 {
            request = request.bearer_auth(key.as_str());
        }
        let connection = |error: reqwest::Error| HttpError::Connection(error.without_url());
        let mut response = request.send().await.map_err(connection)?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(connection)? {
            if answer.len() + chunk.len() > max_bytes {
                return Err(HttpError::TooLong { max_bytes });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((status, answer))
    }
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
