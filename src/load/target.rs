//! The server that a load is for, and the streams to it.

use futures_util::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{LoadError, Result};
use crate::core::awake::timeout;

/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A server's address: scheme, host, port, and the path that everything of it is below.
#[derive(Clone)]
pub struct Target {
    /// Host name or address, without brackets.
    host: String,
    port: u16,
    /// Without a slash at its end.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url())
    }
}

impl Target {
    /// Parses `http://`, `https://`, `ws://` or `wss://`, a host, an optional port and an optional path prefix.
    ///
    /// # Errors
    /// A text that is none of these, with the remedy.
    pub fn parse(url: &str) -> Result<Self> {
        let wrong = |why: &str| LoadError::Other(format!("{url} is not the URL of a server: {why}; write http://HOST:PORT"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(wrong("its scheme is none of http, https, ws and wss")),
        };
        if rest.contains(['?', '#', '@', ' ']) || rest.contains(|c: char| c.is_control()) {
            return Err(wrong("it has a query, a fragment, a user name or a blank"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
                (host, after.strip_prefix(':').filter(|_| !after.is_empty()))
            }
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || (host.contains(':') && !authority.starts_with('[')) {
            return Err(wrong("it has no host"));
        }
        let port = match port {
            Some(text) => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("its port is none"))?,
            None if secure => 443,
            None => 80,
        };
        let prefix = path.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let tls = if secure { Some(connector(host)?) } else { None };
        Ok(Self { host: host.to_owned(), port, prefix, tls })
    }

    /// Returns the URL with its scheme for HTTP.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.prefix)
    }

    /// Returns host and port as in the header `Host`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Returns the path prefix: empty, or with a slash at its beginning and none at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// A connection or TLS session that can't be made.
    pub fn connect(&self) -> BoxFuture<'_, Result<Stream>> {
        Box::pin(async move {
            let what = || format!("can't connect to {}", self.authority());
            let connecting = async {
                let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
                stream.set_nodelay(true)?;
                Ok(match &self.tls {
                    None => Stream::Plain(stream),
                    Some((connector, name)) => Stream::Tls(Box::new(connector.connect(name.clone(), stream).await?)),
                })
            };
            match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(outcome) => outcome.map_err(LoadError::io(what())),
                Err(_) => Err(LoadError::io(what())(io::ErrorKind::TimedOut.into())),
            }
        })
    }
}

/// Returns what makes TLS sessions with `host`; certificates are verified against the roots of the system.
fn connector(host: &str) -> Result<(TlsConnector, ServerName<'static>)> {
    let failed = |error: &dyn std::fmt::Display| LoadError::Other(format!("TLS with {host} can't be set up: {error}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_platform_verifier()
        .map_err(|error| failed(&error))?
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// A connection to the server.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_parsed() {
        let cases = [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("ws://box.lan/", "http://box.lan:80"),
            ("HTTPS://qy.example.com", "https://qy.example.com:443"),
            ("wss://qy.example.com:8443/qy/", "https://qy.example.com:8443/qy"),
            ("http://[::1]:8000/a/b", "http://[::1]:8000/a/b"),
            ("http://[::1]", "http://[::1]:80"),
        ];
        for (url, expected) in cases {
            assert_eq!(Target::parse(url).unwrap().url(), expected);
        }
        for url in [
            "",
            "box",
            "ftp://box",
            "http://",
            "http://:80",
            "http://box:0",
            "http://box:x",
            "http://a@box",
            "http://b?x=1",
            "http://[::1",
            "http://::1/",
            "http://bo x",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains("is not the URL of a server") && error.contains("http://HOST:PORT"), "{url}: {error}");
        }
    }
}
