//! A language model behind `chat_message`: a stub that speaks the chat completions API, and everything that can go wrong.

use std::time::Duration;

use crate::support::api::Config;
use crate::support::program::{Running, configure, output, program};
use crate::support::stub::{Reply, Stub, spoken};
use crate::support::{ADMIN_PASSWORD, Client, Server, eventually, http, roomy};
use serde_json::{Value, json};

fn with(url: String) -> Config {
    let mut config = roomy();
    config.limits.connections_per_user = 0;
    let chat = format!("responder = \"openai\"\nurl = \"{url}\"\nmodel = \"test-model\"\nper_minute = 0");
    config.chat = toml::from_str(&chat).unwrap();
    config
}

async fn say(client: &mut Client, text: &str) -> Value {
    client.ask(json!({"type": "chat_message", "message": text, "ref": text})).await
}

#[tokio::test]
async fn chat_streams_keeps_turns_and_resets() {
    let stub = Stub::start(|_| Reply::Events(spoken(&["床前", "明月", "光"]), Duration::from_millis(5))).await;
    let mut config = with(stub.url("/v1/"));
    (config.chat.system, config.chat.turns) = ("你是一盏灯".into(), 2);
    config.chat.key = Some("k3y".to_owned().into());
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    client.say(json!({"type": "chat_message", "message": {"content": "一", "stream": true}, "ref": "r"})).await;
    for piece in ["床前", "明月", "光"] {
        let event = client.json().await;
        assert_eq!((&event["type"], &event["message"], &event["ref"]), (&json!("chat_delta"), &json!(piece), &json!("r")));
    }
    let whole = client.json().await;
    assert_eq!((&whole["type"], &whole["message"], &whole["ref"]), (&json!("chat_response"), &json!("床前明月光"), &json!("r")));
    assert_eq!(whole["source"], Value::Null);
    for text in ["二", "三"] {
        assert_eq!(say(&mut client, text).await["type"], "chat_response", "no pieces unless asked for");
    }
    assert_eq!(say(&mut client, "四").await["message"], "床前明月光");
    assert_eq!(client.ask(json!({"type": "chat_reset", "message": ""})).await["type"], "chat_reset");
    say(&mut client, "五").await;
    let got = stub.got();
    assert!(got.iter().all(|g| g.line == "POST /v1/chat/completions" && g.header("authorization") == Some("Bearer k3y")));
    let said = |n: usize| {
        let body = got[n].json();
        assert_eq!(
            (&body["model"], &body["stream"], &body["messages"][0]["role"]),
            (&json!("test-model"), &json!(true), &json!("system"))
        );
        body["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(said(0), ["你是一盏灯", "一"]);
    assert_eq!(said(3), ["你是一盏灯", "二", "床前明月光", "三", "床前明月光", "四"], "two turns");
    assert_eq!(said(4), ["你是一盏灯", "五"]);
}

#[tokio::test]
async fn chat_without_streaming_model_is_answered() {
    let stub = Stub::start(|_| Reply::Json(200, r#"{"choices":[{"message":{"role":"assistant","content":"hi"}}]}"#.into())).await;
    let server = Server::with(with(stub.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(say(&mut client, "hello").await["message"], "hi");
}

#[tokio::test]
async fn chat_upstream_failure_is_reported() {
    type Case = (fn() -> Reply, &'static str);
    let replies: [Case; 7] = [
        (|| Reply::Json(500, "{}".into()), "answered 500"),
        (|| Reply::Json(200, "no json".into()), "can't be read"),
        (|| Reply::Cut(r#"{"choices":["#.into()), "broke off"),
        (|| Reply::Events(vec![spoken(&["half"])[0].clone()], Duration::ZERO), "broke off"),
        (|| Reply::Endless, "too large"),
        (|| Reply::Hang, "in time"),
        (|| Reply::Redirect("http://127.0.0.2:1/".into()), "answered 307"),
    ];
    for (reply, why) in replies {
        let stub = Stub::start(move |_| reply()).await;
        let mut config = with(stub.url("/v1"));
        (config.chat.timeout_seconds, config.chat.idle_seconds) = (1, 1);
        let server = Server::with(config).await;
        let mut client = server.connect(&server.admin().await).await;
        let event = say(&mut client, "x").await;
        assert_eq!((&event["code"], &event["ref"]), (&json!("UPSTREAM_ERROR"), &json!("x")), "{why}: {event}");
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with("Chat processing error: ") && message.contains(why), "{why}: {message}");
        client.fence().await;
    }
}

#[tokio::test]
async fn chat_upstream_that_keeps_failing_is_paused_and_builtin_answers() {
    let stub = Stub::start(|_| Reply::Json(503, "{}".into())).await;
    let mut config = with(stub.url("/v1"));
    config.chat.fallback = true;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    for _ in 0..8 {
        let event = say(&mut client, "x").await;
        assert_eq!((&event["message"], &event["source"]), (&json!("收到消息:x"), &json!("builtin")));
    }
    assert_eq!(stub.got().len(), 5);
    // An address that nobody listens on.
    let server = Server::with(with("http://127.0.0.1:1/v1".into())).await;
    let mut client = server.connect(&server.admin().await).await;
    assert!(say(&mut client, "x").await["message"].as_str().unwrap().contains("can't be reached"));
}

#[tokio::test]
async fn chat_answer_is_cut_at_limit() {
    let words: Vec<String> = (0..7000).map(|n| (n % 10).to_string()).collect();
    let stub = Stub::start(move |got| match got.json()["messages"][0]["content"].as_str().unwrap() {
        "long" => Reply::Events(spoken(&words.iter().map(String::as_str).collect::<Vec<_>>()), Duration::ZERO),
        "huge" => Reply::Events(spoken(&["x".repeat(20_000).as_str()]), Duration::ZERO),
        "whole" => Reply::Json(200, json!({"choices": [{"message": {"content": "y".repeat(20_000)}}]}).to_string()),
        _ => Reply::Events(spoken(&[]), Duration::ZERO),
    })
    .await;
    let server = Server::with(with(stub.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    for (what, chars) in [("long", 7000), ("huge", 8000), ("whole", 8000)] {
        let answer = say(&mut client, what).await;
        assert_eq!(answer["message"].as_str().unwrap().chars().count(), chars, "{what}");
        client.ask(json!({"type": "chat_reset", "message": {}})).await;
    }
    assert!(say(&mut client, "nothing").await["message"].as_str().unwrap().contains("can't be read"));
}

#[tokio::test]
async fn chat_reset_during_answer_stops_it() {
    let stub = Stub::start(|got| match got.json()["messages"][0]["content"].as_str().unwrap() {
        "slow" => Reply::Hang,
        _ => Reply::Events(spoken(&["ok"]), Duration::ZERO),
    })
    .await;
    let server = Server::with(with(stub.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    client.say(json!({"type": "chat_message", "message": "slow"})).await;
    eventually("the model is asked", async || stub.got().len() == 1).await;
    assert_eq!(client.ask(json!({"type": "chat_reset", "message": {}})).await["type"], "chat_reset");
    assert_eq!(client.json().await["type"], "chat_cancelled");
    eventually("and the call dropped", async || stub.gone() == 1).await;
    say(&mut client, "after").await;
    assert_eq!(stub.got()[1].json()["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn chat_call_is_dropped_when_client_leaves() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let server = Server::with(with(stub.url("/v1"))).await;
    let mut client = server.connect(&server.admin().await).await;
    client.say(json!({"type": "chat_message", "message": "x"})).await;
    eventually("the model is asked", async || stub.got().len() == 1).await;
    drop(client);
    eventually("and the call dropped", async || stub.gone() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_chat_does_not_delay_hundred_others() {
    let fifty: Vec<String> = (0..50).map(|n| format!("{n} ")).collect();
    let stub = Stub::start(move |got| match got.json()["messages"][0]["content"].as_str().unwrap() {
        "hang" => Reply::Hang,
        "long" => Reply::Events(spoken(&fifty.iter().map(String::as_str).collect::<Vec<_>>()), Duration::from_millis(10)),
        other => Reply::Events(spoken(&[other]), Duration::ZERO),
    })
    .await;
    let mut config = with(stub.url("/v1"));
    config.chat.turns = 0;
    // Much longer than `DEADLINE`: whoever waits for the hanging call fails.
    (config.chat.timeout_seconds, config.chat.idle_seconds) = (600, 600);
    let server = Server::with(config).await;
    let token = server.admin().await;
    let mut stuck = server.connect(&token).await;
    stuck.say(json!({"type": "chat_message", "message": "hang"})).await;
    eventually("one hangs", async || stub.got().len() == 1).await;
    let mut long = server.connect(&token).await;
    long.say(json!({"type": "chat_message", "message": {"content": "long", "stream": true}})).await;
    let streaming = async {
        let mut pieces = 0;
        loop {
            let event = long.json().await;
            match event["type"].as_str().unwrap() {
                "chat_delta" => pieces += 1,
                "chat_response" => return pieces,
                _ => panic!("{event}"),
            }
        }
    };
    let chatting = async {
        let mut others = Vec::new();
        for _ in 0..100 {
            others.push(server.connect(&token).await);
        }
        let asked = others.iter_mut().map(|client| say(client, "hi"));
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| answer["message"] == "hi"), "{answers:?}");
    };
    let (pieces, ()) = tokio::join!(streaming, chatting);
    assert_eq!(pieces, 50);
    assert_eq!(stub.gone(), 0, "the hanging call is still in flight");
    stuck.fence().await; // which still waits for its answer: a hundred others had theirs first
}

#[tokio::test]
async fn chat_rate_is_per_user_and_target_may_be_device() {
    let stub = Stub::start(|_| Reply::Events(spoken(&["好"]), Duration::ZERO)).await;
    let mut config = with(stub.url("/v1"));
    config.chat.per_minute = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut client = server.connect(&ana.token).await;
    let told = client.ask(json!({"type": "chat_message", "message": "x", "target": {"device_id": device}})).await;
    assert_eq!((&told["type"], &told["status"]), (&json!("delivery_status"), &json!("queued")));
    say(&mut client, "two").await;
    assert!(say(&mut client, "three").await["message"].as_str().unwrap().contains("too many questions; retry in"));
    let mut other = server.connect(&server.admin().await).await;
    assert_eq!(say(&mut other, "mine").await["message"], "好");
}

#[tokio::test]
async fn keys_come_from_environment_or_credentials_directory() {
    for credentials in [false, true] {
        let stub = Stub::start(|_| Reply::Events(spoken(&["ok"]), Duration::ZERO)).await;
        let dir = tempfile::tempdir().unwrap();
        let chat = format!("[chat]\nresponder = \"openai\"\nmodel = \"m\"\nurl = \"{}\"\n", stub.url("/v1"));
        let handler = format!("[[handler]]\ntype = \"story\"\nurl = \"{}\"", stub.url("/story"));
        configure(dir.path(), &format!("{chat}{handler}"));
        let mut command = program(dir.path(), &["serve", "--config", "c.toml"]);
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env_remove("QY_LTY_CHAT_KEY").env_remove("CREDENTIALS_DIRECTORY");
        if !credentials {
            let refused = output(program(dir.path(), &["serve", "--config", "c.toml"])).await;
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success() && said.contains("QY_LTY_HANDLER_STORY"), "{said}");
            command.env("QY_LTY_CHAT_KEY", " k3y\n").env("QY_LTY_HANDLER_STORY", "s3cret");
        } else {
            std::fs::write(dir.path().join("chat-key"), "k3y\n").unwrap();
            std::fs::write(dir.path().join("handler-story"), "s3cret\n").unwrap();
            command.env("CREDENTIALS_DIRECTORY", dir.path());
        }
        let server = Running::spawn(command).await;
        let mut client = Client::connect(server.address, &http::log_in(server.address, "admin", ADMIN_PASSWORD).await).await;
        for kind in ["chat_message", "story"] {
            client.say(json!({"type": kind, "message": "x"})).await;
        }
        eventually("both are asked", async || stub.got().len() == 2).await;
        let got = stub.got();
        assert!(got.iter().any(|g| g.header("authorization") == Some("Bearer k3y")), "{got:?}");
        assert!(got.iter().any(|g| g.header("x-qy-lty-signature").is_some_and(|s| s.starts_with("sha256="))), "{got:?}");
    }
}
