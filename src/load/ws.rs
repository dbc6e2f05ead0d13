//! A WebSocket client (RFC 6455): handshake, masked frames, answers to pings. Messages of servers are whole texts.

use futures_util::future::BoxFuture;
use std::io;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Result;
use super::error::{Doing, LoadError, Refusal};
use super::http::check;
use super::target::{Stream, Target};
use crate::core::awake::timeout;
use crate::wire::frame::{CLOSE, FrameHeader, PING, PONG, TEXT, append_masked};
use crate::wire::handshake;

/// The longest wait for the answer to a handshake, and for the first event after it.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// The longest message that is read, in bytes.
const MAX_MESSAGE_BYTES: u64 = 16 << 20;
/// The longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Bytes that are read at once, at least.
const READ_BYTES: usize = 2048;
/// The mask of all frames; it protects proxies from pages, which this is not, and must only be there.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The code of a connection that ended without a close frame (section 7.1.5).
const ABNORMAL: u16 = 1006;

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// What was read; before `start` it is done with.
    input: Vec<u8>,
    start: usize,
    /// Frames that are not written yet.
    output: Vec<u8>,
    written: usize,
}

impl Socket {
    /// Connects with a token, and receives the first event. `query` is appended to the path's: empty, or with an `&` at its beginning.
    ///
    /// # Errors
    /// A connection that can't be made or is refused.
    pub fn connect<'a>(target: &'a Target, token: &'a str, query: &'a str) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            let mut socket = Self::open(target, &format!("/ws/device/?token={token}{query}")).await?;
            let first = timeout(HANDSHAKE_TIMEOUT, socket.next()).await;
            let first = first.map_err(|_| LoadError::Protocol("no event came after the handshake".into()))??;
            if !first.windows(19).any(|at| at == b"\"connection_status\"") {
                return match serde_json::from_slice::<serde_json::Value>(first) {
                    // The close frame is behind it.
                    Ok(event) if event["type"] == "disconnect" => {
                        Err(socket.next().await.err().unwrap_or_else(|| closed(ABNORMAL, "")))
                    }
                    _ => Err(LoadError::Protocol("the first event is no connection_status".into())),
                };
            }
            Ok(socket)
        })
    }

    /// Connects, with the whole path, and receives nothing.
    ///
    /// # Errors
    /// As [`Socket::connect`].
    pub async fn open(target: &Target, path: &str) -> Result<Self> {
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let mut socket = Self { stream: target.connect().await?, input: Vec::new(), start: 0, output: Vec::new(), written: 0 };
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\n\r\n",
            target.prefix(),
            target.authority()
        );
        socket.output.extend_from_slice(request.as_bytes());
        match timeout(HANDSHAKE_TIMEOUT, socket.handshake(&key)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(LoadError::io("the handshake")(io::ErrorKind::TimedOut.into())),
        }
        Ok(socket)
    }

    async fn handshake(&mut self, key: &str) -> Result<()> {
        self.flush().await?;
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.input, b"\r\n\r\n") {
                break end + 4;
            }
            if self.input.len() > MAX_HEAD_BYTES {
                return Err(LoadError::Protocol("too long an answer to the handshake".into()));
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        let header = |name: &str| {
            let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
            lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let status: u16 = head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0);
        if status != 101 {
            let bytes = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize).min(MAX_HEAD_BYTES);
            while self.input.len() < end + bytes {
                if self.more().await.is_err() {
                    break;
                }
            }
            check(Doing::Handshake, "the handshake", status, &self.input[end..])?;
            return Err(LoadError::Protocol(format!("the handshake was answered with {status}")));
        }
        if header("sec-websocket-accept").is_none_or(|given| given != handshake::accept(key.as_bytes())) {
            return Err(LoadError::Protocol("Sec-WebSocket-Accept does not fit the key".into()));
        }
        self.start = end;
        Ok(())
    }

    /// Queues a text message; [`Socket::flush`] writes it.
    pub fn queue(&mut self, text: &[u8]) {
        append_masked(&mut self.output, TEXT, MASK, text);
    }

    /// Writes what is queued. May be dropped and called again.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn flush(&mut self) -> Result<()> {
        while self.written < self.output.len() {
            let n = self.stream.write(&self.output[self.written..]).await.map_err(broken)?;
            if n == 0 {
                return Err(closed(ABNORMAL, ""));
            }
            self.written += n;
        }
        self.output.clear();
        self.written = 0;
        self.stream.flush().await.map_err(broken)
    }

    /// Receives the next text message; pings are answered on the way. May be dropped and called again.
    ///
    /// # Errors
    /// [`LoadError::Closed`] or [`LoadError::Refused`] at its end.
    pub async fn next(&mut self) -> Result<&[u8]> {
        let range = loop {
            if let Some(range) = self.frame()? {
                break range;
            }
            if !self.output.is_empty() {
                self.flush().await?;
            }
            self.more().await?;
        };
        Ok(&self.input[range])
    }

    /// Returns the next text message that has been read already.
    ///
    /// # Errors
    /// As [`Socket::next`].
    pub fn next_read(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.frame()?.map(|range| &self.input[range]))
    }

    /// Ends the connection with a close frame.
    pub async fn close(mut self) {
        append_masked(&mut self.output, CLOSE, MASK, &1000_u16.to_be_bytes());
        let _ = timeout(HANDSHAKE_TIMEOUT, async {
            if self.flush().await.is_ok() {
                while self.next().await.is_ok() {}
            }
        })
        .await;
    }

    /// Takes the next frame of what has been read; returns the place of a text.
    fn frame(&mut self) -> Result<Option<Range<usize>>> {
        while let Some(header) = FrameHeader::parse(&self.input[self.start..]) {
            if header.payload_bytes > MAX_MESSAGE_BYTES || !header.fin {
                return Err(LoadError::Protocol("a frame that is too long or a fragment".into()));
            }
            let end = self.start + header.header_bytes + header.payload_bytes as usize;
            if end > self.input.len() {
                break;
            }
            let payload = self.start + header.header_bytes..end;
            self.start = end;
            match header.opcode {
                TEXT => return Ok(Some(payload)),
                PING => append_masked(&mut self.output, PONG, MASK, &self.input[payload]),
                CLOSE => {
                    let bytes = &self.input[payload];
                    let code = bytes.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Err(closed(code, &String::from_utf8_lossy(bytes.get(2..).unwrap_or_default())));
                }
                _ => {}
            }
        }
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
        Ok(None)
    }

    async fn more(&mut self) -> Result<()> {
        if self.start > READ_BYTES {
            self.input.drain(..self.start);
            self.start = 0;
        }
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(closed(ABNORMAL, "")),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

fn broken(source: io::Error) -> LoadError {
    LoadError::Io { what: "the connection broke".into(), source }
}

fn closed(code: u16, reason: &str) -> LoadError {
    Refusal::of_close(code)
        .map_or_else(|| LoadError::Closed { code, reason: crate::core::text::visible(reason) }, LoadError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_frames_have_minimal_headers_and_unmask_to_what_was_sent() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut out = Vec::new();
            append_masked(&mut out, TEXT, MASK, &payload);
            let header = FrameHeader::parse(&out).unwrap();
            assert_eq!((header.fin, header.opcode, header.payload_bytes), (true, TEXT, length as u64));
            assert_eq!(out.len() as u64, header.frame_bytes());
            let unmasked: Vec<u8> = out[header.header_bytes..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
        }
    }

    #[test]
    fn closes_by_limits_are_refusals() {
        assert!(closed(4008, "x").refusal().unwrap().setting.contains("messages_per_minute"));
        assert!(matches!(closed(1001, "bye"), LoadError::Closed { code: 1001, .. }));
    }
}
