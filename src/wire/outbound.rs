//! Every event the server sends.
//!
//! An [`Event`] is from the server to one connection; a [`Push`] carries a user's message to a group. Both serialise to one JSON
//! object with `type` first and `timestamp` last; a queued one gets its `id` behind that.

use serde::Serialize;
use serde_json::value::RawValue;

use super::close::CloseCode;
use super::object::{JsonObject, ObjectError};
use super::raw::Raw;
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::time::Timestamp;

/// The types that only the server sends; a pushed message may not have one of them.
pub const RESERVED_TYPES: &[&str] =
    &["connection_status", "disconnect", "error", "pong", "delivery_status", "missed", "presence"];

/// The machine-readable codes of `error` events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The frame holds no JSON.
    InvalidJson,
    /// A field is missing or wrong; the message names it.
    ValidationError,
    /// No handler for this message type.
    UnsupportedType,
    /// More characters than `limits.max_message_chars`.
    MessageTooLarge,
    /// Too many messages; a close with 4008 follows.
    RateLimited,
    /// The weather or chat source failed.
    UpstreamError,
    /// A target that is not the user's.
    Forbidden,
    /// The target's mailbox or the server's disk is full.
    MailboxFull,
    /// An internal error; the cause is in the log.
    InternalError,
}

/// An event from the server to one connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every connection.
    ConnectionStatus {
        /// Always `connected`.
        status: &'static str,
        /// A string, as in the guide.
        #[serde(serialize_with = "as_string")]
        #[cfg_attr(test, schemars(with = "crate::describe::types::IdText"))]
        user_id: UserId,
        /// A number, as in the guide.
        device_id: Option<DeviceId>,
        /// Changes when the data directory is restored or recreated.
        epoch: String,
        /// Everything up to this id had been received before, by some connection.
        last_id: MessageId,
        /// The number of messages to be delivered.
        pending: usize,
        /// `true` if everything after `since` is still there; absent without `since`.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
        /// The number of messages that were removed before this reader had them; absent for 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
    /// Messages were removed before this connection had read them.
    Missed {
        /// The connection had read up to here.
        after: MessageId,
        /// The last of them.
        upto: MessageId,
    },
    /// The answer to `chat_message`.
    ChatResponse {
        /// The answer's text.
        message: String,
        /// `builtin`, where the built-in responder replaced a model.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<&'static str>,
    },
    /// A piece of the answer to `chat_message`; the complete answer follows.
    ChatDelta {
        /// The text to append.
        message: String,
    },
    /// The answer to `chat_reset`.
    ChatReset {},
    /// The answer to `chat_cancel`.
    ChatCancel {
        /// Set if a question was stopped: none is running with that `ref` otherwise.
        cancelled: bool,
    },
    /// The end of a question that was stopped: it has no answer.
    ChatCancelled {},
    /// The answer to `weather`.
    WeatherResponse {
        /// City, present weather and the source of the figures.
        data: WeatherReport,
    },
    /// The answer to `sing`.
    SingResponse {
        /// The song.
        data: SongData,
        /// The text to display.
        message: String,
    },
    /// The answer to `dance`.
    DanceResponse {
        /// The dance.
        data: DanceData,
        /// The text to display.
        message: String,
    },
    /// The delivery status of an answer that another device performs.
    DeliveryStatus {
        /// `queued`, `sent`, and later `acked` or `expired`.
        status: &'static str,
        /// The message in the device's mailbox.
        id: MessageId,
        /// The device.
        device_id: DeviceId,
    },
    /// The answer to `ping`.
    Pong,
    /// A message of the client was not accepted; the connection stays open.
    Error {
        /// The text for people.
        message: String,
        /// The code for programs.
        code: ErrorCode,
    },
    /// Precedes every close with a code from 4000 up.
    Disconnect {
        /// The close code that follows.
        code: u16,
        /// The close reason that follows.
        reason: &'static str,
        /// Set if the client should reconnect.
        reconnect: bool,
        /// Seconds to wait before reconnecting.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<f64>,
    },
    /// The answer of a program that the configuration names.
    #[serde(untagged)]
    Custom {
        /// `{type}_response`.
        #[serde(rename = "type")]
        kind: String,
        /// The program's JSON, as it was written.
        #[cfg_attr(test, schemars(with = "crate::describe::types::AnyJson"))]
        data: Raw,
    },
}

/// `data` of a `weather_response` (guide section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WeatherReport {
    /// The requested city.
    pub city: City,
    /// The weather there.
    pub weather: Weather,
    /// The source of the figures, for example `simulated`.
    pub source: &'static str,
}

/// A city's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct City {
    /// As the client wrote it.
    pub name: String,
}

/// Weather and its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Weather {
    /// The present weather.
    pub now: WeatherNow,
    /// The time of the figures.
    pub update_time: Timestamp,
}

