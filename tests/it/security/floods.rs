//! Attacks by number and by slowness: pings without end, slow heads and bodies, idle sockets, header bombs.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::load::Load;
use crate::support::program::Running;
use crate::support::raw::{self, FIN, PING, PONG, Raw, Reply, connect, exchange, frame, pour, rest_within, text};
use crate::support::{ADMIN_PASSWORD, DEADLINE, Server, eventually, exclusive, http, unlimited};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The limits that bystanders at one address would run into.
const ROOM: &str = "[limits]\nlogins_per_minute = 0\nconnects_per_minute = 0\nrequests_per_minute = 0\nmessages_per_minute = 0\n\
                    user_messages_per_minute = 0\nconnections_per_user = 0\nconnections_per_address = 0";

/// Clients that chat all the while.
struct Bystanders {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Duration>>,
}

impl Bystanders {
    async fn come(address: SocketAddr, token: &str, count: usize) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..count {
            let (mut raw, stop) = (Raw::session(address, token).await, stop.clone());
            tasks.spawn(async move {
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) || waits.len() < 20 {
                    let start = Instant::now();
                    raw.send(&text(r#"{"type":"chat_message","message":"在吗"}"#)).await;
                    assert_eq!(raw.event().await["message"], "收到消息:在吗");
                    waits.push(start.elapsed());
                    sleep(Duration::from_millis(5)).await;
                }
                waits
            });
        }
        Self { stop, tasks }
    }

    /// The 99th percentile of what they waited for an answer, over how many answers.
    async fn leave(self) -> (Duration, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits: Vec<Duration> = self.tasks.join_all().await.into_iter().flatten().collect();
        waits.sort_unstable();
        (waits[waits.len() * 99 / 100], waits.len())
    }
}

/// The frames that a connection may send in a minute, as it is by default.
const FRAMES_PER_MINUTE: f64 = 6000.0;

/// Pings `most` times on one connection, as fast as it takes them; it must be closed when it has used up its frames, and those
/// that time gave back. Returns the time until then.
async fn pings_until_closed(address: SocketAddr, token: &str, most: usize) -> Duration {
    let mut raw = Raw::session(address, token).await;
    let start = Instant::now();
    raw.pour(&frame(FIN | PING, b"").repeat(most)).await;
    let (mut pongs, mut last) = (0, Value::Null);
    let code = loop {
        match raw.next().await.expect("a close frame before the end") {
            (0x88, payload) => break raw::code(&payload),
            (0x8a, _) => pongs += 1,
            (_, text) => last = serde_json::from_slice(&text).unwrap(),
        }
    };
    let took = start.elapsed();
    assert_eq!((code, &last["type"], &last["code"]), (Some(4008), &json!("disconnect"), &json!(4008)));
    let allowed = FRAMES_PER_MINUTE * (1.0 + took.as_secs_f64() / 60.0) + 1.0;
    assert!(f64::from(pongs) <= allowed, "{pongs} pings taken in {took:?}, at most {allowed}");
    took
}

