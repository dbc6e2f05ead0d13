//! Messages of clients: one JSON object per text message, parsed into a typed [`Request`] or an acknowledgement.
//!
//! # Invariants
//! - Every input has exactly one outcome: an [`Inbound`] or a [`Rejection`]. Nothing panics, nothing recurses with the input's
//!   depth (values whose content does not matter are skipped, not built).
//! - The type is checked before the message, so an unknown type is `UNSUPPORTED_TYPE` whatever else is wrong with it.
//! - A `null` field counts as absent.
//! - What is passed on as it was written, every ordinary parser reads: [`check_readable`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::outbound::ErrorCode;
use super::quick;
use super::raw::Raw;
use super::readable::{Unreadable, check_escapes, check_readable};
use crate::core::ids::{DeviceId, MessageId};
use crate::core::time::is_iso_datetime;

/// The city of a weather request without one (guide section 3.1).
pub const DEFAULT_CITY: &str = "北京";
/// The duration of a dance request without one (guide section 3.1).
pub const DEFAULT_DURATION: &str = "30秒";
/// The longest `ref`, in characters.
pub const MAX_REF_CHARS: usize = 64;
/// The longest city name, in characters.
pub const MAX_CITY_CHARS: usize = 64;

/// A well-formed message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A request, which is answered.
    Request(Request),
    /// The acknowledgement of everything up to this id: received and processed.
    Ack {
        /// The last of the messages.
        id: MessageId,
        /// The client's `ref`, for an error.
        reference: Option<String>,
    },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's `ref`, copied into the reply.
    pub reference: Option<String>,
    /// The receiver of the answer.
    pub target: Target,
    /// The command.
    pub command: Command,
}

/// The receiver of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `"self"` or absent: the connection that sent the request.
    Requester,
    /// `"device"`: the user's primary device.
    Primary,
    /// `{"device_id": n}`: that device.
    Device(DeviceId),
}

/// A command of a client, by message type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `chat_message`: a line of a conversation.
    Chat {
        /// The line.
        text: String,
        /// Set when the pieces of the answer are wanted as they come (`"stream": true`).
        stream: bool,
    },
    /// `chat_reset`: forget the conversation.
    ChatReset,
    /// `chat_cancel`: stop a question.
    ChatCancel {
        /// The `ref` of the question.
        question: String,
    },
    /// `weather`: the weather in a city.
    Weather {
        /// 1 to 64 characters.
        city: String,
    },
    /// `sing`: perform a song.
    Sing {
        /// Title, may be empty.
        song: String,
        /// Artist, may be empty.
        artist: String,
        /// Set to stop instead (`"action": "stop"`).
        stop: bool,
    },
    /// `dance`: perform a dance.
    Dance {
        /// Name, may be empty.
        dance: String,
        /// Style, may be empty.
        style: String,
        /// Free text, for example `30秒`.
        duration: String,
        /// Set to stop instead (`"action": "stop"`).
        stop: bool,
    },
    /// A message type of the configuration.
    Custom {
        /// The type.
        kind: String,
        /// The message as it was written.
        message: Option<Raw>,
    },
    /// `ping`: the application's heartbeat.
    Ping,
}

/// The refusal of a message; becomes an `error` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The machine-readable code.
    pub code: ErrorCode,
    /// The text, naming the field where there is one.
    pub message: String,
    /// The message's `ref`, where it could still be read.
    pub reference: Option<String>,
}

impl Rejection {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reference: None }
    }

    /// The answer to JSON that ordinary parsers can't read: nothing of it is passed on.
    fn unreadable(why: &Unreadable) -> Self {
        Self::new(ErrorCode::InvalidJson, format!("Invalid JSON format: {why}"))
    }

    fn invalid(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::ValidationError, format!("Message validation error: {what}"))
    }

    /// The answer to an `ack` on a connection without `?ack=client`.
    pub fn ack_not_enabled() -> Self {
        Self::invalid("ack is for connections opened with ?ack=client")
    }

    /// The answer to an `ack` of a message that was never sent on this connection.
    pub fn ack_never_sent(id: MessageId) -> Self {
        Self::invalid(format_args!("message.id {id} was never sent on this connection"))
    }

    /// The answer to a binary frame.
    pub fn binary(payload: &[u8]) -> Self {
        let reference = std::str::from_utf8(payload).ok().and_then(readable_reference);
        Self { reference, ..Self::invalid("frame must be text holding a JSON object, not binary") }
    }

    /// Returns it with the client's `ref`.
    #[must_use]
    pub fn referring(self, reference: Option<String>) -> Self {
        Self { reference, ..self }
    }
}

