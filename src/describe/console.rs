//! The WebSocket of consoles: its messages, as `docs/api/asyncapi.json` has them.

use serde_json::{Value, json};

use super::asyncapi::{Outbound, Socket, outbound as events};
use super::frames::Inbound;
use super::schemas::inline;
use crate::history::OverviewResponse;
use crate::monitor::ConnectionItem;
use crate::telemetry::live::{ReceiptEvent, TrafficEvent};

/// The channel: name, address, and what is particular about it.
const CHANNELS: [(&str, &str, &str); 1] = [(
    "console",
    "/ws/console/",
    "For people who look at the server. The credential is a ticket, a token in the head, or the cookie of the server's own page; the \
     subprotocol `qy-lty.console.v1` is answered where it is offered.",
)];

/// The topics.
const TOPICS: [&str; 4] = ["overview", "connections", "receipts", "traffic"];

/// The time of all examples.
const MOMENT: &str = "2026-11-22T08:15:30.000125+00:00";

/// Returns the description of this kind of WebSocket.
pub fn socket() -> Socket {
    let query = json!({
        "type": "object",
        "properties": {
            "ticket": { "type": "string", "description": "From `POST /api/auth/ticket`; good once." },
        },
    });
    Socket { prefix: "console.", channels: &CHANNELS, query, inbound: inbound(), outbound: outbound() }
}

/// An id in a filter.
fn id() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0, "maximum": u64::MAX })
}

