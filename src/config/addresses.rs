//! Listening addresses: an IP address and a port, `localhost:8000`, or `:8000`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Parses a listening address. `:8000` is that port of every IPv4 address of the machine, `localhost` is 127.0.0.1.
fn parse(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let ip = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        _ if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST,
        _ => return text.parse().ok(),
    };
    // Not a sign, which `parse` would accept.
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(SocketAddr::from((ip, port.parse().ok()?)))
}

/// Reads a text.
struct Reader;

impl Visitor<'_> for Reader {
    type Value = SocketAddr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("socket address") // `core::mismatch` has the words
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Reads a listening address.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    deserializer.deserialize_any(Reader)
}

/// Reads a listening address that need not be given.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_alone_and_localhost_are_addresses() {
        for (text, address) in [
            (":8000", "0.0.0.0:8000"),
            ("localhost:8000", "127.0.0.1:8000"),
            ("LocalHost:0", "127.0.0.1:0"),
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("[::]:8000", "[::]:8000"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Some(address), "{text}");
        }
        for text in
            ["", ":", "8000", ":+80", ":65536", "localhost", "localhost:", "box.lan:8000", "::1:8000", "127.0.0.1", ": 80"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