/// The fields of every message. Unknown ones are ignored; values stay unread until their type is known.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(rename = "ref", borrow)]
    reference: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
}

/// Parses one text message. `own` are the types that the configuration adds. `max_chars` bounds the length in Unicode scalar values,
/// as guide section 8.3 counts; 0 means no bound.
///
/// # Errors
/// A [`Rejection`], to be sent back; the connection stays open.
#[inline]
pub fn parse(text: &str, max_chars: usize, own: &[String]) -> Result<Inbound, Rejection> {
    // A character has at least one byte, so most texts need no counting.
    if max_chars > 0 && text.len() > max_chars && text.chars().count() > max_chars {
        return Err(Rejection::new(ErrorCode::MessageTooLarge, "Message too large").referring(readable_reference(text)));
    }
    quick::parse(text).map_or_else(|| parse_any(text, own), Ok)
}

/// Parses a text message of any form.
pub(super) fn parse_any(text: &str, own: &[String]) -> Result<Inbound, Rejection> {
    let envelope = envelope(text)?;
    let reference = reference(envelope.reference)?;
    match command(&envelope, own) {
        Ok(Parsed::Command(command, target)) => Ok(Inbound::Request(Request { reference, target, command })),
        Ok(Parsed::Ack(id)) => Ok(Inbound::Ack { id, reference }),
        Err(rejection) => Err(rejection.referring(reference)),
    }
}

/// Returns the `ref` of a message that is refused as a whole, where it is an object with a proper one.
fn readable_reference(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(rename = "ref", borrow)]
        reference: Option<&'a RawValue>,
    }
    let body: Body<'_> = is_object(text).then(|| serde_json::from_str(text).ok())??;
    reference(body.reference).ok()?
}

fn envelope(message: &str) -> Result<Envelope<'_>, Rejection> {
    let invalid_json = || Rejection::new(ErrorCode::InvalidJson, "Invalid JSON format");
    if !is_object(message) {
        // serde reads a struct from an array too; only an object is a message.
        return Err(match serde_json::from_str::<&RawValue>(message) {
            Ok(_) if check_escapes(message).is_err() => invalid_json(),
            Ok(_) => Rejection::invalid("a message must be a JSON object"),
            Err(_) => invalid_json(),
        });
    }
    check_escapes(message).map_err(|why| Rejection::unreadable(&why).referring(readable_reference(message)))?;
    serde_json::from_str(message).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            Rejection::invalid(text.split(" at line ").next().unwrap_or_default()).referring(readable_reference(message))
        }
        _ => invalid_json(),
    })
}

/// Returns whether JSON text starts as an object.
fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// A message without its reference.
enum Parsed {
    Command(Command, Target),
    Ack(MessageId),
}

/// Reads the `message` of a built-in type.
type Read = fn(Option<&RawValue>) -> Result<Command, Rejection>;

fn command(envelope: &Envelope<'_>, own: &[String]) -> Result<Parsed, Rejection> {
    let kind = envelope.kind.and_then(string).ok_or_else(|| Rejection::invalid("type must be a string"))?;
    // A function for a built-in type, `None` for a custom one, and for one that is not in the `message` alone.
    let read: Option<Read> = match kind.as_ref() {
        "ack" => return ack(envelope.message).map(Parsed::Ack),
        "chat_message" => Some(chat),
        "weather" => Some(weather),
        "sing" => Some(sing),
        "dance" => Some(dance),
        "ping" => Some(|_| Ok(Command::Ping)),
        "chat_reset" => Some(|_| Ok(Command::ChatReset)),
        "chat_cancel" => None,
        other if own.iter().any(|kind| kind == other) => None,
        other => return Err(Rejection::new(ErrorCode::UnsupportedType, format!("Unsupported message type: {other}"))),
    };
    if let Some(raw) = envelope.timestamp
        && !string(raw).is_some_and(|text| is_iso_datetime(&text))
    {
        return Err(Rejection::invalid("timestamp must be an ISO 8601 date-time"));
    }
    let target = envelope.target.map_or(Ok(Target::Requester), target)?;
    let command = match read {
        Some(read) => read(envelope.message)?,
        None if kind == "chat_cancel" => cancel(envelope)?,
        None => {
            // It is passed on as it was written.
            envelope.message.map_or(Ok(()), |raw| check_readable(raw.get())).map_err(|why| Rejection::unreadable(&why))?;
            Command::Custom { kind: kind.to_string(), message: envelope.message.map(Raw::from) }
        }
    };
    if target != Target::Requester && matches!(command, Command::Ping | Command::ChatReset | Command::ChatCancel { .. }) {
        return Err(Rejection::invalid(format_args!("target is not for {kind}")));
    }
    Ok(Parsed::Command(command, target))
}

