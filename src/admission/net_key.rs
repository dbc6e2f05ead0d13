//! The keys of an address for limits.
//!
//! A limit by address is worth nothing where its subject can make addresses. So an address has up to three keys, from the narrow to
//! the wide: [`NetKey`], which has the whole allowance; where addresses are free, the [`Link`], which has some of them; and the
//! [`Site`], for guesses.

use std::net::{IpAddr, Ipv6Addr};

use crate::net::client_addr::ClientAddr;

/// An address as a key for limits: an IPv4 address, or the first 64 bits of an IPv6 address, since a customer gets at least a /64 and
/// could otherwise use 2^64 addresses. IPv4 in IPv6 counts as IPv4. Link-local addresses, which are all in one /64, count one by one,
/// and together as their [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetKey {
    /// An address or a /64.
    Net(IpAddr),
    /// A link-local address, and its interface: 0 where that is not known.
    Neighbour(IpAddr, u32),
}

/// All link-local addresses of one interface and version of IP. Every machine on the link can have as many of them as it likes:
/// 2^64 in IPv6 (RFC 4291 section 2.5.6), 65,024 in IPv4 (RFC 3927).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    v6: bool,
    interface: u32,
}

/// The first 48 bits of an IPv6 address: what one site gets at most (RFC 6177), with 65,536 networks in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(u64);

impl From<ClientAddr> for NetKey {
    fn from(address: ClientAddr) -> Self {
        match address.ip.to_canonical() {
            IpAddr::V4(v4) if v4.is_link_local() => Self::Neighbour(IpAddr::V4(v4), address.interface),
            IpAddr::V4(v4) => Self::Net(IpAddr::V4(v4)),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::Neighbour(IpAddr::V6(v6), address.interface),
            IpAddr::V6(v6) => Self::Net(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))),
        }
    }
}

/// An address, for a link-local one with its interface.
impl std::fmt::Display for NetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(ip) => ip.fmt(f),
            Self::Neighbour(ip, interface) => write!(f, "{ip}%{interface}"),
        }
    }
}

impl NetKey {
    /// Returns the link of a link-local address.
    pub fn link(self) -> Option<Link> {
        match self {
            Self::Neighbour(ip, interface) => Some(Link { v6: ip.is_ipv6(), interface }),
            Self::Net(_) => None,
        }
    }

    /// Returns the site of an IPv6 address that is not link-local.
    pub fn site(self) -> Option<Site> {
        match self {
            Self::Net(IpAddr::V6(v6)) => Some(Site((v6.to_bits() >> 80) as u64)),
            Self::Net(IpAddr::V4(_)) | Self::Neighbour(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(text: &str, interface: u32) -> NetKey {
        NetKey::from(ClientAddr { ip: text.parse().unwrap(), interface })
    }

    fn key(text: &str) -> NetKey {
        on(text, 0)
    }

    #[test]
    fn addresses_of_one_64_share_a_key_and_mapped_ones_are_ipv4() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("::ffff:169.254.1.1"), key("169.254.1.1"));
    }

    #[test]
    fn link_local_addresses_have_a_key_each_and_their_link() {
        assert_ne!(on("fe80::1", 2), on("fe80::2", 2));
        assert_ne!(on("fe80::1", 2), on("fe80::1", 3), "another machine");
        for (a, b) in [("fe80::1", "fe80::bad:2"), ("febf:ffff::1", "fe80::1"), ("169.254.0.1", "169.254.255.254")] {
            assert_eq!((on(a, 2).link(), on(a, 2).site()), (on(b, 2).link(), None));
            assert!(on(a, 2).link().is_some() && on(a, 2).link() != on(b, 3).link(), "{a}");
        }
        assert_ne!(key("fe80::1").link(), key("169.254.0.1").link());
        for other in ["10.0.0.1", "192.168.1.1", "fec0::1", "fd00::1", "2001:db8::1", "::1", "169.253.0.1"] {
            assert_eq!(on(other, 2).link(), None, "{other}");
            assert_eq!(on(other, 2), on(other, 3), "{other}");
        }
    }

    #[test]
    fn networks_of_one_48_share_a_site() {
        assert_eq!(key("2001:db8:1:2::1").site(), key("2001:db8:1:ffff::1").site());
        assert_eq!(key("fd12:3456:789a:1::1").site(), key("fd12:3456:789a:2::1").site());
        assert_ne!(key("2001:db8:1::1").site(), key("2001:db8:2::1").site());
        assert!(key("10.0.0.1").site().is_none() && key("2001:db8::1").site().is_some());
    }
}
