//! Answers, no longer than they may be.

use printable::Printable;
use reqwest::{Response, header::CONTENT_TYPE};

use crate::{
    error::{HttpError, connection},
    lines::{LineCutter, StreamLimits},
    refusal::Retry,
};

/// The longest answer that is read: ten images of 1024² in base64, twice each, encrypted, in
/// base64 again.
pub(crate) const MAX_ANSWER_BYTES: usize = 160 * 1024 * 1024;
/// The longest stream, and the longest of its events: images on the way come on top.
const STREAM: StreamLimits =
    StreamLimits { bytes: 4 * MAX_ANSWER_BYTES, line_bytes: 64 * 1024 * 1024, lines: 100_000 };
/// The longest answer that holds no image: a key, or why the node refuses.
pub(crate) const MAX_WORDS_BYTES: usize = 1024 * 1024;

/// An answer whose body is still to come.
pub(crate) struct HttpAnswer {
    response: Response,
    max_bytes: usize,
}

impl HttpAnswer {
    pub(crate) fn new(response: Response, max_bytes: usize) -> Self {
        Self { response, max_bytes }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Its head.
    pub(crate) fn headers(&self) -> &reqwest::header::HeaderMap {
        self.response.headers()
    }

    /// What its head says about trying again.
    pub(crate) fn retry(&self) -> Retry {
        Retry::of(self.response.headers())
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

/// The messages of an event stream.
pub(crate) struct Lines {
    response: Response,
    cut: LineCutter,
}

impl Lines {
    /// What the next message says; nothing at the stream's end.
    pub(crate) async fn next_data(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            if let Some(data) = self.cut.next_data()? {
                return Ok(Some(data));
            }
            // What ends without an end of line is no line, but a cut.
            match self.response.chunk().await.map_err(connection)? {
                Some(chunk) => self.cut.push(&chunk)?,
                None => return Ok(None),
            }
        }
    }
}
