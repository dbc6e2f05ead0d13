//! `/api/messages`: sending (guide sections 4.1 and 5.1).

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::accounts::policy::{Action, Relation};
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call, RequestBody, parse};
use crate::hub::Announcement;
use crate::mailbox::{IdempotencyKey, Outgoing};
use crate::store::Answer;
use crate::telemetry::metrics::Operation;
use crate::wire::outbound::RESERVED_TYPES;
use crate::wire::{JsonObject, Push};

/// The message of the guide's API after a send.
const SENT: &str = "消息发送成功";
/// The longest type, in characters.
pub const MAX_TYPE_CHARS: usize = 64;

/// The longest idempotency key, in characters.
const MAX_KEY_CHARS: usize = 128;

/// Body of `POST /api/messages`. Unknown fields are ignored, as in the guide; values stay as they were written.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SendRequest {
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::SentType"))]
    kind: Option<Box<RawValue>>,
    #[cfg_attr(test, schemars(with = "crate::describe::types::SentValue"))]
    message: Option<Box<RawValue>>,
    #[cfg_attr(test, schemars(with = "BodyUserId"))]
    user_id: Option<Box<RawValue>>,
    delivery: Option<Delivery>,
    /// In seconds.
    ttl: Option<u64>,
}

impl RequestBody for SendRequest {}

/// Body of `POST /api/messages/user/{id}`. Unknown fields are ignored, as in the guide; values stay as they were written.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SendToUserRequest {
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "Option<crate::describe::types::SentType>"))]
    kind: Option<Box<RawValue>>,
    #[cfg_attr(test, schemars(with = "crate::describe::types::AnyJson"))]
    message: Option<Box<RawValue>>,
    delivery: Option<Delivery>,
    /// In seconds.
    ttl: Option<u64>,
}

impl RequestBody for SendToUserRequest {}

/// Body of `POST /api/messages/device/{id}` and `POST /api/messages/broadcast`. Values stay as they were written.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SendMessageRequest {
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "Option<crate::describe::types::SentType>"))]
    kind: Option<Box<RawValue>>,
    #[cfg_attr(test, schemars(with = "crate::describe::types::AnyJson"))]
    message: Option<Box<RawValue>>,
    delivery: Option<Delivery>,
    /// In seconds.
    ttl: Option<u64>,
}

impl RequestBody for SendMessageRequest {}

/// The way of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// To the present connections, at most once.
    Live,
    /// Kept until received.
    Queued,
}

/// The fields that every send has.
struct Content {
    kind: Option<Box<RawValue>>,
    message: Option<Box<RawValue>>,
    delivery: Option<Delivery>,
    ttl: Option<u64>,
}

impl From<SendToUserRequest> for Content {
    fn from(body: SendToUserRequest) -> Self {
        let SendToUserRequest { kind, message, delivery, ttl } = body;
        Self { kind, message, delivery, ttl }
    }
}

impl From<SendMessageRequest> for Content {
    fn from(body: SendMessageRequest) -> Self {
        let SendMessageRequest { kind, message, delivery, ttl } = body;
        Self { kind, message, delivery, ttl }
    }
}

impl Content {
    /// Checks the options of delivery.
    fn check(self, call: &Call) -> Result<Self, ApiError> {
        let max_ttl = call.app.config().mailbox.max_ttl;
        if self.ttl.is_some_and(|ttl| ttl == 0 || ttl > max_ttl) {
            return Err(ApiError::Invalid(format!("ttl must be 1 to {max_ttl} seconds")));
        }
        let key = call.idempotency_key.as_deref();
        // Others would be read in several ways on the way here, and two keys become one.
        if key.is_some_and(|key| !(1..=MAX_KEY_CHARS).contains(&key.len()) || !key.bytes().all(|b| matches!(b, b' '..=b'~'))) {
            return Err(ApiError::Invalid(format!("Idempotency-Key must have 1 to {MAX_KEY_CHARS} printable ASCII characters")));
        }
        if self.delivery == Some(Delivery::Live) && (self.ttl.is_some() || key.is_some()) {
            return Err(ApiError::Invalid("ttl and Idempotency-Key are for delivery \"queued\"".into()));
        }
        Ok(self)
    }

    /// Returns the type, `system` where none is given.
    fn kind_or_system(&self) -> Result<String, ApiError> {
        self.kind.as_deref().map_or(Ok("system".into()), check_kind)
    }
}

/// Returns whether the guide's `all([…])` treats the value as missing: `null`, `""`, `0`, `false`, `{}`, `[]`.
fn is_falsy(value: &RawValue) -> bool {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => text.len() == 2,
        Some(b'{' | b'[') => text[1..text.len() - 1].trim().is_empty(),
        Some(b't') => false,
        Some(b'f' | b'n') | None => true,
        Some(_) => text.parse::<f64>().is_ok_and(|n| n == 0.0),
    }
}

