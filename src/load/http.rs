//! An HTTP/1.1 connection that is kept for many requests, one at a time.

use futures_util::future::BoxFuture;
use std::io::{self, Write};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{Doing, LoadError, Refusal};
use super::target::{Stream, Target};
use super::{Result, target};
use crate::core::awake::timeout;

/// The longest wait for an answer.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// The longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The longest body of an answer, in bytes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The end of a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection to a server's REST API; opened at the first request, and anew where the server has closed it.
#[derive(Debug)]
pub struct Http {
    target: Target,
    stream: Option<Stream>,
    authorization: String,
    out: Vec<u8>,
    input: Vec<u8>,
    body: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    /// `None`: in chunks.
    body_bytes: Option<usize>,
    keep: bool,
}

impl Http {
    /// For requests with a token; without one where it is empty.
    pub fn new(target: &Target, token: &str) -> Self {
        let mut this = Self {
            target: target.clone(),
            stream: None,
            authorization: String::new(),
            out: Vec::new(),
            input: Vec::new(),
            body: Vec::new(),
        };
        this.authorize(token);
        this
    }

    /// Sends further requests with that token.
    pub fn authorize(&mut self, token: &str) {
        self.authorization = if token.is_empty() { String::new() } else { format!("Authorization: Token {token}\r\n") };
    }

    /// Sends a request and returns status and body of the answer, whatever they are.
    ///
    /// # Errors
    /// A connection that can't be made or breaks: the request may have been carried out.
    pub fn send<'a>(&'a mut self, method: &'a str, path: &'a str, body: &'a [u8]) -> BoxFuture<'a, Result<(u16, &'a [u8])>> {
        Box::pin(async move {
            let (prefix, authority) = (self.target.prefix(), self.target.authority());
            self.out.clear();
            let _ = write!(
                self.out,
                "{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.authorization,
                body.len()
            );
            self.out.extend_from_slice(body);
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.target.connect().await?,
            };
            let (out, input, into) = (&self.out, &mut self.input, &mut self.body);
            let exchanging = exchange(&mut stream, out, input, into);
            let what = || format!("{method} {path}");
            let (status, keep) = match timeout(ANSWER_TIMEOUT, exchanging).await {
                Ok(outcome) => outcome.map_err(LoadError::io(what()))?,
                Err(_) => return Err(LoadError::io(what())(io::ErrorKind::TimedOut.into())),
            };
            if keep {
                self.stream = Some(stream);
            }
            Ok((status, &self.body[..]))
        })
    }

    /// Sends a request that must succeed; returns the answer.
    ///
    /// # Errors
    /// As [`Http::send`]; [`LoadError::Refused`] and [`LoadError::Answer`] for what is no success.
    pub fn call<'a>(&'a mut self, method: &'a str, path: &'a str, body: &'a Value) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let doing = if path.starts_with("/api/auth/login") { Doing::LogIn } else { Doing::Call };
            let text = if body.is_null() { String::new() } else { body.to_string() };
            let (status, body) = self.send(method, path, text.as_bytes()).await?;
            check(doing, &format!("{method} {path}"), status, body)?;
            serde_json::from_slice(body)
                .map_err(|error| LoadError::Protocol(format!("the answer to {method} {path} is no JSON: {error}")))
        })
    }
}

/// Refuses an answer that is no success.
///
/// # Errors
/// [`LoadError::Refused`] where a limit is named by it, else [`LoadError::Answer`].
pub fn check(doing: Doing, what: &str, status: u16, body: &[u8]) -> Result<()> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    if let Some(refusal) = Refusal::of_answer(doing, status, body) {
        return Err(LoadError::Refused(refusal));
    }
    let text = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["message"].as_str().map(str::to_owned));
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned());
    Err(LoadError::Answer { what: what.to_owned(), status, text: crate::core::text::visible(&text) })
}

