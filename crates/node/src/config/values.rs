//! Values of settings that are written as text.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::Deserialize;

/// Reads `127.0.0.1:8080`, `[::1]:8080`, or `localhost:8080`, which is 127.0.0.1 (RFC 6761, 6.3). Other names are
/// refused: who answers for them may change.
///
/// # Errors
/// Where it is neither.
pub fn parse_listen(text: &str) -> Result<SocketAddr, InvalidListen> {
    let loopback = || {
        let port = text.strip_prefix("localhost:")?.parse().ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    };
    text.parse().ok().or_else(loopback).ok_or(InvalidListen)
}

/// Not an address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be ADDRESS:PORT, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080")]
pub struct InvalidListen;

pub(super) fn listen_address<'de, D: serde::Deserializer<'de>>(
    json: D,
) -> Result<SocketAddr, D::Error> {
    parse_listen(&String::deserialize(json)?).map_err(serde::de::Error::custom)
}

pub(super) fn listed<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

/// Networks (`10.0.0.0/8`), and single addresses.
pub(super) fn networks<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
        text.parse().ok().or_else(address).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{}` is no network: `10.0.0.0/8`, `2001:db8::/32`, or one address",
                text.escape_debug()
            ))
        })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(network).collect()
}
