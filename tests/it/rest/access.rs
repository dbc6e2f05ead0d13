//! The table of routes: every route called by every kind of caller.

use crate::support::api::{Caller, routes};
use crate::support::{Server, User, unlimited};
use serde_json::json;

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

/// The callers that each route allows, written by hand: a change of the program's table must be made here, too.
/// a: anyone, t: with any token, s: devices, services and administrators, w: services and administrators, p: users, administrators and services, u: users and administrators, r: administrators ("root").
const RULES: &[(&str, &str)] = &[
    ("POST /api/auth/login", "a"),
    ("POST /api/auth/token", "a"),
    ("POST /api/auth/register", "a"),
    ("POST /api/auth/link", "a"),
    ("POST /api/auth/logout", "p"),
    ("GET /api/auth/me", "p"),
    ("POST /api/auth/ticket", "p"),
    ("PUT /api/auth/password", "u"),
    ("GET /api/auth/tokens", "u"),
    ("POST /api/auth/tokens", "u"),
    ("DELETE /api/auth/tokens/{id}", "u"),
    ("GET /api/users", "r"), // and services, with `?username=`
    ("POST /api/users", "r"),
    ("GET /api/users/online", "r"),
    ("GET /api/users/{id}", "r"),
    ("PATCH /api/users/{id}", "r"),
    ("DELETE /api/users/{id}", "r"),
    ("GET /api/devices", "u"),
    ("POST /api/devices", "u"),
    ("POST /api/devices/pair", "a"),
    ("POST /api/devices/claim", "u"),
    ("GET /api/devices/{id}", "u"),
    ("PATCH /api/devices/{id}", "u"),
    ("DELETE /api/devices/{id}", "u"),
    ("GET /api/devices/{id}/presence", "u"),
    ("PUT /api/devices/{id}/primary", "u"),
    ("POST /api/devices/{id}/token", "u"),
    ("POST /api/messages", "p"),
    ("POST /api/messages/user/{id}", "p"),
    ("POST /api/messages/device/{id}", "p"),
    ("POST /api/messages/broadcast", "w"),
    ("GET /api/messages/history", "u"),
    ("GET /api/messages/{id}", "t"),
    ("GET /api/queue", "r"),
    ("DELETE /api/messages/{id}", "p"),
    ("GET /api/clients", "u"),
    ("DELETE /api/clients/{name}", "u"),
    ("DELETE /api/queue", "r"),
    ("GET /api/queue/user/{id}", "u"),
    ("DELETE /api/queue/user/{id}", "u"),
    ("GET /api/queue/device/{id}", "u"),
    ("DELETE /api/queue/device/{id}", "u"),
    ("GET /api/queues", "r"),
    ("GET /api/queue/user/{id}/messages", "u"),
    ("GET /api/queue/device/{id}/messages", "u"),
    ("PUT /api/weather/{name}", "s"),
    ("GET /api/catalog/songs", "r"),
    ("PUT /api/catalog/songs", "r"),
    ("DELETE /api/catalog/songs", "r"),
    ("GET /api/catalog/dances", "r"),
    ("PUT /api/catalog/dances", "r"),
    ("DELETE /api/catalog/dances", "r"),
    ("GET /api/monitor/overview", "r"),
    ("GET /api/monitor/series", "r"),
    ("GET /api/monitor/connections", "r"),
    ("DELETE /api/monitor/connections/{id}", "r"),
    ("GET /api/monitor/performance", "r"),
    ("GET /api/audit", "r"),
    ("GET /api/settings", "r"),
    ("GET /api/backup", "r"),
    ("GET /metrics", "w"),
    ("GET /healthz", "a"),
    ("GET /readyz", "a"),
    ("GET /", "a"),
];

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
        let name = format!("{} {}", route.method, route.path);
        let rule = RULES.iter().find(|r| r.0 == name).unwrap_or_else(|| panic!("no rule for {name}")).1;
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
            if !["/metrics", "/api/backup"].contains(&route.path) || status != 200 {
                answer.expect(status); // JSON in our form, whatever it is
            }
            walked += 1;
        }
    }
    assert_eq!(walked, RULES.len() * 5);
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
