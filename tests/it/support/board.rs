//! Small boards: what the WebSocket libraries of Arduino, ESP-IDF and MicroPython send, look for in an answer, and do with frames.
//!
//! Re-made after their sources, since they don't run on a host: arduinoWebSockets 2.7 (Links2004), ArduinoWebsockets 0.5
//! (gilmaimon), `esp_websocket_client` 1.x with ESP-IDF's transport, ArduinoHttpClient 0.6, uwebsockets, and MicroPython's aiohttp.
//! Earlier versions of the first two compare the names of headers letter by letter, and so do libraries without a release since;
//! that is what [`Names::Letters`] is.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::raw::{CLOSE, FIN, PING, PONG, TEXT, frame};
use super::{DEADLINE, Server};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`], from RFC 6455 (section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The receive window of lwIP on an ESP32: four segments.
const TCP_WINDOW_BYTES: u32 = 5744;

/// How a library finds a header in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The name as RFC 6455 writes it, letter by letter, a colon and one blank.
    Letters,
    /// Without regard to case.
    AnyCase,
    /// Only the status is read.
    Unread,
    /// Only the first line is read, and compared whole.
    FirstLine,
}

/// What a library sends back for a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    Whole,
    /// Up to the first NUL.
    Text,
}

/// What a library sends when the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// 1000, whatever the server's code was.
    Normal,
    /// The server's code where the library knows it, else a close frame without one.
    KnownCode,
    /// The server's frame as it came.
    Echo,
    Empty,
    /// Nothing; the TCP connection ends.
    Nothing,
}

/// A library with its defaults.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    pub name: &'static str,
    /// The lines of its handshake after the first, in its order; `{host}` and `{port}` are those of the server.
    pub head: &'static [&'static str],
    pub names: Names,
    /// The most that the head of the answer may have.
    pub head_bytes: usize,
    /// The most that a message may have; a larger one is answered with 1009.
    pub message_bytes: usize,
    pub pong: Pong,
    pub farewell: Farewell,
}

const LINKS2004: Library = Library {
    name: "arduinoWebSockets",
    head: &[
        "Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Protocol: arduino",
        "Origin: file://",
        "User-Agent: arduino-WebSocket-Client",
    ],
    names: Names::AnyCase,
    head_bytes: usize::MAX,
    message_bytes: 15 * 1024,
    pong: Pong::Whole,
    farewell: Farewell::Normal,
};

const GILMAIMON: Library = Library {
    name: "ArduinoWebsockets",
    head: &[
        "Host: {host}",
        "Sec-WebSocket-Key: {key}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "User-Agent: TinyWebsockets Client",
        "Origin: https://github.com/gilmaimon/TinyWebsockets",
    ],
    names: Names::AnyCase,
    head_bytes: usize::MAX,
    message_bytes: usize::MAX,
    pong: Pong::Text,
    farewell: Farewell::KnownCode,
};

const ESP_IDF: Library = Library {
    name: "esp_websocket_client",
    head: &[
        "Connection: Upgrade",
        "Host: {host}:{port}",
        "User-Agent: ESP32 Websocket Client",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: {key}",
    ],
    names: Names::AnyCase,
    head_bytes: 1024,
    message_bytes: usize::MAX,
    pong: Pong::Whole,
    farewell: Farewell::Empty,
};

const ARDUINO_HTTP: Library = Library {
    name: "ArduinoHttpClient",
    head: &[
        "Host: {host}:{port}",
        "User-Agent: Arduino/2.2.0",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ],
    names: Names::Unread,
    head_bytes: usize::MAX,
    message_bytes: usize::MAX,
    pong: Pong::Whole,
    farewell: Farewell::Nothing,
};

/// `Origin` is that of a page in development: accepted as long as the server listens on loopback only, else with
/// `server.origins`.
const UWEBSOCKETS: Library = Library {
    name: "uwebsockets",
    head: &[
        "Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Origin: http://localhost",
    ],
    names: Names::FirstLine,
    head_bytes: usize::MAX,
    message_bytes: usize::MAX,
    pong: Pong::Whole,
    farewell: Farewell::Nothing,
};

const MICROPYTHON_AIOHTTP: Library = Library {
    name: "aiohttp of MicroPython",
    head: &[
        "Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Origin: http://{host}:{port}",
    ],
    names: Names::Unread,
    head_bytes: usize::MAX,
    message_bytes: usize::MAX,
    pong: Pong::Whole,
    farewell: Farewell::Echo,
};

pub const LIBRARIES: [Library; 8] = [
    LINKS2004,
    Library { name: "arduinoWebSockets before 1.0", names: Names::Letters, ..LINKS2004 },
    GILMAIMON,
    Library { name: "ArduinoWebsockets before 0.4.11", names: Names::Letters, ..GILMAIMON },
    ESP_IDF,
    ARDUINO_HTTP,
    UWEBSOCKETS,
    MICROPYTHON_AIOHTTP,
];

/// What a board sees.
#[derive(Debug)]
pub enum Seen {
    Event(Value),
    /// The code of the server's close frame, after the library's farewell; `None` where the connection just ended.
    Closed(Option<u16>),
    /// A message of this size was too large.
    TooLarge(usize),
}

/// A connection of a library.
pub struct Board {
    pub library: Library,
    stream: TcpStream,
}

impl Board {
    /// Connects as the library does; `Err` is why it does not accept the answer.
    pub async fn connect(library: Library, server: &Server, path: &str) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(TCP_WINDOW_BYTES / 2).unwrap(); // the kernel doubles it
        let stream = timeout(DEADLINE, socket.connect(server.address)).await.expect("connects in time").unwrap();
        let mut board = Self { library, stream };
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        for line in library.head {
            let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
            request += &line.replace("{host}", &host).replace("{port}", &port).replace("{key}", KEY);
            request += "\r\n";
        }
        board.stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(board.read::<1>().await.ok_or("the connection ended in the head")?[0]);
        }
        library.accepts(std::str::from_utf8(&head).unwrap())?;
        Ok(board)
    }

    /// Receives up to `kind`; whatever else comes must be an event, too.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Seen::Event(event) if event["type"] == kind => return event,
                Seen::Event(_) => {}
                other => panic!("{}: {other:?} instead of {kind}", self.library.name),
            }
        }
    }

    pub async fn say(&mut self, value: &Value) {
        self.write(FIN | TEXT, value.to_string().as_bytes()).await;
    }

    /// A ping of the library's own, as `esp_websocket_client` sends it every 10 s and arduinoWebSockets where its heartbeat is on.
    pub async fn ping(&mut self) {
        self.write(FIN | PING, b"").await;
    }

    /// Ends it as a lost power supply does.
    pub fn drop_dead(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Returns the next thing that the program sees; answers pings on the way.
    pub async fn next(&mut self) -> Seen {
        loop {
            let Some([first, second]) = self.read::<2>().await else { return Seen::Closed(None) };
            assert_eq!(first & FIN, FIN, "{}: a fragment", self.library.name);
            assert_eq!(second & 0x80, 0, "{}: a masked frame", self.library.name);
            let length = match second {
                126 => u16::from_be_bytes(self.read().await.unwrap()).into(),
                127 => usize::try_from(u64::from_be_bytes(self.read().await.unwrap())).unwrap(),
                short => short.into(),
            };
            if length > self.library.message_bytes {
                self.write(FIN | CLOSE, &1009_u16.to_be_bytes()).await;
                return Seen::TooLarge(length);
            }
            let mut payload = vec![0; length];
            timeout(DEADLINE, self.stream.read_exact(&mut payload)).await.expect("comes in time").unwrap();
            match first & 0x0f {
                PING => {
                    let end = payload.iter().position(|byte| *byte == 0).filter(|_| self.library.pong == Pong::Text);
                    payload.truncate(end.unwrap_or(length));
                    self.write(FIN | PONG, &payload).await;
                }
                TEXT => return Seen::Event(serde_json::from_slice(&payload).unwrap()),
                CLOSE => return self.farewell(&payload).await,
                _ => {}
            }
        }
    }

    async fn farewell(&mut self, payload: &[u8]) -> Seen {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        match (self.library.farewell, code) {
            (Farewell::Nothing, _) => {}
            (Farewell::Echo, _) => self.write(FIN | CLOSE, payload).await,
            (Farewell::Normal, _) => self.write(FIN | CLOSE, &1000_u16.to_be_bytes()).await,
            (Farewell::KnownCode, Some(known @ 1000..=1011)) => self.write(FIN | CLOSE, &known.to_be_bytes()).await,
            (Farewell::KnownCode | Farewell::Empty, _) => self.write(FIN | CLOSE, b"").await,
        }
        let _ = self.stream.shutdown().await;
        Seen::Closed(code)
    }

    async fn write(&mut self, first: u8, payload: &[u8]) {
        let _ = timeout(DEADLINE, self.stream.write_all(&frame(first, payload))).await.expect("the server reads");
    }

    async fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        timeout(DEADLINE, self.stream.read_exact(&mut bytes)).await.expect("something comes in time").ok()?;
        Some(bytes)
    }
}

impl Library {
    /// Checks the head of an answer as the library does.
    fn accepts(&self, head: &str) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("{}: {why}: {head}", self.name));
        let first = head.lines().next().unwrap_or_default();
        if !first.starts_with("HTTP/1.1 101 ") || self.names == Names::FirstLine && first != "HTTP/1.1 101 Switching Protocols" {
            return refuse("not 101");
        }
        if head.len() >= self.head_bytes {
            return refuse("too long a head");
        }
        let found = |name: &str| {
            let mut headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
            let (_, value) = headers.find(|(given, _)| match self.names {
                Names::Letters => *given == name,
                Names::AnyCase | Names::Unread | Names::FirstLine => given.eq_ignore_ascii_case(name),
            })?;
            Some(value)
        };
        if matches!(self.names, Names::Unread | Names::FirstLine) {
            return Ok(());
        }
        // The whole value is compared: `keep-alive, Upgrade` would be refused.
        for (name, value) in [("Connection", "upgrade"), ("Upgrade", "websocket")] {
            if !found(name).is_some_and(|given| given.eq_ignore_ascii_case(value)) {
                return refuse(&format!("no {name}"));
            }
        }
        if found("Sec-WebSocket-Accept") != Some(ACCEPT) {
            return refuse("no Sec-WebSocket-Accept");
        }
        Ok(())
    }
}

/// Waits as a library does between two attempts, but shorter.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
