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

use crate::health::Health;
use crate::http::reply::Raw;
use crate::http::{Route, routes};
use crate::store::CatalogEntry;
use auth::{
    ChangePasswordRequest, CreateTokenRequest, CreatedTokenResponse, LoginRequest, LoginResponse, MeResponse, RegisterRequest,
    TicketResponse, TokenResponse,
};
use companion::{ObserveRequest, SetCatalogRequest};
use devices::{ChangeDeviceRequest, CreateDeviceRequest, DeviceResponse, SetPrimaryRequest};
use info::{AliveResponse, GreetingResponse};
use messages::{SendMessageRequest, SendRequest, SendToUserRequest, SentResponse};
use monitor::{ConnectionsResponse, PerformanceResponse};
use pairing::{ClaimRequest, PairRequest, PairResponse};
use queue::{ClearedResponse, QueueResponse};
use receipts::{MessageResponse, ReceiptResponse};
use users::{ChangeUserRequest, CreateUserRequest, OnlineUserResponse, UserResponse};

pub use metrics::collector;

/// The URL map.
pub static ROUTES: &[Route] = routes! {
    Post   "/api/auth/login"           ANYONE   auth::login(LoginRequest) -> LoginResponse;
    Post   "/api/auth/token"           ANYONE   auth::login(LoginRequest) -> LoginResponse;
    Post   "/api/auth/register"        ANYONE   auth::register(try RegisterRequest) -> LoginResponse;
    Post   "/api/auth/logout"          PROGRAMS auth::logout() -> ();
    Get    "/api/auth/me"              PROGRAMS auth::me() -> MeResponse;
    Post   "/api/auth/ticket"          PROGRAMS auth::ticket() -> TicketResponse;
    Put    "/api/auth/password"        USERS    auth::change_password(ChangePasswordRequest) -> LoginResponse;
    Get    "/api/auth/tokens"          USERS    auth::list_tokens() -> Vec<TokenResponse>;
    Post   "/api/auth/tokens"          USERS    auth::create_token(CreateTokenRequest) -> CreatedTokenResponse;
    Delete "/api/auth/tokens/{id}"     USERS    auth::delete_token() -> ();

    Get    "/api/users"                ADMINS   users::list() -> Vec<UserResponse>;
    Post   "/api/users"                ADMINS   users::create(CreateUserRequest) -> UserResponse;
    Get    "/api/users/online"         ADMINS   users::online() -> Vec<OnlineUserResponse>;
    Get    "/api/users/{id}"           ADMINS   users::show() -> UserResponse;
    Patch  "/api/users/{id}"           ADMINS   users::change(ChangeUserRequest) -> UserResponse;
    Delete "/api/users/{id}"           ADMINS   users::delete() -> ();

    Get    "/api/devices"              USERS    devices::list() -> Vec<DeviceResponse>;
    Post   "/api/devices"              USERS    devices::create(CreateDeviceRequest) -> DeviceResponse;
    Post   "/api/devices/pair"         ANYONE   pairing::pair(PairRequest) -> PairResponse;
    Post   "/api/devices/claim"        USERS    pairing::claim(ClaimRequest) -> DeviceResponse;
    Get    "/api/devices/{id}"         USERS    devices::show() -> DeviceResponse;
    Patch  "/api/devices/{id}"         USERS    devices::change(try ChangeDeviceRequest) -> DeviceResponse;
    Delete "/api/devices/{id}"         USERS    devices::delete() -> ();
    Put    "/api/devices/{id}/primary" USERS    devices::make_primary(try SetPrimaryRequest) -> DeviceResponse;
    Post   "/api/devices/{id}/token"   USERS    devices::create_token(try CreateTokenRequest) -> CreatedTokenResponse;

    Post   "/api/messages"             PROGRAMS messages::send(SendRequest) -> SentResponse;
    Post   "/api/messages/user/{id}"   PROGRAMS messages::send_to_user(try SendToUserRequest) -> SentResponse;
    Post   "/api/messages/device/{id}" PROGRAMS messages::send_to_device(try SendMessageRequest) -> SentResponse;
    Post   "/api/messages/broadcast"   ADMINS   messages::broadcast(SendMessageRequest) -> SentResponse;

    Get    "/api/messages/history"     USERS    receipts::history() -> Vec<MessageResponse>;
    Get    "/api/messages/{id}"        TOKENS   receipts::show() -> ReceiptResponse;

    Get    "/api/queue"                ADMINS   queue::total() -> QueueResponse;
    Delete "/api/queue"                ADMINS   queue::clear_all() -> ClearedResponse;
    Get    "/api/queue/user/{id}"      USERS    queue::of_user() -> QueueResponse;
    Delete "/api/queue/user/{id}"      USERS    queue::clear_user() -> ClearedResponse;
    Get    "/api/queue/device/{id}"    USERS    queue::of_device() -> QueueResponse;
    Delete "/api/queue/device/{id}"    USERS    queue::clear_device() -> ClearedResponse;

    Put    "/api/weather/{name}"       STATIONS companion::observe(try ObserveRequest) -> ();
    Get    "/api/catalog/songs"        ADMINS   companion::songs() -> Vec<CatalogEntry>;
    Put    "/api/catalog/songs"        ADMINS   companion::set_songs(SetCatalogRequest) -> Vec<CatalogEntry>;
    Delete "/api/catalog/songs"        ADMINS   companion::clear_songs() -> ();
    Get    "/api/catalog/dances"       ADMINS   companion::dances() -> Vec<CatalogEntry>;
    Put    "/api/catalog/dances"       ADMINS   companion::set_dances(SetCatalogRequest) -> Vec<CatalogEntry>;
    Delete "/api/catalog/dances"       ADMINS   companion::clear_dances() -> ();

    Get    "/api/monitor/connections"  ADMINS   monitor::connections() -> ConnectionsResponse;
    Get    "/api/monitor/performance"  ADMINS   monitor::performance() -> PerformanceResponse;
    Get    "/metrics"                  WATCHERS metrics::metrics() -> Raw;

    Get    "/healthz"                  ANYONE   info::health() -> AliveResponse;
    Get    "/readyz"                   ANYONE   info::ready() -> Health;
    Get    "/"                         ANYONE   info::greeting() -> GreetingResponse;
};

/// For fuzzers: reads `body` as the bodies that clients without rights may send. An object, or an error that names the fault.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    auth::fuzz_body(body);
    messages::fuzz_body(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Verb;

    #[test]
    fn every_row_names_its_types() {
        for route in ROUTES {
            let (request, response) = (route.request.map(|name| name()), (route.response)());
            let what = format!("{} {}: {request:?} -> {response}", route.verb.name(), route.path);
            if let Some(request) = request {
                assert!(request.ends_with("Request"), "{what}");
                assert!(matches!(route.verb, Verb::Post | Verb::Put | Verb::Patch), "{what}");
            }
            let known = ["()", "Response", "Response>", "::Raw", "::CatalogEntry>", "::Health"];
            assert!(known.iter().any(|end| response.ends_with(end)), "{what}");
        }
    }
}
