//! The client's address: the address that a connection comes from, or the one that a trusted reverse
//! proxy names.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub(crate) use web::source::Source;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops of one request that are looked at.
const MAX_HOPS: usize = 32;

/// Where the connection of a request comes from. Set for each request by the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The header in which trusted reverse proxies name their clients. Only this one is believed: a proxy
/// that writes the one hands on what a client wrote into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// The reverse proxies whose word counts.
#[derive(Debug, Clone)]
pub(crate) struct Forwarders {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) header: ForwardedHeader,
}

impl Forwarders {
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is: the right-most hop that is no trusted proxy. Everything left of it may
    /// be invented.
    pub(crate) fn client_address(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.trusts(client) {
            let hops = match self.header {
                ForwardedHeader::XForwardedFor => hops(headers, &X_FORWARDED_FOR, hop_address),
                ForwardedHeader::Forwarded => hops(headers, &FORWARDED, forwarded_for),
            };
            for hop in hops {
                // What a proxy cannot name has the proxy's own address.
                let Some(hop) = hop else { break };
                client = hop.to_canonical();
                if !self.trusts(client) {
                    break;
                }
            }
        }
        client
    }
}

/// The hops of all lines of a header, the last one first.
fn hops(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<IpAddr>,
) -> Vec<Option<IpAddr>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let lines = lines.into_iter().rev();
    lines
        .flat_map(|line| match line.to_str() {
            Ok(line) => line.rsplit(',').map(|hop| read(hop.trim())).take(MAX_HOPS).collect(),
            Err(_) => vec![None],
        })
        .take(MAX_HOPS)
        .collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn hop_address(text: &str) -> Option<IpAddr> {
    IpAddr::from_str(text)
        .or_else(|_| SocketAddr::from_str(text).map(|address| address.ip()))
        .ok()
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// `for=192.0.2.1;proto=http`, `For="[2001:db8::1]:80"` (RFC 7239, 4 and 6).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
        name.trim().eq_ignore_ascii_case("for").then(|| hop_address(value))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, lines: &[(&'static str, &str)], peer: &str) -> String {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let forwarders = Forwarders { trusted: trusted.clone(), header };
        forwarders.client_address(&headers, peer.parse().unwrap()).to_string()
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted_counts() {
        use ForwardedHeader::XForwardedFor;
        const XFF: &str = "x-forwarded-for";
        for (lines, peer, expected) in [
            (&[(XFF, "192.0.2.1")][..], "10.0.0.1", "192.0.2.1"),
            (&[(XFF, "198.51.100.1, 192.0.2.1")], "10.0.0.1", "192.0.2.1"),
            (&[(XFF, "198.51.100.1, 192.0.2.1, 10.9.9.9")], "10.0.0.1", "192.0.2.1"),
            (&[(XFF, "198.51.100.1"), (XFF, "192.0.2.1")], "10.0.0.1", "192.0.2.1"),
            (&[(XFF, "192.0.2.1:4000")], "::ffff:10.0.0.1", "192.0.2.1"),
            (&[(XFF, "[2001:db8::1]:4000")], "2001:db8:1::9", "2001:db8::1"),
            // Nobody but a trusted proxy is believed, nor what it cannot name.
            (&[(XFF, "192.0.2.1")], "203.0.113.1", "203.0.113.1"),
            (&[(XFF, "192.0.2.1, unknown")], "10.0.0.1", "10.0.0.1"),
            (&[(XFF, "")], "10.0.0.1", "10.0.0.1"),
            (&[("forwarded", "for=192.0.2.1")], "10.0.0.1", "10.0.0.1"),
            (&[], "10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(client(XForwardedFor, lines, peer), expected, "{lines:?}");
        }
    }

    #[test]
    fn rfc_7239_is_read() {
        use ForwardedHeader::Forwarded;
        for (line, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=198.51.100.1, by=10.0.0.2;for=192.0.2.1;proto=http", "192.0.2.1"),
            ("for=192.0.2.1, for=10.0.0.7", "192.0.2.1"),
            ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
            ("by=10.0.0.2", "10.0.0.1"),
        ] {
            assert_eq!(client(Forwarded, &[("forwarded", line)], "10.0.0.1"), expected, "{line}");
        }
        let other = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client(Forwarded, &other, "10.0.0.1"), "10.0.0.1");
    }
}
