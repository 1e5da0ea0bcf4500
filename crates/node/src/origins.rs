//! Pages of other sites. A node that asks for no credentials would do for any page that its user
//! visits whatever it does for the user: so it looks at where a request comes from.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Uri,
        header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER},
        uri::Authority,
    },
    middleware::Next,
    response::Response,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::error::ApiError;

/// For how long a browser may remember a permission.
const MAX_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Whose pages may use this node, and by which names it may be called.
pub(crate) struct OriginGuard {
    /// A node that asks for credentials is protected by them: no page has them unless its user gave them.
    pub(crate) asks_for_credentials: bool,
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
        self.asks_for_credentials
            || is_own_page(request)
            || is_listed(request, &self.allowed_origins)
    }

    fn is_known_host(&self, request: &Request) -> bool {
        let is_known = |authority: &Authority| {
            let host = authority.host();
            is_loopback(host) || self.allowed_hosts.iter().any(|it| it.eq_ignore_ascii_case(host))
        };
        let named = request.uri().authority().is_none_or(is_known);
        // An absolute address in the request's line does not excuse the header.
        named && host(request.headers()).is_none_or(|host| host.is_ok_and(|host| is_known(&host)))
    }
}

/// Refuses names that somebody else's DNS may point at this machine (DNS rebinding). Asked of nodes
/// without credentials, which listen on loopback alone.
pub(crate) async fn known_host(
    State(guard): State<Arc<OriginGuard>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if guard.asks_for_credentials || guard.is_known_host(&request) {
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

/// Whether no page sent it, or a page of this very node. Browsers always say which one did, but for
/// plain GETs, which change nothing here.
fn is_own_page(request: &Request) -> bool {
    let origins: Vec<_> = request.headers().get_all(ORIGIN).iter().collect();
    match origins.as_slice() {
        [] => true,
        [origin] => own_authority(request.uri(), request.headers()).is_some_and(|own| {
            let schemes = [b"http://".as_slice(), b"https://"];
            schemes.iter().any(|scheme| {
                origin
                    .as_bytes()
                    .strip_prefix(*scheme)
                    .is_some_and(|rest| rest.eq_ignore_ascii_case(own.as_str().as_bytes()))
            })
        }),
        _ => false,
    }
}

fn is_listed(request: &Request, listed: &[WebOrigin]) -> bool {
    let origins: Vec<_> = request.headers().get_all(ORIGIN).iter().collect();
    match origins.as_slice() {
        [] => true,
        [origin] => listed.iter().any(|listed| listed.is(origin)),
        _ => false,
    }
}

/// What the client calls this node: of HTTP/2 `:authority`, of HTTP/1 `Host`.
pub(crate) fn own_authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| host(headers)?.ok())
}

/// `None` where there is none, which HTTP/1.0 allows and no browser speaks.
fn host(headers: &HeaderMap) -> Option<Result<Authority, ()>> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?;
    match hosts.next() {
        Some(_) => Some(Err(())),
        None => Some(Authority::try_from(host.as_bytes()).map_err(|_| ())),
    }
}

/// Names that no DNS answers for (RFC 6761, 6.3), and addresses of this machine alone.
fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_names_of_this_machine_are_known() {
        let guard = OriginGuard {
            asks_for_credentials: false,
            allowed_hosts: vec!["node.example".to_owned()],
            allowed_origins: Vec::new(),
            cors_origins: Vec::new(),
        };
        let known = |host: &str| guard.is_known_host(&request("/", &[("host", host)]));
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:1",
            "::1",
            "a.localhost",
            "localhost.",
            "Node.Example:8080",
            "[::ffff:127.0.0.1]",
        ] {
            // A bare IPv6 address is no authority.
            assert_eq!(known(host), host != "::1", "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "127.0.0.1.nip.io",
            "",
            "node.example.evil",
            "localhost@evil.example",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(!known(host), "{host}");
        }
        assert!(guard.is_known_host(&request("/", &[])), "HTTP/1.0");
        assert!(!guard.is_known_host(&request("http://evil.example/", &[])));
        let both = request("http://localhost/", &[("host", "evil.example")]);
        assert!(!guard.is_known_host(&both));
        let twice = request("/", &[("host", "localhost"), ("host", "evil.example")]);
        assert!(!guard.is_known_host(&twice));
    }

    #[test]
    fn a_page_is_known_by_its_origin() {
        let own = |origin: &str| {
            is_own_page(&request("/", &[("host", "localhost:8080"), ("origin", origin)]))
        };
        assert!(own("http://localhost:8080") && own("https://LOCALHOST:8080"));
        for foreign in [
            "http://localhost",
            "http://localhost:8081",
            "null",
            "http://evil.example",
            "http://localhost:8080.evil.example",
            "file://localhost:8080",
            "",
        ] {
            assert!(!own(foreign), "{foreign}");
        }
        assert!(is_own_page(&request("/", &[("host", "localhost")])));
        let listed: Vec<WebOrigin> = vec!["https://App.example".parse().unwrap()];
        let from = |origin: &str| is_listed(&request("/", &[("origin", origin)]), &listed);
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
