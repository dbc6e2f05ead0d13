//! Routes about the server itself.

use serde::Serialize;

use crate::health::Health;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;

/// The process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AliveResponse {
    version: &'static str,
    uptime_seconds: u64,
}

/// `GET /healthz`: the process is alive and answers.
pub async fn health(call: Call) -> Result<Reply<AliveResponse>, ApiError> {
    let uptime_seconds = call.app.started.elapsed().as_secs();
    Ok(Reply::ok("alive", AliveResponse { version: env!("CARGO_PKG_VERSION"), uptime_seconds }))
}

/// `GET /readyz`: able to accept messages; else 503 with the first check that failed.
pub async fn ready(call: Call) -> Result<Reply<Health>, ApiError> {
    let health = call.app.health().await;
    match health.not_ready_reason() {
        Some(reason) => Err(ApiError::NotReady(reason, health)),
        None => Ok(Reply::ok("ready", health)),
    }
}

/// The program and its first addresses.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GreetingResponse {
    name: &'static str,
    version: &'static str,
    websocket: &'static str,
    login: &'static str,
}

/// `GET /`: for programs and people that follow the printed URL.
pub async fn greeting(_: Call) -> Result<Reply<GreetingResponse>, ApiError> {
    let greeting = GreetingResponse {
        name: "qy-lty",
        version: env!("CARGO_PKG_VERSION"),
        websocket: "/ws/device/?token=…",
        login: "POST /api/auth/login",
    };
    Ok(Reply::ok("qy-lty is running", greeting))
}
