//! The policy: every actor, action and object, through REST, WebSocket and the control socket.

use qy_lty::Action;
use reqwest::{Client as Http, Method};
use serde_json::{Value, json};

use crate::support::{Client, Server, User};

/// The decisions of each action, written out by hand. A column an actor: anonymous, device token, service token, user,
/// administrator, and the operator at the control socket. In it a character a relation: itself, own, another's, everyone.
/// `+` allowed, `h` hidden (404), `f` forbidden (403), `u` unauthenticated (401), `.` not applicable.
const TABLE: [(Action, [&str; 6]); Action::ALL.len()] = [
    (Action::SendToUser, ["u.u.", "f.f.", "+.+.", "+.h.", "+.+.", "..+."]),
    (Action::SendToDevice, [".uu.", "fff.", ".++.", ".+h.", ".++.", "..+."]),
    (Action::Broadcast, ["...u", "...f", "...+", "...f", "...+", "...+"]),
    (Action::ReadReceipt, ["uuuu", "+hh+", "++h+", "++h+", "++++", "..++"]),
    (Action::CancelMessage, ["uuuu", "ffff", "++h+", "++hf", "++++", "..++"]),
    (Action::ManageClients, ["u.u.", "f.f.", "f.f.", "+.h.", "+.+.", "..+."]),
    (Action::ManageUserQueue, ["u.u.", "f.f.", "f.f.", "+.h.", "+.+.", "..+."]),
    (Action::ManageDeviceQueue, [".uu.", "fff.", ".ff.", ".+h.", ".++.", "..+."]),
    (Action::ManageAllQueues, ["...u", "...f", "...f", "...f", "...+", "...+"]),
    (Action::ManageDevice, [".uu.", "fff.", ".ff.", ".+h.", ".++.", "..+."]),
    // A device of others is hidden before anything about it is forbidden.
    (Action::AssignDevice, [".uu.", "fff.", ".ff.", ".fh.", ".++.", "..+."]),
    (Action::ActForUser, ["u.uu", "f.ff", "f.ff", "+.hh", "+.++", "..++"]),
    (Action::CommandDevice, ["....", "+ff.", ".+f.", ".+f.", ".+f.", "...."]),
    (Action::ManageAccounts, ["u.u.", "f.f.", "f.f.", "f.f.", "+.+.", "..+."]),
    (Action::ChangePassword, ["u...", "f...", "f...", "+...", "+...", "...."]),
    (Action::Elevate, ["u...", "f...", "f...", "+...", "+...", "...."]),
    (Action::CreateToken, ["u...", "f...", "f...", "+...", "+...", "..+."]),
    (Action::CreateServiceToken, ["u...", "f...", "f...", "f...", "+...", "..+."]),
    (Action::ManageTokens, [".uu.", ".ff.", ".ff.", ".+h.", ".++.", "..+."]),
    // The operator is allowed to, but has no token: there is none to revoke.
    (Action::LogOut, ["u...", "f...", "+...", "+...", "+...", "h..."]),
];

/// An account with things of its own.
struct Account {
    user: User,
    device: u64,
    second_device: u64,
    /// A message that it sent to itself.
    to_itself: u64,
    /// A message that it sent to its second device.
    to_second_device: u64,
}

/// The objects of one relation to an actor; 0 where there is none.
#[derive(Debug, Clone, Copy, Default)]
struct Objects {
    user: u64,
    device: u64,
    message: u64,
    /// The token with which the owner creates another one, to be revoked.
    owner: usize,
}

struct World {
    server: Server,
    /// An administrator, a user, another user.
    accounts: [Account; 3],
    broadcast: u64,
    /// For each actor: its token.
    tokens: [String; 6],
    control: Http,
}

const ADMIN: usize = 0;
const ANA: usize = 1;
const BOB: usize = 2;
const OPERATOR: usize = 5;
const EVERYONE: usize = 3;

async fn account(server: &Server, user: User) -> Account {
    let (device, second_device) = (server.device(&user.token, false).await, server.device(&user.token, false).await);
    let send = async |path: String| {
        let sent = server.post(&path, &user.token, json!({"message": "m"})).await.ok();
        sent["data"]["id"].as_u64().unwrap()
    };
    let to_itself = send(format!("/api/messages/user/{}", user.id)).await;
    let to_second_device = send(format!("/api/messages/device/{second_device}")).await;
    Account { user, device, second_device, to_itself, to_second_device }
}

