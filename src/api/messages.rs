//! `/api/messages`: sending (guide sections 4.1 and 5.1).

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::auth::{Actor, Caller};
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call, parse};
use crate::hub::Announcement;
use crate::mailbox::{IdempotencyKey, Outgoing};
use crate::telemetry::metrics::Operation;
use crate::wire::outbound::RESERVED_TYPES;
use crate::wire::{JsonObject, Push};

/// What the guide's API says after a send.
const SENT: &str = "消息发送成功";
/// The longest type, in characters.
const MAX_TYPE_CHARS: usize = 64;

/// The longest idempotency key, in characters.
const MAX_KEY_CHARS: usize = 128;

/// A send. Unknown fields are ignored; values stay as they were written.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(default)]
    delivery: Option<Delivery>,
    ttl: Option<u64>,
}

/// How a message is to be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Delivery {
    /// To who is connected now, at most once.
    Live,
    /// Kept until received.
    Queued,
}

impl<'a> Body<'a> {
    fn read(call: &'a Call) -> Result<Self, ApiError> {
        let body: Self = call.json()?;
        let max_ttl = call.app.config().mailbox.max_ttl;
        if body.ttl.is_some_and(|ttl| ttl == 0 || ttl > max_ttl) {
            return Err(ApiError::Invalid(format!("ttl must be 1 to {max_ttl} seconds")));
        }
        let key = call.idempotency_key.as_deref();
        if key.is_some_and(|key| !(1..=MAX_KEY_CHARS).contains(&key.chars().count())) {
            return Err(ApiError::Invalid(format!("Idempotency-Key must have 1 to {MAX_KEY_CHARS} characters")));
        }
        if body.delivery == Some(Delivery::Live) && (body.ttl.is_some() || key.is_some()) {
            return Err(ApiError::Invalid("ttl and Idempotency-Key are for delivery \"queued\"".into()));
        }
        Ok(body)
    }

    /// The message, where it is required but may be anything else.
    fn message(&self) -> Result<&'a RawValue, ApiError> {
        self.message.ok_or_else(|| ApiError::Invalid("message is required".into()))
    }

    /// The type, `system` where none is given.
    fn kind_or_system(&self) -> Result<String, ApiError> {
        self.kind.map_or(Ok("system".into()), check_kind)
    }
}

/// Whether the guide's `all([…])` would call this value missing: `null`, `""`, `0`, `false`, `{}`, `[]`.
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

/// A given value, or the guide's error.
fn required<'a>(value: Option<&'a RawValue>, field: &'static str) -> Result<&'a RawValue, ApiError> {
    value.filter(|v| !is_falsy(v)).ok_or(ApiError::MissingParameter(field))
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

/// See [`rest::fuzz_body`](super::fuzz_body).
pub fn fuzz_body(bytes: &[u8]) {
    let Ok(body) = parse::<Body<'_>>(bytes) else { return };
    for value in [body.kind, body.message, body.user_id].into_iter().flatten() {
        let empty: Value = serde_json::from_str(value.get()).unwrap_or(Value::Bool(true)); // 1e999 is JSON, but no number of ours
        let expected = match &empty {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
        };
        assert_eq!(is_falsy(value), expected, "{value}");
    }
    let _ = (body.kind.map(check_kind), body.user_id.map(check_user_id));
}

/// `data` of a send's answer.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a RawValue,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    delivery: Delivery,
    /// How many connections it was handed to.
    recipients: usize,
}

/// Sends what `body` holds: queued, unless it says live.
async fn deliver(call: &Call, to: Recipient, kind: &str, body: &Body<'_>, sender: Option<&str>) -> Result<Reply, ApiError> {
    let (message, timestamp) = (body.message()?, Timestamp::now());
    let push = Push { kind, message, sender, timestamp };
    let delivery = body.delivery.unwrap_or(Delivery::Queued);
    let began = Instant::now();
    let (id, recipients) = match delivery {
        Delivery::Live => {
            let payload = JsonObject::new(&push).map_err(ApiError::internal)?.into_bytes();
            (None, call.app.hub.publish(Arc::new(Announcement::new(to, None, payload))))
        }
        Delivery::Queued => {
            let sent = call.app.mailbox.send(outgoing(call, to, &push, body.ttl)?).await;
            if sent.is_err() {
                call.app.metrics.timed(Operation::Send).record(began.elapsed(), false, Timestamp::now());
            }
            let accepted = sent?;
            (Some(accepted.id), accepted.recipients)
        }
    };
    call.app.metrics.timed(Operation::Send).record(began.elapsed(), true, Timestamp::now());
    Reply::data(SENT, &Sent { kind, message, timestamp, id, delivery, recipients })
}

