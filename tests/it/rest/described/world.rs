//! The server that the examples are about.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::api::Config;
use crate::support::described::Example;
use crate::support::{Answer, Reader, Server, roomy};

/// The data directory of [`World::new`] with its tokens, made once.
static TEMPLATE: OnceCell<Template> = OnceCell::const_new();

/// What the examples name, and is different each time.
pub const LINK: &str = "qll_4cVgHsxV0ZyFvEJ3n1mQkR8tUuW2aBcDeFgHiJkLmNo";
pub const DEVICE_CODE: &str = "qlp_M1kq3vYzYt8Wc0aHn5dRk2sJx7bQfGuE4pLoVi6yTzA";
pub const CODE: &str = "K7MPQ2";

/// The token of each kind of caller.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub admin: String,
    pub user: String,
    pub service: String,
    pub device: String,
}

struct Template {
    data: tempfile::TempDir,
    tokens: Tokens,
}

/// A server with an administrator (1), the users `ana` (2) and `bob` (3), a device of each (1, 2), the messages 1 to `ana`, 2 to her device
/// and 3 to everybody, her clients `phone` and `tablet`, and a song.
pub struct World {
    pub server: Server,
    pub tokens: Tokens,
}

/// Returns a configuration without limits, and with registration.
pub fn open() -> Config {
    let mut config = roomy();
    config.auth = toml::from_str("registration = \"open\"").unwrap();
    config
}

async fn template() -> Template {
    let server = Server::with(open()).await;
    let made = async |path: &str, token: &str, body: Value| server.post(path, token, body).await.expect(201)["data"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let admin = server.admin().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    assert_eq!((ana.id, bob.id), (2, 3));
    let script = made("/api/auth/tokens", &ana.token, json!({"label": "script"})).await;
    assert_eq!(script["id"], 4);
    let service = text(&made("/api/auth/tokens", &admin, json!({"kind": "service", "label": "shop"})).await["token"]);
    let lamp = json!({"name": "lamp", "serial": "SN-1-11", "model": "L1", "primary": true});
    assert_eq!(made("/api/devices", &ana.token, lamp).await["id"], 1);
    let device = server.device_token(&ana.token, 1).await;
    assert_eq!(made("/api/devices", &bob.token, json!({"name": "radio", "serial": "SN-2-22"})).await["id"], 2);
    for name in ["phone", "tablet"] {
        Reader::open(&server, &ana.token, name).await;
    }
    let sent = async |path: &str, token: &str, body: Value| server.post(path, token, body).await.ok()["data"]["id"].clone();
    assert_eq!(sent("/api/messages/user/2", &admin, json!({"type": "notice", "message": {"text": "welcome"}})).await, 1);
    assert_eq!(sent("/api/messages/device/1", &ana.token, json!({"type": "ring", "message": {"seconds": 5}})).await, 2);
    assert_eq!(sent("/api/messages/broadcast", &admin, json!({"message": "back in five minutes"})).await, 3);
    let songs = json!({"items": [{"name": "青花瓷", "artist": "周杰伦"}]}).to_string();
    server.http("PUT", "/api/catalog/songs", Some(&admin), Some(&songs)).await.ok();
    let tokens = Tokens { admin, user: ana.token, service, device };
    let (data, _) = server.stop().await;
    Template { data, tokens }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            _ => {} // the control socket
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

impl World {
    /// Starts a server on a copy of the template.
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// The same with a changed configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let template = TEMPLATE.get_or_init(template).await;
        let data = tempfile::tempdir().unwrap();
        copy(template.data.path(), data.path());
        let mut config = open();
        change(&mut config);
        Self { server: Server::on(data, config).await, tokens: template.tokens.clone() }
    }

    /// Returns the token of a caller by its role; `None` for an anonymous one.
    pub fn token(&self, role: &str) -> Option<&str> {
        match role {
            "admin" => Some(&self.tokens.admin),
            "user" => Some(&self.tokens.user),
            "service" => Some(&self.tokens.service),
            "device" => Some(&self.tokens.device),
            "anonymous" => None,
            other => panic!("no caller {other}"),
        }
    }

    /// Returns the body of an example with what is different each time: a link, a pairing.
    pub async fn body(&self, example: &Example) -> Option<String> {
        let text = example.body.as_ref()?.to_string();
        if text.contains(LINK) {
            return Some(text.replace(LINK, &self.link().await));
        }
        if text.contains(DEVICE_CODE) || text.contains(CODE) {
            let body = json!({"name": "lamp", "serial": "SN-9"}).to_string();
            let data = self.server.http("POST", "/api/devices/pair", None, Some(&body)).await.expect(201)["data"].clone();
            let text = text.replace(DEVICE_CODE, data["device_code"].as_str().unwrap());
            return Some(text.replace(CODE, data["code"].as_str().unwrap()));
        }
        Some(text)
    }

    /// Makes a one-time link of `ana` through the control socket, and returns its code.
    async fn link(&self) -> String {
        let socket = self.server.data.path().join("data/admin.sock");
        let control = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        let response = control.post("http://control/control/users/2/link").send().await.unwrap();
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        answer["data"]["url"].as_str().unwrap().split_once("#link=").unwrap().1.to_owned()
    }

    /// Sends an example with a token, which may be that of another caller.
    pub async fn send(&self, method: &str, example: &Example, token: Option<&str>) -> Answer {
        let body = self.body(example).await;
        let authorization = token.map(|token| format!("Token {token}"));
        let mut headers: Vec<(&str, &str)> =
            example.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        headers.extend(body.as_ref().map(|_| ("content-type", "application/json")));
        self.server.raw_http(method, &example.path, &headers, body.unwrap_or_default().as_bytes()).await
    }
}
