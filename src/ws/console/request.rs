//! The messages of a console.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::ids::{DeviceId, UserId};
use crate::hub::ConnectionFilter;
use crate::telemetry::live::{Direction, TrafficEvent};

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// The figures of the present moment.
    Overview,
    /// Live connections.
    Connections,
    /// Statuses of queued messages.
    Receipts,
    /// Messages in both directions.
    Traffic,
}

impl Topic {
    /// All topics.
    pub(super) const ALL: [Self; 4] = [Self::Overview, Self::Connections, Self::Receipts, Self::Traffic];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Connections => "connections",
            Self::Receipts => "receipts",
            Self::Traffic => "traffic",
        }
    }

    /// Returns the topic of that name.
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// The messages that a console wants to see; a field that is absent selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TrafficFilter {
    /// Of or to this user, or sent by it.
    user_id: Option<UserId>,
    /// Of or to this device.
    device_id: Option<DeviceId>,
    /// Of this type.
    #[serde(rename = "type")]
    message_type: Option<String>,
    /// In this direction.
    direction: Option<Direction>,
}

impl TrafficFilter {
    /// Returns whether it selects `event`.
    pub(super) fn matches(&self, event: &TrafficEvent) -> bool {
        self.user_id.is_none_or(|user| event.user_id == Some(user) || event.sender_id == Some(user))
            && self.device_id.is_none_or(|device| event.device_id == Some(device))
            && self.message_type.as_ref().is_none_or(|name| event.message_type == *name)
            && self.direction.is_none_or(|direction| event.direction == direction)
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subscribe {
    /// To the overview.
    Overview,
    /// To these connections.
    Connections(ConnectionFilter),
    /// To receipts.
    Receipts,
    /// To these messages.
    Traffic(TrafficFilter),
}

impl Subscribe {
    /// Its topic.
    pub(super) const fn topic(&self) -> Topic {
        match self {
            Self::Overview => Topic::Overview,
            Self::Connections(_) => Topic::Connections,
            Self::Receipts => Topic::Receipts,
            Self::Traffic(_) => Topic::Traffic,
        }
    }
}

/// A message of a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Get what is new of a topic; takes the place of an earlier subscription to it.
    Subscribe(Subscribe),
    /// No longer get what is new.
    Unsubscribe(Topic),
    /// Answer with a pong.
    Ping,
}

/// A message that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    /// The kind of the fault, for programs.
    pub(super) code: &'static str,
    /// The fault and its remedy, for people.
    pub(super) message: String,
    /// The topic that it was about.
    pub(super) topic: Option<Topic>,
}

/// The form of every message.
#[derive(Deserialize)]
struct Form<'a> {
    #[serde(rename = "type")]
    request: Option<String>,
    topic: Option<String>,
    #[serde(borrow)]
    filter: Option<&'a RawValue>,
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let invalid = |message: &str, topic| Unusable { code: "invalid", message: message.into(), topic };
        let form: Form<'_> = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                invalid("a message is an object with the strings type and topic, and the object filter", None)
            } else {
                Unusable { code: "invalid_json", message: "the message is not JSON".into(), topic: None }
            }
        })?;
        let topic = || match form.topic.as_deref() {
            Some(name) => Topic::parse(name).ok_or_else(|| Unusable {
                code: "unknown_topic",
                message: "topic must be overview, connections, receipts or traffic".into(),
                topic: None,
            }),
            None => Err(invalid("topic is required", None)),
        };
        match form.request.as_deref() {
            Some("ping") => Ok(Self::Ping),
            Some("unsubscribe") => Ok(Self::Unsubscribe(topic()?)),
            Some("subscribe") => Ok(Self::Subscribe(subscription(topic()?, form.filter)?)),
            Some(_) => Err(Unusable {
                code: "unsupported_type",
                message: "type must be subscribe, unsubscribe or ping".into(),
                topic: None,
            }),
            None => Err(invalid("type is required", None)),
        }
    }
}

