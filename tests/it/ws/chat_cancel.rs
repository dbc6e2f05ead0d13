//! Stopping questions: `chat_cancel` by their `ref`, `chat_reset` all of them.

use std::time::Duration;

use crate::support::api::Config;
use crate::support::stub::{Got, Reply, Stub, spoken};
use crate::support::{Client, Server, eventually, roomy};
use serde_json::{Value, json};

/// A model whose answer depends on the question: `hang` has none, `slow` one of many parts, and others an answer at once.
fn model(got: &Got) -> Reply {
    match got.json()["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap() {
        "hang" => Reply::Hang,
        "slow" => Reply::Events(spoken(&["part "; 20_000]), Duration::from_millis(2)),
        _ => Reply::Events(spoken(&["ok"]), Duration::ZERO),
    }
}

fn with(stub: &Stub) -> Config {
    let mut config = roomy();
    let chat = format!("responder = \"openai\"\nurl = \"{}\"\nmodel = \"m\"\nper_minute = 0\nturns = 100", stub.url("/v1"));
    config.chat = toml::from_str(&chat).unwrap();
    (config.chat.timeout_seconds, config.chat.idle_seconds) = (600, 600);
    config
}

async fn ask(client: &mut Client, text: &str, reference: &str, stream: bool) {
    client.say(json!({"type": "chat_message", "message": {"content": text, "stream": stream}, "ref": reference})).await;
}

/// Expects an event of this type, and its `ref`.
async fn expect(client: &mut Client, kind: &str, reference: &str) -> Value {
    let event = client.json().await;
    assert_eq!((&event["type"], &event["ref"]), (&json!(kind), &json!(reference)), "{event}");
    event
}

/// Returns what the model was told of earlier questions at the newest one.
fn remembered(stub: &Stub) -> Vec<String> {
    let body = stub.got().pop().unwrap().json();
    body["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn chat_cancel_stops_the_question_and_its_call() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    ask(&mut client, "first", "q0", false).await;
    expect(&mut client, "chat_response", "q0").await;
    ask(&mut client, "slow", "q1", true).await;
    expect(&mut client, "chat_delta", "q1").await;
    client.say(json!({"type": "chat_cancel", "message": {"ref": "q1"}, "ref": "c1"})).await;
    let stopped = loop {
        let event = client.json().await;
        if event["type"] != "chat_delta" {
            break event;
        }
    };
    assert_eq!((&stopped["type"], &stopped["cancelled"], &stopped["ref"]), (&json!("chat_cancel"), &json!(true), &json!("c1")));
    let end = expect(&mut client, "chat_cancelled", "q1").await;
    assert!(end["timestamp"].is_string() && end.as_object().unwrap().len() == 3, "{end}");
    client.fence().await; // no part of the answer follows
    eventually("the call is dropped", async || stub.gone() == 1).await;
    ask(&mut client, "second", "q2", false).await;
    assert_eq!(expect(&mut client, "chat_response", "q2").await["message"], "ok");
    assert_eq!(remembered(&stub), ["first", "ok", "second"], "neither the question nor a part of its answer");
}

#[tokio::test]
async fn chat_cancel_takes_each_form_and_stops_only_its_question() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let token = server.admin().await;
    let (mut client, mut other) = (server.connect(&token).await, server.connect(&token).await);
    ask(&mut other, "hang", "a", false).await;
    for reference in ["a", "b", "c", "d"] {
        ask(&mut client, "hang", reference, false).await;
    }
    client.say(json!({"type": "chat_message", "message": "hang"})).await;
    eventually("all are asked", async || stub.got().len() == 6).await;
    let forms = [
        (json!({"type": "chat_cancel", "message": {"ref": "a"}}), "a", Value::Null),
        (json!({"type": "chat_cancel", "message": "b", "ref": "x"}), "b", json!("x")),
        (json!({"type": "chat_cancel", "ref": "c"}), "c", json!("c")),
    ];
    for (n, (form, question, reference)) in forms.into_iter().enumerate() {
        let reply = client.ask(form.clone()).await;
        assert_eq!(
            (&reply["type"], &reply["cancelled"], &reply["ref"]),
            (&json!("chat_cancel"), &json!(true), &reference),
            "{form}"
        );
        expect(&mut client, "chat_cancelled", question).await;
        eventually("its call is dropped", async || stub.gone() == n + 1).await;
        let again = client.ask(form).await;
        assert_eq!((&again["type"], &again["cancelled"]), (&json!("chat_cancel"), &json!(false)), "stopped already");
    }
    for unknown in ["nothing", ""] {
        assert_eq!(client.ask(json!({"type": "chat_cancel", "message": {"ref": unknown}})).await["cancelled"], false);
    }
    let refused = client.ask(json!({"type": "chat_cancel", "message": {}})).await;
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("VALIDATION_ERROR"), &json!("Message validation error: message.ref must be the ref of a question"))
    );
    other.fence().await; // its question with the same ref goes on
    assert_eq!(stub.gone(), 3);
}

#[tokio::test]
async fn chat_cancel_of_an_answered_question_changes_nothing() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "q"})).await["cancelled"], false, "nothing was asked yet");
    ask(&mut client, "first", "q", false).await;
    expect(&mut client, "chat_response", "q").await;
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "q"})).await["cancelled"], false);
    ask(&mut client, "second", "q", false).await;
    expect(&mut client, "chat_response", "q").await;
    assert_eq!(remembered(&stub), ["first", "ok", "second"]);
    // Without a model every question is answered at once.
    let server = Server::with(roomy()).await;
    let mut client = server.connect(&server.admin().await).await;
    ask(&mut client, "first", "q", false).await;
    expect(&mut client, "chat_response", "q").await;
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "q"})).await["cancelled"], false);
}

