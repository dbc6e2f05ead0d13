//! The raw client: connections whose bytes a test writes itself, however malformed they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::DEADLINE;

/// First bytes of whole frames, and of fragments where `FIN` is taken away.
pub const FIN: u8 = 0x80;
pub const TEXT: u8 = 0x01;
pub const PING: u8 = 0x09;
pub const PONG: u8 = 0x0a;
pub const CLOSE: u8 = 0x08;

/// The mask of every frame.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// The head of a masked frame that announces `length` bytes of payload, in the shortest form.
pub fn head(first: u8, length: u64) -> Vec<u8> {
    let mut out = vec![first];
    match length {
        0..126 => out.push(0x80 | length as u8),
        126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out
}

/// A whole masked frame, as a client must write it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = head(first, payload.len() as u64);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A text message in one frame.
pub fn text(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, text.as_bytes())
}

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 0 where there was no response.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let rest = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
        let status = rest.and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Returns the body; the status must be `status`.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// The source address of a connection where it does not matter.
pub const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Opens a connection from a loopback address.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    timeout(DEADLINE, socket.connect(to)).await.expect("connects in time").unwrap()
}

/// Writes as much of `bytes` as the server takes before it hangs up.
pub async fn pour(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = timeout(DEADLINE, stream.write_all(bytes)).await.expect("the server reads or hangs up");
}

/// Returns everything that comes until the server hangs up, in whichever way; `None` when it does not within `limit`.
pub async fn rest_within(stream: &mut TcpStream, limit: Duration) -> Option<Vec<u8>> {
    let mut rest = Vec::new();
    let _ = timeout(limit, stream.read_to_end(&mut rest)).await.ok()?; // a reset is an end, too
    Some(rest)
}

/// Writes `bytes` and reads until the server hangs up. Either may fail: what came counts, as the answer to a request that the
/// server does not read to its end.
pub async fn exchange(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Reply {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let both = async { tokio::join!(pour(&mut writer, bytes), reader.read_to_end(&mut answer)) };
    let _ = timeout(DEADLINE, both).await.expect("answers in time");
    Reply::parse(&answer)
}

/// The bytes of a request that ends its connection; JSON unless `headers` name another content type.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in [("Host", "x"), ("Connection", "close"), ("Content-Type", "application/json")] {
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// One request on a connection from a loopback address.
pub async fn ask(
    from: Ipv4Addr,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Reply {
    let host = to.to_string();
    let headers = [&[("Host", host.as_str())], headers].concat();
    exchange(connect(from, to).await, &request(method, path, &headers, body)).await
}

/// One log-in, with further headers.
pub async fn login(from: Ipv4Addr, to: SocketAddr, name: &str, password: &str, headers: &[(&str, &str)]) -> Reply {
    ask(from, to, "POST", "/api/auth/login", headers, json!({"username": name, "password": password}).to_string()).await
}

/// A WebSocket session past the handshake and the first event.
pub struct Raw {
    pub stream: TcpStream,
    seen: Vec<u8>,
}

impl Raw {
    pub async fn session(address: SocketAddr, token: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), token).await
    }

    /// The same over a connection that is there already.
    pub async fn over(stream: TcpStream, token: &str) -> Self {
        Self::handshake(stream, &format!("/ws/device/?token={token}")).await.0
    }

    /// Opens a session at `path`, which has the token in it; returns the first event, too.
    pub async fn open(address: SocketAddr, path: &str) -> (Self, Value) {
        Self::handshake(TcpStream::connect(address).await.unwrap(), path).await
    }

    async fn handshake(mut stream: TcpStream, path: &str) -> (Self, Value) {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut raw = Self { stream, seen: Vec::new() };
        let end = loop {
            if let Some(at) = raw.seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(raw.more().await, "hung up during the handshake");
        };
        let answer: Vec<u8> = raw.seen.drain(..end).collect();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let hello = raw.event().await;
        assert_eq!(hello["type"], "connection_status", "{hello}");
        (raw, hello)
    }

    /// Receives queued messages up to `id`, without an answer to any ping; returns their ids.
    pub async fn ids_to(&mut self, id: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.last() != Some(&id) {
            ids.extend(self.event().await["id"].as_u64());
        }
        ids
    }

    /// Closes with `code` and reads to the end.
    pub async fn close(mut self, code: u16) {
        self.send(&frame(FIN | CLOSE, &code.to_be_bytes())).await;
        while self.next().await.is_some() {}
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.expect("is read in time").unwrap();
    }

    /// Writes as much of `bytes` as the server takes before it hangs up, and reads meanwhile.
    pub async fn pour(&mut self, bytes: &[u8]) {
        let (mut reader, mut writer) = self.stream.split();
        let writing = pour(&mut writer, bytes);
        let mut writing = std::pin::pin!(writing);
        loop {
            tokio::select! {
                () = &mut writing => return,
                read = reader.read_buf(&mut self.seen) => if !matches!(read, Ok(1..)) {
                    return;
                },
            }
        }
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.seen)).await.expect("something comes in time");
        matches!(read, Ok(1..))
    }

    /// The next frame's first byte and payload; `None` when the server has hung up.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [first, length, ..] = self.seen[..] {
                let extra = match length {
                    0..126 => 0,
                    126 => 2,
                    127 => 8,
                    _ => panic!("a server must not mask"),
                };
                if let Some(long) = self.seen.get(2..2 + extra) {
                    let long = long.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                    let end = 2 + extra + if extra == 0 { usize::from(length) } else { long };
                    if self.seen.len() >= end {
                        return Some((first, self.seen.drain(..end).skip(2 + extra).collect()));
                    }
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next text message.
    pub async fn event(&mut self) -> Value {
        loop {
            match self.next().await.expect("an event") {
                (0x81, text) => return serde_json::from_slice(&text).unwrap(),
                (0x89 | 0x8a, _) => {}
                (0x88, payload) => panic!("closed with {:?}", code(&payload)),
                (first, _) => panic!("a frame that begins with {first:#x}"),
            }
        }
    }

    /// The next text message; answers the pings before it, as every client does.
    pub async fn take(&mut self) -> Value {
        loop {
            match self.next().await.expect("an event") {
                (0x81, text) => return serde_json::from_slice(&text).unwrap(),
                (0x89, payload) => self.send(&frame(FIN | PONG, &payload)).await,
                (first, payload) => panic!("a frame that begins with {first:#x}: {:?}", code(&payload)),
            }
        }
    }

    /// Reads to the close frame and returns its code, and the event before it; nothing may follow.
    pub async fn closed(&mut self) -> (u16, Value) {
        let mut last = Value::Null;
        loop {
            match self.next().await.expect("a close frame before the end") {
                (0x88, payload) => {
                    assert_eq!(self.next().await, None, "something after the close frame");
                    return (code(&payload).expect("a close code"), last);
                }
                (0x81, text) => last = serde_json::from_slice(&text).unwrap(),
                _ => {}
            }
        }
    }

    /// The code of the close frame that is the last thing the server writes.
    pub async fn close_code(&mut self) -> u16 {
        self.closed().await.0
    }
}

/// The code in a close frame's payload.
pub fn code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|&code| u16::from_be_bytes(code))
}
