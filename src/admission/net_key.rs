//! The key of an address for limits.

use std::net::{IpAddr, Ipv6Addr};

/// An address as a key for limits: an IPv4 address, or the first 64 bits of an IPv6 address, since a customer gets at least a /64 and
/// could otherwise use 2^64 addresses. Link-local addresses, which are all in one /64, count one by one: they are few, since they
/// belong to the local network. IPv4 in IPv6 counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetKey(IpAddr);

impl From<IpAddr> for NetKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self(IpAddr::V6(v6)),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> NetKey {
        NetKey::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn addresses_of_one_64_share_a_key_and_mapped_ones_are_ipv4() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("fe80::1"), key("fe80::2"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
