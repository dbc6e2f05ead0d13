//! The table of routes: every route called by every kind of caller.

use crate::support::api::{Caller, Route, routes};
use crate::support::http::Browser;
use crate::support::{ADMIN_PASSWORD, Server, User, eventually, unlimited};
use serde_json::{Value, json};

/// Creates a token of a kind; some calls revoke theirs.
async fn token(server: &Server, caller: Caller, user: &User, device: u64) -> Option<String> {
    let made = match caller {
        Caller::Anonymous => return None,
        Caller::Admin => server.post("/api/auth/tokens", &server.admin().await, json!({})).await,
        Caller::User => server.post("/api/auth/tokens", &user.token, json!({})).await,
        Caller::Device => server.post(&format!("/api/devices/{device}/token"), &user.token, json!({})).await,
        Caller::Service => server.post("/api/auth/tokens", &server.admin().await, json!({"kind": "service"})).await,
    };
    Some(made.expect(201)["data"]["token"].as_str().unwrap().to_owned())
}

/// The callers that each route allows, its demand (`elevated` of browsers, or a scope of services), and the `Location` of what it creates, if
/// anything, written by hand: a change of the program's table must be made here, too.
/// a: anyone, t: with any token, s: devices, services and administrators, w: services and administrators, p: users, administrators and services, u: users and administrators, r: administrators ("root").
const RULES: &[(&str, &str, &str, &str)] = &[
    ("POST /api/auth/login", "a", "", ""),
    ("POST /api/auth/token", "a", "", ""),
    ("POST /api/auth/register", "a", "", "/api/users/{id}"),
    ("POST /api/auth/link", "a", "", ""),
    ("POST /api/auth/logout", "p", "any", ""),
    ("GET /api/auth/me", "p", "any", ""),
    ("POST /api/auth/ticket", "p", "any", "/api/auth/ticket"),
    ("POST /api/auth/elevate", "u", "", ""),
    ("PUT /api/auth/password", "u", "", ""),
    ("GET /api/auth/tokens", "u", "", ""),
    ("POST /api/auth/tokens", "u", "elevated", "/api/auth/tokens/{id}"),
    ("DELETE /api/auth/tokens/{id}", "u", "elevated", ""),
    ("GET /api/users", "r", "read", ""), // and services, with `?username=`
    ("POST /api/users", "r", "elevated", "/api/users/{id}"),
    ("GET /api/users/online", "r", "", ""),
    ("GET /api/users/{id}", "r", "", ""),
    ("PATCH /api/users/{id}", "r", "elevated", ""),
    ("DELETE /api/users/{id}", "r", "elevated", ""),
    ("GET /api/devices", "u", "", ""),
    ("POST /api/devices", "u", "", "/api/devices/{id}"),
    ("POST /api/devices/pair", "a", "", "/api/devices/pair"),
    ("POST /api/devices/claim", "u", "", "/api/devices/{id}"),
    ("GET /api/devices/{id}", "u", "", ""),
    ("PATCH /api/devices/{id}", "u", "", ""),
    ("DELETE /api/devices/{id}", "u", "elevated", ""),
    ("PUT /api/devices/{id}/primary", "u", "", ""),
    ("POST /api/devices/{id}/token", "u", "elevated", "/api/auth/tokens/{id}"),
    ("POST /api/messages", "p", "send", ""),
    ("POST /api/messages/user/{id}", "p", "send", ""),
    ("POST /api/messages/device/{id}", "p", "send", ""),
    ("POST /api/messages/broadcast", "w", "broadcast", ""),
    ("GET /api/messages/history", "u", "", ""),
    ("GET /api/messages/{id}", "t", "read", ""),
    ("GET /api/queue", "r", "", ""),
    ("DELETE /api/messages/{id}", "p", "send", ""),
    ("GET /api/clients", "u", "", ""),
    ("DELETE /api/clients/{name}", "u", "elevated", ""),
    ("DELETE /api/queue", "r", "elevated", ""),
    ("GET /api/queue/user/{id}", "u", "", ""),
    ("DELETE /api/queue/user/{id}", "u", "elevated", ""),
    ("GET /api/queue/device/{id}", "u", "", ""),
    ("DELETE /api/queue/device/{id}", "u", "elevated", ""),
    ("PUT /api/weather/{name}", "s", "send", ""),
    ("GET /api/catalog/songs", "r", "", ""),
    ("PUT /api/catalog/songs", "r", "", ""),
    ("DELETE /api/catalog/songs", "r", "elevated", ""),
    ("GET /api/catalog/dances", "r", "", ""),
    ("PUT /api/catalog/dances", "r", "", ""),
    ("DELETE /api/catalog/dances", "r", "elevated", ""),
    ("GET /api/monitor/connections", "r", "", ""),
    ("GET /api/monitor/performance", "r", "", ""),
    ("GET /api/devices/{id}/presence", "u", "", ""),
    ("GET /api/queues", "r", "", ""),
    ("GET /api/queue/user/{id}/messages", "u", "", ""),
    ("GET /api/queue/device/{id}/messages", "u", "", ""),
    ("GET /api/monitor/overview", "r", "", ""),
    ("GET /api/monitor/series", "r", "", ""),
    ("DELETE /api/monitor/connections/{id}", "r", "", ""),
    ("GET /api/audit", "r", "", ""),
    ("GET /api/settings", "r", "", ""),
    ("GET /api/backup", "r", "elevated", ""),
    ("GET /metrics", "w", "metrics", ""),
    ("GET /healthz", "a", "", ""),
    ("GET /readyz", "a", "", ""),
    ("GET /", "a", "", ""),
];

