//! Other users' objects and administrators' routes: every route, with every id that fits.

use serde_json::{Value, json};

use crate::support::api::{Caller, Route, routes};
use crate::support::raw::{HERE, ask};
use crate::support::{ADMIN_PASSWORD, Server, User};

pub(crate) fn for_administrators(route: &Route) -> bool {
    route.allows(Caller::Admin) && !route.allows(Caller::User) && !route.allows(Caller::Device)
}

/// A user with one of everything, all of it waiting.
struct World {
    user: User,
    device: u64,
    device_token: String,
    token: u64,
    message: u64,
}

async fn world(server: &Server, name: &str) -> World {
    let user = server.user(name).await;
    let body = json!({"name": name, "serial": format!("serial-{name}"), "model": "M", "primary": true});
    let device = server.post("/api/devices", &user.token, body).await.expect(201)["data"]["id"].as_u64().unwrap();
    let device_token = server.device_token(&user.token, device).await;
    let token = server.post("/api/auth/tokens", &user.token, json!({"label": name})).await.expect(201);
    let token = token["data"]["id"].as_u64().unwrap();
    let send = async |path: String| {
        let sent = server.post(&path, &user.token, json!({"message": format!("words of {name}")})).await.ok();
        sent["data"]["id"].as_u64().unwrap()
    };
    let message = send(format!("/api/messages/user/{}", user.id)).await;
    send(format!("/api/messages/device/{device}")).await;
    World { user, device, device_token, token, message }
}

impl World {
    /// `path` with one of this user's ids in it, behind `zeros`.
    fn in_path(&self, path: &str, zeros: &str) -> String {
        let id = match path {
            "/api/messages/{id}" => self.message,
            "/api/auth/tokens/{id}" => self.token,
            "/api/monitor/connections/{id}" => 1, // whoever's: users can't close any
            _ if path.contains("/user/{id}") || path.contains("/users/{id}") => self.user.id,
            _ if path.contains("/device/{id}") || path.contains("/devices/{id}") => self.device,
            _ => panic!("whose id is it in {path}?"),
        };
        path.replace("{id}", &format!("{zeros}{id}"))
    }

    /// All that this user has, as the user and an administrator see it.
    async fn snapshot(&self, server: &Server, admin: &str) -> Vec<Value> {
        let (user, device) = (self.user.id, self.device);
        let mut seen = Vec::new();
        for (path, token) in [
            (format!("/api/users/{user}"), admin),
            (format!("/api/devices?user_id={user}"), admin),
            (format!("/api/devices/{device}"), admin),
            (format!("/api/queue/user/{user}"), admin),
            (format!("/api/queue/device/{device}"), admin),
            (format!("/api/messages/{}", self.message), admin),
            ("/api/auth/tokens".to_owned(), &self.user.token),
            (format!("/api/auth/tokens?user_id={user}"), admin),
            ("/api/auth/me".to_owned(), &self.user.token),
            ("/api/messages/history".to_owned(), &self.user.token),
        ] {
            let mut answer = server.get(&path, Some(token)).await.ok();
            forget_times(&mut answer);
            seen.push(answer);
        }
        seen
    }
}

/// Drops the times of last use, which reading changes, and of expiry, which are computed for each response.
fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !["last_used_at", "last_seen", "expires_at"].contains(&key.as_str()));
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// The bodies that a route takes from the owner.
fn bodies(route: &Route, attacker: u64, victim: u64) -> Vec<Value> {
    match (route.method, route.path) {
        ("GET" | "DELETE", _) => vec![Value::Null],
        ("PATCH", "/api/devices/{id}") => vec![
            json!({"name": "stolen"}),
            json!({"serial": null}),
            json!({"model": "stolen"}),
            json!({"primary": true}),
            json!({"primary": false}),
            json!({"user_ids": [attacker]}),
            json!({"user_ids": [attacker, victim]}),
        ],
        ("PATCH", "/api/users/{id}") => {
            vec![json!({"disabled": true}), json!({"role": "admin"}), json!({"password": "stolen-password"})]
        }
        ("PUT", "/api/devices/{id}/primary") => vec![json!({}), json!({"user_id": attacker}), json!({"user_id": victim})],
        ("POST", "/api/devices/{id}/token") => vec![json!({}), json!({"label": "stolen", "expires_in": 60})],
        ("POST", "/api/messages/user/{id}" | "/api/messages/device/{id}") => {
            vec![json!({"message": "x"}), json!({"message": "x", "delivery": "live"}), json!({"type": "t", "message": "x"})]
        }
        (method, path) => panic!("no bodies for {method} {path}"),
    }
}

#[tokio::test]
async fn a14_foreign_objects_get_404_on_every_route() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (mallory, ana) = (world(&server, "mallory").await, world(&server, "ana").await);
    let before = ana.snapshot(&server, &admin).await;
    let mut walked = 0;
    for route in routes().filter(|route| route.path.contains("{id}")) {
        let paths = [ana.in_path(route.path, ""), ana.in_path(route.path, "") + "/", ana.in_path(route.path, "000")];
        for body in bodies(&route, mallory.user.id, ana.user.id) {
            let text = (!body.is_null()).then(|| body.to_string());
            for path in &paths {
                for (token, actor) in [(&mallory.user.token, Caller::User), (&mallory.device_token, Caller::Device)] {
                    let answer = server.http(route.method, path, Some(token), text.as_deref()).await;
                    let status = if route.allows(actor) { 404 } else { 403 };
                    assert_eq!(answer.status, status, "{} {path} {body} as {actor:?}: {}", route.method, answer.text);
                    walked += 1;
                }
            }
        }
    }
    assert!(walked > 100, "{walked}");
    assert_eq!(ana.snapshot(&server, &admin).await, before);
    // The ids were right: their owner has all of it.
    for route in routes().filter(|r| r.path.contains("{id}") && r.method == "GET" && r.allows(Caller::User)) {
        server.get(&ana.in_path(route.path, ""), Some(&ana.user.token)).await.ok();
    }
}