/// Returns a given value, or the guide's error.
fn required<'a>(value: &'a Option<Box<RawValue>>, field: &'static str) -> Result<&'a RawValue, ApiError> {
    value.as_deref().filter(|v| !is_falsy(v)).ok_or(ApiError::MissingParameter(field))
}

fn check_kind(raw: &RawValue) -> Result<String, ApiError> {
    let wrong = || ApiError::Invalid(format!("type must be a string of 1 to {MAX_TYPE_CHARS} characters"));
    let kind: String = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    if !(1..=MAX_TYPE_CHARS).contains(&kind.chars().count()) {
        return Err(wrong());
    }
    if RESERVED_TYPES.contains(&kind.as_str()) { Err(ApiError::ReservedType(kind)) } else { Ok(kind) }
}

fn check_user_id(raw: &RawValue) -> Result<UserId, ApiError> {
    let id = BodyUserId::read(raw).map(|id| id.0);
    id.ok_or_else(|| ApiError::Invalid("user_id must be a positive integer".into()))
}

/// See [`fuzz_body`](super::fuzz_body).
pub fn fuzz_body(bytes: &[u8]) {
    let Ok(body) = parse::<SendRequest>(bytes) else { return };
    for value in [&body.kind, &body.message, &body.user_id].into_iter().flatten() {
        let read: serde_json::Result<Value> = serde_json::from_str(value.get());
        assert!(read.is_ok(), "every parser reads what is passed on: {value}");
        let read = read.unwrap_or_default();
        let expected = match &read {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
        };
        assert_eq!(is_falsy(value), expected, "{value}");
    }
    let _ = (body.kind.as_deref().map(check_kind), body.user_id.as_deref().map(check_user_id));
}

/// A sent message.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SentResponse {
    #[serde(rename = "type")]
    kind: String,
    #[cfg_attr(test, schemars(with = "crate::describe::types::AnyJson"))]
    message: Box<RawValue>,
    timestamp: Timestamp,
    /// Of a queued message.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    delivery: Delivery,
    /// The number of connections that it was handed to.
    recipients: u64,
}

/// Sends `content`: queued, unless it asks for live delivery. `sender` is named in the push where the route does so.
async fn deliver(
    call: &Call,
    to: Recipient,
    kind: String,
    content: Content,
    sender: Option<&str>,
) -> Result<Reply<SentResponse>, ApiError> {
    let message = content.message.ok_or_else(|| ApiError::Invalid("message is required".into()))?;
    let (mut timestamp, mut repeated) = (Timestamp::now(), false);
    let push = Push { kind: &kind, message: &message, sender, via: call.caller()?.via(), timestamp };
    let delivery = content.delivery.unwrap_or(Delivery::Queued);
    let began = Instant::now();
    let (id, recipients) = match delivery {
        Delivery::Live => {
            let payload = JsonObject::new(&push).map_err(ApiError::internal)?.into_bytes();
            let live = &call.app.metrics.live;
            if live.traffic.is_watched() {
                live.pushed(to, call.caller()?.user.id, None, &payload);
            }
            (None, call.app.hub.publish_live(Arc::new(Announcement::new(to, None, payload))) as u64)
        }
        Delivery::Queued => {
            let prepared = call.idempotency_key.is_some().then(|| {
                // Counted before, so that it is stored with the key: a repeat gets the same answer, word for word.
                Answer { timestamp: Some(timestamp), recipients: call.app.hub.members(to) as u64 }
            });
            let sent = call.app.mailbox.send(outgoing(call, to, &push, content.ttl, prepared)?).await;
            if sent.is_err() {
                call.app.metrics.timed(Operation::Send).record(began.elapsed(), false, Timestamp::now());
            }
            let accepted = sent?;
            repeated = accepted.repeated.is_some();
            let answer = accepted.repeated.or(prepared);
            timestamp = answer.and_then(|answer| answer.timestamp).unwrap_or(timestamp);
            let recipients = answer.map_or(accepted.recipients as u64, |answer| answer.recipients);
            (Some(accepted.id), recipients)
        }
    };
    call.app.metrics.timed(Operation::Send).record(began.elapsed(), true, Timestamp::now());
    let reply = Reply::ok(SENT, SentResponse { kind, message, timestamp, id, delivery, recipients });
    Ok(if repeated { reply.with_replayed() } else { reply })
}

