//! The HTTP client. Every request has a connection of its own.

use std::fmt::Display;
use std::sync::LazyLock;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;

use super::{DEADLINE, Server};

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    // reqwest asks for a provider even where no request is encrypted.
    let _ = ring::default_provider().install_default();
    let builder = Client::builder().no_proxy().no_gzip().pool_max_idle_per_host(0);
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
});

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    /// The body, `null` where it is not JSON.
    pub json: Value,
}

impl Answer {
    /// Returns the body; the status must be `status`, and the body have the form that goes with it.
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

/// Sends a request; `None` when there is no whole response, as from a server that is killed.
pub async fn try_request(
    address: impl Display,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = CLIENT.request(method, format!("http://{address}{path}")).body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let exchange = async {
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        assert!(status != 201 || headers.contains_key("location"), "201 without a Location");
        let bytes = response.bytes().await.ok()?;
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Some(Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned(), json })
    };
    timeout(DEADLINE, exchange).await.ok()?
}

/// Sends a request that must be answered.
pub async fn request(address: impl Display, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let answer = try_request(address, method, path, headers, body).await;
    answer.unwrap_or_else(|| panic!("no response to {method} {path}"))
}

/// Sends a request with a token and a JSON body, either of which may be empty; `None` as for [`try_request`].
pub async fn try_call(address: impl Display, method: &str, path: &str, token: &str, body: &str) -> Option<Answer> {
    let authorization = format!("Token {token}");
    let mut headers = Vec::new();
    if !token.is_empty() {
        headers.push(("authorization", authorization.as_str()));
    }
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    try_request(address, method, path, &headers, body.as_bytes()).await
}

/// Sends a request with a token and a JSON body, either of which may be empty.
pub async fn call(address: impl Display, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let answer = try_call(address, method, path, token, body).await;
    answer.unwrap_or_else(|| panic!("no response to {method} {path}"))
}

pub async fn post(address: impl Display, path: &str, token: &str, body: Value) -> Answer {
    call(address, "POST", path, token, &body.to_string()).await
}

/// Logs in and returns the token.
pub async fn log_in(address: impl Display, username: &str, password: &str) -> String {
    let answer = post(address, "/api/auth/login", "", json!({"username": username, "password": password})).await;
    answer.ok()["token"].as_str().unwrap().to_owned()
}

/// A browser page after its log-in: its `Cookie`, and its `X-CSRF-Token`.
pub struct Browser {
    pub cookie: String,
    pub csrf: String,
}

impl Browser {
    pub async fn log_in(server: &Server, name: &str, password: &str) -> (Self, Answer) {
        let body = json!({"username": name, "password": password, "cookie": true}).to_string();
        let answer = server.http("POST", "/api/auth/login", None, Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let csrf = answer.json["data"]["csrf"].as_str().unwrap().to_owned();
        (Self { cookie, csrf }, answer)
    }

    /// Sends a request with the cookie and `headers`.
    pub async fn call(&self, server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("cookie", self.cookie.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        server.raw_http(method, path, &all, body.as_bytes()).await
    }
}
