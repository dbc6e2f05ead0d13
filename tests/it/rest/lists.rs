//! Lists: pages of a bounded size, which together are the whole list.

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::support::program::{Running, output, program};
use crate::support::{ADMIN_PASSWORD, Reader, Server, http, roomy, set};

/// The longest page, unless it has a single entry.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// Follows `next` and returns all entries, and the number of pages; `path` may have a query.
async fn walk(address: std::net::SocketAddr, token: &str, path: &str, limit: &str) -> (Vec<Value>, usize) {
    let separator = if path.contains('?') { '&' } else { '?' };
    let (mut all, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = http::call(address, "GET", &format!("{path}{separator}{limit}{after}"), token, "").await;
        let bytes = answer.text.len();
        let page = answer.ok();
        let entries = page["data"].as_array().unwrap();
        assert!(bytes <= MAX_PAGE_BYTES + 256 || entries.len() == 1, "{path}: {bytes} bytes, {} entries", entries.len());
        all.extend_from_slice(entries);
        pages += 1;
        after = match &page["next"] {
            Value::Number(id) => format!("&after={id}"),
            Value::String(name) => format!("&after={name}"),
            Value::Null => return (all, pages),
            other => panic!("{other}"),
        };
    }
}

/// The values of a field.
fn of(entries: &[Value], field: &str) -> Vec<Value> {
    entries.iter().map(|entry| entry[field].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_complete_in_pages_of_any_length() {
    let mut config = roomy();
    (config.mailbox.readers, config.limits.tokens_per_user, config.limits.connections_per_user) = (0, 1000, 0);
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let label = "标".repeat(100);
    let mut connected = Vec::new();
    for n in 0..23 {
        server.post("/api/auth/tokens", &ana.token, json!({"label": label})).await.expect(201);
        let device = server.post("/api/devices", &ana.token, json!({"name": label, "serial": format!("{label:.90}{n}")})).await;
        let device = &device.expect(201)["data"]["id"];
        server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": n})).await.ok();
        let name = format!("{n:03}{}", "x".repeat(61));
        connected.push(server.ws(&format!("/ws/device/?token={}&client={name}", ana.token)).await);
        connected.last_mut().unwrap().json().await;
    }
    let body = |n: usize| json!({"username": format!("{n}{}", "ü".repeat(60)), "password": "long-enough-password"});
    for n in 0..5 {
        server.post("/api/users", &admin, body(n)).await.expect(201);
    }
    let of_ana = format!("user_id={}", ana.id);
    for (path, field, token, count) in [
        ("/api/users".to_owned(), "id", &admin, 7),
        ("/api/users/online".into(), "user_id", &admin, 1),
        ("/api/devices".into(), "id", &ana.token, 23),
        ("/api/devices".into(), "id", &admin, 23),
        (format!("/api/devices?{of_ana}"), "id", &admin, 23),
        ("/api/auth/tokens".into(), "id", &ana.token, 24),
        ("/api/clients".into(), "name", &ana.token, 23),
        (format!("/api/clients?{of_ana}"), "name", &admin, 23),
    ] {
        let (whole, pages) = walk(server.address, token, &path, "limit=1000").await;
        assert_eq!((whole.len(), pages), (count, 1), "{path}");
        let ids = of(&whole, field);
        assert!(ids.is_sorted_by_key(|id| (id.as_u64(), id.as_str().map(str::to_owned))), "{path}: {ids:?}");
        for limit in [1, 2, 7, count.max(2) - 1, count, count + 1] {
            let (parts, pages) = walk(server.address, token, &path, &format!("limit={limit}")).await;
            assert_eq!(of(&parts, field), ids, "{path} by {limit}");
            assert_eq!(pages, count.div_ceil(limit), "{path} by {limit}");
        }
        let last = ids.last().unwrap().as_str().map_or_else(|| ids.last().unwrap().to_string(), str::to_owned);
        let separator = if path.contains('?') { '&' } else { '?' };
        let beyond = server.get(&format!("{path}{separator}after={last}"), Some(token)).await.ok();
        assert_eq!((&beyond["data"], beyond.get("next")), (&json!([]), None), "{path}");
        for wrong in ["limit=0", "limit=1001", "limit=x"] {
            server.get(&format!("{path}{separator}{wrong}"), Some(token)).await.expect(400);
        }
    }
    assert_eq!(walk(server.address, &admin, "/api/users?username=ana", "limit=1").await.0[0]["id"], ana.id);
    assert_eq!(server.get("/api/users?username=nobody", Some(&admin)).await.ok()["data"], json!([]));
    // Connections are a list inside an object.
    let (mut ids, mut after) = (Vec::new(), json!(0));
    while after.is_u64() {
        let data = server.get(&format!("/api/monitor/connections?limit=4&after={after}"), Some(&admin)).await.ok();
        ids.extend(of(data["data"]["connections"].as_array().unwrap(), "id"));
        after = data["data"]["next"].clone();
    }
    assert_eq!(ids.len(), 23);
    drop(connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_limit_are_a_thousand() {
    let mut config = roomy();
    config.mailbox.readers = 0;
    set(&mut config, "limits.connections_per_user", 0);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let names: Vec<String> = (0..1003).map(|n| format!("c{n}")).collect();
    let open = |name: String| {
        let (server, ana) = (&server, &ana);
        async move { drop(Reader::open(server, &ana.token, &name).await) }
    };
    stream::iter(names).for_each_concurrent(16, open).await;
    let (listed, _) = walk(server.address, &ana.token, "/api/clients", "limit=1000").await;
    assert_eq!(listed.len(), 1003);
    let unlimited = server.get("/api/clients", Some(&ana.token)).await.ok();
    assert_eq!(unlimited["data"].as_array().unwrap().len(), 1000);
    assert_eq!(unlimited["next"], unlimited["data"][999]["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_entries_make_short_pages_and_commands_show_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[limits]\ndevices_per_user = 0\nrequests_per_minute = 0\ntrusted_requests_per_minute = 0\ntokens_per_user = 1000";
    let server = Running::configured(dir.path(), toml).await;
    let (address, admin) = (server.address, http::log_in(server.address, "admin", ADMIN_PASSWORD).await);
    const DEVICES: usize = 1100;
    let wide = "𝄢".repeat(95);
    let create = |n: usize| {
        let (admin, wide) = (&admin, &wide);
        async move {
            let body = json!({"name": wide, "serial": format!("{wide}{n}"), "model": wide});
            let id = http::post(address, "/api/devices", admin, body).await.expect(201)["data"]["id"].clone();
            if n.is_multiple_of(2) {
                http::post(address, &format!("/api/messages/device/{id}"), admin, json!({"message": n})).await.ok();
            }
        }
    };
    stream::iter(0..DEVICES).for_each_concurrent(16, create).await;
    let (devices, pages) = walk(address, &admin, "/api/devices", "limit=1000").await;
    assert_eq!((devices.len(), pages), (DEVICES, 2), "the first page ends before its limit");
    let first = http::call(address, "GET", "/api/devices?limit=1000", &admin, "").await;
    assert!(first.text.len() > MAX_PAGE_BYTES / 2 && first.text.len() <= MAX_PAGE_BYTES + 256, "{}", first.text.len());
    assert!(first.json["data"].as_array().unwrap().len() < 1000);

    let run = async |args: &[&str]| -> Value {
        let output = output(program(dir.path(), &[args, &["--json", "--data-dir", "data"]].concat())).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let check = async || {
        let listed = join_all([run(&["device", "list"]), run(&["device", "list", "--user", "admin"])]).await;
        for listed in listed {
            assert_eq!(of(listed.as_array().unwrap(), "id"), of(&devices, "id"));
        }
        assert_eq!(run(&["queue", "list"]).await.as_array().unwrap().len(), DEVICES / 2);
    };
    check().await;
    server.stop().await;
    check().await;
}
