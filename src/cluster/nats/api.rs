//! Requests to JetStream.

use async_nats::{Client, HeaderMap, Message, Request, RequestError, RequestErrorKind, StatusCode};
use bytes::Bytes;
use serde_json::Value;

use super::super::Position;
use super::super::entry::Committed;
use super::super::log::LogError;
use crate::core::time::Timestamp;

/// The error of a message that a full stream refuses.
const STORE_FAILED: u64 = 10_077;
/// The errors of a stream that may take more than the servers have.
const NO_RESOURCES: u64 = 10_023;
const NO_STORAGE: u64 = 10_047;

/// The client, for JetStream's requests.
#[derive(Clone)]
pub struct Api(Client);

impl Api {
    /// Requests by way of a client.
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// The client.
    pub const fn client(&self) -> &Client {
        &self.0
    }

    /// Makes a request of the JSON API; returns its answer.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn call(&self, what: &str, request: &Value) -> Result<Value, LogError> {
        let payload = request.to_string().into();
        let answer = self.0.request(format!("$JS.API.{what}"), payload).await.map_err(unreachable)?;
        answered(&answer)
    }

    /// Publishes a message to a stream; returns its position when it is stored.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn publish(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Position, LogError> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.0.send_request(subject.to_owned(), request).await.map_err(unreachable)?;
        let answer = answered(&answer)?;
        answer["seq"].as_u64().map(Position).ok_or_else(|| LogError::Unreachable("an answer without a sequence".into()))
    }

    /// Returns a message of a stream, from any of its servers; `None` where that has none.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn get(&self, stream: &str, which: &Value) -> Result<Option<Message>, LogError> {
        let answer = self.0.request(format!("$JS.API.DIRECT.GET.{stream}"), which.to_string().into()).await;
        let answer = answer.map_err(unreachable)?;
        match answer.status {
            None | Some(StatusCode::OK) => Ok(Some(answer)),
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) => Err(LogError::Unreachable(format!("{status} {}", answer.description.unwrap_or_default()))),
        }
    }
}

fn unreachable(error: RequestError) -> LogError {
    match error.kind() {
        RequestErrorKind::MaxPayloadExceeded => LogError::Refused("longer than the servers' max_payload".into()),
        // A stream that has no leader, or that is not there.
        RequestErrorKind::NoResponders => LogError::Unreachable("nobody answers for the stream".into()),
        _ => LogError::Unreachable(error.to_string()),
    }
}

/// Returns the answer in a message.
fn answered(message: &Message) -> Result<Value, LogError> {
    let answer: Value = serde_json::from_slice(&message.payload).map_err(|error| LogError::Unreachable(error.to_string()))?;
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let text = error["description"].as_str().unwrap_or_default().to_owned();
    match (error["err_code"].as_u64(), error["code"].as_u64()) {
        (Some(STORE_FAILED), _) if text.contains("maximum") => Err(LogError::Full),
        (Some(NO_RESOURCES), _) | (Some(NO_STORAGE), _) => {
            Err(LogError::Refused(format!("{text}: set cluster.log_max_bytes lower, or JetStream's max_file higher")))
        }
        // Of the server: another one may do it.
        (_, Some(500..)) => Err(LogError::Unreachable(text)),
        _ => Err(LogError::Refused(text)),
    }
}

/// Returns the entry in a message that was published again, or read from the stream.
///
/// # Errors
/// [`LogError::Unreachable`] where its position or its time is missing.
pub fn committed(message: Message) -> Result<Committed, LogError> {
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(async_nats::HeaderValue::as_str);
    let position = header("Nats-Sequence").and_then(|text| text.parse().ok()).map(Position);
    let time = header("Nats-Time-Stamp").and_then(|text| text.parse::<Timestamp>().ok());
    match (position, time) {
        // To the microsecond, as it is kept.
        (Some(position), Some(time)) => {
            let time = Timestamp::from_unix_micros(time.unix_micros());
            Ok(Committed { position, time, bytes: message.payload })
        }
        _ => Err(LogError::Unreachable("a message without position and time".into())),
    }
}
