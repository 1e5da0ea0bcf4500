//! A node's refusal, for programs: status, type, code, field, `Retry-After`.

use std::{fmt, time::Duration};

use printable::Printable;
use protocol::{ErrorBody, ErrorKind, ErrorObject};

/// The longest wait that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A node's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; 200 where a stream had begun.
    pub status: u16,
    /// In the node's words.
    pub message: Printable,
    /// The family of the error, where the answer names one that is known.
    pub kind: Option<ErrorKind>,
    /// The field to blame.
    pub param: Option<Printable>,
    /// For a program, finer than the family.
    pub code: Option<Printable>,
    /// How long to wait before the next try, at most a day. Taken from the answer's head, which
    /// anybody on the way may have written.
    pub retry_after: Option<Duration>,
    /// What `x-should-retry` says, where it is there; from the head as well.
    pub should_retry: Option<bool>,
    /// Whether it was sealed to this client alone. Only then did the node say it for sure: in clear
    /// text, anybody on the way may have.
    pub is_sealed: bool,
}

/// What an answer's head says about trying again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) after: Option<Duration>,
    pub(crate) should: Option<bool>,
}

impl Retry {
    /// `Retry-After` in seconds (RFC 9110, 10.2.3; a date is not understood), and `x-should-retry`.
    pub(crate) fn of(headers: &reqwest::header::HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let secs = text("retry-after").and_then(|secs| secs.trim().parse().ok());
        let should = match text("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        Self { after: secs.map(|secs| Duration::from_secs(secs).min(MAX_RETRY_AFTER)), should }
    }
}

impl Refusal {
    /// What `body` says, if it says anything.
    pub(crate) fn read(status: u16, retry: Retry, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => Self::of(status, &body.error),
            Err(_) => Self {
                status,
                message: "no reason given".into(),
                kind: None,
                param: None,
                code: None,
                retry_after: None,
                should_retry: None,
                is_sealed: false,
            },
        }
        .with(retry)
    }

    /// What an error in the API's shape says.
    pub(crate) fn of(status: u16, error: &ErrorObject) -> Self {
        Self {
            status,
            message: Printable::new(&error.message),
            kind: Some(error.kind),
            param: error.param.as_deref().map(Printable::new),
            code: error.code.as_deref().map(Printable::new),
            retry_after: None,
            should_retry: None,
            is_sealed: false,
        }
    }

    pub(crate) fn sealed(self) -> Self {
        Self { is_sealed: true, ..self }
    }

    fn with(self, retry: Retry) -> Self {
        Self { retry_after: retry.after, should_retry: retry.should, ..self }
    }

    /// Whether the request is sealed to a key that the node does not hold: the node was rotated, or
    /// has started anew. What was sent was not opened.
    #[must_use]
    pub fn is_stale_key(&self) -> bool {
        self.status == 422 && !self.is_sealed
    }

    /// Whether the node does not serve the model that the request names outside of its seal: it was not opened, and
    /// another node may serve it.
    #[must_use]
    pub fn is_unknown_model(&self) -> bool {
        let code = self.code.as_ref().map(Printable::as_str);
        !self.is_sealed && self.status == 404 && code == Some("model_not_found")
    }

    /// Whether the request was refused before it was opened, so that another sealing of it does no
    /// work twice: a stale key, a queue without room, a node that loads or stops.
    #[must_use]
    pub fn is_unopened(&self) -> bool {
        let is_away = self.status == 503 && self.retry_after.is_some();
        !self.is_sealed && (is_away || matches!(self.status, 422 | 429))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node refused ({}): \"{}\"", self.status, self.message)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn retry(pairs: &[(&'static str, &'static str)]) -> Retry {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Retry::of(&HeaderMap::from_iter(pairs))
    }

    #[test]
    fn a_refusal_is_read_for_programs() {
        let body = br#"{"error":{"message":"the queue\nis full","type":"rate_limit_error","param":null,"code":"queue_full"}}"#;
        let head = retry(&[("retry-after", "20"), ("x-should-retry", "true")]);
        let refusal = Refusal::read(429, head, body);
        assert_eq!(refusal.kind, Some(ErrorKind::RateLimitError));
        assert_eq!(refusal.code.as_ref().map(Printable::as_str), Some("queue_full"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(20)));
        assert_eq!((refusal.should_retry, refusal.is_sealed), (Some(true), false));
        // Nothing of a stranger's moves a terminal's cursor.
        assert_eq!(refusal.to_string(), r#"the node refused (429): "the queue\nis full""#);
    }

    #[test]
    fn what_was_not_opened_is_known() {
        let unopened = |status, head| Refusal::read(status, head, b"{}").is_unopened();
        let (none, later) = (Retry::default(), retry(&[("retry-after", "5")]));
        assert!(unopened(422, none) && unopened(429, none) && unopened(503, later));
        // Generation took too long, or failed: work was spent.
        assert!(!unopened(503, none) && !unopened(500, later) && !unopened(400, none));
        assert!(!Refusal::read(429, none, b"{}").sealed().is_unopened());
        let other = br#"{"error":{"message":"","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#;
        assert!(Refusal::read(404, none, other).is_unknown_model());
        assert!(!Refusal::read(404, none, other).sealed().is_unknown_model());
        assert!(!Refusal::read(404, none, b"{}").is_unknown_model());
    }

    #[test]
    fn what_a_stranger_writes_is_bounded() {
        for (value, secs) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999999999", Some(86_400)),
            ("99999999999999999999999", None),
            ("-1", None),
            ("1.5", None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", None),
            ("", None),
        ] {
            let found = retry(&[("retry-after", value)]).after;
            assert_eq!(found, secs.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry(&[("x-should-retry", "perhaps")]).should, None);
        let page = Refusal::read(502, Retry::default(), b"<html>Bad Gateway</html>");
        assert_eq!((page.kind, page.message.as_str()), (None, "no reason given"));
    }
}
