//! Pages of other sites. A node that asks for no credentials would do for any page that its user
//! visits whatever it does for the user: so it looks at where a request comes from.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, Method, Uri,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::Next,
    response::Response,
};
use tower_http::cors::{AllowOrigin, CorsLayer};
use web::origin::{is_known_host, is_own_page, is_page};

use crate::error::ApiError;

/// For how long a browser may remember a permission.
const MAX_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Whose pages may use this node, and by which names it may be called.
pub(crate) struct OriginGuard {
    /// Whether no credentials are asked for. They would protect a node: no page has them unless its user gave them.
    pub(crate) is_open: bool,
    /// Names beside loopback's own.
    pub(crate) allowed_hosts: Vec<String>,
    /// Origins of pages, beside the node's own, that may use all of it.
    pub(crate) allowed_origins: Vec<WebOrigin>,
    /// Origins of pages that may use the routes where nothing is secret.
    pub(crate) cors_origins: Vec<WebOrigin>,
}

impl OriginGuard {
    /// What browsers are told of the routes that only `allowed_origins` may use.
    pub(crate) fn cors_own(&self) -> CorsLayer {
        cors(&self.allowed_origins)
    }

    /// And of those that `cors_origins` may use too.
    pub(crate) fn cors_listed(&self) -> CorsLayer {
        cors(&[self.allowed_origins.as_slice(), self.cors_origins.as_slice()].concat())
    }

    fn admits_page(&self, request: &Request) -> bool {
        !self.is_open || is_own_page(request) || is_listed(request, &self.allowed_origins)
    }

    fn is_known_host(&self, request: &Request) -> bool {
        is_known_host(request, |host| {
            self.allowed_hosts.iter().any(|it| it.eq_ignore_ascii_case(host))
        })
    }
}

/// Refuses names that somebody else's DNS may point at this machine (DNS rebinding). Asked of listeners on loopback
/// that ask for no credentials; others ask for some, or are for probes alone.
pub(crate) async fn known_host(
    State(guard): State<Arc<OriginGuard>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !guard.is_open || guard.is_known_host(&request) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::UnknownHost)
}

/// Refuses what a page of another origin sends, unless that origin is one of `allowed_origins`.
pub(crate) async fn own_pages(
    State(guard): State<Arc<OriginGuard>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if guard.admits_page(&request) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::ForeignOrigin)
}

/// The same, for the routes that pages of `cors_origins` may use too.
pub(crate) async fn listed_pages(
    State(guard): State<Arc<OriginGuard>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if is_listed(&request, &guard.cors_origins) || guard.admits_page(&request) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::ForeignOrigin)
}

fn cors(origins: &[WebOrigin]) -> CorsLayer {
    let allowed = if origins.contains(&WebOrigin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(WebOrigin::to_header))
    };
    let exposed = [
        RETRY_AFTER,
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("x-should-retry"),
        HeaderName::from_static("obscura-key"),
    ];
    let sent = [
        AUTHORIZATION,
        CONTENT_TYPE,
        HeaderName::from_static("api-key"),
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("traceparent"),
    ];
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(sent)
        .expose_headers(exposed)
        .max_age(MAX_AGE)
}

/// An origin as an operator lists it: `https://app.example`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebOrigin {
    /// Every one.
    Any,
    /// Scheme, host and port, as browsers write it.
    One(String),
}

impl std::str::FromStr for WebOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin)?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or(InvalidOrigin)?;
        let origin = format!("{scheme}://{authority}");
        let plain = !authority.as_str().contains('@') && origin.eq_ignore_ascii_case(text);
        match scheme {
            "http" | "https" if plain => Ok(Self::One(origin.to_ascii_lowercase())),
            _ => Err(InvalidOrigin),
        }
    }
}

impl WebOrigin {
    fn to_header(&self) -> Option<HeaderValue> {
        match self {
            Self::Any => None,
            Self::One(origin) => HeaderValue::from_str(origin).ok(),
        }
    }

    fn is(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::One(own) => origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()),
        }
    }
}

/// Not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is `https://HOST` or `http://HOST:PORT`, without a path, or `*`")]
pub struct InvalidOrigin;

fn is_listed(request: &Request, listed: &[WebOrigin]) -> bool {
    is_page(request, |origin| listed.iter().any(|listed| listed.is(origin)))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn listed_origins_are_compared_whole() {
        let listed: Vec<WebOrigin> = vec!["https://App.example".parse().unwrap()];
        let from = |origin: &str| {
            let request = Request::builder().header("origin", origin).body(Body::empty());
            is_listed(&request.unwrap(), &listed)
        };
        assert!(from("https://app.example") && !from("http://app.example") && !from("null"));
    }

    #[test]
    fn origins_are_read_strictly() {
        for wrong in [
            "",
            "app.example",
            "https://app.example/",
            "https://",
            "ftp://a",
            "null",
            "https://a@b",
            "https://app.example/path",
            "https://*.example ",
        ] {
            assert_eq!(wrong.parse::<WebOrigin>(), Err(InvalidOrigin), "{wrong}");
        }
        assert_eq!("*".parse(), Ok(WebOrigin::Any));
    }
}
