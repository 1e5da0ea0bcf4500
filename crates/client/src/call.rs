//! A call: one request with its headers, such as the bearer key and the trace.

use protocol::{CreateImageRequest, ModelList};

use crate::{
    Answer, ApiKey, AttestedNode, Client, ClientError, HttpError, TraceParent,
    answer::MAX_WORDS_BYTES, http::Headers, json, refused,
};

impl Client {
    /// One request, with a bearer key or a trace of its own.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call { client: self, headers: Headers::default() }
    }
}

/// One request of a client that has many callers.
pub struct Call<'a> {
    pub(crate) client: &'a Client,
    pub(crate) headers: Headers,
}

impl Call<'_> {
    /// Sends this bearer key instead of the client's own.
    ///
    /// # Errors
    /// [`HttpError::KeyInClearText`] where everyone on the way could read it, [`HttpError::InvalidKey`] where no header
    /// carries it.
    pub fn with_key(self, key: ApiKey) -> Result<Self, HttpError> {
        self.client.http.may_carry(&key)?;
        Ok(Self { headers: Headers { key: Some(key), ..self.headers }, ..self })
    }

    /// Makes the request a part of this trace.
    #[must_use]
    pub fn with_trace(self, parent: TraceParent) -> Self {
        Self { headers: Headers { traceparent: Some(parent), ..self.headers }, ..self }
    }

    /// As [`Client::generate`].
    ///
    /// # Errors
    /// As [`Client::generate`].
    pub async fn generate(
        self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<Answer, ClientError> {
        self.exchange(request, node.recipient()).await
    }

    /// The models that an attested node says it serves. Neither sealed nor signed: over plain
    /// `http://`, anybody on the way may have written the list.
    ///
    /// # Errors
    /// Where the node does not answer, or answers no list.
    pub async fn models(self, node: &AttestedNode) -> Result<ModelList, ClientError> {
        let Self { client, headers } = self;
        node.check_time()?;
        let path = "/v1/models";
        let answer = client.http.get(&node.transport, path, &headers, MAX_WORDS_BYTES).await?;
        if answer.status() != 200 {
            return Err(refused(answer).await);
        }
        json(&answer.json_body().await?)
    }
}
