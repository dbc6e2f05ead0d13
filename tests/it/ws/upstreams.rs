//! What upstreams send and do: the forms of models' answers, and connections that end between requests.

use std::time::Duration;

use crate::support::api::Config;
use crate::support::kept::{Kept, Place, Turn};
use crate::support::stub::{Reply, Stub, spoken};
use crate::support::{Client, Server, roomy};
use serde_json::{Value, json};

/// The answer of all recorded forms.
const HELLO: &str = "Hello, 世界!";
/// An answer of each kind of upstream.
const CHAT: &str = r#"{"choices":[{"message":{"content":"hi"}}]}"#;

fn with_model(url: &str) -> Config {
    let mut config = roomy();
    let chat = format!("responder = \"openai\"\nurl = \"{url}\"\nmodel = \"m\"\nper_minute = 0\nturns = 100");
    config.chat = toml::from_str(&chat).unwrap();
    config
}

async fn say(client: &mut Client, text: &str) -> Value {
    client.ask(json!({"type": "chat_message", "message": text, "ref": text})).await
}

/// Asks for a streamed answer; returns the parts, joined, and the last event.
async fn stream(client: &mut Client, text: &str) -> (String, Value) {
    client.say(json!({"type": "chat_message", "message": {"content": text, "stream": true}, "ref": text})).await;
    let mut parts = String::new();
    loop {
        let event = client.json().await;
        assert_eq!(event["ref"], text);
        if event["type"] != "chat_delta" {
            return (parts, event);
        }
        parts.push_str(event["message"].as_str().unwrap());
    }
}

/// Returns the recorded forms: names and bytes.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models")).unwrap();
    let named = files
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()));
    let mut recorded: Vec<_> = named.filter(|(name, _)| !name.ends_with(".md")).collect();
    recorded.sort();
    assert!(recorded.len() > 25);
    recorded
}

