//! Who may ask. A side-car without a key does for whoever reaches it whatever it does for its owner, so
//! it looks at what a browser says of where a request comes from.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::Response,
};

use crate::{error::ApiError, proxy::Proxy};

/// Refuses names that somebody else's DNS may point at this machine (DNS rebinding), where callers need
/// no key; and, always, what a page of another site sends.
pub(crate) async fn origin(
    State(proxy): State<Arc<Proxy>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if proxy.client_key().is_none() && !is_known_host(&request) {
        return Err(ApiError::UnknownHost);
    }
    if !is_own_page(&request) {
        return Err(ApiError::ForeignOrigin);
    }
    Ok(next.run(request).await)
}

/// Refuses callers without the key, where there is one; before anything of their bodies is read.
pub(crate) async fn key(
    State(proxy): State<Arc<Proxy>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match proxy.client_key() {
        Some(key) if !key.admits(request.headers()) => Err(ApiError::Unauthorized),
        _ => Ok(next.run(request).await),
    }
}

/// What the caller calls this proxy.
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

fn is_known_host(request: &Request) -> bool {
    let is_known = |authority: &Authority| is_loopback(authority.host());
    let named = request.uri().authority().is_none_or(is_known);
    // An absolute address in the request's line does not excuse the header.
    named && host(request.headers()).is_none_or(|host| host.is_ok_and(|host| is_known(&host)))
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

/// Whether no page sent it, or a page of this very proxy. Browsers always say which one did, but for
/// plain GETs, which change nothing here.
fn is_own_page(request: &Request) -> bool {
    let origins: Vec<_> = request.headers().get_all(ORIGIN).iter().collect();
    match origins.as_slice() {
        [] => true,
        [origin] => own_authority(request.uri(), request.headers()).is_some_and(|own| {
            [b"http://".as_slice(), b"https://"].iter().any(|scheme| {
                let rest = origin.as_bytes().strip_prefix(*scheme);
                rest.is_some_and(|rest| rest.eq_ignore_ascii_case(own.as_str().as_bytes()))
            })
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_names_of_this_machine_are_known() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.9.9.9", "[::1]:1", "a.localhost"]
        {
            assert!(is_known_host(&request(&[("host", host)])), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "localhost@evil.example",
            "0.0.0.0",
            "[::]",
            "192.0.2.1",
        ] {
            assert!(!is_known_host(&request(&[("host", host)])), "{host}");
        }
        assert!(!is_known_host(&request(&[("host", "localhost"), ("host", "localhost")])));
    }

    #[test]
    fn a_page_is_known_by_its_origin() {
        let own = |origin| is_own_page(&request(&[("host", "localhost:3300"), ("origin", origin)]));
        assert!(own("http://localhost:3300"));
        for foreign in ["null", "http://localhost:3301", "http://evil.example", "file://", ""] {
            assert!(!own(foreign), "{foreign}");
        }
        assert!(is_own_page(&request(&[])));
        let twice =
            [("origin", "http://localhost"), ("origin", "http://localhost"), ("host", "localhost")];
        assert!(!is_own_page(&request(&twice)));
    }
}
