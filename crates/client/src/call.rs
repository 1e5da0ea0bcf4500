//! One request, and what travels beside it in clear text.

use protocol::{CreateImageRequest, ModelList};

use crate::{
    Answer, ApiKey, AttestedNode, Client, ClientError, EventStream, HttpError,
    answer::MAX_WORDS_BYTES, json, refused,
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

/// What a request carries beside its body.
#[derive(Default)]
pub(crate) struct Headers {
    /// Instead of the client's own.
    pub(crate) key: Option<ApiKey>,
    pub(crate) traceparent: Option<TraceParent>,
}

impl Call<'_> {
    /// Sends this bearer key instead of the client's own.
    ///
    /// # Errors
    /// [`HttpError::KeyInClearText`] where everyone on the way could read it.
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

    /// As [`Client::generate_stream`].
    ///
    /// # Errors
    /// As [`Client::generate_stream`].
    pub async fn generate_stream(
        self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<EventStream, ClientError> {
        self.stream(request, node.recipient()).await
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

/// Which trace a request belongs to: `traceparent` of W3C Trace Context, version 00 (§3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// `None` for what the recommendation calls invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts.as_slice() else { return None };
        let is_hex = |part: &str, digits: usize| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == digits && part.bytes().all(is_digit)
        };
        let is_some = |part: &str| part.bytes().any(|byte| byte != b'0');
        let is_valid = *version == "00"
            && is_hex(trace, 32)
            && is_hex(span, 16)
            && is_hex(flags, 2)
            && is_some(trace)
            && is_some(span);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_read_strictly() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("{good} "),
            &good.replace("00-4", "ff-4"),
            &good.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