#[tokio::test]
async fn a14_foreign_ids_in_body_or_query_are_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (mallory, ana) = (world(&server, "mallory").await, world(&server, "ana").await);
    let (before, own) = (ana.snapshot(&server, &admin).await, mallory.snapshot(&server, &admin).await);
    let (device, victim) = (mallory.device, ana.user.id);
    let message = |id: Value| json!({"type": "t", "message": "x", "user_id": id});
    for (method, path, body, status) in [
        ("POST", "/api/messages".to_owned(), message(json!(victim)), 404),
        ("POST", "/api/messages".into(), message(json!(victim.to_string())), 404),
        ("POST", "/api/messages".into(), message(json!(format!("00{victim}"))), 404),
        ("POST", "/api/devices".into(), json!({"name": "spy", "user_id": victim}), 404),
        ("POST", "/api/devices".into(), json!({"name": "spy", "primary": true, "user_id": victim.to_string()}), 404),
        ("POST", "/api/devices".into(), json!({"name": "spy", "serial": "serial-ana"}), 409),
        ("PUT", format!("/api/devices/{device}/primary"), json!({"user_id": victim}), 404),
        ("PATCH", format!("/api/devices/{device}"), json!({"user_ids": [mallory.user.id, victim]}), 403),
        ("PATCH", format!("/api/devices/{device}"), json!({"user_ids": [victim]}), 403),
        ("PATCH", format!("/api/devices/{device}"), json!({"serial": "serial-ana"}), 409),
        ("POST", format!("/api/devices/{device}/token"), json!({"user_id": victim}), 400),
        ("POST", "/api/auth/tokens".into(), json!({"user_id": victim}), 400),
        ("POST", "/api/auth/tokens".into(), json!({"kind": "service"}), 403),
        ("POST", "/api/auth/tokens".into(), json!({"kind": "device", "device_id": ana.device}), 400),
        ("GET", format!("/api/devices?user_id={victim}"), Value::Null, 404),
        ("GET", format!("/api/auth/tokens?user_id={victim}"), Value::Null, 404),
        ("GET", format!("/api/clients?user_id={victim}"), Value::Null, 404),
    ] {
        let text = (!body.is_null()).then(|| body.to_string());
        let answer = server.http(method, &path, Some(&mallory.user.token), text.as_deref()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
    }
    // Lists hold what is one's own, whatever is asked for.
    for path in ["/api/devices", "/api/auth/tokens", "/api/messages/history", "/api/devices?after=0&limit=1000"] {
        for query in ["", "user_id=2", "device_id=2"] {
            let mark = if path.contains('?') { '&' } else { '?' };
            let text = server.get(&format!("{path}{mark}{query}"), Some(&mallory.user.token)).await.text;
            assert!(!text.contains("ana"), "{path} {query}: {text}");
        }
    }
    assert_eq!((ana.snapshot(&server, &admin).await, mallory.snapshot(&server, &admin).await), (before, own));
}

#[tokio::test]
async fn a16_admin_routes_refuse_everybody_else() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = world(&server, "ana").await;
    let everything = async || {
        let mut seen = ana.snapshot(&server, &admin).await;
        for path in ["/api/users", "/api/queue", "/api/users/1"] {
            seen.push(server.get(path, Some(&admin)).await.ok());
        }
        seen
    };
    let before = everything().await;
    let (device, cookie) = (format!("Token {}", ana.device_token), format!("qy_lty_session={}", ana.device_token));
    let stranger = ("authorization", "Token qlt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    for route in routes().filter(for_administrators) {
        for id in ["1", &ana.user.id.to_string()] {
            let path = route.path.replace("{id}", id);
            for (query, headers, statuses) in [
                ("", &[][..], &[401][..]),
                ("", &[("authorization", "Basic YWRtaW46YWRtaW4=")], &[401]),
                ("", &[stranger], &[401]),
                ("", &[("x-forwarded-for", "127.0.0.1"), ("x-original-url", "/healthz"), ("x-user-id", "1")], &[401]),
                ("?token=", &[], &[401]),
                ("", &[("cookie", cookie.as_str())], &[401, 403]),
                ("", &[("authorization", device.as_str())], &[403]),
                ("", &[("authorization", device.as_str()), ("authorization", stranger.1)], &[401, 403]),
            ] {
                let path = if query.is_empty() { path.clone() } else { format!("{path}{query}{admin}") };
                let body = route_body(&route);
                let answer = ask(HERE, server.address, route.method, &path, headers, body.to_string()).await;
                assert!(statuses.contains(&answer.status), "{} {path} {headers:?}: {answer:?}", route.method);
                assert!(!answer.body.contains("\"data\""), "{answer:?}");
            }
        }
    }
    assert_eq!(everything().await, before);
    server.login("admin", ADMIN_PASSWORD).await.ok();
}

/// A body with which an administrator would get through.
fn route_body(route: &Route) -> Value {
    match (route.method, route.path) {
        ("POST", "/api/users") => json!({"username": "new", "password": "new-password", "role": "admin"}),
        ("PATCH", _) => json!({"role": "admin", "password": "stolen-password"}),
        ("POST", _) => json!({"message": "to all"}),
        _ => Value::Null,
    }
}
