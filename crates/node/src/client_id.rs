//! Whose share of the queue a request counts towards.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use engine::ClientId;
use sha2::{Digest, Sha256};

use crate::{address::Peer, auth::ApiKeyDigest, node::Node};

/// The client of a request: whom a trusted forwarder names, by an extension of type [`ClientId`] that
/// [`crate::requests::bounded`] puts there; otherwise the holder of an accepted bearer key; otherwise
/// the peer's address.
pub(crate) struct Client(pub(crate) ClientId);

impl FromRequestParts<Arc<Node>> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Infallible> {
        let named = parts.extensions.get::<ClientId>().copied();
        // A key that is not accepted is any text, and would make a new client with every request.
        let key = || node.credentials().accepted_key(&parts.headers).map(of_key);
        let peer = || parts.extensions.get::<Peer>().map(|peer| of_peer(peer.0));
        let client = named.or_else(key).or_else(peer);
        Ok(Self(client.unwrap_or(ClientId::ANONYMOUS)))
    }
}

fn of_key(key: ApiKeyDigest) -> ClientId {
    id(b"key", key.as_bytes())
}

/// Of IPv6, the network of 64 bits that one customer usually has.
pub(crate) fn of_peer(address: IpAddr) -> ClientId {
    match address.to_canonical() {
        IpAddr::V4(address) => id(b"ipv4", &address.octets()),
        IpAddr::V6(address) => id(b"ipv6", &address.octets()[..8]),
    }
}

fn id(kind: &[u8], name: &[u8]) -> ClientId {
    let mut hash = Sha256::new();
    hash.update((kind.len() as u64).to_le_bytes());
    hash.update(kind);
    hash.update(name);
    ClientId::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_keys_or_networks() {
        let peer = |address: &str| of_peer(address.parse().unwrap());
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::2:3"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(of_key(ApiKeyDigest::of("a")), of_key(ApiKeyDigest::of("b")));
    }
}
