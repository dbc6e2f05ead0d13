//! Attacks on log-in: probing for names, and floods.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::support::program::Running;
use crate::support::raw::{HERE, Reply, ask, login};
use crate::support::{ADMIN_PASSWORD, Client, Server, exclusive, http, unlimited};
use futures_util::future::join_all;
use serde_json::json;

/// Three names: one that is there, one that is not, one that is disabled.
const NAMES: [&str; 3] = ["ana", "bob", "eve"];

/// A server that has only some of [`NAMES`].
async fn with_names() -> Server {
    let server = Server::start().await;
    let admin = server.admin().await;
    server.user("ana").await;
    let eve = server.user("eve").await;
    server.http("PATCH", &format!("/api/users/{}", eve.id), Some(&admin), Some(r#"{"disabled":true}"#)).await.ok();
    server
}

/// An answer but for its date, and how long it took.
async fn timed(server: &Server, name: &str, password: &str) -> (Reply, Duration) {
    let start = Instant::now();
    let mut heard = login(HERE, server.address, name, password, &[]).await;
    let took = start.elapsed();
    assert!(heard.header("date").is_some());
    let lines: Vec<&str> = heard.head.lines().filter(|line| !line.to_lowercase().starts_with("date:")).collect();
    heard.head = lines.join("\n");
    (heard, took)
}

/// Tries each name `rounds` times, interleaved and in turning order; the times in order, the answers being all the same.
async fn times(server: &Server, rounds: usize) -> [Vec<Duration>; 3] {
    let mut times: [Vec<Duration>; 3] = Default::default();
    let (first, _) = timed(server, NAMES[0], "wrong-password").await;
    assert_eq!(first.expect(401)["code"], "wrong_password");
    for round in 0..rounds {
        for n in 0..NAMES.len() {
            let who = (n + round) % NAMES.len();
            // The right password of the disabled user changes nothing, either.
            let password = if NAMES[who] == "eve" && round % 2 == 0 { "eve-password" } else { "wrong-password" };
            let (heard, took) = timed(server, NAMES[who], password).await;
            assert_eq!(heard, first, "{}", NAMES[who]);
            times[who].push(took);
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    times
}

/// The distance of the slowest from the fastest, as a fraction of the latter.
fn spread(times: [Duration; 3]) -> f64 {
    let (least, most) = (times.iter().min().unwrap().as_secs_f64(), times.iter().max().unwrap().as_secs_f64());
    (most - least) / least
}

#[tokio::test]
async fn a10_unknown_name_is_answered_like_wrong_password_in_same_time() {
    let server = with_names().await;
    let mut least = [Duration::MAX; 3];
    for _ in 0..40 {
        // The fastest of each: other work on the machine delays some, and all only while there is much of it.
        for (least, times) in least.iter_mut().zip(times(&server, 12).await) {
            *least = times[0].min(*least);
        }
        if spread(least) < 0.5 {
            break;
        }
    }
    assert!(spread(least) < 0.5, "{least:?}");
    // Passwords that are not even hashed make no difference either.
    let long = "x".repeat(129);
    let answers = join_all(NAMES.map(|name| timed(&server, name, &long))).await;
    assert!(answers.iter().all(|(heard, _)| *heard == answers[0].0 && heard.status == 401), "{answers:?}");
}

#[tokio::test]
#[ignore = "long: the reduced form runs every time"]
async fn a10_unknown_name_takes_same_time_over_thousand_log_ins() {
    let server = with_names().await;
    let medians = times(&server, 1000).await.map(|times| times[times.len() / 2]);
    println!("medians of 1,000: {NAMES:?} {medians:?}, spread {:.2} %", spread(medians) * 100.0);
    assert!(spread(medians) < 0.05, "{medians:?}");
}

/// A client that asks and waits for the answer, over and over, on a thread of its own until `stop` is set; its latencies.
fn echo(to: SocketAddr, token: String, stop: Arc<AtomicBool>) -> mpsc::Receiver<Vec<Duration>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let measured = runtime.block_on(async {
            let mut client = Client::connect(to, &token).await;
            let mut measured = Vec::new();
            while !stop.load(Ordering::Relaxed) || measured.len() < 50 {
                let start = Instant::now();
                client.fence().await;
                measured.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await; // a client, not a flood
            }
            measured
        });
        sender.send(measured).unwrap();
    });
    receiver
}

/// Two hundred log-ins at once: right, wrong, unknown, and far too long ones; what each was answered.
async fn wave(to: SocketAddr, bodies: &[String; 4]) -> Vec<(usize, u16)> {
    let calls = (0..200).map(|n| async move {
        let kind = n % bodies.len();
        (kind, ask(HERE, to, "POST", "/api/auth/login", &[], &bodies[kind]).await.status)
    });
    join_all(calls).await
}

/// Measures a client's latency while `load` runs; its 99th percentile over at least 50 answers.
async fn latency(server: &Running, token: &str, load: impl Future<Output = ()>) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let measuring = echo(server.address, token.to_owned(), stop.clone());
    load.await;
    stop.store(true, Ordering::Relaxed);
    let mut measured = tokio::task::spawn_blocking(move || measuring.recv().unwrap()).await.unwrap();
    measured.sort();
    measured[measured.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_flood_of_log_ins_is_bounded_in_memory_and_latency() {
    let _turn = exclusive().await;
    let dir = tempfile::tempdir().unwrap();
    // Every right log-in makes a token: those of a second measurement must not push out the one that is in use.
    let more = "[limits]\nlogins_per_minute = 0\nsockets_per_address = 0\nmessages_per_minute = 0\nuser_messages_per_minute = 0\n\
                tokens_per_user = 100000\n";
    let server = Running::configured(dir.path(), more).await;
    let token = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let body = |name: &str, password: &str| json!({"username": name, "password": password}).to_string();
    let long = "x".repeat(1 << 20);
    let bodies = [body("admin", ADMIN_PASSWORD), body("admin", "wrong"), body("nobody", "wrong"), body("admin", &long)];
    // One hash at a time.
    let quiet = latency(&server, &token, async {
        for _ in 0..10 {
            ask(HERE, server.address, "POST", "/api/auth/login", &[], &bodies[1]).await.expect(401);
        }
    })
    .await;
    // Hashes without a bound hold others up for seconds; a machine that has other work, for a few tenths of one.
    let most = Duration::from_millis(500).max(10 * quiet);
    let mut worst = Vec::new();
    while worst.len() < 5 && !worst.iter().any(|p99| *p99 < most) {
        let mut answers = Vec::new();
        let p99 = latency(&server, &token, async {
            for _ in 0..5 {
                answers.extend(wave(server.address, &bodies).await);
            }
        });
        worst.push(p99.await); // a machine that has other work may need another look
        let of = |kind: usize| answers.iter().filter(move |(k, _)| *k == kind).map(|(_, status)| *status);
        assert!(of(0).all(|s| [200, 503].contains(&s)), "{answers:?}");
        assert!(of(1).chain(of(2)).all(|s| [401, 503].contains(&s)), "{answers:?}");
        assert!(of(3).all(|s| s == 413), "{answers:?}");
        assert!(of(0).any(|s| s == 200) && of(1).any(|s| s == 401) && of(0).any(|s| s == 503), "{answers:?}");
    }
    let (_, peak) = server.memory();
    println!("99th percentiles {quiet:?} and {worst:?}, peak {} MB", peak >> 20);
    assert!(worst.iter().any(|p99| *p99 < most), "{worst:?}, at most {most:?}");
    // Two hashes take 38 MiB, as much again where the allocator has not returned that of those before; two hundred would take 3.8 GiB.
    assert!(peak < 192_000_000, "{peak}");
}

#[tokio::test]
async fn a11_password_over_limit_is_not_hashed() {
    let mut config = unlimited();
    config.limits.push_bytes = 4 << 20;
    let server = Server::with(config).await;
    let long = "x".repeat(1 << 20);
    let statuses = join_all((0..60).map(|_| login(HERE, server.address, "admin", &long, &[]))).await;
    let statuses: Vec<u16> = statuses.iter().map(|heard| heard.status).collect();
    assert_eq!(statuses, [401; 60], "more at once than could be hashed, and nobody gets 503");
    let admin = server.admin().await;
    server.post("/api/users", &admin, json!({"username": "x", "password": long})).await.expect(400);
}
