//! An upstream with scripted responses: an HTTP server on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Got {
    /// Method and path with query.
    pub line: String,
    /// Lower-cased names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The response to a request.
pub enum Reply {
    Json(u16, String),
    /// Server-sent events, each after a pause.
    Events(Vec<String>, Duration),
    /// Sends nothing until the caller goes away.
    Hang,
    /// Announces more than it sends, and closes.
    Cut(String),
    /// Sends without end.
    Endless,
    Redirect(String),
}

pub struct Stub {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    gone: Arc<Mutex<usize>>,
}

impl Stub {
    pub async fn start(answer: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self { address: listener.local_addr().unwrap(), got: Arc::default(), gone: Arc::default() };
        let (got, gone, answer) = (stub.got.clone(), stub.gone.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (got, gone, answer) = (got.clone(), gone.clone(), answer.clone());
                tokio::spawn(async move {
                    if converse(stream, &got, &*answer).await.is_none() {
                        *gone.lock().unwrap() += 1;
                    }
                });
            }
        });
        stub
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Returns the number of callers that went away before they had their response.
    pub fn gone(&self) -> usize {
        *self.gone.lock().unwrap()
    }
}

/// One request and its answer; `None` when the caller went away before it was there.
async fn converse(mut stream: TcpStream, got: &Mutex<Vec<Got>>, answer: &(impl Fn(&Got) -> Reply + Sync)) -> Option<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return Some(());
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while bytes.len() < head + length {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let request = Got { line, headers, body: String::from_utf8(bytes[head..].to_vec()).unwrap() };
    let reply = answer(&request);
    got.lock().unwrap().push(request);
    write(stream, reply).await
}

async fn write(mut stream: TcpStream, reply: Reply) -> Option<()> {
    let mut unread = [0; 64];
    match reply {
        Reply::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await.ok()
        }
        Reply::Redirect(to) => {
            let head = format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()
        }
        Reply::Cut(body) => {
            let head = format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len() + 10);
            stream.write_all((head + &body).as_bytes()).await.ok()
        }
        Reply::Endless => {
            let head = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n[";
            stream.write_all(head.as_bytes()).await.ok()?;
            loop {
                stream.write_all(&[b' '; 4096]).await.ok()?;
            }
        }
        Reply::Hang => {
            let _ = stream.read(&mut unread).await;
            None
        }
        Reply::Events(events, pause) => {
            let head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            for event in events {
                // A sleep takes a millisecond at least.
                if !pause.is_zero() {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = stream.read(&mut unread) => return None,
                    }
                }
                stream.write_all(format!("data: {event}\n\n").as_bytes()).await.ok()?;
            }
            Some(())
        }
    }
}

/// The events of a model's answer in `pieces`.
pub fn spoken(pieces: &[&str]) -> Vec<String> {
    let delta = |text: &&str| serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string();
    pieces.iter().map(delta).chain(["[DONE]".to_owned()]).collect()
}
