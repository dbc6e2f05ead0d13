//! Keys that strangers can make: one machine with many addresses, one user with many tokens or keys.

use std::net::Ipv4Addr;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::raw::{HERE, ask, connect, exchange, login, request};
use crate::support::{ADMIN_PASSWORD, Server, User, eventually, roomy, unlimited};

/// A server that sees the addresses that a proxy on this machine names.
async fn proxied(change: impl FnOnce(&mut crate::support::api::Config)) -> Server {
    let mut config = unlimited();
    config.server = toml::from_str("trusted_proxies = [\"127.0.0.1\"]").unwrap();
    change(&mut config);
    Server::with(config).await
}

/// Addresses that one machine of a network can take as it likes: link-local ones of both versions, and those of a /64.
const FREE: [fn(u16) -> String; 4] = [
    |n| format!("fe80::bad:{n:x}"),
    |n| format!("fe80::{n:x}%eth0"),
    |n| format!("169.254.{}.{}", n / 200, 1 + n % 200),
    |n| format!("2001:db8:1:2::{n:x}"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a22_number_of_guesses_does_not_grow_with_the_addresses_of_a_machine() {
    for free in FREE {
        let server = proxied(|config| config.limits.logins_per_minute = 10).await;
        let (server, start) = (&server, Instant::now());
        let statuses: Vec<u16> = stream::iter(0..400u16)
            .map(|n| async move {
                let from = free(n);
                login(HERE, server.address, &format!("user{n}"), "a-wrong-password", &[("X-Forwarded-For", &from)]).await.status
            })
            .buffer_unordered(8)
            .collect()
            .await;
        let most = 40.0 * (1.0 + start.elapsed().as_secs_f64() / 60.0) + 1.0;
        let guesses = statuses.iter().filter(|status| **status == 401).count();
        assert!((10..=most as usize).contains(&guesses), "{} guesses as {}, at most {most}", guesses, free(1));
        assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
        // Whoever has another kind of address is not concerned.
        for other in ["192.168.1.7", "2001:db8:2::1"] {
            let owner = login(HERE, server.address, "admin", ADMIN_PASSWORD, &[("X-Forwarded-For", other)]).await;
            assert_eq!(owner.status, 200, "{other}");
        }
    }
}

#[tokio::test]
async fn a22_neighbour_with_one_address_leaves_the_others_their_guesses() {
    let server = proxied(|config| config.limits.logins_per_minute = 10).await;
    let guess =
        async |from: &str| login(HERE, server.address, "nobody", "a-wrong-password", &[("X-Forwarded-For", from)]).await.status;
    for n in 0..15 {
        assert_eq!(guess("fe80::1").await, if n < 10 { 401 } else { 429 }, "{n}");
    }
    let owner = login(HERE, server.address, "admin", ADMIN_PASSWORD, &[("X-Forwarded-For", "fe80::2")]).await;
    assert_eq!(owner.status, 200, "{owner:?}");
}

#[tokio::test]
async fn a22_pairings_and_handshakes_of_a_link_are_bounded() {
    for free in FREE {
        let server = proxied(|config| {
            (config.limits.pairings_per_minute, config.limits.connects_per_minute, config.limits.refusals_per_minute) = (3, 3, 3);
        })
        .await;
        let (mut begun, mut polled) = (0, 0);
        for n in 0..30 {
            let from = free(n);
            let headers = [("X-Forwarded-For", from.as_str())];
            begun += u32::from(ask(HERE, server.address, "POST", "/api/devices/pair", &headers, "{}").await.status == 201);
            let unknown = json!({"device_code": "qlp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}).to_string();
            polled += u32::from(ask(HERE, server.address, "POST", "/api/devices/pair", &headers, unknown).await.status == 410);
        }
        assert!((3..=15).contains(&begun) && (3..=15).contains(&polled), "{begun} and {polled} as {}", free(1));
        let mut opened = 0;
        for n in 0..30 {
            let from = free(n);
            opened += u32::from(server.try_ws("/ws/device/?token=wrong", &[("x-forwarded-for", from.as_str())]).await.is_ok());
        }
        assert!(opened <= 15, "{opened} as {}", free(1));
        let other = ask(HERE, server.address, "POST", "/api/devices/pair", &[("X-Forwarded-For", "10.1.1.1")], "{}").await;
        assert_eq!(other.status, 201, "{other:?}");
    }
}

#[tokio::test]
async fn a22_machine_that_begins_all_pairings_keeps_nobody_from_it() {
    let server = proxied(|_| ()).await;
    let begin =
        async |from: &str| ask(HERE, server.address, "POST", "/api/devices/pair", &[("X-Forwarded-For", from)], "{}").await;
    let ana = server.user("ana").await;
    let device = begin("10.0.0.1").await.expect(201);
    let server = &server;
    // On kept connections, ten addresses of one machine.
    let crowd = (0..10u8).map(|n| async move {
        let mut stream = connect(HERE, server.address).await;
        let from = format!("10.0.0.{}", 100 + n);
        let head =
            format!("POST /api/devices/pair HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {from}\r\nContent-Length: 2\r\n\r\n{{}}");
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..1100 {
            stream.write_all(head.as_bytes()).await.unwrap();
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
        }
    });
    futures_util::future::join_all(crowd).await;
    assert_eq!(begin("10.0.0.100").await.status, 503, "there is no more room for itself");
    for n in 0..5 {
        begin(&format!("10.0.0.{}", 50 + n)).await.expect(201);
    }
    // Nor does what others have begun end by it.
    let code = device["data"]["code"].as_str().unwrap();
    server.post("/api/devices/claim", &ana.token, json!({"code": code})).await.expect(201);
}

/// Returns `n` sockets from each of `addresses`, which have all written `bytes`.
async fn crowd(server: &Server, addresses: u8, n: usize, bytes: &str) -> Vec<tokio::net::TcpStream> {
    let mut all = Vec::new();
    for address in 0..addresses {
        for _ in 0..n {
            let mut stream = connect(Ipv4Addr::new(127, 0, 7, 1 + address), server.address).await;
            let _ = stream.write_all(bytes.as_bytes()).await; // it may have made room already
            all.push(stream);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a22_sockets_that_wait_keep_nobody_out() {
    let ana = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    for bytes in ["", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", ana] {
        let mut config = unlimited();
        (config.limits.sockets, config.limits.head_seconds, config.limits.body_seconds) = (100, 600, 600);
        let server = Server::with(config).await;
        // Somebody's slow head, before all others.
        let mut slow = connect(Ipv4Addr::new(127, 0, 8, 8), server.address).await;
        slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let _crowd = crowd(&server, 13, 20, bytes).await;
        for n in 0..8 {
            let health = request("GET", "/healthz", &[], "");
            let answer = exchange(connect(Ipv4Addr::new(127, 0, 8, 10 + n), server.address).await, &health).await;
            assert_eq!(answer.status, 200, "{bytes:?}: {answer:?}");
        }
        assert_eq!(exchange(slow, b"Connection: close\r\n\r\n").await.status, 200, "{bytes:?}: a client of one socket keeps it");
    }
}

#[tokio::test]
async fn a22_rotating_tokens_raise_no_rate() {
    let mut config = roomy();
    config.limits.requests_per_minute = 60;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut tokens = vec![ana.token.clone()];
    for n in 0..15 {
        let label = json!({"label": format!("{n}")});
        let made = match n % 3 {
            0 => server.post(&format!("/api/devices/{device}/token"), &ana.token, label).await,
            _ => server.post("/api/auth/tokens", &ana.token, label).await,
        };
        tokens.push(made.expect(201)["data"]["token"].as_str().unwrap().to_owned());
    }
    tokens.push(server.login("ana", &ana.password).await.ok()["token"].as_str().unwrap().to_owned());
    let (start, mut served) = (Instant::now(), 17);
    for n in 0..200 {
        // A route for every kind of token: 404, or 429.
        let status = server.get("/api/messages/1", Some(&tokens[n % tokens.len()])).await.status.as_u16();
        assert!([404, 429].contains(&status), "{status}");
        served += u32::from(status == 404);
    }
    let most = 60.0 * (1.0 + start.elapsed().as_secs_f64() / 60.0) + 10.0;
    assert!(f64::from(served) <= most && served >= 60, "{served}, at most {most}");
    let bob = server.user("bob").await;
    server.get("/api/auth/me", Some(&bob.token)).await.ok();
}

#[tokio::test]
async fn a22_tickets_of_one_user_leave_room_for_others() {
    let mut config = roomy();
    config.limits.tokens_per_user = 100;
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let mut tickets = Vec::new();
    let ticket = async |token: &str| {
        server.post("/api/auth/ticket", token, json!({})).await.expect(201)["data"]["ticket"].as_str().unwrap().to_owned()
    };
    let first = ticket(&bob.token).await;
    for n in 0..20 {
        let made = server.post("/api/auth/tokens", &ana.token, json!({"label": format!("{n}")})).await.expect(201);
        let token = made["data"]["token"].as_str().unwrap().to_owned();
        for _ in 0..10 {
            tickets.push(ticket(&token).await);
        }
    }
    let open = async |ticket: &str| server.ws(&format!("/ws/device/?ticket={ticket}")).await.json().await["type"].clone();
    assert_eq!(open(&tickets[0]).await, "disconnect", "the oldest of her own have made room");
    assert_eq!(open(tickets.last().unwrap()).await, "connection_status");
    assert_eq!(open(&first).await, "connection_status");
}

/// Fills the mailbox at `path` with messages of `user`; returns how many it took.
async fn fill(server: &Server, path: &str, user: &User, message: &Value) -> usize {
    for n in 0.. {
        let answer = server.post(path, &user.token, json!({"message": message})).await;
        if answer.status != 200 {
            assert_eq!(answer.expect(507)["code"], "mailbox_full");
            return n;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a23_last_tenth_of_a_mailbox_is_for_administrators_and_services() {
    let mut config = roomy();
    (config.mailbox.messages, config.messages.cross_user) = (20, true);
    let server = Server::with(config).await;
    let (admin, ana, eve) = (server.admin().await, server.user("ana").await, server.user("eve").await);
    let service = server.post("/api/auth/tokens", &admin, json!({"kind": "service", "label": "s"})).await.expect(201);
    let service = service["data"]["token"].as_str().unwrap().to_owned();
    let device = server.device(&ana.token, true).await;
    let shared = json!({"user_ids": [ana.id, eve.id]});
    server.http("PATCH", &format!("/api/devices/{device}"), Some(&admin), Some(&shared.to_string())).await.ok();
    for path in [format!("/api/messages/user/{}", ana.id), format!("/api/messages/device/{device}")] {
        assert_eq!(fill(&server, &path, &eve, &json!("spam")).await, 18, "{path}");
        // The owner's own are a user's, too.
        assert_eq!(server.post(&path, &ana.token, json!({"message": 1})).await.expect(507)["code"], "mailbox_full", "{path}");
        for token in [&admin, &service] {
            server.post(&path, token, json!({"type": "alarm", "message": "fire"})).await.ok();
        }
        for token in [&admin, &service] {
            assert_eq!(server.post(&path, token, json!({"message": 1})).await.expect(507)["code"], "mailbox_full", "{path}");
        }
    }
    let mut client = server.connect(&ana.token).await;
    eventually("it arrives", async || client.json().await["message"] == "fire").await;
}

#[tokio::test]
async fn a23_last_tenth_of_the_bytes_is_for_administrators_and_services() {
    let mut config = roomy();
    (config.mailbox.bytes, config.mailbox.messages, config.messages.cross_user) = (100_000, 0, true);
    let server = Server::with(config).await;
    let (admin, ana, eve) = (server.admin().await, server.user("ana").await, server.user("eve").await);
    let path = format!("/api/messages/user/{}", ana.id);
    let count = fill(&server, &path, &eve, &json!("x".repeat(1000))).await;
    assert!((78..=89).contains(&count), "{count}");
    for _ in 0..9 {
        server.post(&path, &admin, json!({"message": "x".repeat(900)})).await.ok();
    }
    // One message is always accepted: not from what is kept.
    let path = format!("/api/messages/user/{}", eve.id);
    server.post(&path, &ana.token, json!({"message": "x".repeat(200_000)})).await.ok();
    assert_eq!(server.post(&path, &ana.token, json!({"message": 1})).await.expect(507)["code"], "mailbox_full");
    for _ in 0..9 {
        server.post(&path, &admin, json!({"message": "x".repeat(900)})).await.ok();
    }
    assert_eq!(server.post(&path, &admin, json!({"message": "x".repeat(5000)})).await.expect(507)["code"], "mailbox_full");
}

#[tokio::test]
#[ignore = "long: 100,000 sends; the bounds themselves are tested in src/change/keys.rs"]
async fn a23_keys_of_one_user_push_out_nobodys() {
    let mut config = roomy();
    (config.mailbox.messages, config.mailbox.bytes, config.mailbox.ttl) = (0, 0, 5);
    let server = Server::with(config).await;
    let (admin, eve) = (server.admin().await, server.user("eve").await);
    let path = format!("/api/messages/user/{}", eve.id);
    let fire = async || server.post_with_key(&path, &admin, "fire", json!({"message": "fire", "ttl": 3600})).await;
    let first = fire().await.ok()["data"]["id"].clone();
    let (server_, path_, eve_) = (&server, &path, &eve);
    stream::iter(0..100_100)
        .map(|n| async move { server_.post_with_key(path_, &eve_.token, &format!("{n}"), json!({"message": 1})).await.ok() })
        .buffer_unordered(64)
        .for_each(async |_| ())
        .await;
    let again = fire().await;
    assert!(again.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.ok()["data"]["id"], first);
    let server = server.restart().await;
    let again = server.post_with_key(&path, &admin, "fire", json!({"message": "fire", "ttl": 3600})).await;
    assert_eq!(again.ok()["data"]["id"], first);
}