#[tokio::test]
async fn answers_in_every_recorded_form_are_passed_on() {
    let forms = recorded();
    let kept = Kept::start({
        let forms = forms.clone();
        move |_, request| {
            let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
            let name = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
            let (_, bytes) = forms.iter().find(|(form, _)| *form == name).unwrap();
            // Some servers give the wrong type, or one with parameters.
            let content_type =
                ["text/event-stream", "Text/Event-Stream; charset=utf-8", "application/json", "text/plain"][name.len() % 4];
            Turn::chunked(content_type, bytes, 1 + name.len() * 3 % 40)
        }
    })
    .await;
    let server = Server::with(with_model(&kept.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    for (name, _) in &forms {
        client.ask(json!({"type": "chat_reset"})).await;
        let (parts, last) = stream(&mut client, name).await;
        if name.starts_with("error_") {
            assert_eq!(last["code"], "UPSTREAM_ERROR", "{name}: {last}");
            continue;
        }
        assert_eq!((&last["type"], &last["message"]), (&json!("chat_response"), &json!(HELLO)), "{name}: {last}");
        if name != "vllm_no_opening_tag.sse" {
            assert_eq!(parts, HELLO, "{name}");
        }
        // The memory has the answer, and no reasoning.
        assert_eq!(say(&mut client, "whole.json").await["message"], HELLO);
        let asked = kept.requests().pop().unwrap();
        let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
        let said: Vec<&str> = body["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
        assert_eq!(said, [name.as_str(), HELLO, "whole.json"], "{name}");
    }
    let connections = kept.places().iter().map(|place| place.0).max().unwrap();
    assert!(connections < forms.len(), "connections are used again");
}

#[tokio::test]
async fn reasoning_without_opening_tag_is_held_back_once_it_is_known() {
    let stub = Stub::start(|got| match got.json()["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap() {
        "plain" => Reply::Events(spoken(&["a ", "b"]), Duration::ZERO),
        _ => Reply::Events(spoken(&["let me ", "think</th", "ink>\n\na ", "b"]), Duration::ZERO),
    })
    .await;
    let server = Server::with(with_model(&stub.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    let (parts, last) = stream(&mut client, "one").await;
    assert_eq!((parts.as_str(), &last["message"]), ("let me thinka b", &json!("a b")), "the whole answer is what counts");
    for question in ["two", "three"] {
        let (parts, last) = stream(&mut client, question).await;
        assert_eq!((parts.as_str(), &last["message"]), ("a b", &json!("a b")));
    }
    // A model without reasoning is streamed again from its second answer on.
    for question in ["plain", "plain"] {
        let (parts, last) = stream(&mut client, question).await;
        assert_eq!((parts.as_str(), &last["message"]), ("a b", &json!("a b")));
    }
    let (parts, _) = stream(&mut client, "four").await;
    assert_eq!(parts, "let me thinka b");
    let said = stub.got().pop().unwrap().json()["messages"].to_string();
    assert!(!said.contains("let me"), "{said}");
}

/// A server, with all three kinds of upstreams at `kept`.
async fn with_upstreams(kept: &Kept) -> Server {
    let mut config = with_model(&kept.url("/v1"));
    config.weather.simulated = false;
    config.weather.qweather = toml::from_str(&format!("host = \"{}\"\nkey = \"k3y\"", kept.url(""))).unwrap();
    let handler = format!("type = \"story\"\nurl = \"{}\"\nsecret = \"s\"", kept.url("/story"));
    config.handler = vec![toml::from_str(&handler).unwrap()];
    Server::with(config).await
}

/// A response to any request of the server's.
fn response(request: &str) -> Turn {
    let line = request.lines().next().unwrap();
    if line.starts_with("GET /geo/") {
        return Turn::json(r#"{"code":"200","location":[{"id":"1"}]}"#);
    }
    if line.starts_with("GET /v7/") {
        return Turn::json(r#"{"code":"200","updateTime":"2026-06-30T22:00+08:00","now":{"temp":"24","text":"x","icon":"1"}}"#);
    }
    Turn::json(if line.starts_with("POST /story") { "{}" } else { CHAT })
}

/// The kinds of upstreams: a question to each, and the type of its answer. Another number makes another question.
const KINDS: [(&str, &str); 3] =
    [("chat_message", "chat_response"), ("weather", "weather_response"), ("story", "story_response")];

fn question(kind: &str, number: usize) -> Value {
    json!({"type": kind, "message": if kind == "weather" { json!({"city": format!("city {number}")}) } else { json!("x") }})
}

#[tokio::test]
async fn request_on_a_connection_that_its_server_has_closed_is_sent_again() {
    type Close = fn() -> Turn;
    let ways: [(Close, &str); 2] = [(|| Turn::Reset, "reset"), (|| Turn::SendAndClose(Vec::new()), "closed")];
    for (close, how) in ways {
        for (kind, answer) in KINDS {
            // The first connection serves as many requests as the first question needs, and none of the second one.
            let first = if kind == "weather" { 2 } else { 1 };
            let kept = Kept::start(
                move |place: Place, request| {
                    if place.connection == 0 && place.request >= first { close() } else { response(request) }
                },
            )
            .await;
            let server = with_upstreams(&kept).await;
            let mut client = server.connect(&server.admin().await).await;
            for number in 0..2 {
                assert_eq!(client.ask(question(kind, number)).await["type"], answer, "{kind}, {how}, question {number}");
            }
            let places = kept.places();
            assert_eq!(places[first..first + 2], [(0, first), (1, 0)], "{kind}, {how}: once more, on a new connection");
            let requests = kept.requests();
            assert_eq!(requests[first], requests[first + 1], "{kind}, {how}: the same request");
        }
    }
}

#[tokio::test]
async fn request_is_not_sent_again_on_other_failures() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"cho";
    let event = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\ndata: {}\n\n", spoken(&["half"])[0]);
    for (kind, _) in KINDS {
        // On its own connection, the request may have been carried out.
        let kept = Kept::start(|_, _| Turn::Reset).await;
        let server = with_upstreams(&kept).await;
        let mut client = server.connect(&server.admin().await).await;
        let error = client.ask(question(kind, 0)).await;
        assert_eq!(error["code"], "UPSTREAM_ERROR", "{error}");
        assert_eq!(kept.places(), [(0, 0)], "{kind}");
        // A part of the answer had come, on a connection from before.
        for part in [head, &event] {
            let first = if kind == "weather" { 2 } else { 1 };
            let part = part.to_owned();
            let kept = Kept::start(move |place: Place, request| {
                if place.request >= first { Turn::SendAndClose(part.clone().into_bytes()) } else { response(request) }
            })
            .await;
            let server = with_upstreams(&kept).await;
            let mut client = server.connect(&server.admin().await).await;
            assert_ne!(client.ask(question(kind, 0)).await["type"], "error");
            let error = client.ask(question(kind, 1)).await;
            assert_eq!(error["code"], "UPSTREAM_ERROR", "{kind}: {error}");
            assert_eq!(kept.places().len(), first + 1, "{kind}");
        }
    }
}

#[tokio::test]
async fn request_is_sent_again_only_once() {
    // Whatever connection it is on, the second question is refused.
    let kept = Kept::start(
        |place: Place, request| {
            if place == (Place { connection: 0, request: 0 }) { response(request) } else { Turn::Reset }
        },
    )
    .await;
    let server = with_upstreams(&kept).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(say(&mut client, "one").await["message"], "hi");
    assert_eq!(say(&mut client, "two").await["code"], "UPSTREAM_ERROR");
    assert_eq!(kept.places(), [(0, 0), (0, 1), (1, 0)]);
}

#[tokio::test]
async fn stream_that_is_not_closed_behind_its_end_is_answered() {
    // No `[DONE]`, and the connection stays open: the timeouts are much longer than a test may take.
    let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string();
    let body = format!("data: {}\n\ndata: {stop}\n\n", spoken(&["hi"])[0]);
    let chunk = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len());
    let kept = Kept::start(move |_, _| Turn::Send(vec![chunk.clone().into_bytes()])).await;
    let mut config = with_model(&kept.url("/v1"));
    (config.chat.timeout_seconds, config.chat.idle_seconds) = (600, 600);
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(say(&mut client, "x").await["message"], "hi");
}

#[tokio::test]
async fn stream_with_a_proper_end_needs_no_other() {
    let whole = format!("data: {}\n\n", spoken(&["hi"])[0]);
    let kept = Kept::start(move |_, _| Turn::chunked("text/event-stream", whole.as_bytes(), 9)).await;
    let server = Server::with(with_model(&kept.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(say(&mut client, "x").await["message"], "hi");
}