/// What the mailbox gets.
fn outgoing(call: &Call, recipient: Recipient, push: &Push<'_>, ttl: Option<u64>) -> Result<Outgoing, ApiError> {
    let sender = call.caller()?.user.id;
    let object = JsonObject::new(push).map_err(ApiError::internal)?;
    // The same request is the same recipient, type and message; its time is another.
    let request = [&recipient.to_key()[..], push.kind.as_bytes(), b"\0", push.message.get().as_bytes()].concat();
    let key = call.idempotency_key.as_deref().map(|key| IdempotencyKey::new(sender, key, &request));
    Ok(Outgoing { ttl, key, ..Outgoing::new(recipient, sender, object) })
}

/// Whether the caller reaches everybody.
fn reaches_all(caller: &Caller) -> bool {
    matches!(caller.actor(), Actor::Admin | Actor::Service)
}

/// Refuses users one may not send to as if they did not exist: who may not send shall not learn who is there.
fn may_send_to(call: &Call, user: UserId) -> Result<(), ApiError> {
    let caller = call.caller()?;
    let allowed = user == caller.user.id || reaches_all(caller) || call.app.config().messages.cross_user;
    if allowed && call.app.store.user(user)?.is_some() { Ok(()) } else { Err(ApiError::NotFound("user")) }
}

/// `POST /api/messages/ {type, message, user_id}`.
pub async fn send(call: Call) -> Result<Reply, ApiError> {
    let body = Body::read(&call)?;
    let kind = required(body.kind, "type")?;
    required(body.message, "message")?;
    let user = check_user_id(required(body.user_id, "user_id")?)?;
    let kind = check_kind(kind)?;
    may_send_to(&call, user)?;
    deliver(&call, Recipient::User(user), &kind, &body, None).await
}

/// `POST /api/messages/user/{id}/ {type?, message}`: the push names the sender.
pub async fn send_to_user(call: Call) -> Result<Reply, ApiError> {
    let user = call.id(UserId, "user")?;
    may_send_to(&call, user)?;
    let body = Body::read(&call)?;
    let sender = &call.caller()?.user.username;
    deliver(&call, Recipient::User(user), &body.kind_or_system()?, &body, Some(sender)).await
}

/// `POST /api/messages/device/{id}/ {type?, message}`: to one's own device.
pub async fn send_to_device(call: Call) -> Result<Reply, ApiError> {
    let (device, caller) = (call.id(DeviceId, "device")?, call.caller()?);
    let allowed = reaches_all(caller) || call.app.store.owns(caller.user.id, device)?;
    if !allowed || call.app.store.device(device)?.is_none() {
        return Err(ApiError::NotFound("device"));
    }
    let body = Body::read(&call)?;
    deliver(&call, Recipient::Device(device), &body.kind_or_system()?, &body, Some(&caller.user.username)).await
}

/// `POST /api/messages/broadcast/ {type?, message}`: to everybody.
pub async fn broadcast(call: Call) -> Result<Reply, ApiError> {
    let body = Body::read(&call)?;
    let sender = &call.caller()?.user.username;
    deliver(&call, Recipient::All, &body.kind_or_system()?, &body, Some(sender)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_python_calls_false() {
        for text in ["null", "\"\"", "0", "0.0", "-0", "0e5", "false", "{}", "[]", "{ }", "[\n]"] {
            assert!(is_falsy(&raw(text)), "{text}");
        }
        for text in ["\" \"", "1", "0.1", "-1", "true", "[0]", "{\"a\":null}", "\"0\"", "1e999"] {
            assert!(!is_falsy(&raw(text)), "{text}");
        }
    }

    #[test]
    fn user_ids() {
        for (text, id) in [("7", 7), ("\"7\"", 7), ("\"007\"", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(check_user_id(&raw(text)).unwrap(), UserId(id));
        }
        for text in ["0", "\"0\"", "-5", "1.0", "1e3", "\"0x10\"", "[1]", "true", "\" 7\"", "\"\\u0037\"", "18446744073709551616"]
        {
            assert!(check_user_id(&raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn types() {
        assert_eq!(check_kind(&raw("\"notice\"")).unwrap(), "notice");
        assert!(matches!(check_kind(&raw("\"p\\u006fng\"")), Err(ApiError::ReservedType(_))));
        assert!(check_kind(&raw(&format!("\"{}\"", "長".repeat(64)))).is_ok());
        for text in ["5", "\"\"", "{}", &format!("\"{}\"", "長".repeat(65))] {
            assert!(matches!(check_kind(&raw(text)), Err(ApiError::Invalid(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_judged_without_panic(n in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let value = raw(&serde_json::to_string(&n).unwrap());
            prop_assert_eq!(is_falsy(&value), n == 0.0);
            let _ = check_user_id(&value);
        }
    }
}