/// The present weather, as texts (QWeather's form, which the guide uses).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WeatherNow {
    /// Degrees Celsius: whole ones, but for those of a station.
    pub temp: String,
    /// A description, for example `晴`.
    pub text: String,
    /// QWeather's icon number.
    pub icon: String,
}

/// `data` of a `sing_response`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SongData {
    /// Title.
    pub song: String,
    /// Artist.
    pub artist: String,
    /// `start_…` or `stop_…`.
    pub action: &'static str,
}

/// `data` of a `dance_response`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DanceData {
    /// Name.
    pub dance: String,
    /// Style.
    pub style: String,
    /// Free text.
    pub duration: String,
    /// `start_…` or `stop_…`.
    pub action: &'static str,
}

fn as_string<S: serde::Serializer>(id: &UserId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl Event {
    /// The `disconnect` event of `close`.
    pub fn disconnect(close: CloseCode, retry_after: Option<f64>) -> Self {
        Self::Disconnect { code: close.code(), reason: close.reason(), reconnect: close.reconnect(), retry_after }
    }

    /// Returns the event as it is sent: with the client's `reference`, if it gave one, and the time `now`.
    #[inline]
    pub fn stamped<'a>(&'a self, reference: Option<&'a str>, now: Timestamp) -> Stamped<'a> {
        Stamped { event: self, reference, timestamp: now }
    }

    /// Serialises the [stamped](Self::stamped) event.
    ///
    /// # Errors
    /// None in practice: every field is plain text or a finite number.
    pub fn json(&self, reference: Option<&str>, now: Timestamp) -> Result<JsonObject, ObjectError> {
        JsonObject::written(|out| self.stamped(reference, now).write(out))
    }
}

/// An event as it is sent.
#[derive(Debug)]
pub struct Stamped<'a> {
    event: &'a Event,
    reference: Option<&'a str>,
    timestamp: Timestamp,
}

impl Stamped<'_> {
    /// Appends it to `out` as one JSON object: the event's fields, then `ref` and `timestamp`.
    ///
    /// # Errors
    /// None in practice; `out` may have a part of it then.
    // Not as a struct with a flattened event, which serde would write field by field through a map.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        if matches!(self.event, Event::Pong) {
            out.extend_from_slice(b"{\"type\":\"pong\""); // the most frequent one, as serde writes it
        } else {
            serde_json::to_writer(&mut *out, self.event)?;
            out.pop(); // the closing brace; an event has at least its type
        }
        if let Some(reference) = self.reference {
            out.extend_from_slice(b",\"ref\":");
            serde_json::to_writer(&mut *out, reference)?;
        }
        out.extend_from_slice(b",\"timestamp\":\"");
        self.timestamp.with_text(|text| out.extend_from_slice(text.as_bytes()));
        out.extend_from_slice(b"\"}");
        Ok(())
    }
}

