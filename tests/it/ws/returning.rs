//! Clients behind one address that come back: all at once after a restart, among neighbours with a wrong credential, with a ticket.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Error;

use crate::support::api::Config;
use crate::support::raw::login;
use crate::support::ws::Client;
use crate::support::{ADMIN_PASSWORD, Server, unlimited};

/// The tries of the guide's JavaScript client (section 6): after them, it gives up.
const TRIES: u32 = 5;

/// Connects as the guide's client does after a close: with pauses of 2, 4, 8, 16 and 32 seconds. Returns the number of tries; `None`
/// where it has given up.
async fn return_as_the_guide(address: std::net::SocketAddr, token: &str) -> Option<(u32, Client)> {
    for tries in 1..=TRIES {
        tokio::time::sleep(Duration::from_secs(2 << (tries - 1))).await;
        // Open means success to it, whatever comes next.
        if let Ok(client) = Client::open(address, &format!("/ws/device/?token={token}"), &[]).await {
            return Some((tries, client));
        }
    }
    None
}

/// Restarts a server with `count` connections of `users` users from one address, and expects that all of them return at their first try.
async fn all_return(change: impl FnOnce(&mut Config), users: usize, count: usize) {
    let mut config = Config::default();
    config.limits.logins_per_minute = 0;
    change(&mut config);
    let server = Server::with(config).await;
    let mut tokens = Vec::new();
    for n in 0..users {
        tokens.push(server.user(&format!("user{n}")).await.token);
    }
    let connect = |address, n: usize| Client::connect(address, &tokens[n % users]);
    let before = join_all((0..count).map(|n| connect(server.address, n))).await;
    let server = server.restart().await;
    drop(before);
    let address = server.address;
    let returned = join_all((0..count).map(|n| return_as_the_guide(address, &tokens[n % users]))).await;
    let tries: Vec<_> = returned.iter().map(|returned| returned.as_ref().map(|(tries, _)| *tries)).collect();
    assert!(tries.iter().all(|tries| *tries == Some(1)), "{tries:?}");
    for (_, mut client) in returned.into_iter().flatten() {
        assert_eq!(client.json().await["type"], "connection_status");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_an_address_may_hold_return_at_once_after_a_restart() {
    all_return(|_| (), 10, 190).await; // with the usual limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_return_where_the_address_may_hold_more() {
    // Also with an explicit rate for strangers, and all with one account.
    let change = |c: &mut Config| {
        (c.limits.connections_per_address, c.limits.connections_per_user, c.limits.connects_per_minute) = (250, 0, 60);
    };
    all_return(change, 1, 240).await;
}

/// Returns the status of a refused handshake with its `Retry-After`; `None` where it was accepted.
async fn handshake(server: &Server, path: &str) -> Option<(u16, u64)> {
    match server.try_ws(path, &[]).await {
        Ok(_) => None,
        Err(Error::Http(answer)) => {
            let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            Some((answer.status().as_u16(), wait))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn wrong_credentials_keep_no_good_one_out() {
    let mut config = unlimited();
    (config.limits.connects_per_minute, config.limits.refusals_per_minute) = (5, 3);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    for round in 0..20 {
        for path in ["/ws/device/?token=wrong", "/ws/device/", "/ws/device/?ticket=wrong"] {
            let refused = handshake(&server, path).await;
            assert!(round == 0 || refused.is_some_and(|(status, _)| status == 429), "{path} {round}: {refused:?}");
        }
    }
    server.connect(&ana.token).await;
    let ticket = server.post("/api/auth/ticket", &ana.token, json!({})).await.expect(201)["data"]["ticket"].clone();
    let path = format!("/ws/device/?ticket={}", ticket.as_str().unwrap());
    assert_eq!(server.ws(&path).await.json().await["type"], "connection_status");
    assert_eq!(handshake(&server, &path).await.map(|(status, _)| status), Some(429), "it is used up, and counts as wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_shown_by_many_at_once_lets_one_in_and_none_after_a_restart() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let ticket = async |server: &Server| {
        let made = server.post("/api/auth/ticket", &ana.token, json!({})).await.expect(201);
        format!("/ws/device/?ticket={}", made["data"]["ticket"].as_str().unwrap())
    };
    for round in 0..20 {
        let path = ticket(&server).await;
        let shown = (0..6).map(async |_| server.ws(&path).await.json().await["type"] == "connection_status");
        let entered = futures_util::future::join_all(shown).await.into_iter().filter(|entered| *entered).count();
        assert_eq!(entered, 1, "{round}");
    }
    let path = ticket(&server).await;
    let server = server.restart().await;
    assert_eq!(server.ws(&path).await.json().await["code"], 4001);
}

#[tokio::test]
async fn ticket_is_not_used_up_by_a_handshake_that_may_be_repeated() {
    let mut config = unlimited();
    config.limits.connections = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let ticket = server.post("/api/auth/ticket", &ana.token, json!({})).await.expect(201)["data"]["ticket"].clone();
    let path = format!("/ws/device/?ticket={}", ticket.as_str().unwrap());
    let only = server.connect(&ana.token).await;
    assert_eq!(handshake(&server, &path).await.map(|(status, _)| status), Some(503));
    drop(only);
    crate::support::eventually("it is good still", async || match server.try_ws(&path, &[]).await {
        Ok(mut client) => client.json().await["type"] == "connection_status",
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn user_that_returns_for_ever_leaves_its_neighbours_theirs() {
    let mut config = unlimited();
    (config.limits.connects_per_minute, config.limits.connections_per_user, config.limits.connections_per_address) = (10, 5, 20);
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let path = format!("/ws/device/?token={}", ana.token);
    let mut refused = 0;
    for _ in 0..100 {
        refused += usize::from(handshake(&server, &path).await.is_some());
    }
    assert!(refused >= 50, "{refused}");
    for _ in 0..4 {
        server.connect(&bob.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_clients_are_told_different_times_at_which_they_get_in() {
    let mut config = unlimited();
    (config.limits.connects_per_minute, config.limits.connections_per_user, config.limits.connections_per_address) = (60, 0, 60);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let path = format!("/ws/device/?token={}", ana.token);
    for _ in 0..60 {
        assert_eq!(handshake(&server, &path).await, None);
    }
    let (server, path) = (&server, path.as_str());
    let mut times = Vec::new();
    while times.len() < 6 {
        // One may have become free meanwhile.
        if let Some((status, wait)) = handshake(server, path).await {
            assert_eq!(status, 429);
            times.push((Instant::now(), wait));
        }
    }
    let waits: Vec<u64> = times.iter().map(|(_, wait)| *wait).collect();
    assert!(waits.is_sorted() && waits[0] < waits[5] && waits[5] <= 10, "one after the other: {waits:?}");
    let returns = times.into_iter().map(|(refused, wait)| async move {
        sleep_until(refused + Duration::from_secs(wait)).await;
        handshake(server, path).await
    });
    assert!(join_all(returns).await.iter().all(Option::is_none), "what was told is when it works: {waits:?}");
}

#[tokio::test]
async fn program_with_an_old_password_locks_out_itself_only() {
    let mut config = unlimited();
    config.limits.logins_per_minute = 0;
    let server = Server::with(config).await;
    let names: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    for name in &names {
        server.user(name).await;
    }
    let server = server.restart_with(|c| c.limits.logins_per_minute = 10).await;
    let here = Ipv4Addr::new(127, 0, 3, 1);
    let status = async |from, name: &str, password: &str| login(from, server.address, name, password, &[]).await.status;
    // It tries again and again; two more have an old one, too.
    for n in 0..15 {
        assert_eq!(status(here, "admin", "old-password").await, if n < 10 { 401 } else { 429 });
    }
    for name in ["user0", "user1"] {
        for _ in 0..5 {
            assert_eq!(status(here, name, "old-password").await, 429);
        }
    }
    assert_eq!(status(here, "admin", ADMIN_PASSWORD).await, 429, "this name is guessed at from here");
    for name in &names[2..] {
        assert_eq!(status(here, name, &format!("{name}-password")).await, 200, "{name}");
    }
    // Guesses get no more answers for that, and other addresses are not concerned.
    for name in ["user3", "nobody", "user4"] {
        assert_eq!(status(here, name, "a-guess").await, 429, "{name}");
    }
    let there = Ipv4Addr::new(127, 0, 3, 2);
    assert_eq!(status(there, "admin", ADMIN_PASSWORD).await, 200);
    assert_eq!(status(there, "user3", "a-guess").await, 401);
}
