//! A real server on a free port, and clients that speak to it over real sockets.

pub mod hand;
pub mod load;
pub mod notify;
pub mod page;
pub mod program;
pub mod raw;
pub mod stub;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, StatusCode};
use qy_lty::config::Config;
use salvo::rt::tokio::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The first administrator's password.
pub const ADMIN_PASSWORD: &str = "correct-horse-battery";

/// A running server; its data directory goes with it.
pub struct Server {
    pub address: SocketAddr,
    pub data: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), qy_lty::ServeError>>,
    config: Config,
}

/// The limits that a test on one address would run into.
pub fn unlimited() -> Config {
    let mut config = Config::default();
    config.limits.connects_per_minute = 0;
    config.limits.logins_per_minute = 0;
    config.limits.refusals_per_minute = 0;
    config.limits.requests_per_minute = 0;
    config.limits.trusted_requests_per_minute = 0;
    config.limits.pairings_per_minute = 0;
    config
}

/// No limits on messages either: only on what the test is about.
pub fn roomy() -> Config {
    let mut config = unlimited();
    config.limits.messages_per_minute = 0;
    config.limits.user_messages_per_minute = 0;
    config
}

impl Server {
    pub async fn start() -> Self {
        Self::with(unlimited()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::on(tempfile::tempdir().unwrap(), config).await
    }

    async fn on(data: tempfile::TempDir, mut config: Config) -> Self {
        config.server.data_dir = data.path().join("data");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, reloads) = tokio::sync::mpsc::channel(1);
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(qy_lty::serve(config.clone(), Some(ADMIN_PASSWORD.into()), listener, reloads, shutdown));
        let server = Self { address, data, stop: Some(stop), running, config };
        server.get("/healthz", None).await; // the socket listens already; this waits for the first answer
        server
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> (tempfile::TempDir, Config) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(DEADLINE, self.running).await.expect("stops in time").unwrap().unwrap();
        (self.data, self.config)
    }

    /// Stops it and starts another one on the same data.
    pub async fn restart(self) -> Self {
        let (data, config) = self.stop().await;
        Self::on(data, config).await
    }

    pub async fn http(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let mut headers = vec![];
        let token = token.map(|t| format!("Token {t}"));
        if let Some(token) = &token {
            headers.push(("authorization", token.as_str()));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.raw_http(method, path, &headers, body.unwrap_or_default().as_bytes()).await
    }

    pub async fn raw_http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let exchange = async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            let driving = tokio::spawn(connection);
            let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
            request = request.header("host", self.address.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            driving.abort();
            let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned(), json }
        };
        timeout(DEADLINE, exchange).await.expect("answers in time")
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.http("GET", path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.http("POST", path, Some(token), Some(&body.to_string())).await
    }

    pub async fn login(&self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password}).to_string();
        self.http("POST", "/api/auth/login", None, Some(&body)).await
    }

    /// A fresh token of the administrator.
    pub async fn admin(&self) -> String {
        self.login("admin", ADMIN_PASSWORD).await.ok()["token"].as_str().unwrap().to_owned()
    }

    /// A new user with a token.
    pub async fn user(&self, name: &str) -> User {
        let password = format!("{name}-password");
        let admin = self.admin().await;
        let made = self.post("/api/users", &admin, json!({"username": name, "password": password})).await;
        let id = made.expect(201)["data"]["id"].as_u64().unwrap();
        let token = self.login(name, &password).await.ok()["token"].as_str().unwrap().to_owned();
        User { id, token, password }
    }

    /// A new device of that user.
    pub async fn device(&self, token: &str, primary: bool) -> u64 {
        let made = self.post("/api/devices", token, json!({"name": "lamp", "primary": primary})).await;
        made.expect(201)["data"]["id"].as_u64().unwrap()
    }

    /// A token of that device's own.
    pub async fn device_token(&self, user: &str, device: u64) -> String {
        let made = self.post(&format!("/api/devices/{device}/token"), user, json!({})).await;
        made.expect(201)["data"]["token"].as_str().unwrap().to_owned()
    }

    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Opens a WebSocket; `headers` go with the handshake.
    pub async fn try_ws(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, tungstenite::Error> {
        let mut request = self.url(path).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let connecting = tokio_tungstenite::connect_async(request);
        let (stream, response) = timeout(DEADLINE, connecting).await.expect("connects in time")?;
        Ok(Client { stream, headers: response.headers().clone() })
    }

    pub async fn ws(&self, path: &str) -> Client {
        self.try_ws(path, &[]).await.unwrap()
    }

    /// Opens a WebSocket with a token and takes the first event off it.
    pub async fn connect(&self, token: &str) -> Client {
        let mut client = self.ws(&format!("/ws/device/?token={token}")).await;
        assert_eq!(client.json().await["type"], "connection_status");
        client
    }
}

pub struct User {
    pub id: u64,
    pub token: String,
    pub password: String,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    /// The body, when the status is the expected one and the body has the form that goes with it.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let word = if status < 400 { "success" } else { "error" };
        assert_eq!(self.json["status"], word, "{}", self.text);
        assert!(self.json["message"].is_string(), "{}", self.text);
        assert_eq!(self.json["code"].is_string(), status >= 400, "{}", self.text);
        self.json
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        self.expect(200)
    }
}

/// A WebSocket client.
pub struct Client {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub headers: tungstenite::http::HeaderMap,
}

impl Client {
    pub async fn send(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn say(&mut self, value: Value) {
        self.send(value.to_string()).await;
    }

    /// The next message that is not a ping or pong.
    pub async fn next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        loop {
            match timeout(DEADLINE, self.stream.next()).await.expect("something comes in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    /// The next text message.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Asks and takes the next event.
    pub async fn ask(&mut self, value: Value) -> Value {
        self.say(value).await;
        self.json().await
    }

    /// Shows that nothing else was on its way: a ping's answer comes next.
    pub async fn fence(&mut self) {
        assert_eq!(self.ask(json!({"type": "ping"})).await["type"], "pong");
    }

    /// Expects the close frame next.
    pub async fn closed(&mut self) -> u16 {
        match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => frame.code.into(),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// Expects the `disconnect` event and then the close frame with the same code and reason.
    pub async fn disconnected(&mut self) -> Value {
        let event = self.json().await;
        assert_eq!(event["type"], "disconnect", "{event}");
        match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u64::from(u16::from(frame.code)), event["code"].as_u64().unwrap());
                assert_eq!(frame.reason.as_str(), event["reason"].as_str().unwrap());
            }
            other => panic!("expected a close frame, got {other:?}"),
        }
        event
    }
}

/// Waits until `check` is true.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}
