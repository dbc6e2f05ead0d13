//! Weather, catalogs, monitoring, the server itself.

use crate::describe::row::By::{Admin, Anonymous, Device, Service};
use crate::describe::row::{PAGE, Row, plain, row, with_body};
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
    row(
        Get,
        "/api/monitor/connections",
        "List the connections, with counters since the start",
        &[plain("first", Admin, "/api/monitor/connections?limit=10")],
    )
    .parameters(PAGE),
    row(
        Get,
        "/api/monitor/performance",
        "Show durations and outcomes of operations",
        &[plain("all", Admin, "/api/monitor/performance")],
    )
    .text("Of each operation the last hundred, and totals since the start."),
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
