//! Message types of one's own: posted, signed, to a program that the configuration names, whose JSON answer goes back.
//!
//! The signature is HMAC-SHA256 over the time and the body, `sha256=<hex>` in `X-QY-LTY-Signature`, the time being the Unix
//! seconds in `X-QY-LTY-Timestamp`: who checks both can tell our requests from others', and old ones from new.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::Asked;
use super::upstream::{Breaker, UpstreamError, counted, read, send};
use crate::config::HandlerConfig;
use crate::core::hex::hex;
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::telemetry::metrics::{Metrics, Upstream};
use crate::wire::{ErrorCode, Event, Raw};

/// One type.
struct Own {
    config: HandlerConfig,
    at_once: Semaphore,
    breaker: Breaker,
    metrics: Arc<Metrics>,
}

/// All of them, by type.
pub(super) struct OwnTypes {
    types: HashMap<String, Arc<Own>>,
    client: Option<Client>,
}

/// What is posted.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: Option<&'a Raw>,
    user_id: UserId,
    device_id: Option<DeviceId>,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    timestamp: Timestamp,
}

impl OwnTypes {
    /// As configured.
    pub(super) fn new(config: &[HandlerConfig], client: Option<Client>, metrics: &Arc<Metrics>) -> Self {
        Self::with(config, client, metrics, |_| None)
    }

    /// As configured now: a type whose block is as before goes on, with what is under way and what is known of its program.
    pub(super) fn changed(&self, config: &[HandlerConfig], client: Option<Client>, metrics: &Arc<Metrics>) -> Self {
        let before = |new: &HandlerConfig| self.types.get(&new.kind).filter(|own| own.config == *new).cloned();
        Self::with(config, client, metrics, before)
    }

    fn with(
        config: &[HandlerConfig],
        client: Option<Client>,
        metrics: &Arc<Metrics>,
        before: impl Fn(&HandlerConfig) -> Option<Arc<Own>>,
    ) -> Self {
        let new = |config: &HandlerConfig| {
            let at_once = Semaphore::new(config.concurrency);
            Arc::new(Own { config: config.clone(), at_once, breaker: Breaker::default(), metrics: metrics.clone() })
        };
        let own = |config: &HandlerConfig| (config.kind.clone(), before(config).unwrap_or_else(|| new(config)));
        Self { types: config.iter().map(own).collect(), client }
    }

    /// Asks the program behind `kind`.
    pub(super) async fn answer(&self, asked: &Asked, kind: &str, message: Option<&Raw>) -> Event {
        let Some((own, client)) = self.types.get(kind).zip(self.client.as_ref()) else {
            return Event::Error { message: format!("Unsupported message type: {kind}"), code: ErrorCode::UnsupportedType };
        };
        match counted(&own.metrics, Upstream::Own, own.ask(client, asked, message)).await {
            Ok(data) => Event::Own { kind: format!("{kind}_response"), data },
            Err(why) => {
                tracing::warn!(kind, %why, "a handler gave no answer");
                Event::Error { message: format!("{kind} failed: {why}"), code: ErrorCode::UpstreamError }
            }
        }
    }
}

impl Own {
    async fn ask(&self, client: &Client, asked: &Asked, message: Option<&Raw>) -> Result<Raw, UpstreamError> {
        let _one = self.at_once.try_acquire().map_err(|_| UpstreamError::Busy)?;
        self.breaker.check(Instant::now())?;
        let answer = self.post(client, asked, message).await;
        self.breaker.note(&answer, Instant::now());
        answer
    }

    async fn post(&self, client: &Client, asked: &Asked, message: Option<&Raw>) -> Result<Raw, UpstreamError> {
        let timestamp = Timestamp::now();
        let question = Question {
            kind: &self.config.kind,
            message,
            user_id: asked.user,
            device_id: asked.device,
            reference: asked.reference.as_deref(),
            timestamp,
        };
        let body = serde_json::to_vec(&question).map_err(|_| UpstreamError::Unreadable)?;
        let seconds = timestamp.unix_micros() / 1_000_000;
        let mut request = client.post(&self.config.url).header("content-type", "application/json");
        request = request.header("X-QY-LTY-Timestamp", seconds.to_string());
        request = request.header("X-QY-LTY-Signature", signature(self.config.secret.reveal().as_bytes(), seconds, &body));
        let within = Duration::from_secs(self.config.timeout_seconds.into());
        let end = Instant::now() + within;
        let response = send(request.body(body), within).await?;
        let answer = read(response, self.config.max_bytes, end.saturating_duration_since(Instant::now())).await?;
        serde_json::from_slice(&answer).map_err(|_| UpstreamError::Unreadable)
    }
}

/// `sha256=` and the HMAC (RFC 2104) of `{seconds}.{body}` in hexadecimal.
fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() }; // any length is a key
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    format!("sha256={}", hex(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_block_goes_on() {
        let block = |kind: &str, url: &str| {
            toml::from_str::<HandlerConfig>(&format!("type = \"{kind}\"\nurl = \"http://{url}\"\nsecret = \"s\"")).unwrap()
        };
        let metrics = Metrics::new(Arc::default());
        let before = OwnTypes::new(&[block("a", "x"), block("b", "x")], None, &metrics);
        let after = before.changed(&[block("b", "y"), block("c", "x"), block("a", "x")], None, &metrics);
        assert!(Arc::ptr_eq(&before.types["a"], &after.types["a"]), "with its breaker");
        assert!(!Arc::ptr_eq(&before.types["b"], &after.types["b"]));
        assert_eq!((after.types["b"].config.url.as_str(), after.types.len()), ("http://y", 3));
    }

    #[test]
    fn the_signature_is_what_others_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(b"secret", 1_700_000_000, br#"{"a":1}"#), expected);
    }
}