/// Returns the row of a route.
fn rule_of(route: &Route) -> (&'static str, &'static str, &'static str, &'static str) {
    let name = format!("{} {}", route.method, route.path);
    *RULES.iter().find(|rule| rule.0 == name).unwrap_or_else(|| panic!("no rule for {name}"))
}

fn rule_allows(rule: &str, caller: Caller) -> bool {
    match caller {
        Caller::Anonymous => rule == "a",
        Caller::Device => matches!(rule, "a" | "t" | "s"),
        Caller::Service => matches!(rule, "a" | "t" | "s" | "w" | "p"),
        Caller::User => matches!(rule, "a" | "t" | "p" | "u"),
        Caller::Admin => true,
    }
}

#[tokio::test]
async fn route_allows_exactly_its_callers() {
    let mut config = unlimited();
    config.auth = toml::from_str("registration = \"open\"").unwrap();
    config.limits.tokens_per_user = 10_000;
    let server = Server::with(config).await;
    let user = server.user("ana").await;
    let device = server.device(&user.token, false).await;
    let mut walked = 0;
    for route in routes() {
        let (_, rule, _, location) = rule_of(&route);
        for caller in Caller::ALL {
            let token = token(&server, caller, &user, device).await;
            // An id that nobody has: what is allowed finds nothing, and so changes nothing.
            let path = route.path.replace("{id}", "999999").replace("{name}", "nowhere");
            let answer = server.http(route.method, &path, token.as_deref(), route.empty_body()).await;
            let status = answer.status.as_u16();
            let what = format!("{} {} as {caller:?}: {}", route.method, route.path, answer.text);
            match (rule_allows(rule, caller), caller) {
                (true, _) => assert!(![401, 403].contains(&status), "{what}"),
                (false, Caller::Anonymous) => assert_eq!(status, 401, "{what}"),
                (false, _) => assert_eq!(status, 403, "{what}"),
            }
            assert!(status < 500, "{what}");
            assert!(status != 201 || !location.is_empty(), "{what}");
            if !["/metrics", "/api/backup"].contains(&route.path) || status != 200 {
                answer.expect(status); // JSON in our form, whatever it is
            }
            walked += 1;
        }
    }
    assert_eq!(walked, RULES.len() * 5);
}

