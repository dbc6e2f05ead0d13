//! Guesses: at passwords, from one address and from many, and at pairing codes.

use std::net::Ipv4Addr;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::support::raw::login;
use crate::support::{ADMIN_PASSWORD, Answer, Server, eventually, unlimited};

/// A server with the usual bounds on log-ins, behind the proxies given as TOML.
async fn guarded(proxies: &str) -> Server {
    let mut config = unlimited();
    config.limits.logins_per_minute = 10;
    config.server = toml::from_str(&format!("trusted_proxies = [{proxies}]")).unwrap();
    Server::with(config).await
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n)
}

async fn guess(server: &Server, from: Ipv4Addr, name: &str, headers: &[(&str, &str)]) -> u16 {
    login(from, server.address, name, "wrong-password", headers).await.status
}

#[tokio::test]
async fn a12_guesses_from_one_address_get_429() {
    let server = guarded("").await;
    for _ in 0..10 {
        assert_eq!(guess(&server, address(1), "admin", &[]).await, 401);
    }
    let answer = login(address(1), server.address, "admin", ADMIN_PASSWORD, &[]).await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{answer:?}");
    assert_eq!(answer.expect(429)["code"], "too_many_requests", "even the right one");
    assert_eq!(guess(&server, address(1), "nobody", &[]).await, 429, "whatever the name");
    assert_eq!(login(address(2), server.address, "admin", ADMIN_PASSWORD, &[]).await.status, 200, "the owner, elsewhere");
}

#[tokio::test]
async fn a12_password_guesses_with_stolen_token_get_429() {
    let server = guarded("").await;
    let token = server.admin().await;
    let body = json!({"current_password": "wrong-password", "new_password": "stolen-password"}).to_string();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(server.http("PUT", "/api/auth/password", Some(&token), Some(&body)).await.status.as_u16());
    }
    assert_eq!(statuses, [vec![401; 9], vec![429; 3]].concat());
}

/// One attacker and the statuses of its guesses.
struct Attack {
    from: Ipv4Addr,
    statuses: Vec<u16>,
}

/// `n` attackers, some at a time, guess at one name, `tries` times each.
async fn swarm(server: &Server, n: u8, tries: usize) -> Vec<Attack> {
    let mut all: Vec<Attack> = (1..=n).map(|n| Attack { from: address(n), statuses: Vec::new() }).collect();
    for _ in 0..tries {
        for some in all.chunks_mut(8) {
            let mut guessing: FuturesUnordered<_> = some
                .iter_mut()
                .map(|attack| async move { attack.statuses.push(guess(server, attack.from, "admin", &[]).await) })
                .collect();
            while guessing.next().await.is_some() {}
        }
    }
    all
}

/// Expects that `n` attackers got no more guesses than the name's allowance and three each, with what time gave back.
async fn owner_gets_in_while_attacked(n: u8, tries: usize) {
    let server = guarded("").await;
    let start = Instant::now();
    let attacks = swarm(&server, n, tries).await;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let guesses: usize = attacks.iter().map(|a| a.statuses.iter().filter(|s| **s == 401).count()).sum();
    let most = (30.0 + 3.0 * f64::from(n)) * (1.0 + minutes);
    println!("{n} addresses, {tries} tries each in {:?}: {guesses} guesses, at most {most:.0}", start.elapsed());
    for attack in &attacks {
        assert!(attack.statuses.iter().all(|status| [401, 429].contains(status)), "{}: {:?}", attack.from, attack.statuses);
        let guesses = attack.statuses.iter().filter(|s| **s == 401).count();
        assert!(guesses < 10, "{} is not throttled: {:?}", attack.from, attack.statuses);
    }
    assert!(guesses as f64 <= most.ceil() && guesses >= 30, "{guesses} of {most}");
    let owner = Ipv4Addr::new(127, 0, 2, 1);
    let start = Instant::now();
    let answer = login(owner, server.address, "admin", ADMIN_PASSWORD, &[]).await;
    println!("the owner got in after {:?}", start.elapsed());
    answer.expect(200);
    assert_eq!(guess(&server, address(n), "other", &[]).await, 401, "other names are not under attack");
}

#[tokio::test]
async fn a12_guesses_from_many_addresses_are_bounded_and_owner_logs_in() {
    owner_gets_in_while_attacked(8, 9).await;
}