/// 10^6 pings on one connection, then `floods` more connections, four at a time, of which each gets its 6000 through.
async fn flood_of_pings(floods: usize) {
    let _turn = exclusive().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await;
    let load = Load::prepare(server.address, 2).await;
    let (address, attacker, other) = (server.address, &load.recipients[0], &load.recipients[1]);
    let (quiet, _) = Bystanders::come(address, &other.token, 10).await.leave().await;
    let bystanders = Bystanders::come(address, &other.token, 10).await;
    let first = pings_until_closed(address, &attacker.token, 1_000_000).await;
    let mut slowest = first;
    for _ in 0..floods.div_ceil(4) {
        let four = (0..4).map(|_| pings_until_closed(address, &attacker.token, 20_000));
        slowest = join_all(four).await.into_iter().fold(slowest, Duration::max);
    }
    let (p99, answers) = bystanders.leave().await;
    println!(
        "the first closed after {first:?}, the slowest after {slowest:?}; p99 of {answers} answers {p99:?}, before {quiet:?}"
    );
    assert!(p99 < Duration::from_millis(100).max(10 * quiet), "{p99:?}, before {quiet:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_ping_flood_is_closed_and_others_are_answered() {
    flood_of_pings(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the reduced form runs every time"]
async fn a05_million_pings_are_closed_and_others_are_answered() {
    flood_of_pings(167).await;
}

#[tokio::test]
async fn a05_solicited_pongs_count_against_no_limit() {
    let mut config = unlimited();
    config.limits.frames_per_minute = 60;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    let path = format!("/api/messages/user/{}", ana.id);
    let mut honest = 0;
    for n in 0..200 {
        server.post(&path, &ana.token, json!({"message": n})).await.ok();
        let (first, message) = raw.next().await.unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!((first, &message["message"]), (0x81, &json!(n)));
        let (first, mark) = raw.next().await.unwrap();
        assert_eq!(first, 0x89);
        raw.send(&frame(FIN | PONG, &mark)).await;
        honest += 1;
    }
    assert!(honest > 3 * 60);
    raw.pour(&frame(FIN | PONG, b"").repeat(100)).await;
    assert_eq!(raw.close_code().await, 4008, "those that were not");
}

/// An address of this machine.
fn from(net: u8, n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, net, u8::try_from(n + 1).unwrap())
}

/// Writes one byte of `request`, whose last byte goes on for ever, every 50 ms; what came back until the server hung up, and
/// after how long.
async fn trickle(mut stream: TcpStream, request: &str) -> (Reply, Duration) {
    let (start, (mut reader, mut writer)) = (Instant::now(), stream.split());
    let writing = async {
        let last = request.bytes().last().unwrap();
        for byte in request.bytes().chain(std::iter::repeat(last)) {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = writing => {}
        ended = timeout(DEADLINE, reader.read_to_end(&mut answer)) => drop(ended.expect("is dropped").ok()),
    }
    (Reply::parse(&answer), start.elapsed())
}

/// Says nothing; how long it took the server to hang up.
async fn idle(mut stream: TcpStream) -> Duration {
    let start = Instant::now();
    let said = rest_within(&mut stream, DEADLINE).await.expect("is dropped");
    assert_eq!(String::from_utf8_lossy(&said), "", "nobody asked");
    start.elapsed()
}

/// The time that a head may take by default. These tests set 1 second, and so end well before.
const USUAL_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Comes again and again from an address of its own until `stop`; the longest it waited for an answer, and how often it came.
async fn newcomer(address: SocketAddr, stop: Arc<AtomicBool>) -> (Duration, u32) {
    let (mut longest, mut times) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = exchange(connect(Ipv4Addr::new(127, 0, 9, 9), address).await, HEALTH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        longest = longest.max(start.elapsed());
        times += 1;
        sleep(Duration::from_millis(20)).await;
    }
    (longest, times)
}

/// `heads` slow heads and `idlers` idle sockets, from addresses that may have 100 connections each.
async fn slow_and_idle(heads: usize, idlers: usize) {
    let _turn = exclusive().await;
    let dir = tempfile::tempdir().unwrap();
    let more = format!("{ROOM}\nsockets_per_address = 100\nsockets = {}\nhead_seconds = 1", heads + idlers + 100);
    let server = Running::configured(dir.path(), &more).await;
    let load = Load::prepare(server.address, 1).await;
    let address = server.address;
    let mut session = Raw::session(address, &load.recipients[0].token).await;
    let stop = Arc::new(AtomicBool::new(false));
    let coming = tokio::spawn(newcomer(address, stop.clone()));
    let mut attackers = JoinSet::new();
    for n in 0..heads {
        let stream = connect(from(1, n / 100), address).await;
        attackers.spawn(async { trickle(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: x").await.1 });
    }
    for n in 0..idlers {
        attackers.spawn(idle(connect(from(2, n / 100), address).await));
    }
    let lives = attackers.join_all().await;
    stop.store(true, Ordering::Relaxed);
    let (longest, times) = coming.await.unwrap();
    let (least, most) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
    println!("dropped after {least:?} to {most:?}; a newcomer came {times} times and waited {longest:?} at most");
    assert!(*least > Duration::from_millis(500) && *most < USUAL_HEAD_TIMEOUT, "{least:?} to {most:?}");
    assert!(times > 5 && longest < *least, "{times} times, {longest:?}: a newcomer does not wait until others are dropped");
    session.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(session.event().await["type"], "pong", "a session that was there has not noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_slow_heads_and_idle_sockets_are_dropped() {
    slow_and_idle(50, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the reduced form runs every time"]
async fn a07_thousands_of_slow_heads_and_idle_sockets_are_dropped() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    slow_and_idle(500, 2000).await;
}

#[tokio::test]
async fn a07_sockets_over_address_limit_are_closed() {
    let mut config = unlimited();
    (config.limits.sockets_per_address, config.limits.head_seconds) = (Some(20), 2);
    let server = Server::with(config).await;
    let (attacker, address) = (from(3, 0), server.address);
    let mut admitted = Vec::new();
    for _ in 0..20 {
        admitted.push(connect(attacker, address).await);
    }
    for n in 0..10 {
        let mut refused = connect(attacker, address).await;
        let said = rest_within(&mut refused, DEADLINE).await;
        assert_eq!(said.as_deref(), Some(&b""[..]), "number {n} beyond the bound is closed");
    }
    // At once, and not when its head is late: those that came before it are still there.
    for stream in &admitted {
        assert!(stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
    assert_eq!(exchange(connect(from(3, 1), address).await, HEALTH).await.status, 200, "its neighbour is served");
    for life in join_all(admitted.into_iter().map(idle)).await {
        assert!(life < USUAL_HEAD_TIMEOUT, "{life:?}");
    }
    eventually("the address has its permits back", async || {
        exchange(connect(attacker, address).await, HEALTH).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a07_newcomer_takes_the_place_of_an_idle_socket() {
    let mut config = unlimited();
    (config.limits.sockets, config.limits.head_seconds) = (20, 600);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut session = Raw::session(server.address, &ana.token).await;
    let mut taken = Vec::new();
    for n in 0..20 {
        taken.push(connect(from(4, n), server.address).await);
    }
    for n in 0..10 {
        let answer = exchange(connect(from(5, n), server.address).await, HEALTH).await; // within the deadline of tests
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(rest_within(&mut taken[0], DEADLINE).await.as_deref(), Some(&b""[..]), "the oldest");
    assert!(taken[19].try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the youngest is kept");
    session.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(session.event().await["type"], "pong", "a session needs no permit");
}

#[tokio::test]
async fn a07_slow_body_gets_408() {
    let mut config = unlimited();
    config.limits.body_seconds = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let head = |line: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Token {}", ana.token)
    };
    let sends = head(&format!("POST /api/messages/user/{}", ana.id));
    let attacks = [
        (format!("{sends}\r\nContent-Length: 1000\r\n\r\n"), 408),
        (format!("{sends}\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"), 408),
        ("POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".into(), 408),
        (format!("{}\r\nContent-Length: 1000\r\n\r\n", head("GET /healthz")), 200), // wants none, and does not wait for it
        ("POST /api/messages/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".into(), 401),
        ("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".into(), 404),
    ];
    let all = attacks.iter().cycle().take(30).map(async |(head, expected)| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (answer, life) = trickle(stream, " ").await;
        assert_eq!(answer.status, *expected, "{head}\n{answer:?}");
        assert_eq!(answer.body.contains(r#""code":"too_slow""#), *expected == 408, "{answer:?}");
        assert!(life < USUAL_HEAD_TIMEOUT, "{head}: {life:?}"); // the usual time for a body is longer
        assert!(*expected != 408 || life > Duration::from_millis(900), "{head}: {life:?}");
    });
    let (_, answer) = tokio::join!(join_all(all), exchange(connect(from(6, 0), server.address).await, HEALTH));
    assert_eq!(answer.status, 200);
}

/// Requests whose heads, or what belongs to them, are too large, and the statuses that may answer them.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    let many = |n: usize| (0..n).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let long = |n: usize| format!("X-Long: {}\r\n", "x".repeat(n));
    let chunked = |body: &str| {
        format!("POST /api/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    vec![
        ("200 headers", get("/healthz", &many(200)), &[431]),
        ("20,000 headers", get("/healthz", &many(20_000)), &[431]),
        ("a header of 500 KB", get("/healthz", &long(500_000)), &[431]),
        ("500 headers of 1 KB", get("/healthz", &long(1000).repeat(500)), &[431]),
        ("a name of 500 KB", get("/healthz", &format!("{}: x\r\n", "x".repeat(500_000))), &[431]),
        ("a head of 500 KB without an end", format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(500_000)).into(), &[431]),
        ("a method of 500 KB", vec![b'G'; 500_000], &[400, 431]),
        ("a path of 70 KB", get(&format!("/{}", "x".repeat(70_000)), ""), &[414, 431]),
        ("a path of 500 KB", get(&format!("/{}", "x".repeat(500_000)), ""), &[414, 431]),
        ("a query of 70 KB", get(&format!("/healthz?{}", "x".repeat(70_000)), ""), &[414, 431]),
        (
            "2^64 bytes of body",
            b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec(),
            &[400, 413, 431],
        ),
        ("a chunk of 2^60 bytes", format!("{}{}", chunked("1000000000000000\r\n"), "x".repeat(500_000)).into(), &[400, 413]),
        (
            "a chunk extension of 500 KB",
            chunked(&format!("1;{}\r\n{{\r\n0\r\n\r\n", "x".repeat(500_000))).into(),
            &[400, 413, 431],
        ),
        ("trailers of 500 KB", chunked(&format!("2\r\n{{}}\r\n0\r\n{}\r\n", long(1000).repeat(500))).into(), &[400, 413, 431]),
    ]
}

#[tokio::test]
async fn a20_header_bombs_are_refused_without_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await;
    let address = server.address;
    // Warm: heads that are just allowed.
    let fits = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    for _ in 0..50 {
        assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), fits.as_bytes()).await.status, 200);
    }
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(20_000));
    assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), path.as_bytes()).await.status, 404, "long, and allowed");
    let (before, _) = server.memory();
    server.forget_peak();
    let bombs = bombs();
    for _ in 0..5 {
        for (what, bytes, allowed) in &bombs {
            let answer = exchange(TcpStream::connect(address).await.unwrap(), bytes).await;
            let head: String = answer.head.chars().take(300).collect();
            assert!(allowed.contains(&answer.status), "{what}: {head}");
            assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), HEALTH).await.status, 200, "after {what}");
        }
    }
    // All at once, too.
    let all = bombs.iter().cycle().take(100).map(async |(_, bytes, _)| {
        pour(&mut TcpStream::connect(address).await.unwrap(), bytes).await;
    });
    join_all(all).await;
    assert_eq!(exchange(TcpStream::connect(address).await.unwrap(), HEALTH).await.status, 200, "after all");
    let (_, peak) = server.memory();
    println!("{} KiB before, at most {} KiB more", before >> 10, peak.saturating_sub(before) >> 10);
    assert!(peak < before + (8 << 20), "{before} bytes before, {peak} at most"); // 100 buffers of 32 KiB, and some
    http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
}