#[tokio::test]
async fn service_calls_exactly_the_routes_of_its_scopes() {
    let mut config = unlimited();
    config.limits.tokens_per_user = 10_000;
    let server = Server::with(config).await;
    let admin = server.admin().await;
    let all = ["send", "broadcast", "read", "metrics"];
    let mut walked = 0;
    for route in routes().filter(|route| route.allows(Caller::Service) && !route.allows(Caller::Anonymous)) {
        let (name, _, demanded, _) = rule_of(&route);
        assert!(demanded == "any" || all.contains(&demanded), "no scope for {name}");
        let path = route.path.replace("{id}", "999999").replace("{name}", "nowhere");
        for scopes in [None, Some(json!(all))].into_iter().chain(all.map(|scope| Some(json!([scope])))) {
            let body = json!({"kind": "service", "scopes": scopes});
            let made = server.post("/api/auth/tokens", &admin, body).await.expect(201);
            assert_eq!(made["data"]["scopes"], scopes.clone().unwrap_or_else(|| json!(all)));
            let answer = server.http(route.method, &path, made["data"]["token"].as_str(), route.empty_body()).await;
            let allowed =
                demanded == "any" || scopes.as_ref().is_none_or(|scopes| scopes.as_array().unwrap().contains(&json!(demanded)));
            let what = format!("{name} with {scopes:?}: {}", answer.text);
            assert_eq!(answer.json["code"] != "scope_missing", allowed, "{what}");
            if !allowed {
                let refused = answer.expect(403);
                assert!(refused["message"].as_str().unwrap().contains(&format!("\"{demanded}\"")), "{what}");
            }
            walked += 1;
        }
    }
    assert_eq!(walked, RULES.iter().filter(|rule| !matches!(rule.2, "" | "elevated")).count() * 6);
}

#[tokio::test]
async fn browser_calls_elevated_routes_only_while_its_log_in_is_fresh_or_elevated() {
    let mut config = unlimited();
    config.limits.elevation_seconds = 1;
    let server = Server::with(config).await;
    let token = server.admin().await;
    let (browser, _) = Browser::log_in(&server, "admin", ADMIN_PASSWORD).await;
    let csrf = ("x-csrf-token", browser.csrf.as_str());
    eventually("the log-in is no longer fresh", async || {
        browser.call(&server, "GET", "/api/auth/me", &[], "").await.ok()["data"]["elevation_needed"] == true
    })
    .await;
    for route in routes().filter(|route| route.allows(Caller::Admin) && route.path != "/api/auth/logout") {
        let (name, _, demand, _) = rule_of(&route);
        let path = route.path.replace("{id}", "999999").replace("{name}", "nowhere");
        let answer = browser.call(&server, route.method, &path, &[csrf], route.empty_body().unwrap_or_default()).await;
        assert_eq!(answer.json["code"] == "elevation_required", demand == "elevated", "{name}: {}", answer.text);
        if demand == "elevated" {
            answer.expect(403);
            let answer = server.http(route.method, &path, Some(&token), route.empty_body()).await;
            assert_ne!(answer.status, 403, "{name} with a token: {}", answer.text);
        }
    }
}

/// Returns the body with which a user `name` creates something through a route.
async fn creation(server: &Server, route: &str, name: &str) -> Value {
    match route {
        "POST /api/auth/register" | "POST /api/users" => json!({"username": name, "password": "long-password"}),
        "POST /api/auth/ticket" | "POST /api/auth/tokens" | "POST /api/devices/{id}/token" => json!({}),
        "POST /api/devices" | "POST /api/devices/pair" => json!({"name": name}),
        "POST /api/devices/claim" => {
            let begun = server.http("POST", "/api/devices/pair", None, Some("{}")).await.expect(201);
            json!({"code": begun["data"]["code"]})
        }
        route => panic!("no body for {route}"),
    }
}