fn target(raw: &RawValue) -> Result<Target, Rejection> {
    #[derive(Deserialize)]
    struct Body {
        device_id: u64,
    }
    let wrong = || Rejection::invalid("target must be \"self\", \"device\" or {\"device_id\": <number>}");
    match string(raw).as_deref() {
        Some("self") => Ok(Target::Requester),
        Some("device") => Ok(Target::Primary),
        None if is_object(raw.get()) => {
            let body: Body = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
            Ok(Target::Device(DeviceId(body.device_id)))
        }
        _ => Err(wrong()),
    }
}

/// Parses `action`: `true` to stop the performance.
fn stops(raw: Option<&RawValue>) -> Result<bool, Rejection> {
    match field(raw, "action", "start")?.as_str() {
        "start" => Ok(false),
        "stop" => Ok(true),
        _ => Err(Rejection::invalid("message.action must be \"start\" or \"stop\"")),
    }
}

fn ack(message: Option<&RawValue>) -> Result<MessageId, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let body: Body<'_> = required_object(message)?;
    let id = body.id.and_then(|raw| raw.get().parse().ok());
    id.ok_or_else(|| Rejection::invalid("message.id must be the id of a message"))
}

fn reference(raw: Option<&RawValue>) -> Result<Option<String>, Rejection> {
    let Some(raw) = raw else { return Ok(None) };
    match string(raw) {
        Some(text) if text.chars().count() <= MAX_REF_CHARS => Ok(Some(text.into_owned())),
        _ => Err(Rejection::invalid(format_args!("ref must be a string of at most {MAX_REF_CHARS} characters"))),
    }
}

fn chat(message: Option<&RawValue>) -> Result<Command, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        #[serde(borrow)]
        stream: Option<&'a RawValue>,
    }
    let wrong = || Rejection::invalid("message must be a string or an object with a string \"content\"");
    let raw = message.ok_or_else(wrong)?;
    let (text, stream) = if is_object(raw.get()) {
        let body: Body<'_> = object(raw)?;
        let stream = match body.stream.map(RawValue::get) {
            Some("true") => true,
            None | Some("false") => false,
            Some(_) => return Err(Rejection::invalid("message.stream must be true or false")),
        };
        (body.content.and_then(string).ok_or_else(wrong)?, stream)
    } else {
        (string(raw).ok_or_else(wrong)?, false)
    };
    Ok(Command::Chat { text: text.into_owned(), stream })
}

/// Parses a `chat_cancel`: the question's `ref` is `message.ref`, or the message itself, or that of the `chat_cancel`.
fn cancel(envelope: &Envelope<'_>) -> Result<Command, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(rename = "ref", borrow)]
        question: Option<&'a RawValue>,
    }
    let question = match envelope.message {
        Some(raw) if is_object(raw.get()) => object::<Body<'_>>(raw)?.question,
        message => message,
    };
    let question = question.or(envelope.reference).and_then(string).filter(|question| question.chars().count() <= MAX_REF_CHARS);
    let question = question.ok_or_else(|| Rejection::invalid("message.ref must be the ref of a question"))?;
    Ok(Command::ChatCancel { question: question.into_owned() })
}

fn weather(message: Option<&RawValue>) -> Result<Command, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        city: Option<&'a RawValue>,
    }
    let body: Body<'_> = required_object(message)?;
    let city = field(body.city, "city", DEFAULT_CITY)?;
    if city.trim().is_empty() || city.chars().count() > MAX_CITY_CHARS {
        return Err(Rejection::invalid(format_args!("message.city must be 1 to {MAX_CITY_CHARS} characters")));
    }
    Ok(Command::Weather { city })
}

