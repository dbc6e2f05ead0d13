//! Devices and pairing.

use crate::describe::row::By::{Admin, Anonymous, User};
use crate::describe::row::{AFTER, LIMIT, Row, id_query, plain, row, with_body};
use crate::http::Verb::{Delete, Get, Patch, Post, Put};

/// The descriptions.
pub const ROWS: &[Row] = &[
    row(
        Get,
        "/api/devices",
        "List the devices",
        &[
            plain("own", User, "/api/devices"),
            plain("all", Admin, "/api/devices?limit=1"),
            plain("of-a-user", Admin, "/api/devices?user_id=3"),
        ],
    )
    .text("The caller's; for administrators all, or those of `user_id`.")
    .parameters(&[AFTER, LIMIT, id_query("user_id", "For administrators: the devices of this user.")])
    .errors(&["not_found"]),
    row(
        Post,
        "/api/devices",
        "Create a device",
        &[
            with_body("own", User, "/api/devices", r#"{"name":"robot","serial":"AA:BB:CC","model":"R2","primary":true}"#).created(),
            with_body("for-a-user", Admin, "/api/devices", r#"{"name":"clock","user_id":3,"max_bytes":4096}"#).created(),
        ],
    )
    .errors(&["not_found", "taken", "limit_reached"]),
    row(
        Post,
        "/api/devices/pair",
        "Start or poll a pairing",
        &[
            with_body("start", Anonymous, "/api/devices/pair", r#"{"name":"lamp","serial":"SN-7","model":"L1"}"#).created(),
            with_body("poll", Anonymous, "/api/devices/pair", r#"{"device_code":"qlp_M1kq3vYzYt8Wc0aHn5dRk2sJx7bQfGuE4pLoVi6yTzA"}"#),
        ],
    )
    .text(
        "For a device without a keyboard. With a description it starts a pairing, with `device_code` it polls it, every `interval` \
         seconds; after the claim the answer has the device's token, once.",
    )
    .errors(&["pairing_over", "too_many_requests"])
    .with_token(),
    row(
        Post,
        "/api/devices/claim",
        "Claim the device that shows a code",
        &[with_body("own", User, "/api/devices/claim", r#"{"code":"K7MPQ2","name":"kitchen lamp"}"#).created()],
    )
    .text("Without `primary`, the only device of a user becomes the primary one.")
    .errors(&["not_found", "taken", "limit_reached"]),
    row(Get, "/api/devices/{id}", "Show a device", &[plain("own", User, "/api/devices/1")]),
    row(
        Patch,
        "/api/devices/{id}",
        "Change a device",
        &[
            with_body("rename", User, "/api/devices/1", r#"{"name":"desk lamp","model":null,"max_bytes":2048}"#),
            with_body("share", Admin, "/api/devices/1", r#"{"user_ids":[2,3]}"#),
        ],
    )
    .text("Absent fields stay as they are. If none of its former users remains, its queued messages are cleared.")
    .errors(&["taken"]),
    row(Delete, "/api/devices/{id}", "Delete a device", &[plain("own", User, "/api/devices/1")])
        .text("Unbinds it from the caller; deletes it, and clears its queued messages, for its last user or an administrator."),
    row(
        Get,
        "/api/devices/{id}/presence",
        "Show the online times of a device",
        &[plain("own", User, "/api/devices/1/presence")],
    )
    .text("The last day in slots of ten minutes, 144 of them (fewer in the example); the last one is the present one."),
    row(
        Put,
        "/api/devices/{id}/primary",
        "Make a device the primary one",
        &[
            plain("own", User, "/api/devices/1/primary"),
            with_body("of-a-user", Admin, "/api/devices/2/primary", r#"{"user_id":3}"#),
        ],
    )
    .text("Takes effect at the next connection."),
    row(
        Post,
        "/api/devices/{id}/token",
        "Create a token of a device",
        &[with_body("own", User, "/api/devices/1/token", r#"{"label":"flash"}"#).created()],
    )
    .narrowed(r#"{"properties":{"kind":{"enum":["device",null]},"scopes":{"type":"null"}}}"#)
    .text("It reaches this device's WebSocket, the receipts of messages to it, and `PUT /api/weather`. It is shown this once.")
    .errors(&["limit_reached"]),
];