#[tokio::test]
async fn question_that_waits_for_its_turn_can_be_stopped() {
    let stub = Stub::start(model).await;
    let mut config = with(&stub);
    config.chat.concurrency = 1;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    ask(&mut client, "hang", "one", false).await;
    eventually("the first is asked", async || stub.got().len() == 1).await;
    for reference in ["two", "two"] {
        ask(&mut client, "never", reference, false).await;
    }
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "two"})).await["cancelled"], true);
    for _ in 0..2 {
        expect(&mut client, "chat_cancelled", "two").await;
    }
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "one"})).await["cancelled"], true);
    expect(&mut client, "chat_cancelled", "one").await;
    ask(&mut client, "next", "three", false).await;
    expect(&mut client, "chat_response", "three").await;
    assert_eq!(remembered(&stub), ["next"]);
    assert_eq!(stub.got().len(), 2, "those that waited were never asked");
}

#[tokio::test]
async fn chat_reset_stops_the_questions_of_its_user_on_every_connection() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let (mut one, mut two) = (server.connect(&ana.token).await, server.connect(&ana.token).await);
    let mut other = server.connect(&admin).await;
    ask(&mut one, "first", "q0", false).await;
    expect(&mut one, "chat_response", "q0").await;
    ask(&mut one, "hang", "a", false).await;
    one.say(json!({"type": "chat_message", "message": "hang"})).await;
    ask(&mut two, "hang", "b", true).await;
    ask(&mut other, "hang", "c", false).await;
    eventually("all are asked", async || stub.got().len() == 5).await;
    assert_eq!(one.ask(json!({"type": "chat_reset", "message": {}, "ref": "r"})).await["type"], "chat_reset");
    let mut ends = [one.json().await, one.json().await];
    ends.sort_by_key(|end| end["ref"].is_null());
    assert!(ends.iter().all(|end| end["type"] == "chat_cancelled"), "{ends:?}");
    assert_eq!((&ends[0]["ref"], &ends[1]["ref"]), (&json!("a"), &Value::Null));
    expect(&mut two, "chat_cancelled", "b").await;
    eventually("their calls are dropped", async || stub.gone() == 3).await;
    other.fence().await;
    assert_eq!(stub.gone(), 3, "another user's question goes on");
    ask(&mut two, "second", "q1", false).await;
    expect(&mut two, "chat_response", "q1").await;
    assert_eq!(remembered(&stub), ["second"]);
}

#[tokio::test]
async fn chat_reset_stops_a_question_that_was_sent_just_before() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    for _ in 0..20 {
        ask(&mut client, "hang", "q", false).await;
        client.say(json!({"type": "chat_reset"})).await;
        assert_eq!(client.json().await["type"], "chat_reset");
        expect(&mut client, "chat_cancelled", "q").await;
    }
}

/// Whatever comes first, the end of the answer or its stop: a question has one end, and the memory agrees with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_cancel_and_the_end_of_the_answer_exclude_each_other() {
    let stub = Stub::start(|_| Reply::Events(spoken(&["ok"]), Duration::from_millis(1))).await;
    let server = Server::with(with(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    let mut answered = Vec::new();
    for n in 0..60_u64 {
        let reference = format!("q{n}");
        ask(&mut client, &reference, &reference, n % 2 == 0).await;
        tokio::time::sleep(Duration::from_micros(n * 150)).await;
        client.say(json!({"type": "chat_cancel", "message": {"ref": reference}, "ref": "c"})).await;
        let (mut end, mut cancelled) = (None, None);
        while end.is_none() || cancelled.is_none() {
            let event = client.json().await;
            match event["type"].as_str().unwrap() {
                "chat_delta" => assert!(end.is_none() && cancelled != Some(true), "a part behind the stop: {event}"),
                "chat_cancel" => cancelled = event["cancelled"].as_bool(),
                "chat_cancelled" => end = Some(false),
                "chat_response" => end = Some(true),
                _ => panic!("{event}"),
            }
        }
        assert_eq!(end, cancelled.map(|cancelled| !cancelled), "question {n}");
        if end == Some(true) {
            answered.extend([reference, "ok".to_owned()]);
        }
    }
    client.fence().await;
    ask(&mut client, "last", "last", false).await;
    expect(&mut client, "chat_response", "last").await;
    answered.push("last".to_owned());
    assert_eq!(remembered(&stub), answered);
}

#[tokio::test]
async fn stopped_question_for_a_device_is_not_queued() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut client = server.connect(&ana.token).await;
    client.say(json!({"type": "chat_message", "message": "hang", "target": {"device_id": device}, "ref": "q"})).await;
    eventually("the model is asked", async || stub.got().len() == 1).await;
    assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": "q"})).await["cancelled"], true);
    expect(&mut client, "chat_cancelled", "q").await;
    let queue = server.get(&format!("/api/queue/device/{device}"), Some(&ana.token)).await.ok();
    assert_eq!(queue["data"]["messages"], 0);
}

#[tokio::test]
async fn stopped_question_is_counted_and_makes_room_for_others() {
    let stub = Stub::start(model).await;
    let server = Server::with(with(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    // Many more than may be in flight at once.
    for n in 0..40 {
        let reference = format!("q{n}");
        ask(&mut client, "hang", &reference, false).await;
        assert_eq!(client.ask(json!({"type": "chat_cancel", "ref": reference})).await["cancelled"], true);
        expect(&mut client, "chat_cancelled", &reference).await;
    }
    ask(&mut client, "next", "next", false).await;
    expect(&mut client, "chat_response", "next").await;
}
