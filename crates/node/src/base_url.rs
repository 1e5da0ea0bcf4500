//! The base URL of this node as the client of a request knows it: URLs that lead back here begin with it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header::FORWARDED, uri::Authority};
use web::origin::own_authority;

use crate::address::{ForwardedHeader, Forwarders};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// `https://host/prefix`, without a slash at its end, as far as the request says it. A trusted reverse
/// proxy is believed where it says scheme, host and path that its clients use; what it does not say, or
/// says in words that make no URL, is as the request reached this node.
pub(crate) fn base_url(
    own_scheme: &str,
    uri: &Uri,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    forwarders: &Forwarders,
) -> Option<String> {
    let own = own_authority(uri, headers).map(|host| host.to_string());
    let Forwarded { scheme, host, prefix } = match peer {
        Some(peer) if forwarders.trusts(peer) => Forwarded::read(headers, forwarders.header),
        _ => Forwarded::default(),
    };
    let scheme = scheme.unwrap_or_else(|| own_scheme.to_owned());
    let host = host.or(own)?;
    let prefix = prefix.unwrap_or_default();
    Some(format!("{scheme}://{host}{prefix}"))
}

/// What the nearest proxy says.
#[derive(Default)]
struct Forwarded {
    scheme: Option<String>,
    host: Option<String>,
    prefix: Option<String>,
}

impl Forwarded {
    fn read(headers: &HeaderMap, header: ForwardedHeader) -> Self {
        let (scheme, host, prefix) = match header {
            ForwardedHeader::XForwardedFor => (
                last(headers, &X_FORWARDED_PROTO),
                last(headers, &X_FORWARDED_HOST),
                last(headers, &X_FORWARDED_PREFIX),
            ),
            ForwardedHeader::Forwarded => {
                let element = last(headers, &FORWARDED);
                let pair = |name| element.and_then(|element| parameter(element, name));
                (pair("proto"), pair("host"), None)
            }
        };
        Self {
            scheme: scheme.map(str::to_ascii_lowercase).filter(|it| it == "http" || it == "https"),
            host: host.filter(|host| is_host_and_port(host)).map(str::to_owned),
            prefix: prefix
                .map(|prefix| prefix.trim_end_matches('/'))
                .filter(|prefix| is_path(prefix))
                .map(str::to_owned),
        }
    }
}

/// The last element of a header's last line: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

/// The value of `name` in `for=192.0.2.1;proto=https` (RFC 7239, 4).
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

fn is_host_and_port(text: &str) -> bool {
    !text.contains('@') && text.parse::<Authority>().is_ok_and(|it| !it.host().is_empty())
}

/// An absolute path of letters, digits and what a URL may have unescaped between them (RFC 3986, 3.3).
fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_url_from(
        header: ForwardedHeader,
        peer: &str,
        lines: &[(&'static str, &str)],
    ) -> String {
        let forwarders = Forwarders { trusted: vec!["10.0.0.0/8".parse().unwrap()], header };
        let mut headers = HeaderMap::new();
        headers.append("host", "node.internal:8080".parse().unwrap());
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let uri = "/v1/images/generations".parse().unwrap();
        base_url("http", &uri, &headers, Some(peer.parse().unwrap()), &forwarders).unwrap()
    }

    #[test]
    fn a_trusted_proxy_says_what_its_clients_call_the_node() {
        const OWN: &str = "http://node.internal:8080";
        let all = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "images.example"),
            ("x-forwarded-prefix", "/obscura/"),
        ];
        for (lines, expected) in [
            (&all[..], "https://images.example/obscura"),
            (&all[..1], "https://node.internal:8080"),
            (&all[1..2], "http://images.example"),
            (&[("x-forwarded-host", "a.example, b.example:8443")], "http://b.example:8443"),
            (&[("x-forwarded-host", "[2001:db8::1]:80")], "http://[2001:db8::1]:80"),
            (&[("x-forwarded-proto", "HTTPS")], "https://node.internal:8080"),
            // No URL comes of these.
            (&[("x-forwarded-proto", "javascript")], OWN),
            (&[("x-forwarded-host", "user@evil.example")], OWN),
            (&[("x-forwarded-host", "a b")], OWN),
            (&[("x-forwarded-host", "")], OWN),
            (&[("x-forwarded-prefix", "//evil.example")], OWN),
            (&[("x-forwarded-prefix", "/a?b")], OWN),
            (&[("x-forwarded-prefix", "a")], OWN),
            (&[("forwarded", "proto=https;host=images.example")], OWN),
        ] {
            let found = base_url_from(ForwardedHeader::XForwardedFor, "10.0.0.1", lines);
            assert_eq!(found, expected, "{lines:?}");
            // Nobody else is believed.
            assert_eq!(base_url_from(ForwardedHeader::XForwardedFor, "192.0.2.1", lines), OWN);
        }
        for (line, expected) in [
            ("for=192.0.2.1;proto=https;host=images.example", "https://images.example"),
            ("host=a.example, Host=\"b.example:8443\"", "http://b.example:8443"),
            ("for=192.0.2.1", OWN),
        ] {
            let lines = [("forwarded", line), ("x-forwarded-host", "not.this")];
            assert_eq!(base_url_from(ForwardedHeader::Forwarded, "10.0.0.1", &lines), expected);
        }
    }
}
