//! Weather, catalogs, monitoring, the server itself.

use crate::describe::row::By::{Admin, Anonymous, Device, Service};
use crate::describe::row::{AFTER, LIMIT, Parameter, Row, id_query, plain, row, with_body};
use crate::http::Access;
use crate::http::Verb::{Delete, Get, Put};

/// The descriptions.
pub const ROWS: &[Row] = &[
    row(
        Put,
        "/api/weather/{name}",
        "Report the observation of a weather station",
        &[
            with_body("station", Device, "/api/weather/Berlin", r#"{"temp":21.5,"text":"cloudy","icon":"104"}"#),
            with_body("text", Service, "/api/weather/Berlin", r#"{"temp":"-3.4"}"#),
        ],
    )
    .text("`temp` is in degrees Celsius, a number or its decimal text; `at` is now where it is absent."),
    row(Get, "/api/catalog/songs", "List the songs", &[plain("songs", Admin, "/api/catalog/songs")]),
    row(
        Put,
        "/api/catalog/songs",
        "Replace the songs",
        &[with_body(
            "songs",
            Admin,
            "/api/catalog/songs",
            r#"{"items":[{"name":"青花瓷","artist":"周杰伦"},{"name":"小星星"}]}"#,
        )],
    ),
    row(Delete, "/api/catalog/songs", "Empty the list of songs", &[plain("songs", Admin, "/api/catalog/songs")])
        .text("Every song is accepted again."),
    row(Get, "/api/catalog/dances", "List the dances", &[plain("dances", Admin, "/api/catalog/dances")]),
    row(
        Put,
        "/api/catalog/dances",
        "Replace the dances",
        &[with_body("dances", Admin, "/api/catalog/dances", r#"{"items":[{"name":"waltz","style":"classic"}]}"#)],
    ),
    row(Delete, "/api/catalog/dances", "Empty the list of dances", &[plain("dances", Admin, "/api/catalog/dances")])
        .text("Every dance is accepted again."),
    row(Get, "/api/monitor/overview", "Show the figures of the present moment", &[plain("now", Admin, "/api/monitor/overview")])
        .text("Rates, mailboxes, memory, disk, the checks of `/readyz`, and what needs attention."),
    row(
        Get,
        "/api/monitor/series",
        "Show the figures of the last hour or day",
        &[plain("hour", Admin, "/api/monitor/series"), plain("day", Admin, "/api/monitor/series?range=day")],
    )
    .text("Columns of the same length, with `null` where nothing is known; the examples are cut off after three moments.")
    .parameters(&[Parameter {
        name: "range",
        place: "query",
        text: "The last hour, every ten seconds, or the last day, every minute.",
        schema: r#"{"type":"string","enum":["hour","day"],"default":"hour"}"#,
    }]),
    row(
        Get,
        "/api/monitor/connections",
        "List the connections, with counters since the start",
        &[
            plain("first", Admin, "/api/monitor/connections?limit=10"),
            plain("of-a-user", Admin, "/api/monitor/connections?user_id=2&address=127.0.0.0/8"),
        ],
    )
    .text("The parameters select connections; the counters are of all.")
    .parameters(&[
        AFTER,
        LIMIT,
        id_query("user_id", "Those of this user."),
        id_query("device_id", "Those that stand for this device."),
        Parameter { name: "client", place: "query", text: "Those that are this reader.", schema: r#"{"type":"string"}"# },
        Parameter {
            name: "address",
            place: "query",
            text: "Those from this address or network, such as `10.0.0.0/8`.",
            schema: r#"{"type":"string","format":"qy-network"}"#,
        },
    ]),
    row(Delete, "/api/monitor/connections/{id}", "Close a connection", &[plain("ana", Admin, "/api/monitor/connections/1")])
        .text("With 1001; its client may reconnect."),
    row(
        Get,
        "/api/monitor/performance",
        "Show durations and outcomes of operations",
        &[plain("all", Admin, "/api/monitor/performance")],
    )
    .text("Of each operation the last hundred, and totals since the start."),
    row(
        Get,
        "/api/audit",
        "List the audit trail, the newest entries first",
        &[
            plain("created", Admin, "/api/audit?event=user_created&limit=1"),
            plain("of-a-user", Admin, "/api/audit?event=token_made&user_id=2&limit=1"),
        ],
    )
    .parameters(&[
        id_query("before", "The `next` of the page before."),
        LIMIT,
        Parameter { name: "event", place: "query", text: "Only events of this name.", schema: r#"{"type":"string"}"# },
        id_query("user_id", "Only what this user did, or what was done to it."),
    ]),
    row(Get, "/api/settings", "Show the configuration in force", &[plain("all", Admin, "/api/settings")])
        .text("Every setting with its source, secrets without their values; the example has three of them."),
    row(Get, "/api/backup", "Download a backup", &[plain("file", Admin, "/api/backup")])
        .text("As `qy-lty backup` writes it, streamed. A file that is whole ends its last chunk.")
        .errors(&["backup_running"])
        .answers("application/gzip"),
    row(Get, "/metrics", "Show all metrics", &[plain("scrape", Service, "/metrics")])
        .text("Prometheus' text format 0.0.4.")
        .answers("text/plain"),
    row(Get, "/healthz", "Check that the process is alive", &[plain("alive", Anonymous, "/healthz")]),
    row(Get, "/readyz", "Check that messages can be accepted", &[plain("ready", Anonymous, "/readyz")]).errors(&["not_ready"]),
    row(Get, "/", "Show name and version", &[plain("program", Anonymous, "/")])
        .text("For browsers, which accept HTML, the page."),
    row(Get, "/api/openapi.json", "Show this document", &[plain("document", Anonymous, "/api/openapi.json")])
        .answers("application/json")
        .open_to(Access::ANYONE),
    row(
        Get,
        "/api/asyncapi.json",
        "Show the description of the WebSocket",
        &[plain("document", Anonymous, "/api/asyncapi.json")],
    )
    .answers("application/json")
    .open_to(Access::ANYONE),
];