/// Writes `out`, and reads an answer, its body into `body`. Returns its status, and whether the connection can be kept.
async fn exchange(stream: &mut target::Stream, out: &[u8], input: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<(u16, bool)> {
    stream.write_all(out).await?;
    stream.flush().await?;
    input.clear();
    let head = loop {
        let Some(head) = head_of(input)? else {
            more(stream, input, MAX_HEAD_BYTES).await?;
            continue;
        };
        if head.status >= 200 || head.status == 101 {
            break head;
        }
        input.drain(..head.bytes); // 100 and 103 come before the answer
    };
    input.drain(..head.bytes);
    body.clear();
    match head.body_bytes {
        Some(bytes) => {
            while input.len() < bytes {
                more(stream, input, MAX_BODY_BYTES).await?;
            }
            body.extend(input.drain(..bytes));
        }
        None => chunks(stream, input, body).await?,
    }
    Ok((head.status, head.keep && input.is_empty()))
}

/// Reads a body in chunks (RFC 9112 section 7.1).
async fn chunks(stream: &mut Stream, input: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = line(stream, input).await?;
        let digits = line.split([';', ' ']).next().unwrap_or_default();
        let bytes = usize::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without a size"))?;
        if bytes > MAX_BODY_BYTES - body.len().min(MAX_BODY_BYTES) {
            return Err(invalid("too long a body"));
        }
        if bytes == 0 {
            while !self::line(stream, input).await?.is_empty() {} // trailers
            return Ok(());
        }
        while input.len() < bytes + 2 {
            more(stream, input, MAX_BODY_BYTES + 2).await?;
        }
        body.extend_from_slice(&input[..bytes]);
        input.drain(..bytes + 2);
    }
}

/// Reads a line and returns it without its end.
async fn line(stream: &mut Stream, input: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = memchr::memmem::find(input, b"\r\n") {
            let line = String::from_utf8_lossy(&input[..end]).into_owned();
            input.drain(..end + 2);
            return Ok(line);
        }
        more(stream, input, MAX_HEAD_BYTES).await?;
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

async fn more(stream: &mut Stream, input: &mut Vec<u8>, bound: usize) -> io::Result<()> {
    if input.len() >= bound {
        return Err(invalid("too long an answer"));
    }
    input.reserve(2048);
    if stream.read_buf(input).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Parses the head at the beginning of `input`; `None` while it is not whole.
fn head_of(input: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = memchr::memmem::find(input, HEAD_END) else { return Ok(None) };
    let text = std::str::from_utf8(&input[..end]).map_err(|_| invalid("a head that is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| invalid("no HTTP"))?;
    let mut head = Head { status, bytes: end + HEAD_END.len(), body_bytes: Some(0), keep: first.starts_with("HTTP/1.1") };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let bytes = value.parse().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES);
            head.body_bytes = Some(bytes.ok_or_else(|| invalid("an impossible Content-Length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.body_bytes = None;
            break;
        }
    }
    let connection = |what: &str| {
        text.split("\r\n").filter_map(|line| line.split_once(':')).any(|(name, value)| {
            name.eq_ignore_ascii_case("connection") && value.split(',').any(|part| part.trim().eq_ignore_ascii_case(what))
        })
    };
    head.keep = (head.keep || connection("keep-alive")) && !connection("close");
    if matches!(status, 204 | 304) {
        head.body_bytes = Some(0);
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_answers_are_parsed() {
        let parse = |text: &str| head_of(text.as_bytes()).unwrap();
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), None);
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(parse(text), Some(Head { status: 200, bytes: text.len() - 5, body_bytes: Some(5), keep: true }));
        let head = parse("HTTP/1.1 429 Too Many\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n").unwrap();
        assert_eq!((head.status, head.body_bytes, head.keep), (429, None, false));
        assert!(!parse("HTTP/1.0 200 OK\r\n\r\n").unwrap().keep);
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n").unwrap().body_bytes, Some(0));
        for wrong in ["SSH-2.0\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: x\r\n\r\n"] {
            assert!(head_of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn answers_with_lengths_and_in_chunks_follow_each_other_on_one_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}/qy", listener.local_addr().unwrap())).unwrap();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            for answer in [
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\n{\"a\r\n4\r\n\":1}\r\n0\r\nX: y\r\n\r\n",
                "HTTP/1.1 507 Full\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{\"code\":\"mailbox_full\"}",
            ] {
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                seen.extend(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            String::from_utf8(seen).unwrap()
        });
        let mut http = Http::new(&target, "secret");
        let body = serde_json::json!({});
        assert_eq!(http.call("POST", "/a", &body).await.unwrap(), serde_json::json!({}));
        assert_eq!(http.call("POST", "/b", &body).await.unwrap(), serde_json::json!({"a": 1}));
        let refused = http.call("POST", "/c", &body).await.unwrap_err();
        assert_eq!(refused.refusal().unwrap().setting, "mailbox.messages and mailbox.bytes");
        assert!(http.stream.is_none(), "the peer has closed it");
        let seen = peer.await.unwrap();
        assert!(seen.starts_with("POST /qy/a HTTP/1.1\r\n") && seen.contains("Authorization: Token secret\r\n"), "{seen}");
    }
}
