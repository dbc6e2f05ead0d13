//! The state of a connection's peer, as the kernel's TCP sees it.
//!
//! A client that is busy reads nothing and answers no ping, but its kernel still acknowledges. `TCP_USER_TIMEOUT` can't tell it
//! from one that has vanished: Linux also ends a connection whose peer answers every probe of its full receive buffer. The table
//! of connections in `/proc` has the number of unanswered retransmissions and probes, and needs neither the socket nor privileges.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The tables of this process's network namespace.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// The number of retransmissions or probes in a row without any answer, from which on a peer counts as vanished: 3 seconds on a
/// quick link, a minute on a very slow one.
const MAX_UNANSWERED: u32 = 4;
/// The age up to which the table is used again: many connections are silent together where a network fails.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The near port and the far address of a connection.
type Key = (u16, SocketAddr);

/// The connections whose peers do not answer, and the time at which they were read.
static UNANSWERED: Mutex<Option<(Instant, Arc<HashSet<Key>>)>> = Mutex::const_new(None);

/// The peer of a TCP connection: of a proxy's, if there is one in between.
#[derive(Debug, Clone, Copy)]
pub struct Peer(Option<Key>);

impl Peer {
    /// The peer at `remote` of a connection to this host's `local_port`; `None` where it is not TCP.
    pub fn new(local_port: Option<u16>, remote: Option<SocketAddr>) -> Self {
        let canonical = |remote: SocketAddr| SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Self(local_port.zip(remote.map(canonical)))
    }

    /// Returns whether the peer's TCP acknowledges, also where the system can't tell. Data must be on its way.
    pub async fn acknowledges(self) -> bool {
        let Some(key) = self.0 else { return true };
        let mut latest = UNANSWERED.lock().await;
        let known = latest.as_ref().filter(|(at, _)| at.elapsed() < MAX_AGE).map(|(_, table)| table.clone());
        let table = match known {
            Some(table) => table,
            None => {
                let read = || Arc::new(TABLES.iter().flat_map(std::fs::read_to_string).flat_map(|t| unanswered(&t)).collect());
                let table: Arc<HashSet<Key>> = tokio::task::spawn_blocking(read).await.unwrap_or_default();
                *latest = Some((Instant::now(), table.clone()));
                table
            }
        };
        !table.contains(&key)
    }
}

/// Returns the connections of a table (proc_net_tcp in the kernel's documentation) whose peers do not answer.
fn unanswered(table: &str) -> Vec<Key> {
    table.lines().skip(1).filter_map(parse).filter(|&(_, count)| count >= MAX_UNANSWERED).map(|(key, _)| key).collect()
}

/// Parses a line: the connection, and the number of unanswered retransmissions or probes.
fn parse(line: &str) -> Option<(Key, u32)> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(columns.next()?)?, address(columns.next()?)?);
    let retransmissions = u32::from_str_radix(columns.nth(3)?, 16).ok()?; // after state, queues and timer
    let probes = columns.nth(1)?.parse().ok()?; // after the user
    Some(((local.port(), remote), retransmissions.max(probes)))
}

/// Parses an address: groups of four bytes in the machine's order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let word = |n: usize| Some(u32::from_str_radix(host.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match host.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{SockFilter, SockRef};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    /// A BPF program that drops every packet: `ret 0`.
    fn drop_everything() -> SockFilter {
        SockFilter::new(6, 0, 0, 0)
    }

    async fn pair() -> (TcpStream, TcpStream, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, remote) = listener.accept().await.unwrap();
        let peer = Peer::new(Some(server.local_addr().unwrap().port()), Some(remote));
        (server, client, peer)
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_with_unanswered_retransmissions_or_probes_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 0100007F:A2C6 01 00000010:00000000 01:00000225 00000004     0        0 2891025 3 0 20 0 0 12 -1\n\
            1: 0100007F:1F90 0100007F:A2C7 01 002AC800:00000000 04:00000225 00000000     0        5 2891025 3 0 20 0 0 12 -1\n\
            2: 0100007F:1F90 0100007F:A2C8 01 002AC800:00000000 04:00000225 00000003     0        0 2891025 3 0 20 0 0 12 -1\n\
            3: broken\n\
            4: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200000A:A2C9 01 00000010:00000000 01:00000225 0000000A     0        0 1 3 0 20 0 0 12 -1\n";
        let found: Vec<_> = unanswered(table).into_iter().map(|(port, far)| (port, far.to_string())).collect();
        let expected = [(8080, "127.0.0.1:41670"), (8080, "127.0.0.1:41671"), (8080, "10.0.0.2:41673")];
        assert_eq!(found, expected.map(|(port, far)| (port, far.to_owned())));
    }

    #[tokio::test]
    async fn peer_with_full_buffer_acknowledges_and_a_vanished_one_does_not() {
        let ((full, reader, full_peer), (mut lost, vanished, lost_peer)) = (pair().await, pair().await);
        SockRef::from(&reader).set_recv_buffer_size(4096).unwrap();
        while full.try_write(&[0; 65_536]).is_ok() {}
        SockRef::from(&vanished).attach_filter(&[drop_everything()]).unwrap();
        lost.write_all(b"x").await.unwrap();
        let gone = async {
            while lost_peer.acknowledges().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is noticed");
        assert!(full_peer.acknowledges().await);
        assert!(Peer::new(None, None).acknowledges().await);
    }
}
