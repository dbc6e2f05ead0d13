//! Log-ins, tokens, users.

use crate::describe::row::By::{Admin, Anonymous, Service, User};
use crate::describe::row::{AFTER, LIMIT, PAGE, Parameter, Row, id_query, plain, row, with_body};
use crate::http::Verb::{Delete, Get, Patch, Post, Put};

/// The name that a user is looked for by.
const USERNAME: Parameter = Parameter {
    name: "username",
    place: "query",
    text: "Only the user of that name, or nobody. Services must give it.",
    schema: r#"{"type":"string"}"#,
};

/// The descriptions.
pub const ROWS: &[Row] = &[
    row(
        Post,
        "/api/auth/login",
        "Log in",
        &[
            with_body("program", Anonymous, "/api/auth/login", r#"{"username":"ana","password":"ana-password"}"#),
            with_body("browser", Anonymous, "/api/auth/login", r#"{"username":"ana","password":"ana-password","cookie":true}"#),
        ],
    )
    .text("With `\"cookie\": true` the token is set as a cookie that scripts can't read, and `csrf` is returned in its place.")
    .errors(&["wrong_password", "too_many_requests"])
    .with_token(),
    row(
        Post,
        "/api/auth/token",
        "Log in, for clients of the original system",
        &[with_body("program", Anonymous, "/api/auth/token", r#"{"username":"ana","password":"ana-password"}"#)],
    )
    .errors(&["wrong_password", "too_many_requests"])
    .with_token(),
    row(
        Post,
        "/api/auth/register",
        "Create an account for oneself",
        &[with_body("dora", Anonymous, "/api/auth/register", r#"{"username":"dora","password":"dora-password"}"#).created()],
    )
    .text("Only where `auth.registration = \"open\"`.")
    .errors(&["registration_closed", "taken", "too_many_requests"])
    .with_token(),
    row(
        Post,
        "/api/auth/link",
        "Log a browser in with a one-time link",
        &[with_body("browser", Anonymous, "/api/auth/link", r#"{"code":"qll_4cVgHsxV0ZyFvEJ3n1mQkR8tUuW2aBcDeFgHiJkLmNo"}"#)],
    )
    .text("The answer is that of a log-in with `\"cookie\": true`. A code is good once, for ten minutes.")
    .errors(&["wrong_link", "exposed_link", "too_many_requests"]),
    row(Post, "/api/auth/logout", "Revoke the token of this call", &[plain("user", User, "/api/auth/logout")]),
    row(
        Get,
        "/api/auth/me",
        "Show the caller",
        &[plain("user", User, "/api/auth/me"), plain("service", Service, "/api/auth/me")],
    ),
    row(
        Post,
        "/api/auth/ticket",
        "Create a ticket for the URL of a WebSocket",
        &[plain("user", User, "/api/auth/ticket").created()],
    )
    .text("It replaces the token once, within 30 seconds."),
    row(
        Post,
        "/api/auth/elevate",
        "Show the password again",
        &[with_body("user", User, "/api/auth/elevate", r#"{"password":"ana-password"}"#)],
    )
    .text(
        "For browsers: an operation with `x-elevated` needs a log-in of the last ten minutes (`limits.elevation_seconds`), or this within \
         that time. Nothing asks other tokens for it.",
    )
    .errors(&["wrong_password"]),
    row(
        Put,
        "/api/auth/password",
        "Change the password",
        &[with_body(
            "user",
            User,
            "/api/auth/password",
            r#"{"current_password":"ana-password","new_password":"another-password"}"#,
        )],
    )
    .text("Ends every log-in of the user, this one too, and returns a new token.")
    .errors(&["wrong_password"])
    .with_token(),
    row(
        Get,
        "/api/auth/tokens",
        "List tokens",
        &[plain("own", User, "/api/auth/tokens?limit=2"), plain("of-a-user", Admin, "/api/auth/tokens?user_id=2&limit=1")],
    )
    .text("The caller's, without their secrets; for administrators also those of `user_id`.")
    .parameters(&[AFTER, LIMIT, id_query("user_id", "For administrators: the tokens of this user.")])
    .errors(&["not_found"]),
    row(
        Post,
        "/api/auth/tokens",
        "Create a token",
        &[
            with_body("script", User, "/api/auth/tokens", r#"{"label":"script","expires_in":86400}"#).created(),
            with_body("service", Admin, "/api/auth/tokens", r#"{"label":"shop","kind":"service"}"#).created(),
            with_body(
                "service-scopes",
                Admin,
                "/api/auth/tokens",
                r#"{"label":"scraper","kind":"service","scopes":["read","metrics"]}"#,
            )
            .created(),
        ],
    )
    .narrowed(
        r#"{"properties":{"kind":{"enum":["user","service",null]}},"anyOf":[
            {"required":["kind"],"properties":{"kind":{"const":"service"}}},
            {"properties":{"scopes":{"type":"null"}}}
        ]}"#,
    )
    .text(
        "The token is shown this once. `kind` is `user` or, for administrators, `service`; `scopes` are those of a service, all where they \
         are absent.",
    )
    .errors(&["limit_reached"]),
    row(Delete, "/api/auth/tokens/{id}", "Revoke a token", &[plain("own", User, "/api/auth/tokens/4")])
        .text("One's own, or for administrators any. Its connections are closed at once with 4001."),
    row(
        Get,
        "/api/users",
        "List the users",
        &[
            plain("all", Admin, "/api/users?limit=2"),
            plain("after", Admin, "/api/users?after=2&limit=2"),
            plain("by-name", Service, "/api/users?username=ana"),
        ],
    )
    .parameters(&[AFTER, LIMIT, USERNAME]),
    row(
        Post,
        "/api/users",
        "Create a user",
        &[
            with_body("user", Admin, "/api/users", r#"{"username":"dora","password":"dora-password"}"#).created(),
            with_body("admin", Admin, "/api/users", r#"{"username":"eve","password":"eve-password","role":"admin"}"#).created(),
        ],
    )
    .errors(&["taken"]),
    row(Get, "/api/users/online", "List the connected users", &[plain("connected", Admin, "/api/users/online")]).parameters(PAGE),
    row(Get, "/api/users/{id}", "Show a user", &[plain("ana", Admin, "/api/users/2")]),
    row(
        Patch,
        "/api/users/{id}",
        "Change a user",
        &[
            with_body("disable", Admin, "/api/users/3", r#"{"disabled":true}"#),
            with_body("promote", Admin, "/api/users/3", r#"{"role":"admin"}"#),
            with_body("password", Admin, "/api/users/3", r#"{"password":"a-new-password"}"#),
        ],
    )
    .text("Applies at once, also to live connections. Absent fields stay as they are.")
    .errors(&["last_admin"]),
    row(Delete, "/api/users/{id}", "Delete a user", &[plain("bob", Admin, "/api/users/3")])
        .text("With tokens, bindings and readers; clears the queued messages, and deletes the devices that no other user has.")
        .errors(&["last_admin"]),
];
