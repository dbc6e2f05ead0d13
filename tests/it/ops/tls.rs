//! TLS: self-signed, given and renewed certificates, and the redirect from HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::support::program::{Running, configure, output, program};
use crate::support::raw::{self, Reply};
use crate::support::{ADMIN_PASSWORD, DEADLINE, eventually, free_address};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A client that trusts the certificates in `pem` and nobody else.
fn trusting(pem: &[u8], old: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem) {
        roots.add(cert.unwrap()).unwrap();
    }
    let versions = if old { &[&version::TLS12][..] } else { &[&version::TLS13][..] };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(connector: &TlsConnector, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    timeout(DEADLINE, connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream)).await.unwrap()
}

async fn ask(connector: &TlsConnector, address: SocketAddr, name: &str, request: &[u8]) -> Reply {
    raw::exchange(connect(connector, address, name).await.unwrap(), request).await
}

async fn post(connector: &TlsConnector, address: SocketAddr, path: &str, token: &str, body: Value) -> Reply {
    let authorization = format!("Token {token}");
    let request = raw::request("POST", path, &[("Authorization", &authorization)], body.to_string());
    ask(connector, address, "localhost", &request).await
}

async fn serve(at: &Path, tls: &str) -> Running {
    Running::configured(at, &format!("[tls]\n{tls}")).await
}

async fn log_in(connector: &TlsConnector, address: SocketAddr) -> (Reply, String) {
    let body = json!({"username": "admin", "password": ADMIN_PASSWORD});
    let answer = post(connector, address, "/api/auth/login", "", body).await;
    let token = answer.expect(200)["token"].as_str().unwrap().to_owned();
    (answer, token)
}

/// Opens a WebSocket and receives the first event.
async fn websocket(connector: &TlsConnector, address: SocketAddr, token: &str) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = connect(connector, address, "localhost").await.unwrap();
    let url = format!("wss://localhost/ws/device/?token={token}");
    let (mut client, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let hello = client.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(hello.contains("connection_status"), "{hello}");
    client
}

#[tokio::test]
async fn self_signed_certificate_is_made_for_configured_names() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), "self_signed = true\nnames = [\"box.lan\"]").await;
    let pem = std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap();
    for (old, name) in [(false, "localhost"), (true, "box.lan"), (false, "127.0.0.1")] {
        let connector = trusting(&pem, old);
        let answer = ask(&connector, server.address, name, &raw::request("GET", "/healthz", &[], "")).await;
        assert_eq!((answer.status, answer.header("strict-transport-security")), (200, None), "{answer:?}");
    }
    assert!(connect(&trusting(&pem, false), server.address, "elsewhere.lan").await.is_err());

    let connector = trusting(&pem, false);
    let (_, token) = log_in(&connector, server.address).await;
    let mut client = websocket(&connector, server.address, &token).await;
    let long = "长".repeat(9000);
    client.send(Message::text(json!({"type": "chat_message", "message": long}).to_string())).await.unwrap();
    let answer: Value = serde_json::from_str(&client.next().await.unwrap().unwrap().into_text().unwrap()).unwrap();
    assert_eq!(answer["message"].as_str().unwrap().chars().count(), 9000 + "收到消息:".chars().count());

    // Plain HTTP on the encrypted port gets no response.
    let plain = raw::exchange(TcpStream::connect(server.address).await.unwrap(), &raw::request("GET", "/", &[], "")).await;
    assert_eq!(plain.status, 0, "{plain:?}");
    assert!(!plain.head.contains("HTTP/1.1"), "{plain:?}");
}

#[tokio::test]
async fn backlog_larger_than_buffers_arrives_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), "self_signed = true").await;
    let connector = trusting(&std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap(), false);
    let (_, token) = log_in(&connector, server.address).await;
    let long = "x".repeat(200_000);
    for n in 0..40 {
        let body = json!({"message": [n, long]});
        let answer = post(&connector, server.address, "/api/messages/user/1", &token, body).await;
        assert_eq!(answer.expect(200)["status"], "success");
    }
    let mut client = websocket(&connector, server.address, &token).await;
    let mut next = 0;
    while next < 40 {
        let message = timeout(DEADLINE, client.next()).await.expect("all of it comes").unwrap().unwrap();
        if let Message::Text(text) = message {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["message"][0], next);
            next += 1;
        }
    }
}

/// Writes a fresh pair for `localhost`; returns the certificate.
fn pair(at: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(at.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(at.join("cert.pem"), cert.pem()).unwrap();
    cert.pem().into_bytes()
}

#[tokio::test]
async fn renewed_certificate_is_used_and_connections_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path());
    let server = serve(dir.path(), "cert = \"cert.pem\"\nkey = \"key.pem\"").await;
    let connector = trusting(&first, false);
    let (answer, token) = log_in(&connector, server.address).await;
    assert!(answer.header("strict-transport-security").unwrap().starts_with("max-age=31536000"), "{answer:?}");
    let mut client = websocket(&connector, server.address, &token).await;

    let second = trusting(&pair(dir.path()), false);
    eventually("the new certificate is in use", async || connect(&second, server.address, "localhost").await.is_ok()).await;
    assert!(connect(&connector, server.address, "localhost").await.is_err());
    client.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    let answer = client.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("pong"), "the old connection lives: {answer}");
}

#[tokio::test]
async fn http_is_redirected_to_https() {
    let dir = tempfile::tempdir().unwrap();
    let redirect = free_address(); // the redirect's own address is not in the log
    let server = serve(dir.path(), &format!("self_signed = true\nredirect = \"{redirect}\"")).await;
    let port = server.address.port();
    for (method, path, host, to) in [
        ("GET", "/docs?a=b", "box.lan:80", format!("https://box.lan:{port}/docs?a=b")),
        ("POST", "/api/auth/login", "[::1]", format!("https://[::1]:{port}/api/auth/login")),
    ] {
        let request = raw::request(method, path, &[("Host", host)], "");
        let answer = raw::exchange(TcpStream::connect(redirect).await.unwrap(), &request).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(to.as_str())), "{answer:?}");
    }
    for bad in [
        "GET / HTTP/1.1\r\nHost: evil.example/x\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost: box.lan\r\nHost: box.lan\r\n",
        "POST /x HTTP/1.1\r\nhost: box.lan\r\nHOST: evil.example\r\nContent-Length: 0\r\n",
        "GET / HTTP/1.0\r\nHost: box.lan\r\nHost: box.lan\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
    ] {
        let request = format!("{bad}Connection: close\r\n\r\n");
        let answer = raw::exchange(TcpStream::connect(redirect).await.unwrap(), request.as_bytes()).await;
        assert_eq!((answer.status, answer.header("location")), (400, None), "{bad:?}: {answer:?}");
        assert!(answer.body.contains("Host header must be given once"), "{bad:?}: {answer:?}");
    }
}

#[tokio::test]
async fn fingerprint_is_logged_and_bad_pair_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    serve(dir.path(), "self_signed = true").await.stop().await;
    let again = Running::spawn(program(dir.path(), &["serve", "--config", "c.toml"])).await;
    let pem = std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let fingerprint = Sha256::digest(&der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
    eventually("the fingerprint is in the log", async || again.log().contains(&fingerprint)).await;
    again.stop().await;
    configure(dir.path(), "[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"");
    let refused = output(program(dir.path(), &["serve", "--config", "c.toml"])).await;
    assert!(!refused.status.success());
}
