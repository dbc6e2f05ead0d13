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

/// The time a week later, when tokens and messages expire.
const LATER: &str = "2026-11-29T08:15:30.000125+00:00";

/// Numbers of `/api/monitor` and `/healthz` that differ from run to run: durations, and counters of what else has happened.
const VARYING: [(&str, f64); 24] = [
    ("uptime_seconds", 3600.0),
    ("total", 12.0),
    ("slow", 0.0),
    ("count", 12.0),
    ("success", 12.0),
    ("failure", 0.0),
    ("p50_seconds", 0.004),
    ("p99_seconds", 0.009),
    ("max_seconds", 0.012),
    ("started", 3.0),
    ("ended", 2.0),
    ("received", 5.0),
    ("sent", 9.0),
    ("connections", 2.0),
    ("users_online", 1.0),
    ("devices_online", 1.0),
    ("received_per_second", 0.5),
    ("sent_per_second", 1.25),
    ("commit_p99_seconds", 0.004),
    ("memory_bytes", 25_165_824.0),
    ("memory_budget_bytes", 536_870_912.0),
    ("store_bytes", 524_288.0),
    ("free_bytes", 10_737_418_240.0),
    ("lag", 0.0),
];

/// The settings that an example keeps: all of them are documented elsewhere, and some are different for each test.
const SETTINGS: [&str; 3] = ["limits.elevation_seconds", "chat.key", "storage.audit_entries"];

/// Returns a number that stands for one that differs, in the form of that one.
fn fixed(number: f64, like: &Value) -> Value {
    if like.is_u64() { (number as u64).into() } else { number.into() }
}

/// Returns three moments of the columns of `/api/monitor/series` in the place of all.
fn series(columns: &Map<String, Value>) -> Value {
    let step = columns["step_seconds"].as_u64().unwrap();
    let column = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("at", _) => json!([1_795_335_330 - 2 * step, 1_795_335_330 - step, 1_795_335_330]),
            ("from", _) => MOMENT.into(),
            (_, Value::Array(_)) => json!([null, 1, 2]),
            (_, other) => other.clone(),
        };
        (key.clone(), value)
    };
    columns.iter().map(column).collect()
}

/// Returns those of [`SETTINGS`].
fn some_settings(all: &[Value]) -> Value {
    all.iter().filter(|setting| SETTINGS.iter().any(|key| setting["key"] == *key)).cloned().collect()
}

/// Returns an answer with what differs from run to run replaced; `varying` says whether its numbers do.
fn normalised(value: &Value, varying: bool) -> Value {
    let field = |(key, value): (&String, &Value)| {
        let number = VARYING.iter().find(|(name, _)| varying && name == key && value.is_number());
        let fixed = match (key.as_str(), value) {
            (_, value) if number.is_some() => number.map(|(_, number)| fixed(*number, value)),
            ("slots", Value::Array(_)) => Some(json!([0, 0, 1, 1, 0, 1])),
            ("settings", Value::Array(all)) => Some(some_settings(all)),
            ("csrf", Value::String(_)) => Some("5f1c0a9be27d4386b0c4e19a7f62d358".into()),
            // Whether an operation has occurred yet differs, too.
            ("last", _) if varying => Some(MOMENT.into()),
            ("code", Value::String(text)) if text.len() == 6 => Some("K7MPQ2".into()),
            ("expires_at", Value::String(_)) => Some(LATER.into()),
            ("expires_in", Value::Number(left)) if left.as_u64().is_some_and(|left| (500..=600).contains(&left)) => {
                Some(600.into())
            }
            _ => None,
        };
        (key.clone(), fixed.unwrap_or_else(|| normalised(value, varying)))
    };
    match value {
        Value::Object(object) if object.contains_key("step_seconds") => series(object),
        Value::Object(object) => Value::Object(object.iter().map(field).collect()),
        Value::Array(items) => items.iter().map(|item| normalised(item, varying)).collect(),
        Value::String(text) if is_moment(text) => MOMENT.into(),
        Value::String(text) => match ["qlt_", "qlx_", "qlp_", "qll_"].iter().find(|prefix| text.starts_with(**prefix)) {
            Some(prefix) => format!("{prefix}M1kq3vYzYt8Wc0aHn5dRk2sJx7bQfGuE4pLoVi6yTzA").into(),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// Reports whether the numbers of an operation's answers differ from run to run.
fn varies(operation: &Operation) -> bool {
    operation.path.starts_with("/api/monitor/") || operation.path == "/healthz"
}

fn is_moment(text: &str) -> bool {
    text.len() == MOMENT.len() && text.ends_with("+00:00") && text.as_bytes()[10] == b'T'
}

/// Reports whether an example is about a connection.
fn is_connected(operation: &Operation) -> bool {
    operation.path == "/api/users/online" || operation.path.starts_with("/api/monitor/connections")
}

/// Opens what an example is about, where that is a connection; it must be kept.
async fn connection(world: &World, operation: &Operation) -> Option<crate::support::Client> {
    if is_connected(operation) { Some(world.server.connect(&world.tokens.user).await) } else { None }
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
    if answer.json["status"] == "success" { normalised(&answer.json, varies(operation)) } else { Value::Null }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_answered_as_the_document_says() {
    let mut recorded: Map<String, Value> = Map::new();
    let shared = World::new().await;
    let mut sent = 0;
    for operation in operations() {
        let name = operation.name();
        for example in operation.examples() {
            // What only reads leaves the server as it was, but for its counters and connections.
            let own = if operation.method == "GET" && !is_connected(&operation) { None } else { Some(World::new().await) };
            let answer = answer(own.as_ref().unwrap_or(&shared), &operation, &example).await;
            if std::env::var_os("QY_LTY_WRITE_API").is_none() {
                assert_eq!(
                    answer,
                    normalised(&example.answer, varies(&operation)),
                    "{name}, example {}: record it anew",
                    example.name
                );
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
