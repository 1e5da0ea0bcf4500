//! What a route's path holds in place of a name.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use protocol::ErrorKind;

use crate::answer::{ErrorAnswer, answer};

/// The one name in a path, such as a model's or a file's. What is no text after decoding (`%FF`) names
/// nothing that is here: 404 as for any other such name, where axum's own extractor answers 400 in plain
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = ErrorAnswer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorAnswer> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| {
            answer(404, ErrorKind::InvalidRequestError, "not_found", "there is nothing here")
        })
    }
}