/// Returns the message as the mailbox takes it.
fn outgoing(
    call: &Call,
    recipient: Recipient,
    push: &Push<'_>,
    ttl: Option<u64>,
    answer: Option<Answer>,
) -> Result<Outgoing, ApiError> {
    let sender = call.caller()?.user.id;
    let object = JsonObject::new(push).map_err(ApiError::internal)?;
    // The same request is the same recipient, type and message; its time differs.
    let request = [&recipient.to_key()[..], push.kind.as_bytes(), b"\0", push.message.get().as_bytes()].concat();
    let key = call.idempotency_key.as_deref().zip(answer);
    let key = key.map(|(key, answer)| IdempotencyKey::new(sender, key, &request, answer));
    let privileged = call.caller()?.actor().is_privileged();
    Ok(Outgoing { ttl, key, privileged, ..Outgoing::new(recipient, sender, object) })
}

/// `POST /api/messages/ {type, message, user_id}`.
pub async fn send(call: Call, body: SendRequest) -> Result<Reply<SentResponse>, ApiError> {
    let SendRequest { kind, message, user_id, delivery, ttl } = body;
    let content = Content { kind, message, delivery, ttl }.check(&call)?;
    let kind = required(&content.kind, "type")?;
    required(&content.message, "message")?;
    let user = check_user_id(required(&user_id, "user_id")?)?;
    let kind = check_kind(kind)?;
    call.app.accounts().user(&call.by(), Action::SendToUser, user)?;
    deliver(&call, Recipient::User(user), kind, content, None).await
}

/// `POST /api/messages/user/{id}/ {type?, message}`: the push names the sender.
pub async fn send_to_user(call: Call, body: Result<SendToUserRequest, ApiError>) -> Result<Reply<SentResponse>, ApiError> {
    let user = call.id(UserId, "user")?;
    call.app.accounts().user(&call.by(), Action::SendToUser, user)?;
    let content = Content::from(body?).check(&call)?;
    let (kind, sender) = (content.kind_or_system()?, &call.caller()?.user.username);
    deliver(&call, Recipient::User(user), kind, content, Some(sender)).await
}

/// `POST /api/messages/device/{id}/ {type?, message}`: to one's own device.
pub async fn send_to_device(call: Call, body: Result<SendMessageRequest, ApiError>) -> Result<Reply<SentResponse>, ApiError> {
    let device = call.id(DeviceId, "device")?;
    call.app.accounts().device(&call.by(), Action::SendToDevice, device)?;
    let content = Content::from(body?).check(&call)?;
    let (kind, sender) = (content.kind_or_system()?, &call.caller()?.user.username);
    deliver(&call, Recipient::Device(device), kind, content, Some(sender)).await
}

/// `POST /api/messages/broadcast/ {type?, message}`: to every user.
pub async fn broadcast(call: Call, body: SendMessageRequest) -> Result<Reply<SentResponse>, ApiError> {
    call.app.accounts().permit(&call.by(), Action::Broadcast, Relation::Everyone, "user")?;
    let content = Content::from(body).check(&call)?;
    let (kind, sender) = (content.kind_or_system()?, &call.caller()?.user.username);
    deliver(&call, Recipient::All, kind, content, Some(sender)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn falsy_values_are_those_of_python() {
        for text in ["null", "\"\"", "0", "0.0", "-0", "0e5", "false", "{}", "[]", "{ }", "[\n]"] {
            assert!(is_falsy(&raw(text)), "{text}");
        }
        for text in ["\" \"", "1", "0.1", "-1", "true", "[0]", "{\"a\":null}", "\"0\"", "1e999"] {
            assert!(!is_falsy(&raw(text)), "{text}");
        }
    }

    #[test]
    fn user_id_is_a_positive_integer_or_its_decimal_string() {
        for (text, id) in [("7", 7), ("\"7\"", 7), ("\"007\"", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(check_user_id(&raw(text)).unwrap(), UserId(id));
        }
        for text in ["0", "\"0\"", "-5", "1.0", "1e3", "\"0x10\"", "[1]", "true", "\" 7\"", "\"\\u0037\"", "18446744073709551616"]
        {
            assert!(check_user_id(&raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn type_is_a_string_of_bounded_length_and_not_reserved() {
        assert_eq!(check_kind(&raw("\"notice\"")).unwrap(), "notice");
        assert!(matches!(check_kind(&raw("\"p\\u006fng\"")), Err(ApiError::ReservedType(_))));
        assert!(check_kind(&raw(&format!("\"{}\"", "長".repeat(64)))).is_ok());
        for text in ["5", "\"\"", "{}", &format!("\"{}\"", "長".repeat(65))] {
            assert!(matches!(check_kind(&raw(text)), Err(ApiError::Invalid(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_falsy_only_if_zero(n in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let value = raw(&serde_json::to_string(&n).unwrap());
            prop_assert_eq!(is_falsy(&value), n == 0.0);
            let _ = check_user_id(&value);
        }
    }
}
