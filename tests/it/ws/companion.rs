//! Weather from several sources, the catalogue of songs and dances, and message types of one's own.

use crate::support::api::Config;
use crate::support::stub::{Got, Reply, Stub};
use crate::support::{Client, Server, roomy};
use serde_json::{Value, json};

async fn weather(client: &mut Client, city: &str) -> Value {
    client.ask(json!({"type": "weather", "message": {"city": city}})).await
}

/// QWeather as its documentation has it: one known city.
fn qweather(got: &Got) -> Reply {
    assert_eq!(got.header("x-qw-api-key"), Some("k3y"));
    let known = got.line.contains("location=%E6%9D%AD%E5%B7%9E"); // 杭州
    if got.line.starts_with("GET /geo/v2/city/lookup?") {
        let found = r#"{"code":"200","location":[{"name":"杭州","id":"101210101","country":"中国"}],"refer":{}}"#;
        return Reply::Json(200, if known { found } else { r#"{"code":"404"}"# }.into());
    }
    assert_eq!(got.line, "GET /v7/weather/now?location=101210101");
    let now = r#"{"code":"200","updateTime":"2026-06-30T22:00+08:00","now":{"obsTime":"2026-06-30T21:40+08:00","temp":"24","text":"多云","icon":"101"}}"#;
    Reply::Json(200, now.into())
}

fn with_qweather(stub: &Stub) -> Config {
    let mut config = roomy();
    config.weather.qweather = toml::from_str(&format!("host = \"{}\"\nkey = \"k3y\"", stub.url(""))).unwrap();
    config
}

#[tokio::test]
async fn concurrent_weather_requests_share_one_upstream_call() {
    let stub = Stub::start(qweather).await;
    let mut config = with_qweather(&stub);
    config.weather.simulated = false;
    let server = Server::with(config).await;
    let token = server.admin().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(server.connect(&token).await);
    }
    let cities = ["杭州", "hangzhou", "Hang Zhou", "杭州市"];
    let asked = clients.iter_mut().enumerate().map(|(n, client)| weather(client, cities[n % 4]));
    for answer in futures_util::future::join_all(asked).await {
        let data = &answer["data"];
        assert_eq!((&data["source"], &data["weather"]["now"]["temp"]), (&json!("qweather"), &json!("24")), "{answer}");
        assert_eq!(data["weather"]["updateTime"], "2026-06-30T14:00:00.000000+00:00");
        assert!(cities.contains(&data["city"]["name"].as_str().unwrap()), "as it was asked for");
    }
    assert_eq!(stub.got().len(), 2, "one look-up, one weather");
    for _ in 0..3 {
        let error = weather(&mut clients[0], "Atlantis").await;
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("UPSTREAM_ERROR"), &json!("Weather query failed: no source knows this city"))
        );
    }
    assert_eq!(stub.got().len(), 3, "not knowing is remembered, too");
}

