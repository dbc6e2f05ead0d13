//! The frames of the WebSocket: those of clients, whose form is checked by hand in `wire::inbound`, and an example of each event.

use serde_json::{Value, json};

use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::time::Timestamp;
use crate::wire::outbound::{City, DanceData, ErrorCode, SongData, Weather, WeatherNow, WeatherReport};
use crate::wire::{CloseCode, Event};

/// A message of a client.
pub struct Inbound {
    /// Its type.
    pub kind: &'static str,
    /// A line about it.
    pub summary: &'static str,
    /// The schema of the whole frame.
    pub schema: Value,
    /// The types of its answers, besides `error`; the first one ends it.
    pub answers: &'static [&'static str],
    /// Frames that are accepted.
    pub examples: Vec<Value>,
}

/// A text or `null`, which counts as absent.
fn text() -> Value {
    json!({ "type": ["string", "null"] })
}

/// A performance: start it or stop it.
fn action() -> Value {
    json!({ "enum": ["start", "stop", null], "description": "`start` where it is absent." })
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

/// Returns the messages of clients.
pub fn inbound() -> Vec<Inbound> {
    let city = json!({
        "anyOf": [{ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "[^\\s]" }, { "type": "null" }],
        "description": "北京 where it is absent."
    });
    let stream = json!({ "type": ["boolean", "null"], "description": "Send the pieces of a model's answer as they come." });
    let chat = json!({
        "anyOf": [
            { "type": "string" },
            { "type": "object", "required": ["content"], "properties": { "content": { "type": "string" }, "stream": stream } }
        ]
    });
    let question = json!({ "type": "string", "maxLength": 64 });
    let named = json!({ "type": "object", "required": ["ref"], "properties": { "ref": question } });
    let mut cancel = frame("chat_cancel", Some(json!({ "anyOf": [question, named, { "type": "null" }] })), false);
    cancel["required"] = json!(["type"]);
    // The `ref` of the question, or else that of the frame itself.
    cancel["anyOf"] = json!([
        { "required": ["message"], "properties": { "message": { "type": ["string", "object"] } } },
        { "required": ["ref"], "properties": { "ref": { "type": "string" } } }
    ]);
    let id =
        json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX, "description": "Everything up to this id is processed." });
    vec![
        Inbound {
            kind: "ping",
            summary: "Ask for a pong",
            schema: frame("ping", None, false),
            answers: &["pong"],
            examples: vec![json!({ "type": "ping" }), json!({ "type": "ping", "message": {}, "ref": "7" })],
        },
        Inbound {
            kind: "ack",
            summary: "Acknowledge messages, with `ack=client`",
            schema: frame("ack", Some(json!({ "type": "object", "required": ["id"], "properties": { "id": id } })), true),
            answers: &[],
            examples: vec![json!({ "type": "ack", "message": { "id": 42 } })],
        },
        Inbound {
            kind: "chat_message",
            summary: "Say something",
            schema: frame("chat_message", Some(chat), true),
            answers: &["chat_response", "chat_cancelled", "delivery_status", "chat_delta"],
            examples: vec![
                json!({ "type": "chat_message", "message": "你好" }),
                json!({ "type": "chat_message", "message": { "content": "tell me a story", "stream": true }, "ref": "q1" }),
            ],
        },
        Inbound {
            kind: "chat_reset",
            summary: "Forget the conversation",
            schema: frame("chat_reset", None, false),
            answers: &["chat_reset"],
            examples: vec![json!({ "type": "chat_reset" })],
        },
        Inbound {
            kind: "chat_cancel",
            summary: "Stop a question",
            schema: cancel,
            answers: &["chat_cancel"],
            examples: vec![
                json!({ "type": "chat_cancel", "message": { "ref": "q1" }, "ref": "c1" }),
                json!({ "type": "chat_cancel", "ref": "q1" }),
            ],
        },
        Inbound {
            kind: "weather",
            summary: "Ask for the weather in a city",
            schema: frame("weather", Some(object(json!({ "city": city }))), true),
            answers: &["weather_response", "delivery_status"],
            examples: vec![json!({ "type": "weather", "message": { "city": "Berlin" } })],
        },
        Inbound {
            kind: "sing",
            summary: "Have a song performed",
            schema: frame("sing", Some(object(json!({ "song": text(), "artist": text(), "action": action() }))), true),
            answers: &["sing_response", "delivery_status"],
            examples: vec![
                json!({ "type": "sing", "message": { "song": "青花瓷", "artist": "周杰伦" } }),
                json!({ "type": "sing", "message": { "action": "stop" }, "target": "device" }),
            ],
        },
        Inbound {
            kind: "dance",
            summary: "Have a dance performed",
            schema: frame(
                "dance",
                Some(object(json!({ "dance": text(), "style": text(), "duration": text(), "action": action() }))),
                true,
            ),
            answers: &["dance_response", "delivery_status"],
            examples: vec![json!({ "type": "dance", "message": { "dance": "waltz" }, "target": { "device_id": 3 } })],
        },
    ]
}

