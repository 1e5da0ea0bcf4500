//! Who shares a bound.

use std::net::{IpAddr, Ipv6Addr};

/// Of IPv6, what one customer of a provider gets.
const IPV6_SOURCE_BITS: u32 = 64;

/// Who shares a bound: an IPv4 address, or the 64 bits of an IPv6 one that its owner cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Whose this address is.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let kept = u128::MAX << (128 - IPV6_SOURCE_BITS);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & kept))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_what_its_owner_cannot_choose() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