#[tokio::test]
async fn location_of_a_creation_is_that_of_its_rule_below_the_prefix_of_a_trusted_proxy() {
    let mut config = unlimited();
    config.auth = toml::from_str("registration = \"open\"").unwrap();
    let here = toml::from_str::<toml::Value>("p = [\"127.0.0.1\"]").unwrap()["p"].clone();
    for (prefixes, trusted) in [(["/qy", ""], true), (["/qy", ""], false)] {
        if trusted {
            config.server.trusted_proxies = here.clone().try_into().unwrap();
        } else {
            config.server.trusted_proxies = Vec::new();
        }
        let server = Server::with(config.clone()).await;
        let token = format!("Token {}", server.admin().await);
        let device = server.device(&token["Token ".len()..], false).await;
        for (n, (route, _, _, location)) in RULES.iter().filter(|rule| !rule.3.is_empty()).enumerate() {
            let (method, path) = route.split_once(' ').unwrap();
            for prefix in prefixes {
                let body = creation(&server, route, &format!("name{n}{}", prefix.len())).await.to_string();
                let headers =
                    [("authorization", token.as_str()), ("content-type", "application/json"), ("x-forwarded-prefix", prefix)];
                let path = path.replace("{id}", &device.to_string());
                let answer = server.raw_http(method, &path, &headers, body.as_bytes()).await;
                let found = answer.headers["location"].to_str().unwrap().to_owned();
                let made = answer.expect(201);
                let id = ["id", "user"].map(|key| &made["data"][key]);
                let id = if id[1].is_object() { &id[1]["id"] } else { id[0] };
                let own = location.replace("{id}", &id.to_string());
                assert_eq!(found, format!("{}{own}", if trusted { prefix } else { "" }), "{route}");
                if routes().any(|route| route.method == "GET" && route.path == *location) {
                    let shown = server.get(&own, Some(&token["Token ".len()..])).await.ok();
                    assert_eq!(&shown["data"]["id"], id, "{route}");
                }
            }
        }
    }
}

#[tokio::test]
async fn routes_open_to_anyone_and_devices_are_as_listed() {
    let open: Vec<&str> = routes().filter(|r| r.allows(Caller::Anonymous)).map(|r| r.path).collect();
    assert_eq!(
        open,
        [
            "/api/auth/login",
            "/api/auth/token",
            "/api/auth/register",
            "/api/auth/link",
            "/api/devices/pair",
            "/healthz",
            "/readyz",
            "/"
        ]
    );
    let for_devices = routes().filter(|r| r.allows(Caller::Device) && !r.allows(Caller::Anonymous));
    let for_devices: Vec<&str> = for_devices.map(|r| r.path).collect();
    assert_eq!(for_devices, ["/api/messages/{id}", "/api/weather/{name}"], "besides its WebSocket: receipts, and what it sees");
}

#[tokio::test]
async fn routes_are_listed_in_protocol_docs() {
    let page = include_str!("../../../docs/protocol.md");
    for route in routes() {
        let line = format!("`{} {}`", route.method, route.path);
        assert!(page.contains(&line), "docs/protocol.md does not list {line}");
    }
}

#[tokio::test]
async fn wrong_token_gets_401_with_challenge() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for header in
        ["", "Token", "Token ", "Basic YWRtaW46eA==", "Token wrong", &format!("Token {admin}x"), &format!("Tokenx {admin}")]
    {
        let answer = server.raw_http("GET", "/api/auth/me", &[("authorization", header)], b"").await;
        assert_eq!(answer.headers["www-authenticate"], "Token");
        assert_eq!(answer.expect(401)["code"], "unauthorized", "{header}");
    }
    for header in [format!("Bearer {admin}"), format!("token {admin}")] {
        server.raw_http("GET", "/api/auth/me", &[("authorization", &header)], b"").await.ok();
    }
}

#[tokio::test]
async fn unknown_path_and_method_get_json_errors() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for path in [
        "/nothing",
        "/api",
        "/api/users/abc",
        "/api/users/99999999999999999999",
        "/api/users/-1",
        "/api//nothing",
        "/api/devices/1/nothing",
    ] {
        assert_eq!(server.get(path, Some(&admin)).await.expect(404)["code"], "not_found", "{path}");
    }
    let answer = server.get("/api/messages/", Some(&admin)).await;
    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(answer.expect(405)["code"], "method_not_allowed");
    assert_eq!(server.http("BREW", "/healthz", None, None).await.expect(405)["code"], "method_not_allowed");
    for path in ["/api/users", "/api/users/"] {
        server.get(path, Some(&admin)).await.ok();
    }
    let head = server.http("HEAD", "/healthz", None, None).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    let health = server.get("/healthz", None).await;
    assert_eq!(
        (&health.headers["cache-control"], &health.headers["x-content-type-options"]),
        (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
    );
}
