//! Whether a request was meant for this service. One that asks for no credentials would do for any page
//! that its user visits whatever it does for the user: so it looks at where a request comes from.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
};

/// What the client calls this service: of HTTP/2 `:authority`, of HTTP/1 `Host`.
#[must_use]
pub fn own_authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| host(headers)?.ok())
}

/// Whether addresses here can begin with it: `https://node.example`, with a path or without.
#[must_use]
pub fn is_base_url(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|url| {
        let plain = url.query().is_none() && !text.contains(['#', '@']);
        matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some() && plain
    })
}

/// Whether the client calls this service by a name that nobody else's DNS can point here (DNS
/// rebinding): one of loopback's own, or one that `is_allowed`.
pub fn is_known_host(request: &Request, is_allowed: impl Fn(&str) -> bool) -> bool {
    let is_known = |authority: &Authority| {
        let host = authority.host();
        is_loopback(host) || is_allowed(host)
    };
    let named = request.uri().authority().is_none_or(is_known);
    // An absolute address in the request's line does not excuse the header.
    named && host(request.headers()).is_none_or(|host| host.is_ok_and(|host| is_known(&host)))
}

/// Whether no page sent it, or a page of this very service. Browsers always say which one did, but for
/// plain GETs, which change nothing here.
#[must_use]
pub fn is_own_page(request: &Request) -> bool {
    is_page(request, |origin| {
        own_authority(request.uri(), request.headers()).is_some_and(|own| {
            [b"http://".as_slice(), b"https://"].iter().any(|scheme| {
                let rest = origin.as_bytes().strip_prefix(*scheme);
                rest.is_some_and(|rest| rest.eq_ignore_ascii_case(own.as_str().as_bytes()))
            })
        })
    })
}

/// Whether no page sent it, or one whose origin `is_ours`. Of two origins neither counts.
pub fn is_page(request: &Request, is_ours: impl Fn(&HeaderValue) -> bool) -> bool {
    let mut origins = request.headers().get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => is_ours(origin),
        (Some(_), Some(_)) => false,
    }
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
    fn only_names_of_this_machine_and_allowed_ones_are_known() {
        let allowed = |host: &str| host.eq_ignore_ascii_case("node.example");
        let known = |host: &str| is_known_host(&request("/", &[("host", host)]), allowed);
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
        assert!(is_known_host(&request("/", &[]), allowed), "HTTP/1.0");
        assert!(!is_known_host(&request("http://evil.example/", &[]), allowed));
        let both = request("http://localhost/", &[("host", "evil.example")]);
        assert!(!is_known_host(&both, allowed));
        let twice = request("/", &[("host", "localhost"), ("host", "localhost")]);
        assert!(!is_known_host(&twice, allowed));
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
        let twice =
            [("origin", "http://localhost"), ("origin", "http://localhost"), ("host", "localhost")];
        assert!(!is_own_page(&request("/", &twice)));
    }
}
