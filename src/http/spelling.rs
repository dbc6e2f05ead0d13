//! The usual spelling of header names, where that is not the title case that hyper writes (`Sec-Websocket-Accept`). By RFC 9110 section 5.1
//! the case does not matter; there are clients that compare the names letter by letter all the same.
//!
//! hyper writes names as it has read them in another message, whose spelling it keeps in the message's extensions. They are the only way to
//! give it one, so the extensions come from a message that it reads for this purpose.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use parking_lot::Mutex;
use salvo::http::Response;
use salvo::rt::tokio::TokioIo;

/// A message with all of these names.
const MESSAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nETag: x\r\nSec-WebSocket-Accept: x\r\n\
    Sec-WebSocket-Extensions: x\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Version: x\r\nWWW-Authenticate: x\r\n\r\n";

/// The extensions of that message.
static SPELLING: LazyLock<Extensions> = LazyLock::new(|| read(MESSAGE));

/// Has the names in a response's head written in their usual spelling.
pub fn apply(res: &mut Response) {
    res.extensions.extend(SPELLING.clone());
}

/// Returns the extensions with which hyper reads a request; empty where it does not read it.
fn read(request: &'static [u8]) -> Extensions {
    let extensions = Arc::new(Mutex::new(Extensions::new()));
    let keep = extensions.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        *keep.lock() = request.extensions().clone();
        std::future::ready(Ok::<_, Infallible>(hyper::Response::new(String::new())))
    });
    let io = TokioIo::new(tokio::io::join(request, tokio::io::sink()));
    // Nothing is waited for: all of it is in memory. There is no answer, since the client has gone at once.
    let _ = http1::Builder::new().preserve_header_case(true).serve_connection(io, service).now_or_never();
    std::mem::take(&mut *extensions.lock())
}

#[cfg(test)]
mod tests {
    use super::*;
    use salvo::http::StatusCode;
    use salvo::http::header::{HeaderName, HeaderValue};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The names in the head of a response, as hyper writes them.
    async fn written(names: &[&'static str], spell: bool) -> Vec<String> {
        let mut res = Response::new();
        res.status_code(StatusCode::UNAUTHORIZED);
        for name in names {
            res.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        if spell {
            apply(&mut res);
        }
        let res = Mutex::new(Some(res.into_hyper()));
        let service = service_fn(|_| std::future::ready(Ok::<_, Infallible>(res.lock().take().unwrap())));
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(MESSAGE).await.unwrap();
        http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(server), service).await.unwrap();
        let mut head = String::new();
        client.read_to_string(&mut head).await.unwrap();
        head.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    }

    #[tokio::test]
    async fn names_are_written_in_their_usual_spelling() {
        let names =
            ["upgrade", "www-authenticate", "sec-websocket-accept", "www-authenticate", "sec-websocket-version", "etag", "x-a"];
        let expected = ["Upgrade", "WWW-Authenticate", "Sec-WebSocket-Accept", "Sec-WebSocket-Version", "ETag", "X-A"];
        let written = written(&names, true).await;
        assert_eq!(written.iter().filter(|name| expected.contains(&name.as_str())).count(), 6, "{written:?}");
        assert!(written.iter().any(|name| name == "Content-Length") && written.iter().any(|name| name == "Connection"));
    }

    #[tokio::test]
    async fn names_without_it_are_in_title_case() {
        assert!(written(&["etag"], false).await.contains(&"Etag".to_owned()));
    }
}