#[tokio::test]
#[ignore = "long: the reduced form runs every time"]
async fn a12_guesses_from_hundred_addresses_are_bounded_and_owner_logs_in() {
    owner_gets_in_while_attacked(100, 9).await;
}

#[tokio::test]
async fn a12_forwarded_address_from_untrusted_client_is_ignored() {
    let server = guarded("\"192.0.2.1\"").await;
    for n in 0..10u8 {
        let spoofed = format!("203.0.113.{n}");
        let forwarded = format!("for={spoofed}");
        let headers = [("X-Forwarded-For", spoofed.as_str()), ("Forwarded", &forwarded), ("X-Real-IP", &spoofed)];
        assert_eq!(guess(&server, address(1), "admin", &headers).await, 401);
    }
    assert_eq!(guess(&server, address(1), "admin", &[("X-Forwarded-For", "203.0.113.99")]).await, 429);
    assert_eq!(guess(&server, address(1), "admin", &[("X-Forwarded-For", "192.0.2.1, 127.0.0.1")]).await, 429);
    let admin = login(address(2), server.address, "admin", ADMIN_PASSWORD, &[]).await.expect(200);
    let path = format!("/ws/device/?token={}", admin["token"].as_str().unwrap());
    let _client = server.try_ws(&path, &[("x-forwarded-for", "9.9.9.9")]).await.unwrap();
    eventually("it is listed", async || {
        let seen = server.get("/api/monitor/connections", admin["token"].as_str()).await.ok();
        seen["data"]["connections"][0]["address"] == "127.0.0.1"
    })
    .await;
}

#[tokio::test]
async fn a12_forwarded_address_is_taken_from_trusted_proxy_only() {
    let server = guarded("\"127.0.0.1\"").await;
    let proxy = Ipv4Addr::LOCALHOST;
    for n in 0..10 {
        // The client writes the left part, anew each time; the proxy appends where the client really is.
        let said = format!("203.0.113.{n}, 198.51.100.7");
        assert_eq!(guess(&server, proxy, "admin", &[("X-Forwarded-For", &said)]).await, 401);
    }
    for said in ["198.51.100.7", "203.0.113.77, 198.51.100.7", "203.0.113.77,127.0.0.1 , 198.51.100.7:4711", "\", 198.51.100.7"] {
        assert_eq!(guess(&server, proxy, "admin", &[("X-Forwarded-For", said)]).await, 429, "{said}");
    }
    // In two lines, too; the other header is no word of this proxy's.
    let lines = [("X-Forwarded-For", "203.0.113.77"), ("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=203.0.113.78")];
    assert_eq!(guess(&server, proxy, "admin", &lines).await, 429);
    assert_eq!(guess(&server, proxy, "admin", &[("X-Forwarded-For", "198.51.100.7, 203.0.113.1")]).await, 401, "another client");
    assert_eq!(guess(&server, address(9), "admin", &[("X-Forwarded-For", "198.51.100.7")]).await, 401, "no proxy of ours");
}

/// Begins a pairing: the device's secret and the code to show.
async fn begin(server: &Server) -> (String, String) {
    let begun = server.http("POST", "/api/devices/pair", None, Some("{}")).await.expect(201);
    let text = |key: &str| begun["data"][key].as_str().unwrap().to_owned();
    (text("device_code"), text("code"))
}

async fn poll(server: &Server, device_code: &str) -> Answer {
    let body = json!({"device_code": device_code}).to_string();
    server.http("POST", "/api/devices/pair", None, Some(&body)).await
}

async fn claim(server: &Server, token: &str, code: &str) -> Answer {
    server.post("/api/devices/claim", token, json!({"code": code})).await
}

/// A code that nobody is shown but by chance.
fn other(code: &str, n: u8) -> String {
    let end = b"ABCDEFGH"[usize::from(n)] as char;
    let first = if code.starts_with('2') { '3' } else { '2' };
    format!("{first}{}{end}", &code[1..5])
}