impl World {
    async fn new() -> Self {
        let server = Server::start().await;
        let admin = server.admin().await;
        let admin = account(&server, User { id: 1, token: admin, password: String::new() }).await;
        let ana = account(&server, server.user("ana").await).await;
        let bob = account(&server, server.user("bob").await).await;
        let sent = server.post("/api/messages/broadcast", &admin.user.token, json!({"message": "all"})).await.ok();
        let socket = server.data.path().join("data/admin.sock");
        let control = Http::builder().unix_socket(socket).no_proxy().build().unwrap();
        let broadcast = sent["data"]["id"].as_u64().unwrap();
        let mut world = Self { server, accounts: [admin, ana, bob], broadcast, tokens: Default::default(), control };
        for actor in 0..world.tokens.len() {
            world.tokens[actor] = world.secret(actor).await;
        }
        world
    }

    /// Creates a token for an actor and returns its secret; nothing for those without one.
    async fn secret(&self, actor: usize) -> String {
        let (owner, options) = match actor {
            1 => return self.server.device_token(&self.accounts[ANA].user.token, self.accounts[ANA].device).await,
            2 => (ADMIN, json!({"kind": "service"})),
            3 => (ANA, json!({})),
            4 => (ADMIN, json!({})),
            _ => return String::new(),
        };
        let made = self.server.post("/api/auth/tokens", &self.accounts[owner].user.token, options).await.expect(201);
        made["data"]["token"].as_str().unwrap().to_owned()
    }

    /// Returns the objects of a relation (itself, own, another's, everyone) to an actor.
    fn objects(&self, actor: usize, relation: usize) -> Objects {
        let account = |n: usize| &self.accounts[n];
        // Service tokens are the administrator's; without a credential and at the control socket everything is another's.
        let (mine, other) = match actor {
            1 | 3 => (account(ANA), account(BOB)),
            _ => (account(ADMIN), account(ANA)),
        };
        let owner = if matches!(actor, 1 | 3) { [ANA, ANA, BOB, BOB] } else { [ADMIN, ADMIN, ANA, ANA] }[relation];
        match relation {
            0 => Objects { user: mine.user.id, device: mine.device, message: mine.to_itself, owner },
            1 => Objects { user: 0, device: mine.second_device, message: mine.to_second_device, owner },
            2 => Objects { user: other.user.id, device: other.device, message: other.to_itself, owner },
            _ => Objects { user: 0, device: 0, message: self.broadcast, owner },
        }
    }

    /// Creates a token of an account and returns its id.
    async fn token(&self, owner: usize) -> u64 {
        let made = self.server.post("/api/auth/tokens", &self.accounts[owner].user.token, json!({})).await.expect(201);
        made["data"]["id"].as_u64().unwrap()
    }