/// Returns a subscription to `topic` with that filter.
fn subscription(topic: Topic, filter: Option<&RawValue>) -> Result<Subscribe, Unusable> {
    let filter = filter.map_or("{}", RawValue::get);
    let unusable = |message: &str| Unusable { code: "invalid", message: message.into(), topic: Some(topic) };
    let none = || if filter.trim() == "{}" { Ok(()) } else { Err(unusable("filter: this topic has none")) };
    match topic {
        Topic::Overview => none().map(|()| Subscribe::Overview),
        Topic::Receipts => none().map(|()| Subscribe::Receipts),
        Topic::Connections => serde_json::from_str(filter).map(Subscribe::Connections).map_err(|_| {
            unusable("filter takes user_id and device_id (ids), client (a name) and address (an IP address or a network)")
        }),
        Topic::Traffic => serde_json::from_str(filter)
            .map(Subscribe::Traffic)
            .map_err(|_| unusable("filter takes user_id and device_id (ids), type (a string) and direction (\"in\" or \"out\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_their_filters() {
        assert_eq!(Request::parse(r#"{"type":"ping"}"#), Ok(Request::Ping));
        assert_eq!(Request::parse(r#"{"type":"unsubscribe","topic":"traffic"}"#), Ok(Request::Unsubscribe(Topic::Traffic)));
        let subscribe = |text: &str| match Request::parse(text) {
            Ok(Request::Subscribe(subscribe)) => subscribe,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(subscribe(r#"{"type":"subscribe","topic":"overview"}"#), Subscribe::Overview);
        assert_eq!(subscribe(r#"{"type":"subscribe","topic":"receipts","filter":{}}"#), Subscribe::Receipts);
        let Subscribe::Connections(filter) =
            subscribe(r#"{"type":"subscribe","topic":"connections","filter":{"user_id":7,"address":"10.0.0.0/8"}}"#)
        else {
            panic!()
        };
        assert_eq!((filter.user_id, filter.address.is_some(), filter.client), (Some(UserId(7)), true, None));
        let filter = TrafficFilter { direction: Some(Direction::Out), ..TrafficFilter::default() };
        let text = r#"{"type":"subscribe","topic":"traffic","filter":{"direction":"out"}}"#;
        assert_eq!(subscribe(text), Subscribe::Traffic(filter));
    }

    #[test]
    fn unusable_requests_are_refused_by_what_is_wrong() {
        for (text, code, word) in [
            ("{", "invalid_json", "JSON"),
            ("[]", "invalid", "object"),
            ("5", "invalid", "object"),
            (r#"{"type":5}"#, "invalid", "type"),
            ("{}", "invalid", "type is required"),
            (r#"{"type":"chat_message"}"#, "unsupported_type", "subscribe"),
            (r#"{"type":"subscribe"}"#, "invalid", "topic is required"),
            (r#"{"type":"subscribe","topic":"x"}"#, "unknown_topic", "overview"),
            (r#"{"type":"subscribe","topic":"overview","filter":{"user_id":1}}"#, "invalid", "has none"),
            (r#"{"type":"subscribe","topic":"connections","filter":{"user":1}}"#, "invalid", "user_id"),
            (r#"{"type":"subscribe","topic":"connections","filter":{"address":"here"}}"#, "invalid", "network"),
            (r#"{"type":"subscribe","topic":"traffic","filter":{"direction":"up"}}"#, "invalid", "direction"),
        ] {
            let error = Request::parse(text).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.contains(word), "{text}: {}", error.message);
        }
        let deep = format!("{{\"type\":{}", "[".repeat(100_000));
        assert!(Request::parse(&deep).is_err());
    }

    #[test]
    fn what_is_described_is_accepted_and_nothing_else() {
        let described = crate::describe::console::inbound();
        for frame in &described {
            for example in &frame.examples {
                assert!(Request::parse(&example.to_string()).is_ok(), "{example}");
            }
        }
        for text in [
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","topic":null}"#,
            r#"{"type":"subscribe","topic":"overview","filter":{"user_id":1}}"#,
            r#"{"type":"subscribe","topic":"connections","filter":{"user":1}}"#,
            r#"{"type":"subscribe","topic":"connections","filter":{"device_id":-1}}"#,
            r#"{"type":"subscribe","topic":"traffic","filter":{"direction":"up"}}"#,
            r#"{"type":"subscribe","topic":"traffic","filter":5}"#,
            r#"{"type":"unsubscribe","topic":"x"}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let frame = described.iter().find(|frame| value["type"] == frame.kind).unwrap();
            assert!(!jsonschema::draft7::is_valid(&frame.schema, &value), "{text}");
            assert!(Request::parse(text).is_err(), "{text}");
        }
    }
}
