//! Routes about the server itself.

use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;

/// `GET /healthz`: the process is alive and answers.
pub async fn health(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Health {
        version: &'static str,
        uptime_seconds: u64,
    }
    Reply::data("alive", &Health { version: env!("CARGO_PKG_VERSION"), uptime_seconds: call.app.started.elapsed().as_secs() })
}

/// `GET /readyz`: able to take messages; else 503 and the first reason why not.
pub async fn ready(call: Call) -> Result<Reply, ApiError> {
    let health = call.app.health().await;
    match health.not_ready_reason() {
        Some(trouble) => Err(ApiError::NotReady(trouble, health)),
        None => Reply::data("ready", &health),
    }
}

/// `GET /`: what this is, for whoever follows the printed URL.
pub async fn greeting(_: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Greeting {
        name: &'static str,
        version: &'static str,
        websocket: &'static str,
        login: &'static str,
    }
    Reply::data(
        "qy-lty is running",
        &Greeting {
            name: "qy-lty",
            version: env!("CARGO_PKG_VERSION"),
            websocket: "/ws/device/?token=…",
            login: "POST /api/auth/login",
        },
    )
}
