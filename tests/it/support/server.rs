//! A server in the test's own process.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_util::task::AbortOnDropHandle;

use super::api::{Config, ServeError, serve};
use super::{ADMIN_PASSWORD, Answer, Client, DEADLINE, engine, http};

/// A server in this process; its data directory is deleted with it.
pub struct Server {
    pub address: SocketAddr,
    pub data: tempfile::TempDir,
    /// One, unless `QY_LTY_TEST_NODES` asks for several.
    nodes: Vec<Node>,
    /// Passes each connection on to another node than the one before, where there are several.
    _front: Option<AbortOnDropHandle<()>>,
    config: Config,
    admin: OnceCell<String>,
}

/// A server of the program.
struct Node {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Node {
    async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, reloads) = tokio::sync::mpsc::channel(1);
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(serve(config, Some(ADMIN_PASSWORD.into()), listener, reloads, shutdown));
        // The socket listens already; this waits for the first answer.
        http::request(address, "GET", "/healthz", &[], b"").await;
        Self { address, stop, running }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(DEADLINE, self.running).await.expect("stops in time").unwrap().unwrap();
    }
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
        engine::take_part(data.path(), &mut config).await;
        let first = Node::start(config.clone()).await;
        let (mut nodes, mut address, mut front) = (vec![first], None, None);
        for name in engine::further_nodes() {
            let mut further = config.clone();
            further.server.data_dir = data.path().join(name);
            engine::rename(&mut further, name);
            nodes.push(Node::start(further).await);
        }
        if nodes.len() > 1 {
            let (at, task) = engine::in_turn(nodes.iter().map(|node| node.address).collect()).await;
            (address, front) = (Some(at), Some(task));
        }
        let address = address.unwrap_or(nodes[0].address);
        Self { address, data, nodes, _front: front, config, admin: OnceCell::new() }
    }

    /// Shuts it down.
    pub async fn stop(self) -> (tempfile::TempDir, Config) {
        for node in self.nodes {
            node.stop().await;
        }
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
