//! Ids of clients, by which the queue shares its places.

use std::net::IpAddr;

use engine::ClientId;
use sha2::{Digest, Sha256};

use crate::auth::ApiKeyDigest;

/// The holder of an accepted bearer key.
pub(crate) fn of_key(key: ApiKeyDigest) -> ClientId {
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