#[tokio::test]
async fn a15_wrong_codes_burn_code_and_bar_user() {
    let server = Server::start().await;
    let (mallory, ana) = (server.user("mallory").await, server.user("ana").await);
    let (device_code, code) = begin(&server).await;
    for n in 0..5 {
        assert_eq!(claim(&server, &mallory.token, &other(&code, n)).await.expect(404)["code"], "not_found");
    }
    let barred = claim(&server, &mallory.token, &code).await.expect(429);
    assert!((590..=600).contains(&barred["retry_after"].as_u64().unwrap()), "{barred}");
    claim(&server, &ana.token, &code).await.expect(404);
    assert_eq!(poll(&server, &device_code).await.expect(410)["code"], "pairing_over");
    // Another log-in of the same user is the same user; the next device is safe from it.
    let again = server.login("mallory", &mallory.password).await.ok()["token"].as_str().unwrap().to_owned();
    let (_, fresh) = begin(&server).await;
    claim(&server, &again, &fresh).await.expect(429);
    claim(&server, &ana.token, &fresh).await.expect(201);
    assert_eq!(server.get("/api/devices", Some(&mallory.token)).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a15_used_code_is_refused() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (device_code, code) = begin(&server).await;
    claim(&server, &ana.token, &code).await.expect(201);
    for token in [&bob.token, &ana.token] {
        claim(&server, token, &code).await.expect(404); // before the device has fetched its token
    }
    poll(&server, &device_code).await.ok();
    assert_eq!(poll(&server, &device_code).await.expect(410)["code"], "pairing_over");
    claim(&server, &bob.token, &code).await.expect(404);
    claim(&server, &bob.token, &device_code).await.expect(404); // the device's secret is no code
    poll(&server, &code).await.expect(410); // nor the code the device's secret
    let tokens = server.get("/api/auth/tokens", Some(&ana.token)).await.ok();
    assert_eq!(tokens["data"].as_array().unwrap().iter().filter(|t| t["kind"] == "device").count(), 1);
}

#[tokio::test]
async fn a15_polls_of_unknown_pairings_get_429() {
    let mut config = unlimited();
    config.limits.refusals_per_minute = 5;
    let server = Server::with(config).await;
    let (device_code, _) = begin(&server).await;
    for _ in 0..5 {
        poll(&server, "qlp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.expect(410);
    }
    poll(&server, "qlp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.expect(429);
    poll(&server, &device_code).await.ok(); // a real one is heard all the same
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_concurrent_claims_have_one_winner() {
    let server = Server::start().await;
    let mut users = Vec::new();
    for n in 0..10 {
        users.push(server.user(&format!("user{n}")).await);
    }
    let mut wins = [0; 2];
    for round in 0..20 {
        // Each user stands in four rounds: who loses five times would be barred.
        let pair = [&users[round % 10], &users[(round + 1 + round / 10) % 10]];
        let (device_code, code) = begin(&server).await;
        let (one, two) = tokio::join!(claim(&server, &pair[0].token, &code), claim(&server, &pair[1].token, &code));
        let statuses = [one.status.as_u16(), two.status.as_u16()];
        let winner = statuses.iter().position(|s| *s == 201).unwrap_or_else(|| panic!("nobody won: {statuses:?}"));
        assert_eq!(statuses[1 - winner], 404, "{statuses:?}");
        wins[winner] += 1;
        let paired = poll(&server, &device_code).await.ok();
        assert_eq!(paired["data"]["user_id"], pair[winner].id);
        assert_eq!(paired["data"]["device"]["user_ids"], json!([pair[winner].id]));
    }
    let admin = server.admin().await;
    let devices = server.get("/api/devices", Some(&admin)).await.ok();
    assert_eq!(devices["data"].as_array().unwrap().len(), 20, "one device a round; {wins:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_concurrent_polls_give_one_token() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for _ in 0..10 {
        let (device_code, code) = begin(&server).await;
        claim(&server, &ana.token, &code).await.expect(201);
        let (one, two) = tokio::join!(poll(&server, &device_code), poll(&server, &device_code));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        // The other one is too late, or too early to ask again.
        assert!(statuses[0] == 200 && matches!(statuses[1], 410 | 429), "{statuses:?}");
    }
    let tokens: Value = server.get("/api/auth/tokens", Some(&ana.token)).await.ok();
    assert_eq!(tokens["data"].as_array().unwrap().iter().filter(|t| t["kind"] == "device").count(), 10);
}
