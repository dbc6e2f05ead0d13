//! The URLs under which browsers reach the main listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// An address of the network for documentation (RFC 5737), which leads where all of the internet does: nothing is sent there.
const ELSEWHERE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Returns the URL for a browser on this machine, without a path: loopback for a server that listens on all addresses.
pub fn local(listen: SocketAddr, tls: bool) -> String {
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    url(ip, listen.port(), tls)
}

/// Returns the URL for browsers on other machines of the network, without a path; `None` for a server that listens on loopback only, and
/// where this machine is in no network.
pub fn in_network(listen: SocketAddr, tls: bool) -> Option<String> {
    let ip = if listen.ip().is_unspecified() { own_address()? } else { listen.ip() };
    (!ip.to_canonical().is_loopback()).then(|| url(ip, listen.port(), tls))
}

fn url(ip: IpAddr, port: u16, tls: bool) -> String {
    format!("http{}://{}", if tls { "s" } else { "" }, SocketAddr::new(ip, port))
}

/// Returns the address from which this machine reaches others.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?; // chooses a route, and sends nothing
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_addresses_that_can_be_reached() {
        for (listen, here, elsewhere) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000", None),
            ("127.0.3.4:8000", "http://127.0.3.4:8000", None),
            ("[::1]:80", "http://[::1]:80", None),
            ("[::ffff:127.0.0.1]:80", "http://[::ffff:127.0.0.1]:80", None),
            ("192.0.2.7:8000", "http://192.0.2.7:8000", Some("http://192.0.2.7:8000")),
            ("[2001:db8::1]:8000", "http://[2001:db8::1]:8000", Some("http://[2001:db8::1]:8000")),
        ] {
            let listen = listen.parse().unwrap();
            assert_eq!((local(listen, false).as_str(), in_network(listen, false).as_deref()), (here, elsewhere));
            assert_eq!(local(listen, true), here.replace("http", "https"));
        }
        for any in ["0.0.0.0:8000", "[::]:8000"] {
            assert_eq!(local(any.parse().unwrap(), false), "http://127.0.0.1:8000");
            // Whatever network this machine is in.
            let url = in_network(any.parse().unwrap(), true);
            assert!(url.is_none_or(|url| url.starts_with("https://") && url.ends_with(":8000") && !url.contains("0.0.0.0")));
        }
    }
}
