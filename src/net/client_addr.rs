//! The address of the client, also behind reverse proxies.
//!
//! A header counts only when the peer of the connection is a configured proxy, and only the part that trusted proxies wrote: it is
//! read from the right, up to the first address that is not a trusted proxy's. That address is the client's; the client may have
//! written everything to the left of it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use salvo::http::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::{ForwardedHeader, Network, ServerConfig};

/// The address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr {
    /// The address, IPv4 where it was that in IPv6.
    pub ip: IpAddr,
    /// The index of the interface on which a link-local IPv6 address means something (RFC 4007); 0 where that is not known.
    pub interface: u32,
}

impl From<IpAddr> for ClientAddr {
    fn from(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), interface: 0 }
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(address: SocketAddr) -> Self {
        let interface = match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
            SocketAddr::V6(_) | SocketAddr::V4(_) => 0,
        };
        Self { interface, ..address.ip().into() }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The longest path that a proxy may take away, in bytes.
const MAX_PREFIX_BYTES: usize = 256;

/// The trusted proxies, and the header that they write.
#[derive(Debug)]
pub struct Proxies {
    trusted: Vec<Network>,
    header: ForwardedHeader,
}

impl Proxies {
    /// Creates the list from `server.trusted_proxies` and `server.forwarded_header`.
    pub fn new(config: &ServerConfig) -> Self {
        Self { trusted: config.trusted_proxies.clone(), header: config.forwarded_header }
    }

    /// Reports whether `address` is a trusted proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Returns the client's address: the peer's own, or the one in a trusted proxy's header.
    pub fn client(&self, peer: ClientAddr, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer;
        if self.trusted.is_empty() {
            return client;
        }
        let hops = match self.header {
            ForwardedHeader::XForwardedFor => {
                elements(headers, &X_FORWARDED_FOR).map(|e| e.and_then(address)).collect::<Vec<_>>()
            }
            ForwardedHeader::Forwarded => {
                elements(headers, &FORWARDED).map(|e| e.and_then(|e| parameter(e, "for")).and_then(address)).collect()
            }
        };
        for hop in hops.into_iter().rev() {
            // A hop that its proxy did not name ("unknown", "_hidden") ends the chain at that proxy.
            let Some(hop) = hop.filter(|_| self.trusts(client.ip)) else { break };
            client = hop.into();
        }
        client
    }

    /// Reports whether `peer` is a trusted proxy to which the client speaks HTTPS.
    pub fn https(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        if !self.trusts(peer) {
            return false;
        }
        let scheme = match self.header {
            ForwardedHeader::XForwardedFor => elements(headers, &X_FORWARDED_PROTO).last().flatten(),
            ForwardedHeader::Forwarded => elements(headers, &FORWARDED).last().flatten().and_then(|e| parameter(e, "proto")),
        };
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// Returns the path that `peer`, a trusted proxy, has taken away from the URL, as it says in `X-Forwarded-Prefix`: without a slash at
    /// its end. `None` where there is none, or several, or one that is not of plain segments.
    pub fn prefix(&self, peer: IpAddr, headers: &HeaderMap) -> Option<String> {
        if !self.trusts(peer) {
            return None;
        }
        let mut lines = headers.get_all(X_FORWARDED_PREFIX).iter();
        let (Some(prefix), None) = (lines.next(), lines.next()) else { return None };
        let prefix = prefix.to_str().ok()?.trim().trim_end_matches('/');
        let is_plain = |segment: &str| {
            let mut bytes = segment.bytes();
            !matches!(segment, "" | "." | "..")
                && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
        };
        let path = prefix.strip_prefix('/').filter(|path| path.len() < MAX_PREFIX_BYTES && path.split('/').all(is_plain));
        path.map(|path| format!("/{path}"))
    }
}

/// Returns the elements of a list header, of all its lines; `None` for an element that is not text, which does not affect its
/// neighbours. A quoted comma does not occur in an address; splitting at every comma keeps a quote that the client has left open
/// from swallowing what the proxy appended.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    let parts = headers.get_all(name).into_iter().flat_map(|v| v.as_bytes().split(|&b| b == b','));
    parts.map(|part| std::str::from_utf8(part).ok().map(str::trim))
}

/// Returns a parameter of a `Forwarded` element, without quotes (RFC 7239 section 4).
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.map(|(k, v)| (k.trim(), v.trim())).find(|(k, _)| k.eq_ignore_ascii_case(name))?;
    Some(value.trim_matches('"'))
}

