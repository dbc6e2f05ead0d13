//! Attacks with single frames and messages: broken framing, broken text, too much of it, broken JSON, fragments without end.

use crate::support::api::Config;
use crate::support::load::Load;
use crate::support::program::Running;
use crate::support::raw::{CLOSE, FIN, PING, PONG, Raw, TEXT, frame, head, text};
use crate::support::{Server, unlimited};
use serde_json::{Value, json};

async fn limited(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = unlimited();
    config.limits.messages_per_minute = 0;
    config.limits.user_messages_per_minute = 0;
    change(&mut config);
    Server::with(config).await
}

/// Sends each of `attacks` on a connection of its own and expects it to be closed with `code`, and nothing to be answered.
async fn all_close_with(code: u16, attacks: Vec<(String, Vec<u8>)>) {
    let server = limited(|_| ()).await;
    let ana = server.user("ana").await;
    for (what, bytes) in attacks {
        let mut raw = Raw::session(server.address, &ana.token).await;
        raw.pour(&bytes).await;
        let (closed, event) = raw.closed().await;
        assert_eq!((closed, event), (code, Value::Null), "{what}");
    }
    let mut raw = Raw::session(server.address, &ana.token).await;
    lives(&mut raw, "afterwards").await;
}

/// A ping is answered, and nothing else was on its way.
async fn lives(raw: &mut Raw, what: &str) {
    raw.send(&text(r#"{"type":"ping","ref":"alive?"}"#)).await;
    let event = raw.event().await;
    assert_eq!((&event["type"], &event["ref"]), (&json!("pong"), &json!("alive?")), "{what}: {event}");
}

const HELLO: &[u8] = br#"{"type":"ping"}"#;

#[tokio::test]
async fn a01_broken_frame_is_closed_with_1002() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let mut attacks = vec![
        ("an unmasked text".to_owned(), unmasked(FIN | TEXT, HELLO)),
        ("an unmasked ping".into(), unmasked(FIN | PING, b"")),
        ("an unmasked close".into(), unmasked(FIN | CLOSE, &[0x03, 0xe8])),
        ("an unmasked fragment".into(), unmasked(TEXT, b"{")),
        ("a fragmented ping".into(), frame(PING, b"x")),
        ("a fragmented pong".into(), frame(PONG, b"x")),
        ("a fragmented close".into(), frame(CLOSE, &[0x03, 0xe8])),
        ("a continuation of nothing".into(), frame(FIN, HELLO)),
        ("an open continuation of nothing".into(), frame(0, HELLO)),
        ("a text inside a text".into(), [frame(TEXT, b"{"), frame(FIN | TEXT, HELLO)].concat()),
        ("a binary message inside a text".into(), [frame(TEXT, b"{"), frame(FIN | 2, b"")].concat()),
        ("a second beginning".into(), [frame(TEXT, b"{"), frame(TEXT, b"}")].concat()),
        ("half a close code".into(), frame(FIN | CLOSE, &[0x03])),
    ];
    for bit in [0x40, 0x20, 0x10] {
        attacks.push((format!("reserved bit {bit:#x}"), frame(FIN | TEXT | bit, HELLO)));
        attacks.push((format!("reserved bit {bit:#x} on a ping"), frame(FIN | PING | bit, b"")));
        let continued = [frame(TEXT, b"{"), frame(FIN | bit, b"}")].concat();
        attacks.push((format!("reserved bit {bit:#x} on a continuation"), continued));
    }
    for opcode in (3..=7).chain(11..=15) {
        attacks.push((format!("opcode {opcode}"), frame(FIN | opcode, b"")));
        attacks.push((format!("opcode {opcode} inside a text"), [frame(TEXT, b"{"), frame(FIN | opcode, b"")].concat()));
    }
    for control in [PING, PONG, CLOSE] {
        attacks.push((format!("126 bytes in control frame {control}"), frame(FIN | control, &[b'x'; 126])));
        attacks.push((format!("64 KiB in control frame {control}"), frame(FIN | control, &[b'x'; 65_536])));
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 65_535] {
        attacks.push((format!("close code {code}"), frame(FIN | CLOSE, &code.to_be_bytes())));
    }
    all_close_with(1002, attacks).await;
}

#[tokio::test]
async fn a01_message_before_broken_frame_is_answered() {
    let server = limited(|_| ()).await;
    let ana = server.user("ana").await;
    let said = r#"{"type":"ping","ref":"1"}"#.as_bytes();
    for before in [vec![frame(FIN | TEXT, said)], vec![frame(TEXT, &said[..5]), frame(FIN, &said[5..])]] {
        let mut raw = Raw::session(server.address, &ana.token).await;
        raw.send(&[frame(FIN | PING, b"whole"), before.concat(), frame(FIN, b"of nothing")].concat()).await;
        let (code, event) = raw.closed().await;
        assert_eq!((code, &event["type"], &event["ref"]), (1002, &json!("pong"), &json!("1")));
    }
}

/// A chat message whose text is exactly these bytes, in one frame.
fn chat(said: &[u8]) -> Vec<u8> {
    [br#"{"type":"chat_message","message":""#, said, br#""}"#].concat()
}

#[tokio::test]
async fn a02_text_that_is_not_utf8_is_closed_with_1007() {
    let bad: [(&str, &[u8]); 12] = [
        ("a byte that never occurs", b"\xff"),
        ("another one", b"\xc1\xbf"),
        ("a continuation byte alone", b"\x80"),
        ("a cut character", b"\xe4\xbd"),
        ("an overlong slash in two", b"\xc0\xaf"),
        ("an overlong slash in three", b"\xe0\x80\xaf"),
        ("an overlong slash in four", b"\xf0\x80\x80\xaf"),
        ("an overlong NUL", b"\xc0\x80"),
        ("the first surrogate", b"\xed\xa0\x80"),
        ("the last surrogate", b"\xed\xbf\xbf"),
        ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
    ];
    let mut attacks = Vec::new();
    for (what, bytes) in bad {
        let whole = chat(bytes);
        attacks.push((what.to_owned(), frame(FIN | TEXT, &whole)));
        for cut in 0..=bytes.len() {
            let (one, two) = whole.split_at(chat(b"").len() - 2 + cut);
            let fragments = [frame(TEXT, one), frame(FIN | PING, b"between"), frame(FIN, two)].concat();
            attacks.push((format!("{what}, cut after {cut} bytes"), fragments));
        }
    }
    attacks.push(("the second half is another one's".into(), [frame(TEXT, b"\"\xe4\xbd"), frame(FIN, b"\xe4\"")].concat()));
    attacks.push(("the end is missing".into(), [frame(TEXT, b"\xe4"), frame(0, b"\xbd"), frame(FIN, b"")].concat()));
    attacks.push(("a close reason".into(), frame(FIN | CLOSE, b"\x03\xe8\xff")));
    all_close_with(1007, attacks).await;
}

#[tokio::test]
async fn a02_characters_split_by_fragments_are_accepted() {
    let server = limited(|_| ()).await;
    let ana = server.user("ana").await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    let said = "你好，𝄞 \u{10ffff}";
    let whole = json!({"type": "chat_message", "message": said, "ref": "雨"}).to_string().into_bytes();
    let mut ways: Vec<Vec<u8>> = (0..=whole.len())
        .map(|cut| [frame(TEXT, &whole[..cut]), frame(FIN | PING, b"between"), frame(FIN, &whole[cut..])].concat())
        .collect();
    let bytes = whole.iter().map(|&byte| frame(0, &[byte]));
    ways.push([frame(TEXT, b"")].into_iter().chain(bytes).chain([frame(FIN, b"")]).flatten().collect());
    for (n, way) in ways.iter().enumerate() {
        raw.send(way).await;
        let event = raw.event().await;
        assert_eq!(event["message"], format!("收到消息:{said}"), "way {n}: {event}");
        assert_eq!(event["ref"], "雨");
    }
}

/// 50 times too much at once, in four ways; the program may take none of it into its memory.
#[tokio::test]
async fn a03_message_over_limit_is_closed_with_1009_without_memory() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        "[limits]\nlogins_per_minute = 0\nconnects_per_minute = 0\nmessages_per_minute = 0\nuser_messages_per_minute = 0";
    let server = Running::configured(dir.path(), limits).await;
    let load = Load::prepare(server.address, 1).await;
    let (address, token) = (server.address, &load.recipients[0].token);
    // Warm: what is allowed, at its largest, as often.
    for _ in 0..50 {
        let mut raw = Raw::session(address, token).await;
        raw.send(&frame(FIN | TEXT, &[b'x'; 65_536])).await;
        assert_eq!(raw.event().await["code"], "MESSAGE_TOO_LARGE");
        raw.send(&frame(FIN | CLOSE, &[0x03, 0xe8])).await;
        assert_eq!(raw.close_code().await, 1000);
    }
    let flood = vec![b'x'; 4 << 20];
    let fragments = std::iter::once(frame(TEXT, &[b'x'; 1000])).chain((0..4000).map(|_| frame(0, &[b'x'; 1000])));
    let attacks = [
        ("2^63 bytes", [head(FIN | TEXT, 1 << 63), flood.clone()].concat()),
        ("2^64 - 1 bytes", [head(FIN | TEXT, u64::MAX), flood.clone()].concat()),
        ("1 GiB", [head(FIN | TEXT, 1 << 30), flood].concat()),
        ("65,537 bytes announced", head(FIN | TEXT, 65_537)),
        ("65,537 bytes", frame(FIN | TEXT, &[b'x'; 65_537])),
        ("two fragments", [frame(TEXT, &[b'x'; 65_536]), frame(FIN, b"x")].concat()),
        ("4 MB of fragments", fragments.flatten().collect()),
    ];
    server.forget_peak();
    let (before, _) = server.memory();
    for n in 0..50 {
        let (what, bytes) = &attacks[n % attacks.len()];
        let mut raw = Raw::session(address, token).await;
        raw.pour(bytes).await;
        assert_eq!(raw.close_code().await, 1009, "{what}");
    }
    let (_, peak) = server.memory();
    println!("{} KiB before, at most {} KiB more", before >> 10, (peak.saturating_sub(before)) >> 10);
    assert!(peak < before + (1 << 20), "{before} bytes before, {peak} at most");
}

/// A message and the code of the error that answers it; `None`: it is answered like any other.
type Strange = (String, Option<&'static str>);

const JSON: Option<&str> = Some("INVALID_JSON");
const FIELD: Option<&str> = Some("VALIDATION_ERROR");
const TYPE: Option<&str> = Some("UNSUPPORTED_TYPE");

/// A chat message with `message` as it is.
fn chatting(message: &str) -> String {
    format!(r#"{{"type":"chat_message","message":{message}}}"#)
}

/// A ping with `message`, which nobody looks into.
fn ping(message: &str) -> String {
    format!(r#"{{"type":"ping","message":{message}}}"#)
}

/// Messages that are invalid, or only unusual.
fn strange_messages() -> Vec<Strange> {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let many = (0..5000).map(|n| format!(r#""k{n}":1,"#)).collect::<String>();
    vec![
        (deep(10_000), FIELD),
        ("[".repeat(65_000), JSON),
        (r#"{"a":"#.repeat(10_000), JSON),
        (chatting(&deep(10_000)), FIELD),
        (ping(&deep(10_000)), None),
        (ping(&deep_objects), None),
        (deep_objects, FIELD),
        (r#"{"type":"ping","type":"ping"}"#.into(), FIELD),
        (r#"{"type":"ping","type":"chat_message","message":"x"}"#.into(), FIELD),
        (r#"{"type":"chat_message","message":{"content":"a","content":"b"}}"#.into(), FIELD),
        (r#"{"type":"ping","x":1,"x":2}"#.into(), None),
        (format!(r#"{{{many}"type":"ping"}}"#), None),
        (chatting("1e999"), FIELD),
        (ping("1e999"), None),
        (ping("-1e999999999999999999999"), None),
        (r#"{"type":"ping","ref":1e999}"#.into(), FIELD),
        (r#"{"type":"ping","timestamp":1e999}"#.into(), FIELD),
        (ping(&"9".repeat(60_000)), None),
        (chatting(&"9".repeat(60_000)), FIELD),
        (format!(r#"{{"type":"ack","message":{{"id":{}}}}}"#, "9".repeat(1000)), FIELD),
        (r#"{"type":"ack","message":{"id":18446744073709551615}}"#.into(), FIELD),
        (chatting(r#""\ud800""#), JSON),
        (chatting(r#""\udc00\ud800""#), JSON),
        (ping(r#""\ud800""#), JSON),
        (r#"{"type":"\ud800"}"#.into(), JSON),
        (r#"{"type":"ping","ref":"\ud800"}"#.into(), JSON),
        (ping(r#""\ud83d\ude00 \\ud800""#), None),
        ("{\"type\":\"ping\",\"message\":\"\0\"}".into(), JSON),
        ("{\"type\":\"pi\0ng\"}".into(), JSON),
        ("\0".into(), JSON),
        ("{\"type\":\"ping\"}\0".into(), JSON),
        (r#"{"type":"ping\u0000"}"#.into(), TYPE),
        (r#"{"type":"Ping"}"#.into(), TYPE),
        (r#"{"type":""}"#.into(), TYPE),
        (format!(r#"{{"type":"{}"}}"#, "x".repeat(60_000)), TYPE),
        (r#"["ping"]"#.into(), FIELD),
        (r#"[{"type":"ping"}]"#.into(), FIELD),
        ("{\"type\":\"ping\"}{\"type\":\"ping\"}".into(), JSON),
        ("{\"type\":\"ping\"}\n{\"type\":\"ping\"}".into(), JSON),
        ("\u{feff}{\"type\":\"ping\"}".into(), JSON),
        ("\u{2028}{\"type\":\"ping\"}".into(), JSON),
        (r#"{type:"ping"}"#.into(), JSON),
        (r#"{"type":"ping",}"#.into(), JSON),
        (r#"{"type":"ping"/**/}"#.into(), JSON),
        (String::new(), JSON),
        (" ".repeat(65_000), JSON),
        (format!(r#"{}{{"type":"ping"}}"#, " ".repeat(60_000)), None),
        ("{}".into(), FIELD),
        (chatting(r#""\u0000""#), None),
    ]
}

/// Values of the wrong type wherever one can stand, and what is no value at all.
fn strange_values() -> Vec<Strange> {
    let mut all = Vec::new();
    for value in ["null", "true", "0", "-0", "[]", "{}", "1e999"] {
        all.push((format!(r#"{{"type":{value}}}"#), FIELD));
        all.push((format!(r#"{{"type":"sing","message":{{"song":{value}}}}}"#), FIELD.filter(|_| value != "null")));
        all.push((format!(r#"{{"type":"ping","ref":{value}}}"#), FIELD.filter(|_| value != "null")));
        all.push((chatting(value), FIELD));
        all.push((value.into(), FIELD));
    }
    all.extend(["NaN", "Infinity", "-Infinity", "0x1", "01", "+1", "1.", ".5", "--1", "tru"].map(|value| (ping(value), JSON)));
    all
}

#[tokio::test]
async fn a04_broken_json_gets_error_and_connection_stays_open() {
    let server = limited(|c| c.limits.max_message_chars = 0).await;
    let ana = server.user("ana").await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    for (said, code) in strange_messages().into_iter().chain(strange_values()) {
        let what: String = said.chars().take(60).collect();
        raw.send(&text(&said)).await;
        let event = raw.event().await;
        match code {
            Some(code) => {
                assert_eq!((&event["type"], &event["code"]), (&json!("error"), &json!(code)), "{what:?}: {event}");
                assert!(event["message"].as_str().is_some_and(|m| !m.is_empty()), "{what:?}: {event}");
            }
            None => assert_ne!(event["type"], "error", "{what:?}: {event}"),
        }
        lives(&mut raw, &what).await;
    }
    raw.send(&frame(FIN | 2, &[0xff; 1000])).await;
    assert_eq!(raw.event().await["code"], "VALIDATION_ERROR", "a binary frame");
    lives(&mut raw, "a binary frame").await;
}

#[tokio::test]
async fn a04_deep_json_within_usual_limits_gets_error() {
    let server = limited(|_| ()).await;
    let ana = server.user("ana").await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    for (said, code) in [
        ("[".repeat(10_000), "INVALID_JSON"),
        (format!("{}{}", "[".repeat(5000), "]".repeat(5000)), "VALIDATION_ERROR"),
        (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "MESSAGE_TOO_LARGE"),
    ] {
        raw.send(&text(&said)).await;
        assert_eq!(raw.event().await["code"], code);
        lives(&mut raw, code).await;
    }
}

/// Frames that never become a message, more of them than a connection may send in a minute.
fn endless(kind: &str, count: usize) -> Vec<u8> {
    let (first, next) = match kind {
        "empty continuations" => (frame(TEXT, b""), frame(0, b"")),
        "one-byte fragments" => (frame(TEXT, b"x"), frame(0, b"x")),
        "empty binary continuations" => (frame(2, b""), frame(0, b"")),
        "pings between fragments" => (frame(TEXT, b"x"), frame(FIN | PING, b"")),
        "pongs nobody asked for" => (frame(FIN | PONG, b""), frame(FIN | PONG, b"")),
        other => panic!("{other}"),
    };
    [first, next.repeat(count - 1)].concat()
}

#[tokio::test]
async fn a06_endless_fragments_are_closed_with_4008() {
    let server = limited(|_| ()).await; // the usual 6000 a minute
    let ana = server.user("ana").await;
    let mut watch = Raw::session(server.address, &ana.token).await;
    for kind in [
        "empty continuations",
        "one-byte fragments",
        "empty binary continuations",
        "pings between fragments",
        "pongs nobody asked for",
    ] {
        let mut raw = Raw::session(server.address, &ana.token).await;
        raw.pour(&endless(kind, 20_000)).await;
        let (code, event) = raw.closed().await;
        assert_eq!((code, &event["type"], &event["code"]), (4008, &json!("disconnect"), &json!(4008)), "{kind}");
        assert!(event["retry_after"].is_number(), "{kind}: {event}"); // 0 where the ten milliseconds have passed already
        lives(&mut watch, kind).await;
    }
}

#[tokio::test]
async fn a06_fragments_within_limit_are_accepted() {
    let server = limited(|c| c.limits.frames_per_minute = 60).await; // one more each second
    let ana = server.user("ana").await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    let message = br#"{"type":"ping","ref":"in pieces"}"#;
    let pieces = message.iter().flat_map(|&byte| frame(0, &[byte]));
    let all: Vec<u8> =
        frame(TEXT, b"").into_iter().chain(pieces).chain(frame(0, b"").repeat(25)).chain(frame(FIN, b"")).collect();
    assert_eq!(message.len() + 27, 60);
    raw.send(&all).await;
    assert_eq!(raw.event().await["ref"], "in pieces");
    for n in 0..200 {
        lives(&mut raw, &format!("whole message {n}")).await;
    }
    raw.pour(&frame(TEXT, b"").into_iter().chain(frame(0, b"").repeat(10)).collect::<Vec<u8>>()).await;
    assert_eq!(raw.close_code().await, 4008);
}