    /// Returns the requests of an action: all of them are decided the same.
    async fn requests(&self, action: Action, actor: usize, objects: Objects) -> Vec<(&'static str, String, Value)> {
        let Objects { user, device, message, owner } = objects;
        let (text, none) = (json!({"message": "m"}), Value::Null);
        match action {
            Action::SendToUser => vec![
                ("POST", format!("/api/messages/user/{user}"), text),
                ("POST", "/api/messages".into(), json!({"type": "t", "message": "m", "user_id": user})),
            ],
            Action::SendToDevice => vec![("POST", format!("/api/messages/device/{device}"), text)],
            Action::Broadcast => vec![("POST", "/api/messages/broadcast".into(), text)],
            Action::ReadReceipt => vec![("GET", format!("/api/messages/{message}"), none)],
            Action::CancelMessage => vec![("DELETE", format!("/api/messages/{message}"), none)],
            Action::ManageClients => vec![("GET", format!("/api/clients?user_id={user}"), none)],
            Action::ManageUserQueue => vec![
                ("GET", format!("/api/queue/user/{user}"), none.clone()),
                ("GET", format!("/api/queue/user/{user}/messages"), none.clone()),
                ("DELETE", format!("/api/queue/user/{user}"), none),
            ],
            Action::ManageDeviceQueue => vec![
                ("GET", format!("/api/queue/device/{device}"), none.clone()),
                ("GET", format!("/api/queue/device/{device}/messages"), none.clone()),
                ("DELETE", format!("/api/queue/device/{device}"), none),
            ],
            Action::ManageAllQueues => {
                let read = |path: &str| ("GET", path.to_owned(), none.clone());
                vec![read("/api/queue"), read("/api/queues"), ("DELETE", "/api/queue".into(), none)]
            }
            Action::ManageDevice => vec![
                ("GET", format!("/api/devices/{device}"), none),
                ("PATCH", format!("/api/devices/{device}"), json!({"model": "M"})),
                ("POST", format!("/api/devices/{device}/token"), json!({})),
            ],
            Action::AssignDevice => {
                let users = json!({"user_ids": [self.accounts[owner].user.id]});
                vec![("PATCH", format!("/api/devices/{device}"), users)]
            }
            // Without a user: all devices.
            Action::ActForUser if user == 0 => vec![("GET", "/api/devices".into(), none)],
            Action::ActForUser => vec![
                ("GET", format!("/api/devices?user_id={user}"), none),
                ("POST", "/api/devices".into(), json!({"name": "lamp", "user_id": user})),
            ],
            Action::CommandDevice => Vec::new(),
            Action::ManageAccounts => vec![
                ("GET", format!("/api/users/{user}"), none.clone()),
                ("PATCH", format!("/api/users/{user}"), json!({"disabled": false})),
                ("GET", "/api/users".into(), none),
            ],
            Action::ChangePassword => {
                let body = json!({"current_password": "wrong", "new_password": "new-password"});
                vec![("PUT", "/api/auth/password".into(), body)]
            }
            Action::Elevate => vec![("POST", "/api/auth/elevate".into(), json!({"password": "wrong"}))],
            Action::CreateToken if actor == OPERATOR => vec![("POST", format!("/control/users/{user}/tokens"), json!({}))],
            Action::CreateToken => vec![("POST", "/api/auth/tokens".into(), json!({}))],
            Action::CreateServiceToken if actor == OPERATOR => {
                let admin = self.accounts[ADMIN].user.id; // only an administrator can own one
                vec![("POST", format!("/control/users/{admin}/tokens"), json!({"kind": "service"}))]
            }
            Action::CreateServiceToken => vec![("POST", "/api/auth/tokens".into(), json!({"kind": "service"}))],
            Action::ManageTokens if actor == OPERATOR => {
                vec![("DELETE", format!("/control/tokens/{}", self.token(owner).await), none)]
            }
            Action::ManageTokens => vec![
                ("GET", format!("/api/auth/tokens?user_id={}", self.accounts[owner].user.id), none.clone()),
                ("DELETE", format!("/api/auth/tokens/{}", self.token(owner).await), none),
            ],
            Action::LogOut => vec![("POST", "/api/auth/logout".into(), none)],
        }
    }

    /// Sends a request as an actor with that token, and returns status and body.
    async fn send(&self, actor: usize, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let text = (!body.is_null()).then(|| body.to_string());
        if actor == OPERATOR {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = self.control.request(method, format!("http://control{path}"));
            let request = match text {
                Some(text) => request.header("content-type", "application/json").body(text),
                None => request,
            };
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            return (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap());
        }
        let token = (actor > 0).then_some(token);
        let answer = self.server.http(method, path, token, text.as_deref()).await;
        (answer.status.as_u16(), answer.json)
    }

    /// Has a device perform a song through a WebSocket, and returns the decision.
    async fn command(&self, actor: usize, device: u64) -> char {
        let mut client: Client = self.server.connect(&self.tokens[actor]).await;
        client.say(json!({"type": "sing", "message": {"song": "s"}, "target": {"device_id": device}})).await;
        loop {
            // The device's own connection receives the song, too, and messages from before.
            let event = client.json().await;
            match event["type"].as_str() {
                Some("delivery_status") => return '+',
                Some("error") => {
                    assert_eq!(event["code"], "FORBIDDEN", "{event}");
                    return 'f';
                }
                _ => {}
            }
        }
    }
}

