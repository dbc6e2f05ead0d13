//! Sends, receipts, clients, queues.

use crate::describe::row::By::{Admin, Device, Service, User};
use crate::describe::row::{AFTER, Example, LIMIT, PAGE, Parameter, Row, id_query, plain, row, with_body};
use crate::http::Verb::{Delete, Get, Post};

/// Makes a send that is not repeated.
const KEY: Parameter = Parameter {
    name: "Idempotency-Key",
    place: "header",
    text: "For 24 hours, the same key from the same sender is the same message.",
    schema: r#"{"type":"string","minLength":1,"maxLength":128,"pattern":"^[!-~]([ -~]*[!-~])?$"}"#,
};

/// The errors of every send: of queued messages.
const SEND: &[&str] =
    &["not_found", "reserved_type", "idempotency_key_reused", "mailbox_full", "sender_full", "disk_low", "memory_low"];

/// The user whose clients are meant.
const OF_USER: Parameter = id_query("user_id", "For administrators: the clients of this user.");

/// The length of a page, where all are listed if none is given.
const LONG_LIMIT: Parameter = Parameter {
    name: "limit",
    place: "query",
    text: "The length of the page.",
    schema: r#"{"type":"integer","minimum":1,"maximum":1000,"default":1000}"#,
};

/// What a list of queued messages is.
const QUEUED: &str = "What waits, the oldest first; nothing is acknowledged. Administrators get the `message` of others only with \
    `server.console_contents = true`.";

/// The descriptions.
pub const ROWS: &[Row] = &[
    row(
        Post,
        "/api/messages",
        "Send a message to a user, as the original system does",
        &[with_body("notice", Admin, "/api/messages", r#"{"type":"notice","message":{"text":"hello"},"user_id":2}"#)],
    )
    .text("The recipient gets no `sender`. A missing or empty parameter is `missing_parameter`.")
    .parameters(&[KEY])
    .errors(&[
        "missing_parameter",
        "not_found",
        "reserved_type",
        "idempotency_key_reused",
        "mailbox_full",
        "sender_full",
        "disk_low",
        "memory_low",
    ]),
    row(
        Post,
        "/api/messages/user/{id}",
        "Send a message to a user",
        &[
            with_body("queued", Admin, "/api/messages/user/2", r#"{"message":"dinner is ready","ttl":3600}"#),
            with_body("live", Service, "/api/messages/user/2", r#"{"type":"level","message":0.73,"delivery":"live"}"#),
            Example {
                headers: &[("Idempotency-Key", "order-17")],
                ..with_body("once", Service, "/api/messages/user/2", r#"{"type":"order","message":{"id":17}}"#)
            },
        ],
    )
    .parameters(&[KEY])
    .errors(SEND),
    row(
        Post,
        "/api/messages/device/{id}",
        "Send a message to a device",
        &[with_body("ring", User, "/api/messages/device/1", r#"{"type":"ring","message":{"seconds":5}}"#)],
    )
    .parameters(&[KEY])
    .errors(SEND),
    row(
        Post,
        "/api/messages/broadcast",
        "Send a message to every user",
        &[with_body("maintenance", Admin, "/api/messages/broadcast", r#"{"message":"back in five minutes","ttl":300}"#)],
    )
    .parameters(&[KEY])
    .errors(&["reserved_type", "idempotency_key_reused", "mailbox_full", "disk_low", "memory_low"]),
    row(
        Get,
        "/api/messages/history",
        "List the retained messages of the caller's mailboxes",
        &[plain("all", User, "/api/messages/history"), plain("since", User, "/api/messages/history?since=1&limit=1")],
    )
    .text("Received or not, in the order of their ids.")
    .parameters(&[AFTER, LIMIT, id_query("since", "Only messages after this id.")]),
    row(
        Get,
        "/api/messages/{id}",
        "Show the receipt of a message",
        &[
            plain("to-a-user", Admin, "/api/messages/1"),
            plain("to-a-device", Device, "/api/messages/2"),
            plain("broadcast", User, "/api/messages/3"),
        ],
    )
    .text("For its sender, its recipient, its devices and administrators."),
    row(Delete, "/api/messages/{id}", "Take a message back", &[plain("sent", Admin, "/api/messages/1")])
        .text("One that nobody has received; for its sender, its recipient and administrators.")
        .errors(&["already_received", "already_ended"]),
    row(
        Get,
        "/api/clients",
        "List the clients of a user",
        &[plain("own", User, "/api/clients"), plain("of-a-user", Admin, "/api/clients?user_id=2&limit=1")],
    )
    .text("Each has a place of its own in the user's messages. In the order of their names.")
    .parameters(&[
        Parameter {
            name: "after",
            place: "query",
            text: "The `next` of the page before, a name.",
            schema: r#"{"type":"string"}"#,
        },
        LONG_LIMIT,
        OF_USER,
    ])
    .errors(&["not_found"]),
    row(Delete, "/api/clients/{name}", "Forget a client", &[plain("phone", User, "/api/clients/phone")])
        .text("Its connections are closed with 1001; one that returns is a new client.")
        .parameters(&[OF_USER])
        .errors(&["not_found"]),
    row(Get, "/api/queue", "Measure all mailboxes together", &[plain("all", Admin, "/api/queue")]),
    row(Delete, "/api/queue", "Clear all queued messages", &[plain("all", Admin, "/api/queue")]),
    row(Get, "/api/queue/user/{id}", "Measure the mailbox of a user", &[plain("own", User, "/api/queue/user/2")])
        .text("What no client of the user has received, its share of the broadcasts included."),
    row(Delete, "/api/queue/user/{id}", "Clear the mailbox of a user", &[plain("own", User, "/api/queue/user/2")]),
    row(Get, "/api/queue/device/{id}", "Measure the mailbox of a device", &[plain("own", User, "/api/queue/device/1")]),
    row(Delete, "/api/queue/device/{id}", "Clear the mailbox of a device", &[plain("own", User, "/api/queue/device/1")]),
    row(
        Get,
        "/api/queues",
        "List the mailboxes that are not empty",
        &[plain("all", Admin, "/api/queues"), plain("after", Admin, "/api/queues?after=user:2&limit=1")],
    )
    .text("Users, devices, and the one of the broadcasts.")
    .parameters(&[
        Parameter {
            name: "after",
            place: "query",
            text: "The `next` of the page before, a mailbox.",
            schema: r#"{"type":"string","pattern":"^((user|device):[0-9]{1,19}|all)$"}"#,
        },
        LONG_LIMIT,
    ]),
    row(
        Get,
        "/api/queue/user/{id}/messages",
        "List the queued messages of a user",
        &[
            plain("own", User, "/api/queue/user/2/messages"),
            plain("of-a-user", Admin, "/api/queue/user/2/messages?after=1&limit=1"),
        ],
    )
    .text(QUEUED)
    .parameters(PAGE),
    row(
        Get,
        "/api/queue/device/{id}/messages",
        "List the queued messages of a device",
        &[plain("own", User, "/api/queue/device/1/messages")],
    )
    .text(QUEUED)
    .parameters(PAGE),
];