/// Returns the schema of a frame with that `message`, which may be anything or nothing where it is `None`. Without `target`, the answer
/// goes to the connection itself only.
fn frame(kind: &str, message: Option<Value>, target: bool) -> Value {
    let target = if target {
        json!({ "anyOf": [
            { "enum": ["self", "device", null] },
            { "type": "object", "required": ["device_id"], "properties": {
                "device_id": { "type": "integer", "minimum": 0, "maximum": u64::MAX }
            } }
        ] })
    } else {
        json!({ "enum": ["self", null] })
    };
    let reference = json!({ "type": ["string", "null"], "maxLength": 64, "description": "Copied into the answer." });
    let timestamp = json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "null" }] });
    let mut required = vec!["type"];
    if message.is_some() {
        required.push("message");
    }
    json!({
        "type": "object",
        "required": required,
        "properties": {
            "type": { "const": kind },
            "message": message.unwrap_or_else(|| json!({ "description": "Anything, or nothing." })),
            "ref": reference,
            "target": target,
            "timestamp": timestamp,
        },
    })
}

/// The time of all examples.
fn moment() -> Timestamp {
    serde_json::from_str("\"2026-11-22T08:15:30.000125+00:00\"").unwrap()
}

/// Returns an event of each type, as it is sent.
pub fn event_examples() -> Vec<Value> {
    let weather = WeatherNow { temp: "25".into(), text: "晴".into(), icon: "100".into() };
    let report = WeatherReport {
        city: City { name: "北京".into() },
        weather: Weather { now: weather, update_time: moment() },
        source: "simulated",
    };
    let song = SongData { song: "青花瓷".into(), artist: "周杰伦".into(), action: "start_singing" };
    let dance = DanceData { dance: "waltz".into(), style: "classic".into(), duration: "30秒".into(), action: "start_dancing" };
    let custom = serde_json::from_str::<Box<serde_json::value::RawValue>>(r#"{"on":true}"#).unwrap();
    let events = [
        Event::ConnectionStatus {
            status: "connected",
            user_id: UserId(7),
            device_id: Some(DeviceId(3)),
            epoch: "5b1f0c9a7d3e2468".into(),
            last_id: MessageId(41),
            pending: 2,
            recovered: None,
            missed: None,
        },
        Event::Missed { after: MessageId(41), upto: MessageId(78) },
        Event::ChatResponse { message: "收到消息:你好".into(), source: None },
        Event::ChatDelta { message: "Once ".into() },
        Event::ChatReset {},
        Event::ChatCancel { cancelled: true },
        Event::ChatCancelled {},
        Event::WeatherResponse { data: report },
        Event::SingResponse { data: song, message: "开始播放:青花瓷 - 周杰伦".into() },
        Event::DanceResponse { data: dance, message: "开始跳舞:waltz (classic)".into() },
        Event::DeliveryStatus { status: "sent", id: MessageId(42), device_id: DeviceId(3) },
        Event::Pong,
        Event::Error { message: "Invalid JSON format".into(), code: ErrorCode::InvalidJson },
        Event::disconnect(CloseCode::RateLimited, Some(0.6)),
        Event::Custom { kind: "lamp_response".into(), data: custom.as_ref().into() },
    ];
    events.iter().map(|event| serde_json::from_slice(&event.json(None, moment()).unwrap().into_bytes()).unwrap()).collect()
}

/// A message of another user or program, as it is pushed.
pub fn push_example() -> Value {
    json!({
        "type": "notice", "message": { "text": "dinner is ready" }, "sender": "ana",
        "timestamp": "2026-11-22T08:15:30.000125+00:00", "id": 42
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::inbound::parse;

    #[test]
    fn examples_of_frames_are_accepted_and_fit_their_schemas() {
        for frame in inbound() {
            let validator = jsonschema::draft7::new(&frame.schema).unwrap();
            for example in &frame.examples {
                assert!(validator.is_valid(example), "{example}");
                assert!(parse(&example.to_string(), 10_240, &[]).is_ok(), "{example}");
            }
        }
    }

    #[test]
    fn what_a_schema_refuses_the_server_refuses() {
        let wrong = [
            ("ack", r#"{"type":"ack"}"#),
            ("ack", r#"{"type":"ack","message":{"id":-1}}"#),
            ("ack", r#"{"type":"ack","message":{"id":"1"}}"#),
            ("chat_message", r#"{"type":"chat_message"}"#),
            ("chat_message", r#"{"type":"chat_message","message":{"stream":true}}"#),
            ("chat_message", r#"{"type":"chat_message","message":{"content":"x","stream":1}}"#),
            ("chat_message", r#"{"type":"chat_message","message":"x","ref":5}"#),
            ("chat_message", r#"{"type":"chat_message","message":"x","target":"all"}"#),
            ("chat_cancel", r#"{"type":"chat_cancel"}"#),
            ("chat_cancel", r#"{"type":"chat_cancel","message":{}}"#),
            ("chat_cancel", r#"{"type":"chat_cancel","message":"q","target":"device"}"#),
            ("weather", r#"{"type":"weather","message":{"city":" "}}"#),
            ("weather", r#"{"type":"weather","message":{"city":5}}"#),
            ("sing", r#"{"type":"sing","message":{"action":"pause"}}"#),
            ("dance", r#"{"type":"dance","message":[]}"#),
            ("dance", r#"{"type":"dance","message":{},"target":{"device_id":"3"}}"#),
            ("ping", r#"{"type":"ping","target":"device"}"#),
        ];
        for (kind, text) in wrong {
            let frame = inbound().into_iter().find(|frame| frame.kind == kind).unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(!jsonschema::draft7::is_valid(&frame.schema, &value), "{text}");
            assert!(parse(text, 10_240, &[]).is_err(), "{text}");
        }
    }
}