fn sing(message: Option<&RawValue>) -> Result<Command, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        song: Option<&'a RawValue>,
        #[serde(borrow)]
        artist: Option<&'a RawValue>,
        #[serde(borrow)]
        action: Option<&'a RawValue>,
    }
    let body: Body<'_> = required_object(message)?;
    Ok(Command::Sing {
        song: field(body.song, "song", "")?,
        artist: field(body.artist, "artist", "")?,
        stop: stops(body.action)?,
    })
}

fn dance(message: Option<&RawValue>) -> Result<Command, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        dance: Option<&'a RawValue>,
        #[serde(borrow)]
        style: Option<&'a RawValue>,
        #[serde(borrow)]
        duration: Option<&'a RawValue>,
        #[serde(borrow)]
        action: Option<&'a RawValue>,
    }
    let body: Body<'_> = required_object(message)?;
    Ok(Command::Dance {
        dance: field(body.dance, "dance", "")?,
        style: field(body.style, "style", "")?,
        duration: field(body.duration, "duration", DEFAULT_DURATION)?,
        stop: stops(body.action)?,
    })
}

/// Parses a message that must be an object.
fn required_object<'a, T: Deserialize<'a>>(message: Option<&'a RawValue>) -> Result<T, Rejection> {
    match message {
        Some(raw) if is_object(raw.get()) => object(raw),
        Some(_) => Err(Rejection::invalid("message must be an object")),
        None => Err(Rejection::invalid("message is required and must be an object")),
    }
}

fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Rejection> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let text = error.to_string();
        Rejection::invalid(format_args!("message: {}", text.split(" at line ").next().unwrap_or_default()))
    })
}

/// Returns an optional string field of the message, or its default.
fn field(raw: Option<&RawValue>, name: &str, default: &str) -> Result<String, Rejection> {
    match raw {
        None => Ok(default.to_owned()),
        Some(raw) => match string(raw) {
            Some(text) => Ok(text.into_owned()),
            None => Err(Rejection::invalid(format_args!("message.{name} must be a string"))),
        },
    }
}