/// A user's message on its way to a group, as the sender wrote it.
#[derive(Debug, Serialize)]
pub struct Push<'a> {
    /// 1 to 64 characters, none of [`RESERVED_TYPES`].
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Carried raw: numbers keep their digits, keys their order.
    pub message: &'a RawValue,
    /// The sender's user name, where the route adds it (guide section 5.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<&'a str>,
    /// The label of the service token that it was sent with, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'a str>,
    /// The time at which the server accepted it.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed moment: golden texts must not change with the day.
    fn moment() -> Timestamp {
        serde_json::from_str("\"2026-11-22T08:15:30.000125+00:00\"").unwrap()
    }

    fn golden(event: &Event) -> String {
        String::from_utf8(event.json(None, moment()).unwrap().into_bytes()).unwrap()
    }

    #[test]
    fn connection_status_has_its_golden_text() {
        let event = |device_id, recovered| Event::ConnectionStatus {
            status: "connected",
            user_id: UserId(7),
            device_id,
            epoch: "e1".into(),
            last_id: MessageId(0),
            pending: 0,
            recovered,
            missed: None,
        };
        insta::assert_snapshot!(golden(&event(Some(DeviceId(3)), None)), @r#"{"type":"connection_status","status":"connected","user_id":"7","device_id":3,"epoch":"e1","last_id":0,"pending":0,"timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        insta::assert_snapshot!(golden(&event(None, Some(false))), @r#"{"type":"connection_status","status":"connected","user_id":"7","device_id":null,"epoch":"e1","last_id":0,"pending":0,"recovered":false,"timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
    }

    #[test]
    fn answers_have_their_golden_texts() {
        insta::assert_snapshot!(golden(&Event::ChatResponse { message: "收到消息:你好 \"x\"".into(), source: None }), @r#"{"type":"chat_response","message":"收到消息:你好 \"x\"","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        let report = WeatherReport {
            city: City { name: "北京".into() },
            weather: Weather {
                now: WeatherNow { temp: "25".into(), text: "晴".into(), icon: "100".into() },
                update_time: moment(),
            },
            source: "simulated",
        };
        insta::assert_snapshot!(golden(&Event::WeatherResponse { data: report }), @r#"{"type":"weather_response","data":{"city":{"name":"北京"},"weather":{"now":{"temp":"25","text":"晴","icon":"100"},"updateTime":"2026-11-22T08:15:30.000125+00:00"},"source":"simulated"},"timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        let data = SongData { song: "青花瓷".into(), artist: "周杰伦".into(), action: "start_singing" };
        insta::assert_snapshot!(golden(&Event::SingResponse { data, message: "开始播放:青花瓷 - 周杰伦".into() }), @r#"{"type":"sing_response","data":{"song":"青花瓷","artist":"周杰伦","action":"start_singing"},"message":"开始播放:青花瓷 - 周杰伦","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        let data =
            DanceData { dance: "街舞".into(), style: "嘻哈".into(), duration: "30秒".into(), action: "start_dancing" };
        insta::assert_snapshot!(golden(&Event::DanceResponse { data, message: "开始跳舞:街舞 (嘻哈)".into() }), @r#"{"type":"dance_response","data":{"dance":"街舞","style":"嘻哈","duration":"30秒","action":"start_dancing"},"message":"开始跳舞:街舞 (嘻哈)","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        insta::assert_snapshot!(golden(&Event::Pong), @r#"{"type":"pong","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
    }

    #[test]
    fn event_repeats_the_ref() {
        let json = Event::Pong.json(Some("r\"1"), moment()).unwrap().into_bytes();
        insta::assert_snapshot!(String::from_utf8(json).unwrap(), @r#"{"type":"pong","ref":"r\"1","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
    }

    #[test]
    fn errors_have_their_golden_texts() {
        let all = [
            ErrorCode::InvalidJson,
            ErrorCode::ValidationError,
            ErrorCode::UnsupportedType,
            ErrorCode::MessageTooLarge,
            ErrorCode::RateLimited,
            ErrorCode::UpstreamError,
            ErrorCode::InternalError,
        ];
        let lines: Vec<String> = all.iter().map(|&code| golden(&Event::Error { message: "m".into(), code })).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"type":"error","message":"m","code":"INVALID_JSON","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"VALIDATION_ERROR","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"UNSUPPORTED_TYPE","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"MESSAGE_TOO_LARGE","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"RATE_LIMITED","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"UPSTREAM_ERROR","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"error","message":"m","code":"INTERNAL_ERROR","timestamp":"2026-11-22T08:15:30.000125+00:00"}
        "#);
    }

    #[test]
    fn disconnects_have_their_golden_texts() {
        let lines: Vec<String> =
            CloseCode::ALL.iter().filter(|c| c.announced()).map(|&c| golden(&Event::disconnect(c, None))).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"type":"disconnect","code":4000,"reason":"internal error","reconnect":true,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4001,"reason":"authentication required","reconnect":false,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4002,"reason":"this user has no primary device","reconnect":false,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4003,"reason":"the user id in the path is not the token's user","reconnect":false,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4008,"reason":"message rate limit exceeded","reconnect":true,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4100,"reason":"too slow: backlog not written in time","reconnect":true,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4101,"reason":"too many connections","reconnect":true,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4102,"reason":"no answer to pings","reconnect":true,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        {"type":"disconnect","code":4104,"reason":"too many clients","reconnect":false,"timestamp":"2026-11-22T08:15:30.000125+00:00"}
        "#);
        insta::assert_snapshot!(golden(&Event::disconnect(CloseCode::RateLimited, Some(12.5))), @r#"{"type":"disconnect","code":4008,"reason":"message rate limit exceeded","reconnect":true,"retry_after":12.5,"timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
    }

    #[test]
    fn push_keeps_the_senders_bytes() {
        let raw = RawValue::from_string(r#"{"b":1.0,"a":[18446744073709551615,1e2]}"#.into()).unwrap();
        let push = Push { kind: "notice", message: &raw, sender: Some("alice"), via: None, timestamp: moment() };
        let json = JsonObject::new(&push).unwrap().into_bytes();
        insta::assert_snapshot!(String::from_utf8(json).unwrap(), @r#"{"type":"notice","message":{"b":1.0,"a":[18446744073709551615,1e2]},"sender":"alice","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
        let json = JsonObject::new(&Push { via: Some("home \"1\""), ..push }).unwrap().into_bytes();
        insta::assert_snapshot!(String::from_utf8(json).unwrap(), @r#"{"type":"notice","message":{"b":1.0,"a":[18446744073709551615,1e2]},"sender":"alice","via":"home \"1\"","timestamp":"2026-11-22T08:15:30.000125+00:00"}"#);
    }
}
