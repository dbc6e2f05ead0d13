//! `docs/api/asyncapi.json`: the WebSocket in the terms of AsyncAPI 3.0.

use serde_json::{Map, Value, json};

use super::console;
use super::frames::{Inbound, event_examples, inbound, push_example};
use super::schemas::inline;
use crate::wire::outbound::RESERVED_TYPES;
use crate::wire::{CloseCode, Event};

/// The description of the whole, in Markdown.
const TEXT: &str = "Messages over WebSocket: one JSON object per text frame. docs/protocol.md describes the protocol. Every message of a \
    client has one answer, but `ack`, which has none, and a question with `stream`, whose answer comes in pieces first. What is not accepted \
    is answered with `error`, and the connection stays open. Clients ignore fields that they don't know.";

/// The channels of devices and apps: name, address, and what is particular about it.
const CHANNELS: [(&str, &str, &str); 3] = [
    ("device", "/ws/device/", "The usual one."),
    ("deviceToken", "/ws/device/token/{token}/", "With the token in the path."),
    ("deviceUser", "/ws/device/{user_id}/", "For old clients; the id must be that of the token's user."),
];

/// The answers that may go to a device's mailbox instead, and then have an id.
const COMMANDS: [&str; 5] = ["chat_response", "weather_response", "sing_response", "dance_response", "custom_response"];

/// A message of the server.
pub struct Outbound {
    /// Its name.
    pub name: String,
    /// A line about it.
    pub summary: String,
    /// The schema of the whole frame.
    pub schema: Value,
    /// A frame.
    pub example: Value,
}

/// A kind of WebSocket: its channels, of which the first one stands for all, and its messages.
pub struct Socket {
    /// In front of the names of its messages and schemas.
    pub prefix: &'static str,
    /// Name, address, and what is particular about it.
    pub channels: &'static [(&'static str, &'static str, &'static str)],
    /// The schema of the query of the handshake.
    pub query: Value,
    /// The messages of clients.
    pub inbound: Vec<Inbound>,
    /// The messages of the server.
    pub outbound: Vec<Outbound>,
}

/// Returns every kind.
fn sockets() -> Vec<Socket> {
    let devices = Socket { prefix: "", channels: &CHANNELS, query: query(), inbound: inbound(), outbound: outbound() };
    vec![devices, console::socket()]
}

/// Returns the messages of the server: every event, and what others have sent.
pub fn outbound() -> Vec<Outbound> {
    let examples = event_examples();
    let schema = inline::<Event>();
    let variants = schema["oneOf"].as_array().or(schema["anyOf"].as_array()).unwrap_or_else(|| panic!("{schema:#}"));
    let mut all: Vec<Outbound> = Vec::new();
    for variant in flattened(variants) {
        let mut schema = variant.clone();
        let kind = schema["properties"]["type"]["const"].as_str().map(str::to_owned);
        let is_it = |example: &&Value| match &kind {
            Some(kind) => example["type"] == kind.as_str(),
            None => example["type"] == "lamp_response",
        };
        let name = kind.clone().unwrap_or_else(|| "custom_response".to_owned());
        let example = examples.iter().find(is_it).unwrap_or_else(|| panic!("no example of {name}")).clone();
        if kind.is_none() {
            schema["properties"]["type"]["pattern"] = "_response$".into();
        }
        let summary = schema.as_object_mut().and_then(|object| object.remove("description"));
        let summary = summary.as_ref().and_then(Value::as_str).unwrap_or_default().trim_end_matches('.').replace('\n', " ");
        stamp(&mut schema, COMMANDS.contains(&name.as_str()));
        all.push(Outbound { name, summary, schema, example });
    }
    all.push(push());
    all
}

/// Returns the variants of an enum, those of an enum within it included.
fn flattened(variants: &[Value]) -> Vec<&Value> {
    let below =
        |variant: &Value| ["oneOf", "anyOf"].iter().any(|key| variant.get(*key).is_some()) && variant.get("properties").is_none();
    let mut out = Vec::new();
    for variant in variants {
        if below(variant) {
            let inner = variant["oneOf"].as_array().or(variant["anyOf"].as_array());
            out.extend(flattened(inner.unwrap()));
        } else {
            out.push(variant);
        }
    }
    out
}

/// Adds what every event has.
fn stamp(schema: &mut Value, with_id: bool) {
    let timestamp = json!({ "type": "string", "format": "date-time" });
    schema["properties"]["timestamp"] = timestamp;
    schema["properties"]["ref"] = json!({ "type": "string", "maxLength": 64, "description": "That of the message it answers." });
    if with_id {
        let text = "Of an answer for a device, which comes from its mailbox.";
        schema["properties"]["id"] = json!({ "type": "integer", "minimum": 1, "description": text });
    }
    let required = schema["required"].as_array_mut().unwrap();
    required.push("timestamp".into());
}

fn push() -> Outbound {
    let kind = json!({ "type": "string", "minLength": 1, "maxLength": 64, "not": { "enum": RESERVED_TYPES } });
    let schema = json!({
        "type": "object",
        "required": ["type", "message", "timestamp"],
        "properties": {
            "type": kind,
            "message": { "description": "As its sender wrote it." },
            "sender": { "type": "string", "description": "The sender's user name; absent after `POST /api/messages`." },
            "via": { "type": "string", "description": "The label of the service token that it was sent with; absent without one." },
            "timestamp": { "type": "string", "format": "date-time" },
            "id": { "type": "integer", "minimum": 1, "description": "Of a queued message." },
        },
    });
    let summary = "A message that was sent with `POST /api/messages…`".to_owned();
    Outbound { name: "push".to_owned(), summary, schema, example: push_example() }
}

