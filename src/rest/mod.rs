//! The REST API: the URL map on one screen, one file a resource.
//!
//! Every route stands in [`ROUTES`] together with who may call it. The router is built from that table and nothing else, so
//! a route without a rule can't exist; `endpoint` is the one place where the rule is applied, before a handler runs.

mod access;
mod auth;
mod call;
mod companion;
mod console;
mod cross_origin;
mod devices;
mod endpoint;
mod headers;
mod info;
mod messages;
mod monitor;
mod page;
mod pairing;
mod queue;
mod receipts;
mod revoke;
mod users;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use salvo::catcher::Catcher;
use salvo::{Router, Service};

use crate::app::App;
use crate::error::ApiError;
use crate::session::Connect;
pub use access::Access;
use call::{Call, Reply};
use cross_origin::CrossOrigin;
use endpoint::{AsJson, Endpoint};
use headers::Headers;

/// The HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Also answers HEAD.
    Get,
    /// Create or do.
    Post,
    /// Set.
    Put,
    /// Change some fields.
    Patch,
    /// Remove.
    Delete,
}

impl Verb {
    /// The method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What runs a call.
type Run = fn(Call) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// One route: what, where, for whom.
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path; `{id}` stands for a decimal id, `{name}` for any text. A trailing slash is optional.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    run: Run,
}

macro_rules! routes {
    ($($verb:ident $path:literal $access:ident $run:path;)*) => {
        &[$(Route { verb: $crate::rest::Verb::$verb, path: $path, access: $crate::rest::Access::$access, run: |call| Box::pin($run(call)) }),*]
    };
}

use routes;

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

/// The paths of the WebSocket (PROTOCOL section 2); all of them answer GET with an upgrade.
pub const WEBSOCKET_PATHS: [&str; 3] = ["/ws/device", "/ws/device/token/{token}", "/ws/device/{user_id:num}"];

/// Adds the routes of a table.
fn mount(mut root: Router, app: &Arc<App>, table: &'static [Route], console: bool) -> Router {
    let mut paths: Vec<&str> = table.iter().map(|r| r.path).collect();
    paths.dedup();
    for path in paths {
        // Salvo wants no path for the root; a router without filters matches where the path has ended.
        let mut router = if path == "/" { Router::new() } else { Router::with_path(path) };
        for route in table.iter().filter(|r| r.path == path) {
            let endpoint = || Endpoint { app: app.clone(), route, console };
            router = match route.verb {
                Verb::Get => router.get(endpoint()).head(endpoint()),
                Verb::Post => router.post(endpoint()),
                Verb::Put => router.put(endpoint()),
                Verb::Patch => router.patch(endpoint()),
                Verb::Delete => router.delete(endpoint()),
            };
        }
        root = root.push(router);
    }
    root
}

/// What the command line speaks to, through a socket in the data directory: the table above, every caller being its owner, and
/// the console's own. Never to be served on a network.
pub fn console(app: &Arc<App>) -> Service {
    let root = mount(mount(Router::new(), app, ROUTES, true), app, console::ROUTES, true);
    Service::new(root).catcher(Catcher::default().hoop(AsJson))
}

/// Builds the service: the table above, the WebSocket, and JSON for everything else.
pub fn service(app: &Arc<App>) -> Service {
    let mut root = Router::new();
    for path in WEBSOCKET_PATHS {
        root = root.push(Router::with_path(path).get(Connect(app.clone())));
    }
    #[cfg(feature = "echo")]
    {
        root = root.push(Router::with_path(crate::session::ECHO_PATH).get(crate::session::Echo(app.clone())));
    }
    root = page::routes(root);
    root = mount(root, app, ROUTES, false);
    let https_only = app.config().tls.cert.is_some();
    let service = Service::new(root).catcher(Catcher::default().hoop(AsJson)).hoop(Headers { https_only });
    service.hoop(CrossOrigin::new(app.clone()))
}
