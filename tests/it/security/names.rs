//! Names: of users that pass for others, serials in several spellings, texts with what nobody sees.

use crate::support::{Answer, Server, User, unlimited};
use serde_json::{Value, json};

async fn register(server: &Server, name: &str) -> Answer {
    let body = json!({"username": name, "password": "some-password"}).to_string();
    server.http("POST", "/api/auth/register", None, Some(&body)).await
}

async fn open_to_everybody() -> Server {
    let mut config = unlimited();
    config.auth = toml::from_str("registration = \"open\"").unwrap();
    Server::with(config).await
}

#[tokio::test]
async fn account_that_passes_for_another_is_refused_wherever_one_is_made() {
    let server = open_to_everybody().await;
    let admin = server.admin().await;
    let invalid = [
        "admin\u{3164}",
        "\u{115f}admin",
        "ad\u{200b}min",
        "ad\u{200d}min",
        "admin\u{fe0f}",
        "admin\u{e0061}",
        "admin\u{202e}",
        "ad\u{ad}min",
        "admin\u{ffa0}",
        "admin\u{34f}",
        "admin\u{feff}",
        "admin ",
        "\u{a0}admin",
        "ⓐdmin",
        "𝐚dmin",
        "id:1",
        "ID:99",
        "ｉｄ：1",
        "🎉",
    ];
    let taken = ["ADMIN", "Admin", "ａｄｍｉｎ", "аdmin", "аdmіn", "АDМІN", "ΑDMIN", "admın", "console", "Сonsole"];
    for (names, status, code) in [(&invalid[..], 400, "invalid"), (&taken[..], 409, "taken")] {
        for name in names {
            let body = json!({"username": name, "password": "some-password"});
            for answer in [register(&server, name).await, server.post("/api/users", &admin, body).await] {
                let refused = answer.expect(status);
                assert_eq!(refused["code"], code, "{name:?}: {refused}");
                assert!(refused["message"].as_str().unwrap().starts_with("username "), "{name:?}: {refused}");
            }
        }
    }
    assert_eq!(server.get("/api/users", Some(&admin)).await.ok()["data"].as_array().unwrap().len(), 1);
    for good in ["user@example.com", "a.b+c-d_e", "张伟", "Ana Maria", "Ελένη", "Ана", "أحمد", "김철수"] {
        assert_eq!(register(&server, good).await.expect(201)["data"]["user"]["username"], good);
        server.login(good, "some-password").await.ok();
    }
}

#[tokio::test]
async fn account_and_password_are_found_in_every_normal_form() {
    let server = open_to_everybody().await;
    let (composed, decomposed) = ("Ren\u{e9}\u{d55c}", "Rene\u{301}\u{1112}\u{1161}\u{11ab}");
    let made = register(&server, decomposed).await.expect(201);
    assert_eq!(made["data"]["user"]["username"], composed);
    assert_eq!(register(&server, composed).await.expect(409)["code"], "taken");
    for typed in [composed, decomposed, "ｒｅｎ\u{e9}\u{d55c}"] {
        server.login(typed, "some-password").await.ok();
    }
    let token = made["token"].as_str().unwrap();
    let body = json!({"current_password": "some-password", "new_password": "gr\u{fc}n-p\u{e4}ss"}).to_string();
    server.http("PUT", "/api/auth/password", Some(token), Some(&body)).await.ok();
    for typed in ["gr\u{fc}n-p\u{e4}ss", "gru\u{308}n-pa\u{308}ss"] {
        server.login(composed, typed).await.ok();
    }
    server.login(composed, "grun-pass").await.expect(401);
}