/// A filter with these fields, all of which may be absent.
fn filter(properties: Value) -> Value {
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

/// A subscription to these topics with that filter.
fn subscription(topics: &[&str], filter: Value) -> Value {
    json!({ "properties": { "topic": { "enum": topics }, "filter": filter } })
}

/// Returns the messages of consoles.
pub fn inbound() -> Vec<Inbound> {
    let text = json!({ "type": ["string", "null"] });
    let address = json!({ "type": ["string", "null"], "description": "An address or a network: `10.0.0.0/8`." });
    let connections = json!({ "user_id": id(), "device_id": id(), "client": text, "address": address });
    let direction = json!({ "enum": ["in", "out", null] });
    let traffic = json!({ "user_id": id(), "device_id": id(), "type": text, "direction": direction });
    let subscribe = json!({
        "type": "object",
        "required": ["type", "topic"],
        "properties": {
            "type": { "const": "subscribe" },
            "topic": { "enum": TOPICS },
            "filter": { "description": "What is wanted of the topic; everything where it is absent." },
        },
        "oneOf": [
            subscription(&["overview", "receipts"], json!({ "type": ["object", "null"], "maxProperties": 0 })),
            subscription(&["connections"], filter(connections)),
            subscription(&["traffic"], filter(traffic)),
        ],
    });
    let unsubscribe = json!({
        "type": "object",
        "required": ["type", "topic"],
        "properties": { "type": { "const": "unsubscribe" }, "topic": { "enum": TOPICS } },
    });
    let ping = json!({ "type": "object", "required": ["type"], "properties": { "type": { "const": "ping" } } });
    vec![
        Inbound {
            kind: "subscribe",
            summary: "Get what is new of a topic, in the place of an earlier subscription to it",
            schema: subscribe,
            answers: &["subscribed"],
            examples: vec![
                json!({ "type": "subscribe", "topic": "overview" }),
                json!({ "type": "subscribe", "topic": "connections", "filter": { "user_id": 7, "address": "10.0.0.0/8" } }),
                json!({ "type": "subscribe", "topic": "receipts" }),
                json!({ "type": "subscribe", "topic": "traffic", "filter": { "type": "notice", "direction": "out" } }),
            ],
        },
        Inbound {
            kind: "unsubscribe",
            summary: "No longer get what is new of a topic",
            schema: unsubscribe,
            answers: &["unsubscribed"],
            examples: vec![json!({ "type": "unsubscribe", "topic": "traffic" })],
        },
        Inbound {
            kind: "ping",
            summary: "Ask for a pong",
            schema: ping,
            answers: &["pong"],
            examples: vec![json!({ "type": "ping" })],
        },
    ]
}

/// A message of the server with these fields besides its type, all of which but `optional` are always there.
fn message(name: &str, summary: &str, fields: Value, optional: &[&str], example: Value) -> Outbound {
    let Value::Object(mut properties) = fields else { panic!("{name} has no fields") };
    let names = properties.keys().filter(|field| !optional.contains(&field.as_str()));
    let required: Vec<String> = std::iter::once("type".to_owned()).chain(names.cloned()).collect();
    properties.insert("type".into(), json!({ "const": name }));
    let schema = json!({ "type": "object", "required": required, "properties": properties });
    let mut example = example;
    example["type"] = name.into();
    Outbound { name: name.to_owned(), summary: summary.to_owned(), schema, example }
}

/// A list of that many items at most.
fn items(item: Value, most: usize) -> Value {
    json!({ "type": "array", "items": item, "maxItems": most })
}

/// Returns the messages of the server.
fn outbound() -> Vec<Outbound> {
    let topic = || json!({ "enum": TOPICS });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let hello = json!({
        "version": { "type": "string" },
        "role": { "enum": ["admin", "user"] },
        "console_contents": { "type": "boolean", "description": "Traffic comes with contents." },
    });
    let lost = json!({ "topic": topic(), "count": { "type": "integer", "minimum": 1 } });
    let codes = json!({ "enum": ["invalid_json", "invalid", "unsupported_type", "unknown_topic", "forbidden"] });
    let error = json!({ "code": codes, "message": { "type": "string" }, "topic": topic() });
    let connections = json!({
        "reset": { "type": "boolean", "description": "What was listed before is void." },
        "upsert": items(inline::<ConnectionItem>(), 1000),
        "remove": { "type": "array", "items": { "type": "integer", "minimum": 1 } },
        "total": count(),
    });
    let receipts = json!({ "items": items(inline::<ReceiptEvent>(), 250) });
    let traffic = json!({ "items": items(inline::<TrafficEvent>(), 250) });
    let mut all = vec![
        message(
            "hello",
            "The first frame",
            hello,
            &[],
            json!({ "version": env!("CARGO_PKG_VERSION"), "role": "admin", "console_contents": false }),
        ),
        message("subscribed", "A subscription has begun", json!({ "topic": topic() }), &[], json!({ "topic": "overview" })),
        message("unsubscribed", "A subscription has ended", json!({ "topic": topic() }), &[], json!({ "topic": "overview" })),
        message("pong", "The answer to a ping", json!({}), &[], json!({})),
        message(
            "overview",
            "The figures of the present moment",
            json!({ "data": inline::<OverviewResponse>() }),
            &[],
            json!({ "data": overview_example() }),
        ),
        message("connections", "Connections that are new, changed or gone", connections, &[], connections_example()),
        message("receipts", "Statuses that messages have reached", receipts, &[], receipts_example()),
        message("traffic", "Messages in both directions", traffic, &[], traffic_example()),
        message("lost", "Items of a topic were dropped", lost, &[], json!({ "topic": "traffic", "count": 120 })),
        message(
            "error",
            "A message of the console was not accepted; the connection stays open",
            error,
            &["topic"],
            json!({ "code": "forbidden", "message": "this topic is for administrators", "topic": "traffic" }),
        ),
    ];
    all.extend(events().into_iter().filter(|event| event.name == "disconnect"));
    all
}

fn overview_example() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"), "started_at": MOMENT, "uptime_seconds": 3600,
        "connections": 2, "users_online": 1, "devices_online": 1, "received_per_second": 0.5, "sent_per_second": 1.25,
        "queue": { "mailboxes": 1, "messages": 2, "bytes": 260, "oldest": MOMENT },
        "commit_p99_seconds": 0.004, "memory_bytes": 25_165_824, "memory_budget_bytes": 536_870_912,
        "disk": { "store_bytes": 524_288, "free_bytes": 10_737_418_240_u64, "min_free_bytes": 268_435_456 },
        "health": { "running": "ok", "disk_space": "ok", "commit": "ok", "hub": "ok", "store": "ok" },
        "ready": true,
        "attention": [{ "code": "no_tls", "level": "warning", "message": "the server listens beyond this machine without TLS" }],
    })
}

fn connections_example() -> Value {
    let item = json!({
        "id": 12, "user_id": 7, "username": "ana", "device_id": 3, "device_name": "lamp", "client": "phone", "address": "192.0.2.7",
        "connected_at": MOMENT, "last_activity": MOMENT, "lag": 0,
    });
    json!({ "reset": true, "upsert": [item], "remove": [], "total": 1 })
}

fn receipts_example() -> Value {
    json!({ "items": [
        { "id": 42, "status": "sent", "at": MOMENT, "client": "phone", "user_id": 7 },
        { "id": 42, "status": "acked", "at": MOMENT, "user_id": 7 },
    ] })
}

fn traffic_example() -> Value {
    json!({ "items": [
        {
            "at": MOMENT, "direction": "in", "kind": "push", "type": "notice", "user_id": 7, "sender_id": 1, "bytes": 130,
            "delivery": "queued", "id": 42,
        },
        {
            "at": MOMENT, "direction": "out", "kind": "frame", "type": "notice", "user_id": 7, "connection_id": 12, "bytes": 130,
            "delivery": "queued", "id": 42,
        },
    ] })
}
