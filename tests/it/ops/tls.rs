//! Encryption on the wire: our own certificate, a given one, one that changes, and the way from HTTP to HTTPS.

use std::path::Path;
use std::sync::Arc;

use crate::support::program::{Running, program};
use crate::support::{ADMIN_PASSWORD, DEADLINE, eventually};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
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

async fn connect(connector: &TlsConnector, address: &str, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    timeout(DEADLINE, connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream)).await.unwrap()
}

/// One exchange by hand, over anything; the whole answer.
async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Some servers end without close_notify; what was read counts.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn post(connector: &TlsConnector, address: &str, path: &str, token: &str, body: Value) -> (String, Value) {
    let body = body.to_string();
    let head =
        format!("Host: {address}\r\nConnection: close\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n");
    let request = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let answer = exchange(connect(connector, address, "localhost").await.unwrap(), &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

async fn serve(at: &Path, tls: &str) -> Running {
    std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"127.0.0.1:0\"\n[tls]\n{tls}\n")).unwrap();
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    Running::spawn(command).await
}

async fn log_in(connector: &TlsConnector, address: &str) -> (String, String) {
    let body = json!({"username": "admin", "password": ADMIN_PASSWORD});
    let (head, answer) = post(connector, address, "/api/auth/login", "", body).await;
    (head, answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

#[tokio::test]
async fn a_box_without_a_name_makes_its_own_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), "self_signed = true\nnames = [\"box.lan\"]").await.quiet();
    let pem = std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap();
    for (old, name) in [(false, "localhost"), (true, "box.lan"), (false, "127.0.0.1")] {
        let connector = trusting(&pem, old);
        let answer = exchange(
            connect(&connector, &server.address, name).await.unwrap(),
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        let answer = answer.await.to_lowercase();
        assert!(answer.starts_with("http/1.1 200") && !answer.contains("strict-transport-security"), "{answer}");
    }
    assert!(connect(&trusting(&pem, false), &server.address, "elsewhere.lan").await.is_err());

    let connector = trusting(&pem, false);
    let (_, token) = log_in(&connector, &server.address).await;
    let stream = connect(&connector, &server.address, "localhost").await.unwrap();
    let url = format!("wss://localhost/ws/device/?token={token}");
    let (mut client, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let hello = client.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(hello.contains("connection_status"), "{hello}");
    let long = "长".repeat(9000);
    client.send(Message::text(json!({"type": "chat_message", "message": long}).to_string())).await.unwrap();
    let answer: Value = serde_json::from_str(&client.next().await.unwrap().unwrap().into_text().unwrap()).unwrap();
    assert_eq!(answer["message"].as_str().unwrap().chars().count(), 9000 + "收到消息:".chars().count());

    // Plain HTTP on the encrypted port is no way in.
    let plain = exchange(TcpStream::connect(&server.address).await.unwrap(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
}

#[tokio::test]
async fn a_backlog_larger_than_every_buffer_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), "self_signed = true").await.quiet();
    let connector = trusting(&std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap(), false);
    let (_, token) = log_in(&connector, &server.address).await;
    let long = "x".repeat(200_000);
    for n in 0..40 {
        let body = json!({"message": [n, long]});
        let (_, answer) = post(&connector, &server.address, "/api/messages/user/1", &token, body).await;
        assert_eq!(answer["status"], "success", "{answer}");
    }
    let stream = connect(&connector, &server.address, "localhost").await.unwrap();
    let url = format!("wss://localhost/ws/device/?token={token}");
    let (mut client, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut next = 0;
    while next < 40 {
        match timeout(DEADLINE, client.next()).await.expect("all of it comes").unwrap().unwrap() {
            Message::Text(text) if text.contains("connection_status") => {}
            Message::Text(text) => {
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["message"][0], next);
                next += 1;
            }
            _ => {}
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
async fn a_new_certificate_is_taken_up_and_nobody_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path());
    let server = serve(dir.path(), "cert = \"cert.pem\"\nkey = \"key.pem\"").await.quiet();
    let connector = trusting(&first, false);
    let (head, token) = log_in(&connector, &server.address).await;
    assert!(head.contains("strict-transport-security: max-age=31536000"), "{head}");
    let stream = connect(&connector, &server.address, "localhost").await.unwrap();
    let (mut client, _) =
        tokio_tungstenite::client_async(format!("wss://localhost/ws/device/?token={token}"), stream).await.unwrap();
    client.next().await.unwrap().unwrap();

    let second = trusting(&pair(dir.path()), false);
    eventually("the new certificate is in use", async || connect(&second, &server.address, "localhost").await.is_ok()).await;
    assert!(connect(&connector, &server.address, "localhost").await.is_err());
    client.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    let answer = client.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("pong"), "the old connection lives: {answer}");
}

#[tokio::test]
async fn http_is_shown_the_way() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago: the redirect's own address is in no log.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve(dir.path(), &format!("self_signed = true\nredirect = \"{free}\"")).await.quiet();
    let port = server.address.rsplit_once(':').unwrap().1;
    for (request, to) in [
        ("GET /docs?a=b HTTP/1.1\r\nHost: box.lan:80", format!("https://box.lan:{port}/docs?a=b")),
        ("POST /api/auth/login HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 0", format!("https://[::1]:{port}/api/auth/login")),
    ] {
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        let answer = exchange(TcpStream::connect(free).await.unwrap(), &request).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 308") && answer.contains(&format!("location: {to}\r\n")), "{answer}");
    }
    let answer =
        exchange(TcpStream::connect(free).await.unwrap(), "GET / HTTP/1.1\r\nHost: evil.example/x\r\nConnection: close\r\n\r\n");
    assert!(answer.await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn the_fingerprint_is_said_and_a_bad_pair_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), "self_signed = true").await;
    drop(server);
    let again = program(dir.path(), &["serve", "--config", "c.toml"]).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(again.stderr.unwrap()).lines();
    let pem = std::fs::read(dir.path().join("data/tls/cert.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let fingerprint = Sha256::digest(&der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("it says the fingerprint");
        if line.contains(&fingerprint) {
            break;
        }
    }
    std::fs::write(dir.path().join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"\n")
        .unwrap();
    let refused = program(dir.path(), &["serve", "--config", "c.toml"]).output().await.unwrap();
    assert!(!refused.status.success());
}