#[tokio::test]
async fn guesses_in_several_spellings_count_for_one_name() {
    let mut config = unlimited();
    config.limits.logins_per_minute = 5;
    let server = Server::with(config).await;
    let mut refused = 0;
    for name in ["admin", "ADMIN", "ａdmin", "admin\u{200b}", "\u{ad}admin", "ａｄmin", "adm\u{200d}in", "Admin"] {
        refused += u32::from(server.login(name, "wrong-password").await.status == 429);
    }
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn device_is_one_in_every_spelling_of_its_serial() {
    let server = Server::start().await;
    let (User { token: ana, .. }, User { token: bob, .. }) = (server.user("ana").await, server.user("bob").await);
    let make =
        async |token: &str, serial: &str| server.post("/api/devices", token, json!({"name": "lamp", "serial": serial})).await;
    let id = make(&ana, "AA:BB:0c").await.expect(201)["data"]["id"].clone();
    for spelling in ["AA:BB:0c", "aa:bb:0C", "AA-BB-0C", "aabb0c", "ａａ：ｂｂ：０ｃ", "AA BB 0C"] {
        for token in [&ana, &bob] {
            let refused = make(token, spelling).await.expect(409);
            assert_eq!(refused["message"], "serial is taken; choose another", "{spelling}");
        }
        // A device that pairs again is the one that it was, whatever its new firmware writes.
        let body = json!({"name": "lamp", "serial": spelling}).to_string();
        let begun = server.http("POST", "/api/devices/pair", None, Some(&body)).await.expect(201);
        let code = json!({"code": begun["data"]["code"]});
        assert_eq!(server.post("/api/devices/claim", &bob, code.clone()).await.expect(409)["code"], "taken");
        let claimed = server.post("/api/devices/claim", &ana, code).await.expect(201);
        assert_eq!((&claimed["data"]["id"], &claimed["data"]["serial"]), (&id, &json!("AA:BB:0c")), "{spelling}");
    }
    let other = make(&bob, "SN-1-11").await.expect(201)["data"]["id"].clone();
    make(&bob, "SN-11-1").await.expect(201);
    let change = async |serial: Value| {
        let body = json!({"serial": serial}).to_string();
        server.http("PATCH", &format!("/api/devices/{other}"), Some(&bob), Some(&body)).await
    };
    assert_eq!(change(json!("aabb0C")).await.expect(409)["code"], "taken");
    assert_eq!(change(json!("sn:1:11")).await.ok()["data"]["serial"], "sn:1:11", "its own, in another spelling");
    change(Value::Null).await.ok();
    make(&ana, "SN-1-11").await.expect(201);
}

#[tokio::test]
async fn texts_that_people_see_have_nothing_that_they_do_not_see() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await.token);
    let device = server.device(&ana, false).await;
    let requests = |text: &str| {
        let (path, song) = (format!("/api/devices/{device}"), json!({"items": [{"name": text, "artist": text}]}));
        [
            ("POST", "/api/devices".to_owned(), &ana, json!({"name": text})),
            ("POST", "/api/devices".to_owned(), &ana, json!({"name": "lamp", "serial": text})),
            ("POST", "/api/devices".to_owned(), &ana, json!({"name": "lamp", "model": text})),
            ("PATCH", path.clone(), &ana, json!({"name": text})),
            ("POST", format!("{path}/token"), &ana, json!({"label": text})),
            ("POST", "/api/auth/tokens".to_owned(), &ana, json!({"label": text})),
            ("POST", "/api/devices/pair".to_owned(), &ana, json!({"name": text})),
            ("PUT", "/api/catalog/songs".to_owned(), &admin, song),
        ]
    };
    for bad in [
        "a\u{3164}",
        "\u{115f}",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{2066}b",
        "x\u{fe0f}",
        "x\u{e0061}",
        "a\u{200d}b",
        "a\nb",
        "a\u{1b}[2J",
    ] {
        for (method, path, token, body) in requests(bad) {
            let refused = server.http(method, &path, Some(token), Some(&body.to_string())).await.expect(400);
            let text = refused["message"].as_str().unwrap();
            assert!(text.contains("no control or invisible") && text.contains("remove U+"), "{method} {path} {bad:?}: {text}");
        }
    }
    for good in ["厨房的灯 ❤\u{fe0f}", "👩\u{200d}💻"] {
        for (method, path, token, body) in requests(good).into_iter().filter(|(.., body)| body["serial"].is_null()) {
            let answer = server.http(method, &path, Some(token), Some(&body.to_string())).await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
        }
    }
    // What is sent is nobody's name: it arrives as it is.
    let mut client = server.connect(&ana).await;
    let text = "a\u{202e}b\u{200d}\u{3164}\u{e0061}";
    server.post("/api/messages/user/2", &admin, json!({"message": text})).await.ok();
    assert_eq!(client.json().await["message"], text);
}
