//! The REST API: the URL map on one screen, one file a resource.

pub mod auth;
mod companion;
mod devices;
mod info;
mod messages;
mod metrics;
mod monitor;
mod pairing;
mod queue;
mod receipts;
mod users;

use crate::http::{Route, routes};
pub use metrics::collector;

/// The URL map.
pub static ROUTES: &[Route] = routes! {
    Post   "/api/auth/login"             ANYONE   auth::login;
    Post   "/api/auth/token"             ANYONE   auth::login;
    Post   "/api/auth/register"          ANYONE   auth::register;
    Post   "/api/auth/logout"            PROGRAMS auth::logout;
    Get    "/api/auth/me"                PROGRAMS auth::me;
    Post   "/api/auth/ticket"            PROGRAMS auth::ticket;
    Put    "/api/auth/password"          USERS    auth::change_password;
    Get    "/api/auth/tokens"            USERS    auth::list_tokens;
    Post   "/api/auth/tokens"            USERS    auth::create_token;
    Delete "/api/auth/tokens/{id}"       USERS    auth::delete_token;

    Get    "/api/users"                  ADMINS   users::list;
    Post   "/api/users"                  ADMINS   users::create;
    Get    "/api/users/online"           ADMINS   users::online;
    Get    "/api/users/{id}"             ADMINS   users::show;
    Patch  "/api/users/{id}"             ADMINS   users::change;
    Delete "/api/users/{id}"             ADMINS   users::delete;

    Get    "/api/devices"                USERS    devices::list;
    Post   "/api/devices"                USERS    devices::create;
    Post   "/api/devices/pair"           ANYONE   pairing::pair;
    Post   "/api/devices/claim"          USERS    pairing::claim;
    Get    "/api/devices/{id}"           USERS    devices::show;
    Patch  "/api/devices/{id}"           USERS    devices::change;
    Delete "/api/devices/{id}"           USERS    devices::delete;
    Put    "/api/devices/{id}/primary"   USERS    devices::make_primary;
    Post   "/api/devices/{id}/token"     USERS    devices::create_token;

    Post   "/api/messages"               PROGRAMS messages::send;
    Post   "/api/messages/user/{id}"     PROGRAMS messages::send_to_user;
    Post   "/api/messages/device/{id}"   PROGRAMS messages::send_to_device;
    Post   "/api/messages/broadcast"     ADMINS   messages::broadcast;

    Get    "/api/messages/history"       USERS    receipts::history;
    Get    "/api/messages/{id}"          TOKENS   receipts::show;

    Get    "/api/queue"                  ADMINS   queue::total;
    Delete "/api/queue"                  ADMINS   queue::clear_all;
    Get    "/api/queue/user/{id}"        USERS    queue::of_user;
    Delete "/api/queue/user/{id}"        USERS    queue::clear_user;
    Get    "/api/queue/device/{id}"      USERS    queue::of_device;
    Delete "/api/queue/device/{id}"      USERS    queue::clear_device;

    Put    "/api/weather/{name}"         STATIONS companion::observe;
    Get    "/api/catalog/songs"          ADMINS   companion::songs;
    Put    "/api/catalog/songs"          ADMINS   companion::set_songs;
    Delete "/api/catalog/songs"          ADMINS   companion::clear_songs;
    Get    "/api/catalog/dances"         ADMINS   companion::dances;
    Put    "/api/catalog/dances"         ADMINS   companion::set_dances;
    Delete "/api/catalog/dances"         ADMINS   companion::clear_dances;

    Get    "/api/monitor/connections"    ADMINS   monitor::connections;
    Get    "/api/monitor/performance"    ADMINS   monitor::performance;
    Get    "/metrics"                    WATCHERS metrics::metrics;

    Get    "/healthz"                    ANYONE   info::health;
    Get    "/readyz"                     ANYONE   info::ready;
    Get    "/"                           ANYONE   info::greeting;
};

/// For fuzzers: reads `body` as the bodies that strangers may send. An object, or an error that says what is wrong.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    auth::fuzz_body(body);
    messages::fuzz_body(body);
}
