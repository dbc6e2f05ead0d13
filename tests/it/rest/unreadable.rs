//! JSON that some parsers can't read: refused by name at every door, before anything is stored.

use serde_json::{Value, json};

use crate::support::stub::{Reply, Stub};
use crate::support::{ADMIN_PASSWORD, Server, unlimited};

/// Values that ordinary parsers refuse, or don't read alike.
fn unreadable() -> Vec<String> {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let strings = [r"\ud83d", r"\uDE00", r"x\ud83d\ud83d\ude00", r"\ude00\ud83d", r"\ud83d\u0041", r"\\\ud83d", r"\ud83d\\ude00"];
    let mut all: Vec<_> = strings.iter().map(|text| format!("\"{text}\"")).collect();
    all.extend(strings.iter().map(|text| format!(r#"{{"a":["{text}"]}}"#)));
    all.extend(strings.iter().map(|text| format!(r#"{{"{text}":1}}"#)));
    all.extend(["1e400", "[-1e400]", r#"{"a":1E+999}"#].map(str::to_owned));
    all.extend([format!("[{}]", "9".repeat(400)), deep(200), deep(5000)]);
    all.extend(["NaN", "Infinity", "-Infinity", "01", "'a'", "[1,]", "undefined", "\"\t\"", r#""\x41""#].map(str::to_owned));
    all
}

/// Values that look like them and are read by all.
const READABLE: [&str; 6] = [
    r#""\ud83d\ude00""#,
    r#""\\ud83d""#,
    r#""\u0000\uffff""#,
    r#"{"text":"1e400 [[[[ 😀"}"#,
    "[1e300,0.10000000000000000001,18446744073709551616]",
    "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
];

/// Sends `body` as it is.
async fn send(server: &Server, path: &str, token: &str, body: &str) -> (u16, Value) {
    let answer = server.http("POST", path, Some(token), Some(body)).await;
    (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap())
}

#[tokio::test]
async fn what_some_parsers_cannot_read_is_refused_before_it_is_stored() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, true).await;
    let mut client = server.connect(&ana.token).await;
    let doors = [
        ("/api/messages".to_owned(), &admin, format!(r#","user_id":{},"type":"x""#, ana.id)),
        (format!("/api/messages/user/{}", ana.id), &admin, String::new()),
        (format!("/api/messages/user/{}", ana.id), &admin, r#","delivery":"live""#.into()),
        (format!("/api/messages/user/{}", ana.id), &admin, r#","unknown":1"#.into()),
        (format!("/api/messages/device/{device}"), &ana.token, String::new()),
        ("/api/messages/broadcast".into(), &admin, String::new()),
    ];
    for value in unreadable() {
        for (path, token, more) in &doors {
            let (status, answer) = send(&server, path, token, &format!(r#"{{"message":{value}{more}}}"#)).await;
            assert_eq!((status, &answer["code"]), (400, &json!("invalid_json")), "{path} {value}: {answer}");
        }
        // In a field that nobody reads, and as the type.
        let path = format!("/api/messages/user/{}", ana.id);
        for body in [format!(r#"{{"message":1,"unknown":{value}}}"#), format!(r#"{{"message":1,"type":{value}}}"#)] {
            let (status, answer) = send(&server, &path, &admin, &body).await;
            assert_eq!((status, &answer["code"]), (400, &json!("invalid_json")), "{body}: {answer}");
        }
    }
    for queue in [format!("/api/queue/user/{}", ana.id), format!("/api/queue/device/{device}")] {
        assert_eq!(server.get(&queue, Some(&admin)).await.ok()["data"]["messages"], 0, "{queue}");
    }
    // Nothing of it has arrived: the first message is the one after.
    for value in READABLE {
        let (path, body) = (format!("/api/messages/user/{}", ana.id), format!(r#"{{"message":{value}}}"#));
        assert_eq!(send(&server, &path, &admin, &body).await.0, 200, "{value}");
        let text = client.text().await;
        assert!(text.contains(&format!(r#""message":{value},"#)), "as it was sent: {text}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

#[tokio::test]
async fn other_resources_refuse_it_by_the_same_name() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let half = r#""\ud83d""#;
    for (method, path, token, body) in [
        ("POST", "/api/auth/login", None, format!(r#"{{"username":{half},"password":"x"}}"#)),
        ("POST", "/api/auth/login", None, format!(r#"{{"username":"ana","password":{half}}}"#)),
        ("PUT", "/api/auth/password", Some(&ana.token), format!(r#"{{"current_password":"x","new_password":{half}}}"#)),
        ("POST", "/api/users", Some(&admin), format!(r#"{{"username":{half},"password":"long-enough"}}"#)),
        ("POST", "/api/devices", Some(&ana.token), format!(r#"{{"name":{half}}}"#)),
        ("POST", "/api/devices/pair", None, format!(r#"{{"name":{half}}}"#)),
        ("POST", "/api/auth/tokens", Some(&ana.token), format!(r#"{{"label":{half}}}"#)),
        ("PUT", "/api/catalog/songs", Some(&admin), format!(r#"{{"items":[{{"name":{half}}}]}}"#)),
        ("PUT", "/api/weather/Oslo", Some(&admin), format!(r#"{{"temp":1,"text":{half}}}"#)),
        ("PUT", "/api/weather/Oslo", Some(&admin), r#"{"temp":1e400}"#.into()),
        ("POST", "/api/devices", Some(&ana.token), "\u{feff}{\"name\":\"x\"}".into()),
    ] {
        let answer = server.http(method, path, token.map(String::as_str), Some(&body)).await.expect(400);
        assert_eq!(answer["code"], "invalid_json", "{path} {body}: {answer}");
    }
    let headers = [("authorization", format!("Token {}", ana.token)), ("content-type", "application/json".into())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = server.raw_http("POST", "/api/devices", &headers, b"{\"name\":\"\xff\"}").await.expect(400);
    assert_eq!(answer["code"], "invalid_json");
    server.login("admin", ADMIN_PASSWORD).await.ok();
}

#[tokio::test]
async fn repeat_of_what_was_refused_is_refused_again() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let path = format!("/api/messages/user/{}", ana.id);
    let authorization = format!("Token {admin}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json"), ("idempotency-key", "k")];
    for _ in 0..2 {
        let answer = server.raw_http("POST", &path, &headers, br#"{"message":"\ud83d"}"#).await.expect(400);
        assert_eq!(answer["code"], "invalid_json");
    }
    // The key has not been used.
    server.raw_http("POST", &path, &headers, br#"{"message":"whole"}"#).await.expect(200);
}

#[tokio::test]
async fn programs_behind_handlers_neither_get_it_nor_pass_it_on() {
    let stub = Stub::start(|got| {
        let asked = got.json()["message"].as_str().unwrap_or_default().to_owned();
        let answer = match asked.as_str() {
            "half" => r#"{"text":"\ud83d"}"#.to_owned(),
            "number" => r#"{"n":1e400}"#.into(),
            "deep" => format!("{}{}", "[".repeat(500), "]".repeat(500)),
            _ => r#"{"text":"\ud83d\ude00"}"#.into(),
        };
        Reply::Json(200, answer)
    })
    .await;
    let mut config = unlimited();
    let block = format!("type = \"story\"\nurl = \"{}\"\nsecret = \"s3cret\"", stub.url("/story"));
    config.handler = vec![toml::from_str(&block).unwrap()];
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    for asked in ["half", "number", "deep"] {
        let answer = client.ask(json!({"type": "story", "message": asked})).await;
        assert_eq!(answer["code"], "UPSTREAM_ERROR", "{asked}: {answer}");
    }
    let asked = stub.got().len();
    for value in unreadable() {
        client.send(format!(r#"{{"type":"story","message":{value}}}"#)).await;
        let answer = client.json().await;
        assert_eq!(answer["code"], "INVALID_JSON", "{value}: {answer}");
    }
    assert_eq!(stub.got().len(), asked, "the program is not asked");
    assert_eq!(client.ask(json!({"type": "story", "message": "fine"})).await["data"]["text"], "😀");
}
