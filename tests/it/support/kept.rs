//! An upstream that keeps its connections for further requests, and does with each what a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request by its place: both count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the connection.
    pub connection: usize,
    /// The number of the request on that connection.
    pub request: usize,
}

/// What happens to a request.
pub enum Turn {
    /// These pieces are sent one after the other, and the connection is kept.
    Send(Vec<Vec<u8>>),
    /// These bytes are sent, and the connection is closed.
    SendAndClose(Vec<u8>),
    /// The connection is reset.
    Reset,
}

impl Turn {
    /// A whole response with a JSON body.
    pub fn json(body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::Send(vec![(head + body).into_bytes()])
    }

    /// A chunked response in pieces of `size` bytes.
    pub fn chunked(content_type: &str, body: &[u8], size: usize) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        let chunks = body.chunks(size).map(chunk);
        Self::Send(std::iter::once(head.into_bytes()).chain(chunks).chain([b"0\r\n\r\n".to_vec()]).collect())
    }
}

/// The upstream.
pub struct Kept {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<(Place, String)>>>,
}

impl Kept {
    /// Starts it; `answer` gets the place of a request, and its head and body.
    pub async fn start(answer: impl Fn(Place, &str) -> Turn + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kept = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, answer) = (kept.requests.clone(), Arc::new(answer));
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, answer) = (requests.clone(), answer.clone());
                tokio::spawn(async move { converse(stream, connection, &requests, &*answer).await });
                connection += 1;
            }
        });
        kept
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the places of the requests so far, in the order in which they came.
    pub fn places(&self) -> Vec<(usize, usize)> {
        self.requests.lock().unwrap().iter().map(|(place, _)| (place.connection, place.request)).collect()
    }

    /// Returns the requests so far: head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    requests: &Mutex<Vec<(Place, String)>>,
    answer: &(impl Fn(Place, &str) -> Turn + Sync),
) {
    stream.set_nodelay(true).unwrap();
    for request in 0.. {
        let Some(text) = read(&mut stream).await else { return };
        let place = Place { connection, request };
        let turn = answer(place, &text);
        requests.lock().unwrap().push((place, text));
        match turn {
            Turn::Send(pieces) => {
                for piece in pieces {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Turn::SendAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Turn::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
}

/// Reads a request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
