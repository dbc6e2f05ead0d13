//! Every example of the document, sent to a server: it is answered as the document says.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::world::World;
use crate::support::api::routes;
use crate::support::described::{Example, Operation, operations};

/// The file that the document takes the answers from; `QY_LTY_WRITE_API` writes it.
const RECORDED: &str = "src/describe/recorded.json";

/// The time in all examples.
const MOMENT: &str = "2026-11-22T08:15:30.000125+00:00";

/// Numbers that differ from run to run: durations, and counters of what else has happened.
const VARYING: [(&str, u64); 14] = [
    ("uptime_seconds", 3600),
    ("total", 12),
    ("slow", 0),
    ("count", 12),
    ("success", 12),
    ("failure", 0),
    ("p50_seconds", 1),
    ("p99_seconds", 1),
    ("max_seconds", 1),
    ("started", 3),
    ("ended", 2),
    ("received", 5),
    ("sent", 9),
    ("expires_in", 600),
];

/// Returns an answer with what differs from run to run replaced.
fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| {
                let varying = VARYING.iter().find(|(name, _)| name == key && value.is_number());
                let value = match (varying, value) {
                    (Some((_, fixed)), _) => (*fixed).into(),
                    (None, Value::String(_)) if key == "csrf" => "Pb2oXh6kTq1mUe8r".into(),
                    (None, Value::String(_)) if key == "last" => MOMENT.into(),
                    // Whether an operation has occurred yet differs, too.
                    (None, Value::Null) if key == "last" => MOMENT.into(),
                    (None, Value::String(text)) if key == "code" && text.len() == 6 => "K7MPQ2".into(),
                    _ => normalised(value),
                };
                (key.clone(), value)
            };
            Value::Object(object.iter().map(entry).collect())
        }
        Value::Array(items) => items.iter().map(normalised).collect(),
        Value::String(text) if is_moment(text) => MOMENT.into(),
        Value::String(text) => match ["qlt_", "qlx_", "qlp_", "qll_"].iter().find(|prefix| text.starts_with(**prefix)) {
            Some(prefix) => format!("{prefix}M1kq3vYzYt8Wc0aHn5dRk2sJx7bQfGuE4pLoVi6yTzA").into(),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

fn is_moment(text: &str) -> bool {
    text.len() == MOMENT.len() && text.ends_with("+00:00") && text.as_bytes()[10] == b'T'
}

/// Opens what an example is about, where that is a connection; it must be kept.
async fn connection(world: &World, operation: &Operation) -> Option<crate::support::Client> {
    let connected = ["/api/users/online", "/api/monitor/connections"].contains(&operation.path.as_str());
    if connected { Some(world.server.connect(&world.tokens.user).await) } else { None }
}

/// Sends an example, checks the answer, and returns it normalised; `null` where it is no JSON in the usual envelope.
async fn answer(world: &World, operation: &Operation, example: &Example) -> Value {
    let what = format!("{} as {}: {}", operation.name(), example.caller, example.path);
    if let Some(body) = &example.body {
        operation.assert_takes(body);
    }
    assert!(operation.roles().contains(&example.caller.as_str()), "{what}");
    let _kept = connection(world, operation).await;
    let answer = world.send(&operation.method, example, world.token(&example.caller)).await;
    assert_eq!(answer.status.as_u16(), example.status, "{what}: {}", answer.text);
    operation.assert_describes(&answer);
    if answer.json["status"] == "success" { normalised(&answer.json) } else { Value::Null }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_answered_as_the_document_says() {
    let mut recorded: Map<String, Value> = Map::new();
    let shared = World::new().await;
    let mut sent = 0;
    for operation in operations() {
        let name = operation.name();
        for example in operation.examples() {
            // What only reads leaves the server as it was, but for its counters.
            let own = if operation.method == "GET" { None } else { Some(World::new().await) };
            let answer = answer(own.as_ref().unwrap_or(&shared), &operation, &example).await;
            if std::env::var_os("QY_LTY_WRITE_API").is_none() {
                assert_eq!(answer, normalised(&example.answer), "{name}, example {}: record it anew", example.name);
            }
            if !answer.is_null() {
                recorded.entry(name.clone()).or_insert_with(|| json!({}))[&example.name] = answer;
            }
            sent += 1;
        }
    }
    assert!(sent > routes().count(), "{sent} examples");
    if std::env::var_os("QY_LTY_WRITE_API").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED);
        std::fs::write(path, format!("{:#}\n", Value::Object(recorded))).unwrap();
    }
}

#[test]
fn every_route_is_in_the_document_with_its_callers() {
    use crate::support::api::Caller;
    let operations = operations();
    for route in routes() {
        let found = operations.iter().find(|operation| operation.method == route.method && operation.path == route.path);
        let operation = found.unwrap_or_else(|| panic!("{} {} is not described", route.method, route.path));
        let names = [
            (Caller::Anonymous, "anonymous"),
            (Caller::Device, "device"),
            (Caller::Service, "service"),
            (Caller::User, "user"),
            (Caller::Admin, "admin"),
        ];
        for (caller, name) in names {
            assert_eq!(operation.roles().contains(&name), route.allows(caller), "{}: {name}", operation.name());
        }
        assert!(!operation.examples().is_empty(), "{} has no example", operation.name());
    }
}
