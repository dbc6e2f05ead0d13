//! Custom message types: each is posted, signed, to a program that the configuration names, whose JSON answer is returned.
//!
//! The signature is HMAC-SHA256 over the time and the body, sent as `sha256=<hex>` in `X-QY-LTY-Signature`; the time is the Unix
//! seconds in `X-QY-LTY-Timestamp`. A program that checks both can reject forged and replayed requests. `Idempotency-Key` is a random
//! number for each message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::CommandContext;
use super::upstream::{CircuitBreaker, UpstreamClient, UpstreamError, read, recorded, send};
use crate::config::HandlerConfig;
use crate::core::awake::Deadline;
use crate::core::hex::hex;
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::telemetry::metrics::{Metrics, Upstream};
use crate::wire::{ErrorCode, Event, Raw, check_readable};

/// The handler of one custom message type.
struct CustomHandler {
    config: HandlerConfig,
    permits: Semaphore,
    breaker: CircuitBreaker,
    metrics: Arc<Metrics>,
}

/// The handlers of all custom message types, by type.
pub(super) struct CustomHandlers {
    handlers: HashMap<String, Arc<CustomHandler>>,
    client: Option<UpstreamClient>,
}

/// The body that is posted.
#[derive(Serialize)]
struct HandlerRequest<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: Option<&'a Raw>,
    user_id: UserId,
    device_id: Option<DeviceId>,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    timestamp: Timestamp,
}

impl CustomHandlers {
    /// Creates the handlers for a configuration.
    pub(super) fn new(config: &[HandlerConfig], client: Option<UpstreamClient>, metrics: &Arc<Metrics>) -> Self {
        Self::with(config, client, metrics, |_| None)
    }

    /// Creates the handlers for a new configuration. A handler whose block is unchanged is kept, with its calls in flight and the
    /// state of its circuit breaker.
    pub(super) fn changed(&self, config: &[HandlerConfig], client: Option<UpstreamClient>, metrics: &Arc<Metrics>) -> Self {
        let unchanged = |new: &HandlerConfig| self.handlers.get(&new.kind).filter(|handler| handler.config == *new).cloned();
        Self::with(config, client, metrics, unchanged)
    }

    fn with(
        config: &[HandlerConfig],
        client: Option<UpstreamClient>,
        metrics: &Arc<Metrics>,
        existing: impl Fn(&HandlerConfig) -> Option<Arc<CustomHandler>>,
    ) -> Self {
        let new = |config: &HandlerConfig| {
            let permits = Semaphore::new(config.concurrency);
            let breaker = CircuitBreaker::default();
            Arc::new(CustomHandler { config: config.clone(), permits, breaker, metrics: metrics.clone() })
        };
        let handler = |config: &HandlerConfig| (config.kind.clone(), existing(config).unwrap_or_else(|| new(config)));
        Self { handlers: config.iter().map(handler).collect(), client }
    }

    /// Calls the program behind the type `kind`.
    pub(super) async fn answer(&self, context: &CommandContext, kind: &str, message: Option<&Raw>) -> Event {
        let Some((handler, client)) = self.handlers.get(kind).zip(self.client.as_ref()) else {
            return Event::Error { message: format!("Unsupported message type: {kind}"), code: ErrorCode::UnsupportedType };
        };
        match recorded(&handler.metrics, Upstream::Custom, handler.call(client, context, message)).await {
            Ok(data) => Event::Custom { kind: format!("{kind}_response"), data },
            Err(error) => {
                tracing::warn!(kind, %error, "custom handler failed");
                Event::Error { message: format!("{kind} failed: {error}"), code: ErrorCode::UpstreamError }
            }
        }
    }
}

impl CustomHandler {
    async fn call(&self, client: &UpstreamClient, context: &CommandContext, message: Option<&Raw>) -> Result<Raw, UpstreamError> {
        let _permit = self.permits.try_acquire().map_err(|_| UpstreamError::Busy)?;
        self.breaker.check(Instant::now())?;
        let answer = self.post(client, context, message).await;
        self.breaker.record(&answer, Instant::now());
        answer
    }

    async fn post(&self, client: &UpstreamClient, context: &CommandContext, message: Option<&Raw>) -> Result<Raw, UpstreamError> {
        let timestamp = Timestamp::now();
        let request = HandlerRequest {
            kind: &self.config.kind,
            message,
            user_id: context.user,
            device_id: context.device,
            reference: context.reference.as_deref(),
            timestamp,
        };
        let body = serde_json::to_vec(&request).map_err(|_| UpstreamError::Unreadable)?;
        let seconds = timestamp.unix_micros() / 1_000_000;
        let mut request = client.post(&self.config.url).header("content-type", "application/json");
        // A request that is sent once more can be recognised.
        request = request.header("Idempotency-Key", format!("{:032x}", rand::random::<u128>()));
        request = request.header("X-QY-LTY-Timestamp", seconds.to_string());
        request = request.header("X-QY-LTY-Signature", signature(self.config.secret.reveal().as_bytes(), seconds, &body));
        let timeout = Duration::from_secs(self.config.timeout_seconds.into());
        let end = Deadline::after(timeout);
        let response = send(client, request.body(body), timeout).await?;
        let answer = read(response, self.config.max_bytes, end.left()).await?;
        let answer = std::str::from_utf8(&answer).map_err(|_| UpstreamError::Unreadable)?;
        check_readable(answer).map_err(|_| UpstreamError::Unreadable)?; // it is passed on as it was written
        serde_json::from_str(answer).map_err(|_| UpstreamError::Unreadable)
    }
}

/// Returns `sha256=` and the HMAC (RFC 2104) of `{seconds}.{body}` in hexadecimal.
fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() }; // a key of any length is valid
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    format!("sha256={}", hex(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keeps_handlers_whose_block_is_unchanged() {
        let block = |kind: &str, url: &str| {
            toml::from_str::<HandlerConfig>(&format!("type = \"{kind}\"\nurl = \"http://{url}\"\nsecret = \"s\"")).unwrap()
        };
        let metrics = Metrics::new(Arc::default());
        let before = CustomHandlers::new(&[block("a", "x"), block("b", "x")], None, &metrics);
        let after = before.changed(&[block("b", "y"), block("c", "x"), block("a", "x")], None, &metrics);
        assert!(Arc::ptr_eq(&before.handlers["a"], &after.handlers["a"]), "with its circuit breaker");
        assert!(!Arc::ptr_eq(&before.handlers["b"], &after.handlers["b"]));
        assert_eq!((after.handlers["b"].config.url.as_str(), after.handlers.len()), ("http://y", 3));
    }

    #[test]
    fn signature_matches_openssl() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(b"secret", 1_700_000_000, br#"{"a":1}"#), expected);
    }
}
