//! A server in the test's own process.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::api::{Config, ServeError, serve};
use super::{ADMIN_PASSWORD, Answer, Client, DEADLINE, http};

/// A server in this process; its data directory is deleted with it.
pub struct Server {
    pub address: SocketAddr,
    pub data: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServeError>>,
    config: Config,
    admin: OnceCell<String>,
}

/// Returns a configuration without the rate limits that a test on one address would run into.
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

/// Returns a configuration without rate limits on messages either.
pub fn roomy() -> Config {
    let mut config = unlimited();
    config.limits.messages_per_minute = 0;
    config.limits.user_messages_per_minute = 0;
    config
}

/// Sets `section.key` of a configuration by its name in the file.
pub fn set(config: &mut Config, key: &str, value: impl Into<Value>) {
    // TOML leaves out what has no value, where JSON has `null`, which no setting takes.
    let mut all = toml::Table::try_from(&*config).unwrap();
    let (section, name) = key.split_once('.').unwrap();
    let value = toml::Value::try_from(value.into()).unwrap();
    all[section].as_table_mut().unwrap().insert(name.to_owned(), value);
    *config = all.try_into().unwrap_or_else(|error| panic!("{key}: {error}"));
}

impl Server {
    pub async fn start() -> Self {
        Self::with(unlimited()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::on(tempfile::tempdir().unwrap(), config).await
    }

    /// Starts one on a data directory, `data` in that directory.
    pub async fn on(data: tempfile::TempDir, mut config: Config) -> Self {
        config.server.data_dir = data.path().join("data");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, reloads) = tokio::sync::mpsc::channel(1);
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(serve(config.clone(), Some(ADMIN_PASSWORD.into()), listener, reloads, shutdown));
        let server = Self { address, data, stop: Some(stop), running, config, admin: OnceCell::new() };
        server.get("/healthz", None).await; // the socket listens already; this waits for the first answer
        server
    }

    /// Shuts it down.
    pub async fn stop(mut self) -> (tempfile::TempDir, Config) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(DEADLINE, self.running).await.expect("stops in time").unwrap().unwrap();
        (self.data, self.config)
    }

    /// Shuts it down and starts another one on the same data.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// Shuts it down and starts another one on the same data, with a changed configuration.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let (data, mut config) = self.stop().await;
        change(&mut config);
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
        http::request(self.address, method, path, headers, body).await
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

    /// Returns a token of the administrator, always the same one: a log-in costs a password hash.
    pub async fn admin(&self) -> String {
        self.admin.get_or_init(async || http::log_in(self.address, "admin", ADMIN_PASSWORD).await).await.clone()
    }

    /// Creates a user with a token.
    pub async fn user(&self, name: &str) -> User {
        self.account(name, "user").await
    }

    /// Creates a user of that role with a token.
    pub async fn account(&self, name: &str, role: &str) -> User {
        let password = format!("{name}-password");
        let admin = self.admin().await;
        let made = self.post("/api/users", &admin, json!({"username": name, "password": password, "role": role})).await;
        let id = made.expect(201)["data"]["id"].as_u64().unwrap();
        let token = self.login(name, &password).await.ok()["token"].as_str().unwrap().to_owned();
        User { id, token, password }
    }

    /// Creates a device of that user.
    pub async fn device(&self, token: &str, primary: bool) -> u64 {
        let made = self.post("/api/devices", token, json!({"name": "lamp", "primary": primary})).await;
        made.expect(201)["data"]["id"].as_u64().unwrap()
    }

    /// Creates a token of that device.
    pub async fn device_token(&self, user: &str, device: u64) -> String {
        let made = self.post(&format!("/api/devices/{device}/token"), user, json!({})).await;
        made.expect(201)["data"]["token"].as_str().unwrap().to_owned()
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.http("DELETE", path, Some(token), None).await
    }

    /// Sends a request with an `Idempotency-Key`.
    pub async fn post_with_key(&self, path: &str, token: &str, key: &str, body: Value) -> Answer {
        let token = format!("Token {token}");
        let headers = [("authorization", token.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        self.raw_http("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// Opens a WebSocket; `headers` go with the handshake.
    pub async fn try_ws(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, tungstenite::Error> {
        Client::open(self.address, path, headers).await
    }

    pub async fn ws(&self, path: &str) -> Client {
        self.try_ws(path, &[]).await.unwrap()
    }

    /// Opens a WebSocket with a token and receives the first event.
    pub async fn connect(&self, token: &str) -> Client {
        Client::connect(self.address, token).await
    }
}

/// A user whom a test has created.
pub struct User {
    pub id: u64,
    pub token: String,
    pub password: String,
}