/// Returns the text of a JSON string, borrowed where it holds no escapes; `None` for any other value.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(text: &str) -> Command {
        match parse(text, 10_240, &[]).unwrap() {
            Inbound::Request(request) => request.command,
            Inbound::Ack { id, .. } => panic!("an ack of {id}"),
        }
    }

    fn refused(text: &str) -> (ErrorCode, String) {
        let rejection = parse(text, 10_240, &[]).unwrap_err();
        (rejection.code, rejection.message)
    }

    fn invalid(text: &str) -> String {
        let (code, message) = refused(text);
        assert_eq!(code, ErrorCode::ValidationError, "{text}");
        message.strip_prefix("Message validation error: ").unwrap().to_owned()
    }

    #[test]
    fn message_of_each_type_is_parsed() {
        assert_eq!(ok(r#"{"type":"chat_message","message":"hi"}"#), Command::Chat { stream: false, text: "hi".into() });
        assert_eq!(
            ok(r#"{"type":"chat_message","message":{"content":"hi","x":null}}"#),
            Command::Chat { stream: false, text: "hi".into() }
        );
        assert_eq!(ok(r#"{"type":"weather","message":{"city":null}}"#), Command::Weather { city: "北京".into() });
        assert_eq!(
            ok(r#"{"type":"sing","message":{"song":"a"}}"#),
            Command::Sing { song: "a".into(), artist: String::new(), stop: false }
        );
        assert!(matches!(ok(r#"{"type":"sing","message":{"action":"stop"}}"#), Command::Sing { stop: true, .. }));
        let dance = Command::Dance { dance: String::new(), style: String::new(), duration: "30秒".into(), stop: false };
        assert_eq!(ok(r#"{"type":"dance","message":{}}"#), dance);
        assert_eq!(ok(r#"{"type":"ping"}"#), Command::Ping);
        assert_eq!(ok(r#"{"type":"ping","message":[1],"timestamp":null,"ref":null,"target":"self"}"#), Command::Ping);
        assert_eq!(ok(r#"{"type":"p\u0069ng"}"#), Command::Ping);
    }

    #[test]
    fn chat_cancel_names_its_question() {
        let cancel = |question: &str| Command::ChatCancel { question: question.into() };
        for (text, question) in [
            (r#"{"type":"chat_cancel","message":{"ref":"q"}}"#, "q"),
            (r#"{"type":"chat_cancel","message":{"ref":"q"},"ref":"c"}"#, "q"),
            (r#"{"type":"chat_cancel","message":"q","ref":"c"}"#, "q"),
            (r#"{"type":"chat_cancel","ref":"q"}"#, "q"),
            (r#"{"type":"chat_cancel","message":null,"ref":"q"}"#, "q"),
            (r#"{"type":"chat_cancel","message":{"ref":null},"ref":"q\u0041"}"#, "qA"),
            (r#"{"type":"chat_cancel","message":{"ref":""}}"#, ""),
        ] {
            assert_eq!(ok(text), cancel(question), "{text}");
        }
        for message in ["7", "[]", "{}", r#"{"ref":7}"#, "null", "true"] {
            let text = format!(r#"{{"type":"chat_cancel","message":{message}}}"#);
            assert_eq!(invalid(&text), "message.ref must be the ref of a question", "{text}");
        }
        let long = format!(r#"{{"type":"chat_cancel","message":{{"ref":"{}"}}}}"#, "長".repeat(65));
        assert_eq!(invalid(&long), "message.ref must be the ref of a question");
        assert_eq!(invalid(r#"{"type":"chat_cancel","ref":"q","target":"device"}"#), "target is not for chat_cancel");
    }

    #[test]
    fn ack_is_parsed_and_its_id_checked() {
        let ack = |reference: Option<&str>| Ok(Inbound::Ack { id: MessageId(17), reference: reference.map(str::to_owned) });
        assert_eq!(parse(r#"{"type":"ack","message":{"id":17}}"#, 0, &[]), ack(None));
        assert_eq!(parse(r#"{"ref":"r","type":"ack","message":{"id":17}}"#, 0, &[]), ack(Some("r")));
        for id in ["null", "-1", "1.0", "\"17\"", "18446744073709551616", "{}"] {
            assert_eq!(
                invalid(&format!(r#"{{"type":"ack","message":{{"id":{id}}}}}"#)),
                "message.id must be the id of a message"
            );
        }
        assert_eq!(invalid(r#"{"type":"ack"}"#), "message is required and must be an object");
    }

    #[test]
    fn escapes_are_decoded() {
        let text = r#"{"type":"chat_message","message":"a\u0000\n\ud83d\ude00"}"#;
        assert_eq!(ok(text), Command::Chat { stream: false, text: "a\0\n😀".into() });
    }

    #[test]
    fn rejection_names_the_field() {
        assert_eq!(invalid("[]"), "a message must be a JSON object");
        assert_eq!(invalid(r#"["ping"]"#), "a message must be a JSON object");
        assert_eq!(invalid("{}"), "type must be a string");
        assert_eq!(invalid(r#"{"type":5}"#), "type must be a string");
        assert_eq!(invalid(r#"{"type":"ping","type":"ping"}"#), "duplicate field `type`");
        assert_eq!(invalid(r#"{"type":"ping","timestamp":7}"#), "timestamp must be an ISO 8601 date-time");
        assert_eq!(invalid(r#"{"type":"ping","target":"device"}"#), "target is not for ping");
        for target in [r#""all""#, "7", r#"{"device_id":"7"}"#, r#"{"device_id":-1}"#, "{}", "[7]"] {
            let text = format!(r#"{{"type":"sing","message":{{}},"target":{target}}}"#);
            assert!(invalid(&text).starts_with("target must be"), "{target}");
        }
        assert!(invalid(r#"{"type":"dance","message":{"action":"pause"}}"#).starts_with("message.action must be"));
        assert_eq!(invalid(r#"{"type":"weather","message":"x"}"#), "message must be an object");
        assert_eq!(invalid(r#"{"type":"weather","message":{"city":" "}}"#), "message.city must be 1 to 64 characters");
        assert_eq!(invalid(r#"{"type":"sing","message":{"song":1}}"#), "message.song must be a string");
        for stream in ["\"true\"", "1", "[]", "{}"] {
            let text = format!(r#"{{"type":"chat_message","message":{{"content":"x","stream":{stream}}}}}"#);
            assert_eq!(invalid(&text), "message.stream must be true or false");
        }
        assert_eq!(invalid(r#"{"type":"ping","ref":5}"#), "ref must be a string of at most 64 characters");
        let long = format!(r#"{{"type":"ping","ref":"{}"}}"#, "長".repeat(65));
        assert_eq!(invalid(&long), "ref must be a string of at most 64 characters");
        assert!(invalid(r#"{"type":"chat_message"}"#).starts_with("message must be a string"));
        assert!(invalid(r#"{"type":"chat_message","message":{"text":"x"}}"#).starts_with("message must be a string"));
    }

    #[test]
    fn rejection_keeps_the_ref() {
        let rejection = parse(r#"{"ref":"r1","type":"nosuch"}"#, 0, &[]).unwrap_err();
        assert_eq!(rejection.reference.as_deref(), Some("r1"));
        let long = "x".repeat(70);
        for (text, max_chars) in [
            (format!(r#"{{"ref":"r1","type":"chat_message","message":"{long}"}}"#), 60),
            (format!(r#"{{"type":"chat_message","message":"{long}","ref":"r1"}}"#), 60),
            (format!(r#" {{"type":5,"message":["{long}"],"r\u0065f":"r\u0031"}}"#), 60),
            (r#"{"type":"ping","type":"ping","ref":"r1"}"#.into(), 0),
            (r#"{"ref":"r1","type":"ack","message":{}}"#.into(), 0),
        ] {
            let rejection = parse(&text, max_chars, &[]).unwrap_err();
            assert_eq!(rejection.reference.as_deref(), Some("r1"), "{text} {rejection:?}");
            assert_eq!(Rejection::binary(text.as_bytes()).reference.as_deref(), Some("r1"), "{text}");
        }
        for text in [
            format!(r#"{{"type":"chat_message","message":"{long}"}}"#),
            format!(r#"{{"type":"chat_message","message":"{long}","ref":5}}"#),
            format!(r#"{{"type":"chat_message","message":"x","ref":"{long}"}}"#),
            format!(r#"{{"type":"chat_message","message":"{long}","ref":null}}"#),
            format!(r#"{{"ref":"r1","ref":"r2","type":"chat_message","message":"{long}"}}"#),
            format!(r#"{{"ref":"r1","type":"chat_message","message":"{long}""#),
            format!(r#"["{long}",{{"ref":"r1"}}]"#),
            format!(r#"{{"message":{{"ref":"r1","x":"{long}"}}}}"#),
            "[".repeat(70),
        ] {
            let rejection = parse(&text, 60, &[]).unwrap_err();
            assert_eq!((rejection.code, rejection.reference), (ErrorCode::MessageTooLarge, None), "{text}");
            assert_eq!(Rejection::binary(text.as_bytes()).reference, None, "{text}");
        }
        assert_eq!(Rejection::binary(b"{\"ref\":\"\xff\"}").reference, None);
        assert_eq!(rejection.message, "Unsupported message type: nosuch");
    }

    #[test]
    fn broken_json_is_invalid_json() {
        for text in ["", " ", "{", "hello", "{'type':'ping'}", r#"{"type":"ping",}"#, r#"{"type":"ping"}x"#, "[1,", "\u{feff}{}"]
        {
            assert_eq!(refused(text).0, ErrorCode::InvalidJson, "{text:?}");
        }
    }

    #[test]
    fn half_a_character_is_invalid_json_wherever_it_stands() {
        let own = ["note".to_owned()];
        for half in [r"\ud83d", r"\uDE00", r"\ude00\ud83d", r"x\ud83d\u0041", r"\\\ud83d"] {
            for text in [
                format!(r#""{half}""#),
                format!(r#"{{"type":"{half}"}}"#),
                format!(r#"{{"type":"ping","ref":"{half}"}}"#),
                format!(r#"{{"type":"ping","timestamp":"{half}"}}"#),
                format!(r#"{{"type":"ping","unknown":["{half}"]}}"#),
                format!(r#"{{"type":"ping","{half}":1}}"#),
                format!(r#"{{"type":"nosuch","message":"{half}"}}"#),
                format!(r#"{{"type":"chat_message","message":"{half}"}}"#),
                format!(r#"{{"type":"chat_message","message":{{"content":"{half}"}}}}"#),
                format!(r#"{{"type":"sing","message":{{"song":"{half}"}}}}"#),
                format!(r#"{{"type":"note","message":{{"{half}":1}}}}"#),
            ] {
                let rejection = parse(&text, 0, &own).unwrap_err();
                assert_eq!(rejection.code, ErrorCode::InvalidJson, "{text}");
            }
        }
        let (code, message) = refused(r#"{"type":"ping","ref":"\ud83d"}"#);
        assert_eq!(code, ErrorCode::InvalidJson);
        assert!(message.contains(r"\ud83d at byte 22 is half of a surrogate pair"), "{message}");
        assert!(parse(r#"{"type":"note","message":"\ud83d\ude00 \\ud83d \u0000"}"#, 0, &own).is_ok());
    }

    #[test]
    fn message_that_is_passed_on_is_one_that_every_parser_reads() {
        let own = ["note".to_owned()];
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let of = |kind: &str, message: &str| parse(&format!(r#"{{"type":"{kind}","message":{message}}}"#), 0, &own);
        for message in ["1e400", "-1e400", &"9".repeat(400), &deep(61), r#"{"a":[1e999]}"#] {
            assert_eq!(of("note", message).unwrap_err().code, ErrorCode::InvalidJson, "{message}");
            assert!(of("ping", message).is_ok(), "nobody reads it: {message}");
        }
        for message in ["1e300", "0.1", &"9".repeat(300), &deep(60), "null"] {
            assert!(of("note", message).is_ok(), "{message}");
        }
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        let text = |n: usize| format!(r#"{{"type":"chat_message","message":"{}"}}"#, "😀".repeat(n - 36));
        assert!(parse(&text(10_240), 10_240, &[]).is_ok());
        assert_eq!(parse(&text(10_241), 10_240, &[]).map(|_| ()).unwrap_err().code, ErrorCode::MessageTooLarge);
        assert!(parse(&text(20_000), 0, &[]).is_ok());
    }

    #[test]
    fn deeply_nested_text_is_rejected_without_recursion() {
        let deep = format!(r#"{{"type":"chat_message","message":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(&deep, 0, &[]).unwrap_err().code, ErrorCode::ValidationError);
        let deep = "[".repeat(1_000_000);
        assert_eq!(parse(&deep, 0, &[]).unwrap_err().code, ErrorCode::InvalidJson);
    }

    /// Text that is often nearly a message.
    fn nearly_json() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            Just("1e999".to_owned()),
            ".{0,8}".prop_map(|s| serde_json::to_string(&s).unwrap()),
            Just(r#""\ud800""#.to_owned()),
            Just(r#"{"content":"x"}"#.to_owned()),
            Just(r#"{"city":"","song":[],"dance":7}"#.to_owned()),
            Just("[{}]".to_owned()),
            Just("{".to_owned()),
        ];
        let key = prop_oneof![Just("type"), Just("message"), Just("timestamp"), Just("ref"), Just("target"), Just("x"), Just("")];
        let kind = prop_oneof![Just("chat_message"), Just("weather"), Just("sing"), Just("dance"), Just("ping"), Just("?")];
        (kind, proptest::collection::vec((key, value), 0..5)).prop_map(|(kind, fields)| {
            let mut text = format!(r#"{{"type":"{kind}""#);
            for (key, value) in fields {
                text.push_str(&format!(r#","{key}":{value}"#));
            }
            text + "}"
        })
    }

    proptest! {
        #[test]
        fn any_text_has_one_outcome(text in "\\PC*") {
            let _ = parse(&text, 10_240, &[]);
        }

        #[test]
        fn near_message_has_one_outcome(text in nearly_json()) {
            match parse(&text, 10_240, &[]) {
                Ok(_) => prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok()),
                Err(rejection) => prop_assert!(!rejection.message.is_empty()),
            }
        }

        #[test]
        fn any_chat_text_is_parsed_unchanged(line in "\\PC*") {
            let text = serde_json::json!({"type": "chat_message", "message": line}).to_string();
            let command = Command::Chat { text: line, stream: false };
            prop_assert_eq!(parse(&text, 0, &[]).unwrap(), Inbound::Request(Request { reference: None, target: Target::Requester, command }));
        }
    }
}