/// Parses an address, with or without port, brackets and zone: that of the proxy's interface (RFC 4007 section 11) means nothing here.
fn address(text: &str) -> Option<IpAddr> {
    let without_zone = match text.split_once('%') {
        Some((address, zone)) => {
            let rest = zone.find(']').and_then(|at| zone.get(at..)).unwrap_or_default();
            Cow::Owned(format!("{address}{rest}"))
        }
        None => Cow::Borrowed(text),
    };
    let text = &*without_zone;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use salvo::http::header::HeaderValue;
    use std::net::SocketAddrV6;

    fn proxies(header: &str) -> Proxies {
        let text = format!("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nforwarded_header = \"{header}\"");
        Proxies::new(&toml::from_str(&text).unwrap())
    }

    fn seen(header: &str, peer: &str, lines: &[&str]) -> String {
        seen_bytes(header, peer, &lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>())
    }

    fn seen_bytes(header: &str, peer: &str, lines: &[&[u8]]) -> String {
        let name = if header == "forwarded" { FORWARDED } else { X_FORWARDED_FOR };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line).unwrap());
        }
        proxies(header).client(peer.parse::<IpAddr>().unwrap().into(), &headers).ip.to_string()
    }

    #[test]
    fn client_address_is_taken_from_the_part_that_proxies_wrote() {
        let x = |peer, lines: &[&str]| seen("x-forwarded-for", peer, lines);
        assert_eq!(x("127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(x("::ffff:127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(x("192.0.2.1", &["203.0.113.9"]), "192.0.2.1", "a header from an untrusted peer");
        assert_eq!(x("127.0.0.1", &["1.1.1.1, 203.0.113.9"]), "203.0.113.9", "an address that the client wrote");
        assert_eq!(x("127.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"]), "203.0.113.9", "two proxies, two lines");
        assert_eq!(x("127.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(x("127.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(x("127.0.0.1", &["9.9.9.9, fe80::1%eth0"]), "fe80::1", "a zone of the proxy's");
        assert_eq!(x("127.0.0.1", &["[fe80::1%25eth0]:4711"]), "fe80::1");
        assert_eq!(x("127.0.0.1", &["%", "9.9.9.9%"]), "9.9.9.9");
        assert_eq!(x("127.0.0.1", &["9.9.9.9, unknown"]), "127.0.0.1");
        assert_eq!(x("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(x("127.0.0.1", &["10.0.0.1, 10.0.0.2"]), "10.0.0.1", "trusted proxies only");
    }

    #[test]
    fn interface_is_known_of_link_local_peers_only() {
        let of = |text: &str, scope| ClientAddr::from(SocketAddr::from(SocketAddrV6::new(text.parse().unwrap(), 1, 0, scope)));
        assert_eq!((of("fe80::1", 2).interface, of("2001:db8::1", 2).interface, of("::ffff:10.0.0.1", 2).interface), (2, 0, 0));
        assert_eq!(of("::ffff:10.0.0.1", 0), IpAddr::from([10, 0, 0, 1]).into());
        let trusting = |network: &str| Proxies::new(&toml::from_str(&format!("trusted_proxies = [\"{network}\"]")).unwrap());
        let peer = of("fe80::1", 2);
        assert_eq!(trusting("10.0.0.0/8").client(peer, &HeaderMap::new()), peer);
        assert_eq!(trusting("fe80::/10").client(peer, &HeaderMap::new()), peer);
    }

    #[test]
    fn forwarded_header_is_read_like_x_forwarded_for() {
        let f = |lines: &[&str]| seen("forwarded", "127.0.0.1", lines);
        assert_eq!(f(&["for=192.0.2.43, for=198.51.100.17;by=203.0.113.60"]), "198.51.100.17");
        assert_eq!(f(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(f(&["for=\"", "for=198.51.100.17"]), "198.51.100.17", "an open quote hides nothing");
        assert_eq!(f(&["for=_hidden"]), "127.0.0.1");
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, "for=1.2.3.4;proto=https".parse().unwrap());
        assert!(proxies("forwarded").https([127, 0, 0, 1].into(), &headers));
        assert!(!proxies("forwarded").https([1, 2, 3, 4].into(), &headers));
        assert!(!proxies("x-forwarded-for").https([127, 0, 0, 1].into(), &headers));
    }

    #[test]
    fn prefix_is_a_plain_path_of_a_trusted_proxy() {
        let of = |peer: [u8; 4], lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(X_FORWARDED_PREFIX, HeaderValue::from_str(line).unwrap());
            }
            proxies("x-forwarded-for").prefix(peer.into(), &headers)
        };
        let local = [127, 0, 0, 1];
        for (line, prefix) in [("/qy", "/qy"), ("/qy/", "/qy"), ("/a/b-c_d.e~f/", "/a/b-c_d.e~f")] {
            assert_eq!(of(local, &[line]).as_deref(), Some(prefix), "{line}");
            assert_eq!(of([192, 0, 2, 1], &[line]), None, "not a trusted proxy");
        }
        let long = format!("/{}", "x".repeat(300));
        for line in [
            "",
            "/",
            "qy",
            "//evil.example",
            "/a//b",
            "/..",
            "/a/../b",
            "/a\"b",
            "/a<b",
            "/a b",
            "/a?b",
            "/a#b",
            "/%2e",
            "/a, /b",
            &long,
        ] {
            assert_eq!(of(local, &[line]), None, "{line}");
        }
        assert_eq!(of(local, &["/a", "/b"]), None);
    }

    proptest! {
        #[test]
        fn header_from_an_untrusted_peer_is_ignored(line in "[ -~]{0,80}") {
            prop_assert_eq!(seen("x-forwarded-for", "192.0.2.1", &[&line]), "192.0.2.1");
            prop_assert_eq!(seen("forwarded", "192.0.2.1", &[&line]), "192.0.2.1");
        }

        #[test]
        fn text_that_the_client_wrote_changes_nothing(line in vec(prop_oneof![Just(b'\t'), 0x20u8..0x7f, 0x80u8..], 0..80)) {
            let with = |appended: &[u8]| [&line[..], b", ", appended].concat();
            prop_assert_eq!(seen_bytes("x-forwarded-for", "127.0.0.1", &[&with(b"203.0.113.9")]), "203.0.113.9");
            prop_assert_eq!(seen_bytes("x-forwarded-for", "127.0.0.1", &[&line, b"203.0.113.9"]), "203.0.113.9");
            prop_assert_eq!(seen_bytes("forwarded", "127.0.0.1", &[&with(b"for=203.0.113.9")]), "203.0.113.9");
        }
    }
}