#[tokio::test]
async fn qweather_failure_is_reported() {
    type Case = (fn() -> Reply, &'static str);
    let no_place = r#"{"error":{"status":400,"type":"https://dev.qweather.com/docs/resource/error-code/#no-such-location","title":"No Such Location"}}"#;
    let no_place: &'static str = no_place;
    let cases: [Case; 6] = [
        (|| Reply::Json(401, "{}".into()), "answered 401"),
        (|| Reply::Json(200, r#"{"code":"402"}"#.into()), "answered 402"),
        (|| Reply::Json(200, "<html>".into()), "can't be read"),
        (|| Reply::Cut(r#"{"code":"#.into()), "broke off"),
        (|| Reply::Endless, "too large"),
        (|| Reply::Json(400, "{}".into()), "answered 400"),
    ];
    for (reply, why) in cases {
        let stub = Stub::start(move |_| reply()).await;
        let mut config = with_qweather(&stub);
        config.weather.simulated = false;
        let server = Server::with(config).await;
        let mut client = server.connect(&server.admin().await).await;
        let message = weather(&mut client, "Atlantis").await["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("Weather query failed: ") && message.contains(why), "{why}: {message}");
    }
    let stub = Stub::start(move |_| Reply::Json(400, no_place.into())).await;
    let mut config = with_qweather(&stub);
    config.weather.simulated = false;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    for _ in 0..3 {
        let message = weather(&mut client, "Atlantis").await["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with("no source knows this city"), "{message}");
    }
    assert_eq!(stub.got().len(), 1);
}

#[tokio::test]
async fn silent_qweather_times_out_without_blocking_connection() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let mut config = with_qweather(&stub);
    config.weather.simulated = false;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    client.say(json!({"type": "weather", "message": {"city": "杭州"}})).await;
    client.fence().await; // meanwhile the connection goes on
    assert_eq!(client.json().await["message"], "Weather query failed: the source did not answer in time");
}

#[tokio::test]
async fn failing_qweather_falls_back_to_simulation() {
    let stub = Stub::start(|_| Reply::Json(500, "{}".into())).await;
    let server = Server::with(with_qweather(&stub)).await;
    let mut client = server.connect(&server.admin().await).await;
    assert_eq!(weather(&mut client, "杭州").await["data"]["source"], "simulated");
    let mut config = with_qweather(&stub);
    config.weather.simulated = false;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    for _ in 0..8 {
        let error = weather(&mut client, "杭州").await;
        assert!(error["message"].as_str().unwrap().starts_with("Weather query failed: the source "), "{error}");
    }
    assert_eq!(stub.got().len(), 6, "one, then five more until it is left alone");
}

#[tokio::test]
async fn fresh_observation_precedes_other_sources() {
    let mut config = roomy();
    config.weather.stale_seconds = 600;
    let server = Server::with(config).await;
    let (ana, admin) = (server.user("ana").await, server.admin().await);
    let device = server.device(&ana.token, false).await;
    let station = &server.device_token(&ana.token, device).await;
    let put = async |city: &str, token: &str, body: Value| {
        server.http("PUT", &format!("/api/weather/{city}"), Some(token), Some(&body.to_string())).await
    };
    put("beijing", station, json!({"temp": -3.4, "text": "小雪", "icon": "400"})).await.ok();
    let mut client = server.connect(&ana.token).await;
    let answer = weather(&mut client, "北京").await;
    let data = &answer["data"];
    assert_eq!((&data["source"], &data["city"]["name"]), (&json!("observation"), &json!("北京")));
    assert_eq!(data["weather"]["now"], json!({"temp": "-3.4", "text": "小雪", "icon": "400"}));
    put("%E5%8C%97%E4%BA%AC", &admin, json!({"temp": "5", "at": "2020-01-01T00:00:00Z"})).await.ok();
    assert_eq!(weather(&mut client, "北京").await["data"]["weather"]["now"]["temp"], "-3.4", "an older one changes nothing");
    put("haerbin", &admin, json!({"temp": -0.4, "at": "2020-01-01T00:00:00Z"})).await.ok();
    assert_eq!(weather(&mut client, "哈尔滨").await["data"]["source"], "simulated", "years old");
    for (temp, arrives) in [
        (json!(-0.4), "-0.4"),
        (json!("-3.40"), "-3.4"),
        (json!(20), "20"),
        (json!(20.0), "20"),
        (json!(-0.0), "0"),
        (json!("21.0625"), "21.0625"),
        (json!(23.399999618530273), "23.4"),
    ] {
        put("New%20York", station, json!({"temp": temp})).await.ok();
        assert_eq!(weather(&mut client, "new york").await["data"]["weather"]["now"]["temp"], arrives, "{temp}");
    }
    for (body, field) in [
        (json!({"temp": "warm"}), "temp"),
        (json!({"temp": 500}), "temp"),
        (json!({"temp": 100.01}), "temp"),
        (json!({"temp": "NaN"}), "temp"),
        (json!({}), "temp"),
        (json!({"temp": 1, "at": "2999-01-01T00:00:00Z"}), "at"),
        (json!({"temp": 1, "text": "\u{202e}x"}), "text"),
    ] {
        let error = put("beijing", &admin, body).await.expect(400);
        assert!(error["message"].as_str().unwrap().contains(field), "{error}");
    }
    put("beijing", &ana.token, json!({"temp": 1})).await.expect(403);
}

#[tokio::test]
async fn catalog_restricts_songs_and_dances() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut client = server.connect(&ana.token).await;
    let sing = |song: &str| json!({"type": "sing", "message": {"song": song}});
    assert_eq!(client.ask(sing("anything")).await["type"], "sing_response");
    let put = async |path: &str, body: Value| server.http("PUT", path, Some(&admin), Some(&body.to_string())).await;
    let songs = json!({"items": [{"name": "童年", "artist": "罗大佑"}, {"name": "Twinkle Star"}, {"name": "Twinkle Stars 2"}]});
    assert_eq!(put("/api/catalog/songs", songs).await.ok()["data"].as_array().unwrap().len(), 3);
    put("/api/catalog/dances", json!({"items": [{"name": "圆圈", "style": "快"}]})).await.ok();
    assert_eq!(client.ask(sing("TWINKLE star")).await["type"], "sing_response");
    assert_eq!(client.ask(sing("")).await["type"], "sing_response", "the device chooses");
    let error = client.ask(sing("Twinkle Tsar")).await;
    assert_eq!(error["code"], "VALIDATION_ERROR");
    assert!(error["message"].as_str().unwrap().ends_with("did you mean Twinkle Star, Twinkle Stars 2?"), "{error}");
    let error = client.ask(json!({"type": "dance", "message": {"dance": "方块舞曲"}})).await;
    assert!(error["message"].as_str().unwrap().ends_with("no device knows the dance \"方块舞曲\""), "{error}");
    assert_eq!(client.ask(json!({"type": "dance", "message": {"action": "stop", "dance": "x"}})).await["type"], "dance_response");

    let server = server.restart().await;
    let mut client = server.connect(&ana.token).await;
    assert_eq!(client.ask(sing("nothing")).await["type"], "error", "the catalogue is kept");
    server.http("DELETE", "/api/catalog/songs", Some(&server.admin().await), None).await.ok();
    assert_eq!(client.ask(sing("nothing")).await["type"], "sing_response");
    for items in [r#"[{"name":" "}]"#, r#"[{"name":"A"},{"name":" a "}]"#] {
        let body = format!(r#"{{"items":{items}}}"#);
        let error = server.http("PUT", "/api/catalog/songs", Some(&admin), Some(&body)).await.expect(400);
        assert!(error["message"].as_str().unwrap().contains("].name"), "{error}");
    }
}

/// A configuration with the type `story` behind `url`.
fn with_story(url: String) -> Config {
    let mut config = roomy();
    let text = format!("type = \"story\"\nurl = \"{url}\"\nsecret = \"s3cret\"\ntimeout_seconds = 1\nmax_bytes = 1000\n");
    config.handler = vec![toml::from_str(&text).unwrap()];
    config
}

#[tokio::test]
async fn own_message_type_is_posted_and_answered() {
    let stub = Stub::start(|_| Reply::Json(200, r#"{"title":"灯", "pages":[1.50]}"#.into())).await;
    let server = Server::with(with_story(stub.url("/story"))).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let mut client = server.connect(&ana.token).await;
    client.send(r#"{"type":"story","message":{"about":"灯", "n":1.50},"ref":"r"}"#).await;
    let text = client.text().await;
    assert!(
        text.starts_with(r#"{"type":"story_response","data":{"title":"灯", "pages":[1.50]},"ref":"r","timestamp":"#),
        "{text}"
    );
    let got = &stub.got()[0];
    let body = got.json();
    assert_eq!(
        (&body["type"], &body["user_id"], &body["device_id"], &body["ref"]),
        (&json!("story"), &json!(ana.id), &json!(device), &json!("r"))
    );
    assert!(
        got.line == "POST /story" && got.body.contains(r#""message":{"about":"灯", "n":1.50}"#),
        "as it was written: {}",
        got.body
    );
    // The same as: printf TIME.BODY | openssl dgst -sha256 -hmac s3cret
    let (time, signature) = (got.header("x-qy-lty-timestamp").unwrap(), got.header("x-qy-lty-signature").unwrap());
    assert_eq!(signature, format!("sha256={}", hmac(&format!("{time}.{}", got.body))));

    let told = client.ask(json!({"type": "story", "message": "x", "target": "device"})).await;
    assert_eq!((&told["type"], &told["status"]), (&json!("delivery_status"), &json!("queued")));
    let mut lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    let story = lamp.json().await;
    assert_eq!((&story["type"], &story["id"], &story["data"]["title"]), (&json!("story_response"), &told["id"], &json!("灯")));
    let unknown = server.connect(&server.admin().await).await.ask(json!({"type": "saga", "message": 1})).await;
    assert_eq!(unknown["code"], "UNSUPPORTED_TYPE");
}

/// HMAC-SHA256 with the key `s3cret`, in hexadecimal.
fn hmac(text: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn own_handler_failure_is_reported() {
    let other = Stub::start(|_| Reply::Json(200, "1".into())).await;
    let elsewhere = other.url("/stolen").replace("127.0.0.1", "localhost");
    type Case = (Box<dyn Fn() -> Reply + Send + Sync>, &'static str);
    let replies: [Case; 5] = [
        (Box::new(|| Reply::Json(500, "{}".into())), "answered 500"),
        (Box::new(|| Reply::Json(200, "not json".into())), "can't be read"),
        (Box::new(|| Reply::Endless), "too large"),
        (Box::new(|| Reply::Hang), "in time"),
        (Box::new(move || Reply::Redirect(elsewhere.clone())), "answered 307"),
    ];
    for (reply, why) in replies {
        let stub = Stub::start(move |_| reply()).await;
        let server = Server::with(with_story(stub.url("/"))).await;
        let mut client = server.connect(&server.admin().await).await;
        let event = client.ask(json!({"type": "story", "message": 1, "ref": "r"})).await;
        assert_eq!((&event["code"], &event["ref"]), (&json!("UPSTREAM_ERROR"), &json!("r")), "{why}");
        assert!(event["message"].as_str().unwrap().contains(why), "{why}: {event}");
        client.fence().await;
    }
    assert!(other.got().is_empty(), "nothing follows a redirect to another host");
}