/// The query of the handshake.
fn query() -> Value {
    json!({
        "type": "object",
        "properties": {
            "token": { "type": "string" },
            "ticket": { "type": "string", "description": "From `POST /api/auth/ticket`; good once." },
            "client": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$", "description": "The reader of this connection." },
            "since": { "type": "string", "pattern": "^([0-9a-f]+:)?[0-9]+$", "description": "Replays what was retained after this id." },
            "ack": { "const": "client", "description": "The client acknowledges messages itself." },
            "max_bytes": { "type": "integer", "minimum": 1024, "description": "The largest payload that the client takes." },
            "peek": { "const": 1, "description": "An observer, which acknowledges nothing." },
        },
    })
}

/// Returns the document.
pub fn document() -> Value {
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for socket in sockets() {
        let names = socket.add_messages(&mut messages, &mut schemas);
        socket.add_channels(&names, &mut channels);
        socket.add_operations(&mut operations);
    }
    let close_codes: Vec<Value> = CloseCode::ALL
        .iter()
        .map(|close| json!({ "code": close.code(), "reason": close.reason(), "reconnect": close.reconnect() }))
        .collect();
    let security = json!([{ "$ref": "#/components/securitySchemes/token" }]);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "qy-lty",
            "version": env!("CARGO_PKG_VERSION"),
            "description": TEXT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "local": { "host": "127.0.0.1:8000", "protocol": "ws", "security": security } },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "x-close-codes": close_codes,
    })
}

impl Socket {
    /// The name of a client's message in the document.
    fn client(&self, kind: &str) -> String {
        format!("{}client.{kind}", self.prefix)
    }

    /// The name of a server's message in the document.
    fn server(&self, name: &str) -> String {
        format!("{}server.{name}", self.prefix)
    }

    /// Adds its messages with their schemas, and returns their names.
    fn add_messages(&self, messages: &mut Map<String, Value>, schemas: &mut Map<String, Value>) -> Vec<String> {
        let mut names = Vec::new();
        let mut add = |key: String, name: &str, summary: &str, schema: &Value, examples: &[Value]| {
            let payload = json!({ "$ref": format!("#/components/schemas/{key}") });
            let examples: Vec<Value> = examples.iter().map(|payload| json!({ "payload": payload })).collect();
            let message = json!({ "name": name, "summary": summary, "payload": payload, "examples": examples });
            messages.insert(key.clone(), message);
            schemas.insert(key.clone(), schema.clone());
            names.push(key);
        };
        for Inbound { kind, summary, schema, examples, .. } in &self.inbound {
            add(self.client(kind), kind, summary, schema, examples);
        }
        for Outbound { name, summary, schema, example } in &self.outbound {
            add(self.server(name), name, summary, schema, std::slice::from_ref(example));
        }
        names
    }

    /// Adds its channels, each with the messages of these names.
    fn add_channels(&self, names: &[String], channels: &mut Map<String, Value>) {
        let reference = |name: &String| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
        let messages: Map<String, Value> = names.iter().map(reference).collect();
        for (name, address, text) in self.channels {
            let mut channel = json!({
                "address": address,
                "description": text,
                "messages": messages,
                "bindings": { "ws": { "method": "GET", "query": self.query, "bindingVersion": "0.1.0" } },
            });
            if let Some((_, rest)) = address.split_once('{') {
                let parameter = rest.split('}').next().unwrap_or_default();
                channel["parameters"] = json!({ parameter: { "description": text } });
            }
            channels.insert((*name).to_owned(), channel);
        }
    }

    /// Adds its operations, as the server sees them: it receives the messages of clients and answers, and sends the others.
    fn add_operations(&self, operations: &mut Map<String, Value>) {
        let (name, ..) = self.channels[0];
        let channel = json!({ "$ref": format!("#/channels/{name}") });
        let message = |message: String| json!({ "$ref": format!("#/channels/{name}/messages/{message}") });
        for Inbound { kind, summary, answers, .. } in &self.inbound {
            let answers: Vec<Value> = answers.iter().chain(&["error"]).map(|name| message(self.server(name))).collect();
            let operation = json!({
                "action": "receive",
                "summary": summary,
                "channel": channel,
                "messages": [message(self.client(kind))],
                "reply": { "channel": channel, "messages": answers },
            });
            operations.insert(format!("{}receive.{kind}", self.prefix), operation);
        }
        for Outbound { name, summary, .. } in &self.outbound {
            let operation = json!({
                "action": "send",
                "summary": summary,
                "channel": channel,
                "messages": [message(self.server(name))],
            });
            operations.insert(format!("{}send.{name}", self.prefix), operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_a_schema_that_its_examples_fit() {
        for socket in sockets() {
            for Outbound { name, schema, example, summary } in &socket.outbound {
                let mut strict = schema.clone();
                strict["additionalProperties"] = false.into();
                let validator = jsonschema::draft7::new(&strict).unwrap();
                assert!(validator.is_valid(example), "{name}: {example} {schema:#}");
                assert!(!summary.is_empty(), "{name}");
                assert!(!validator.is_valid(&json!({})), "{name}");
            }
            for Inbound { kind, schema, examples, .. } in &socket.inbound {
                let validator = jsonschema::draft7::new(schema).unwrap();
                assert!(!examples.is_empty() && examples.iter().all(|example| validator.is_valid(example)), "{kind}");
            }
        }
    }

    #[test]
    fn every_event_is_described() {
        assert_eq!(outbound().len(), event_examples().len() + 1);
    }

    #[test]
    fn every_answer_is_a_message_of_the_server() {
        for socket in sockets() {
            for answer in socket.inbound.iter().flat_map(|frame| frame.answers) {
                assert!(socket.outbound.iter().any(|message| message.name == *answer), "{answer}");
            }
        }
    }
}