/// Returns the decision that a response shows.
fn decision(action: Action, relation: usize, status: u16, body: &Value, others_device: u64) -> char {
    match (status, body["code"].as_str()) {
        // The list of all devices is cut to those that one may see.
        (200, _) if action == Action::ActForUser && relation == EVERYONE => {
            let all = body["data"].as_array().unwrap().iter().any(|device| device["id"] == others_device);
            if all { '+' } else { 'h' }
        }
        (200 | 201, _) => '+',
        // The password was wrong, so it was looked at.
        (401, Some("wrong_password")) => '+',
        (401, Some("unauthorized")) => 'u',
        (403, Some("forbidden")) => 'f',
        (404, Some("not_found")) => 'h',
        _ => panic!("{action:?}: {status} {body}"),
    }
}

#[test]
fn table_has_one_row_for_every_action_and_tests_it() {
    for action in Action::ALL {
        let rows: Vec<_> = TABLE.iter().filter(|(of, _)| *of == action).collect();
        assert_eq!(rows.len(), 1, "{action:?}");
        let decisions = rows[0].1.concat();
        assert!(decisions.contains('+') && decisions.contains(['f', 'h']), "{action:?}: {decisions}");
    }
}

#[tokio::test]
async fn policy_holds_for_every_actor_action_and_object_through_every_protocol() {
    let world = World::new().await;
    let (mut total, bobs_device) = (0, world.accounts[BOB].device);
    for (action, columns) in TABLE {
        let mut walked = 0;
        for (actor, column) in columns.into_iter().enumerate() {
            for (relation, expected) in column.chars().enumerate().filter(|(_, expected)| *expected != '.') {
                let objects = world.objects(actor, relation);
                if action == Action::CommandDevice {
                    let decided = world.command(actor, objects.device).await;
                    assert_eq!(decided, expected, "{action:?} as actor {actor}, relation {relation}");
                    walked += 1;
                }
                // A log-out revokes the token that it comes with.
                let fresh = if action == Action::LogOut { Some(world.secret(actor).await) } else { None };
                let token = fresh.as_deref().unwrap_or(&world.tokens[actor]);
                for (method, path, body) in world.requests(action, actor, objects).await {
                    let (status, answer) = world.send(actor, token, method, &path, &body).await;
                    let decided = decision(action, relation, status, &answer, bobs_device);
                    let what = format!("{action:?} as actor {actor}, relation {relation}: {method} {path} {body}: {answer}");
                    assert_eq!(decided, expected, "{what}");
                    walked += 1;
                }
            }
        }
        let decisions = columns.concat().chars().filter(|decision| *decision != '.').count();
        assert!(walked >= decisions, "{action:?}: {walked} of {decisions}");
        total += walked;
    }
    assert!(total > 200, "{total}");
}

#[tokio::test]
async fn unknown_fields_are_refused_except_on_the_guides_routes() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    for (method, path, body, text) in [
        ("POST", "/api/devices".into(), json!({"nam": "lamp"}), r#"unknown field "nam"; did you mean "name"?"#),
        ("PATCH", format!("/api/devices/{device}"), json!({"modell": "M"}), r#"unknown field "modell"; did you mean "model"?"#),
        (
            "PUT",
            "/api/auth/password".into(),
            json!({"current_pasword": "x", "new_password": "y"}),
            r#"unknown field "current_pasword"; did you mean "current_password"?"#,
        ),
        (
            "POST",
            format!("/api/messages/device/{device}"),
            json!({"message": "m", "tll": 5}),
            r#"unknown field "tll"; did you mean "ttl"?"#,
        ),
        ("POST", "/api/auth/tokens".into(), json!({"quite_another": 1}), r#"unknown field "quite_another""#),
    ] {
        let refused = server.http(method, &path, Some(&ana.token), Some(&body.to_string())).await.expect(400);
        assert_eq!((&refused["code"], refused["message"].as_str().unwrap()), (&json!("invalid"), text), "{path}");
    }
    let log_in = json!({"username": "ana", "password": ana.password, "remember": true});
    for path in ["/api/auth/login", "/api/auth/token/"] {
        server.http("POST", path, None, Some(&log_in.to_string())).await.ok();
    }
    let send = json!({"type": "t", "message": "m", "user_id": ana.id, "priority": 1});
    server.post("/api/messages/", &ana.token, send).await.ok();
    server.post(&format!("/api/messages/user/{}/", ana.id), &ana.token, json!({"message": "m", "priority": 1})).await.ok();
}
