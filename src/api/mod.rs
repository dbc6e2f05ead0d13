//! The REST API: the URL map on one screen, one file a resource.

mod audit;
pub mod auth;
pub mod backup;
mod clients;
mod companion;
mod devices;
mod info;
mod messages;
mod metrics;
mod monitor;
mod pairing;
pub mod queue;
pub mod receipts;
mod settings;
mod users;

use crate::health::Health;
use crate::history::{OverviewResponse, SeriesResponse};
use crate::http::list::List;
use crate::http::reply::Raw;
use crate::http::{Route, routes};
use crate::store::CatalogEntry;
use audit::AuditResponse;
use auth::{
    ChangePasswordRequest, CreateTokenRequest, CreatedTokenResponse, ElevateRequest, ElevateResponse, LinkRequest, LoginRequest,
    LoginResponse, MeResponse, RegisterRequest, TicketResponse, TokenResponse,
};
use clients::ClientResponse;
use companion::{ObserveRequest, SetCatalogRequest};
use devices::{ChangeDeviceRequest, CreateDeviceRequest, DeviceResponse, PresenceResponse, SetPrimaryRequest};
use info::{AliveResponse, GreetingResponse};
use messages::{SendMessageRequest, SendRequest, SendToUserRequest, SentResponse};
use monitor::{ConnectionsResponse, PerformanceResponse};
use pairing::{ClaimRequest, PairRequest, PairResponse};
use queue::{ClearedResponse, MailboxResponse, QueueResponse, QueuedResponse};
use receipts::{MessageResponse, ReceiptResponse};
use settings::SettingsResponse;
use users::{ChangeUserRequest, CreateUserRequest, OnlineUserResponse, UserResponse};

pub use metrics::collector;

/// The URL map.
pub static ROUTES: &[Route] = routes! {
    Post   "/api/auth/login"           ANYONE   auth::login(LoginRequest) -> LoginResponse;
    Post   "/api/auth/token"           ANYONE   auth::login(LoginRequest) -> LoginResponse;
    Post   "/api/auth/register"        ANYONE   auth::register(try RegisterRequest) -> LoginResponse;
    Post   "/api/auth/link"            ANYONE   auth::link(LinkRequest) -> LoginResponse;
    Post   "/api/auth/logout"          PROGRAMS any auth::logout() -> ();
    Get    "/api/auth/me"              PROGRAMS any auth::me() -> MeResponse;
    Post   "/api/auth/ticket"          PROGRAMS any auth::ticket() -> TicketResponse;
    Post   "/api/auth/elevate"         USERS    auth::elevate(ElevateRequest) -> ElevateResponse;
    Put    "/api/auth/password"        USERS    auth::change_password(ChangePasswordRequest) -> LoginResponse;
    Get    "/api/auth/tokens"          USERS    auth::list_tokens() -> List<TokenResponse>;
    Post   "/api/auth/tokens"          USERS    elevated auth::create_token(CreateTokenRequest) -> CreatedTokenResponse;
    Delete "/api/auth/tokens/{id}"     USERS    elevated auth::delete_token() -> ();

    Get    "/api/users"                WATCHERS read users::list() -> List<UserResponse>;
    Post   "/api/users"                ADMINS   elevated users::create(CreateUserRequest) -> UserResponse;
    Get    "/api/users/online"         ADMINS   users::online() -> List<OnlineUserResponse>;
    Get    "/api/users/{id}"           ADMINS   users::show() -> UserResponse;
    Patch  "/api/users/{id}"           ADMINS   elevated users::change(ChangeUserRequest) -> UserResponse;
    Delete "/api/users/{id}"           ADMINS   elevated users::delete() -> ();

    Get    "/api/devices"              USERS    devices::list() -> List<DeviceResponse>;
    Post   "/api/devices"              USERS    devices::create(CreateDeviceRequest) -> DeviceResponse;
    Post   "/api/devices/pair"         ANYONE   pairing::pair(PairRequest) -> PairResponse;
    Post   "/api/devices/claim"        USERS    pairing::claim(ClaimRequest) -> DeviceResponse;
    Get    "/api/devices/{id}"         USERS    devices::show() -> DeviceResponse;
    Patch  "/api/devices/{id}"         USERS    devices::change(try ChangeDeviceRequest) -> DeviceResponse;
    Delete "/api/devices/{id}"         USERS    elevated devices::delete() -> ();
    Get    "/api/devices/{id}/presence" USERS   devices::presence() -> PresenceResponse;
    Put    "/api/devices/{id}/primary" USERS    devices::make_primary(try SetPrimaryRequest) -> DeviceResponse;
    Post   "/api/devices/{id}/token"   USERS    elevated devices::create_token(try CreateTokenRequest) -> CreatedTokenResponse;

    Post   "/api/messages"             PROGRAMS send messages::send(SendRequest) -> SentResponse;
    Post   "/api/messages/user/{id}"   PROGRAMS send messages::send_to_user(try SendToUserRequest) -> SentResponse;
    Post   "/api/messages/device/{id}" PROGRAMS send messages::send_to_device(try SendMessageRequest) -> SentResponse;
    Post   "/api/messages/broadcast"   WATCHERS broadcast messages::broadcast(SendMessageRequest) -> SentResponse;

    Get    "/api/messages/history"     USERS    receipts::history() -> List<MessageResponse>;
    Get    "/api/messages/{id}"        TOKENS   read receipts::show() -> ReceiptResponse;
    Delete "/api/messages/{id}"        PROGRAMS send receipts::cancel() -> ();

    Get    "/api/clients"              USERS    clients::list() -> List<ClientResponse>;
    Delete "/api/clients/{name}"       USERS    elevated clients::delete() -> ();

    Get    "/api/queue"                ADMINS   queue::total() -> QueueResponse;
    Delete "/api/queue"                ADMINS   elevated queue::clear_all() -> ClearedResponse;
    Get    "/api/queue/user/{id}"      USERS    queue::of_user() -> QueueResponse;
    Delete "/api/queue/user/{id}"      USERS    elevated queue::clear_user() -> ClearedResponse;
    Get    "/api/queue/device/{id}"    USERS    queue::of_device() -> QueueResponse;
    Delete "/api/queue/device/{id}"    USERS    elevated queue::clear_device() -> ClearedResponse;

    Get    "/api/queues"                       ADMINS queue::list() -> List<MailboxResponse>;
    Get    "/api/queue/user/{id}/messages"     USERS  queue::messages_of_user() -> List<QueuedResponse>;
    Get    "/api/queue/device/{id}/messages"   USERS  queue::messages_of_device() -> List<QueuedResponse>;

    Put    "/api/weather/{name}"       STATIONS send companion::observe(try ObserveRequest) -> ();
    Get    "/api/catalog/songs"        ADMINS   companion::songs() -> Vec<CatalogEntry>;
    Put    "/api/catalog/songs"        ADMINS   companion::set_songs(SetCatalogRequest) -> Vec<CatalogEntry>;
    Delete "/api/catalog/songs"        ADMINS   elevated companion::clear_songs() -> ();
    Get    "/api/catalog/dances"       ADMINS   companion::dances() -> Vec<CatalogEntry>;
    Put    "/api/catalog/dances"       ADMINS   companion::set_dances(SetCatalogRequest) -> Vec<CatalogEntry>;
    Delete "/api/catalog/dances"       ADMINS   elevated companion::clear_dances() -> ();

    Get    "/api/monitor/overview"     ADMINS   monitor::overview() -> OverviewResponse;
    Get    "/api/monitor/series"       ADMINS   monitor::series() -> SeriesResponse;
    Get    "/api/monitor/connections"  ADMINS   monitor::connections() -> ConnectionsResponse;
    Delete "/api/monitor/connections/{id}" ADMINS monitor::disconnect() -> ();
    Get    "/api/monitor/performance"  ADMINS   monitor::performance() -> PerformanceResponse;
    Get    "/api/audit"                ADMINS   audit::list() -> List<AuditResponse>;
    Get    "/api/settings"             ADMINS   settings::list() -> SettingsResponse;
    Get    "/api/backup"               ADMINS   elevated backup::download() -> Raw;
    Get    "/metrics"                  WATCHERS metrics metrics::metrics() -> Raw;

    Get    "/healthz"                  ANYONE   info::health() -> AliveResponse;
    Get    "/readyz"                   ANYONE   info::ready() -> Health;
    Get    "/"                         ANYONE   info::greeting() -> GreetingResponse;
};

/// The types of bodies and data, for their description.
#[cfg(test)]
pub mod types {
    pub use super::audit::AuditResponse;
    pub use super::auth::{
        ChangePasswordRequest, CreateTokenRequest, CreatedTokenResponse, ElevateRequest, ElevateResponse, LinkRequest,
        LoginRequest, LoginResponse, MeResponse, RegisterRequest, TicketResponse, TokenResponse,
    };
    pub use super::clients::ClientResponse;
    pub use super::companion::{ObserveRequest, SetCatalogRequest};
    pub use super::devices::{ChangeDeviceRequest, CreateDeviceRequest, DeviceResponse, PresenceResponse, SetPrimaryRequest};
    pub use super::info::{AliveResponse, GreetingResponse};
    pub use super::messages::{SendMessageRequest, SendRequest, SendToUserRequest, SentResponse};
    pub use super::monitor::{ConnectionsResponse, PerformanceResponse};
    pub use super::pairing::{ClaimRequest, PairRequest, PairResponse};
    pub use super::queue::{ClearedResponse, MailboxResponse, QueueResponse, QueuedResponse};
    pub use super::receipts::{MessageResponse, ReceiptResponse};
    pub use super::settings::SettingsResponse;
    pub use super::users::{ChangeUserRequest, CreateUserRequest, OnlineUserResponse, UserResponse};
}

/// For fuzzers: reads `body` as the bodies that clients without rights may send. An object, or an error that names the fault.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    auth::fuzz_body(body);
    messages::fuzz_body(body);
}

#[cfg(test)]
mod tests {
    use std::any::type_name;
    use std::collections::BTreeSet;

    use super::*;
    use crate::auth::Actor;
    use crate::http::Verb;
    use crate::http::request::RequestBody;
    use crate::store::Scopes;

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

    #[test]
    fn every_row_for_services_and_no_other_names_a_scope() {
        for route in ROUTES {
            let by_service = route.access.allows(Actor::Service) && !route.access.allows(Actor::Anonymous);
            assert_eq!(route.scopes.is_some(), by_service, "{} {}", route.verb.name(), route.path);
            assert_ne!(route.scopes, Some(Scopes::NONE), "{} {}", route.verb.name(), route.path);
        }
    }

    /// Reads a body and returns its refusal: code and text.
    type Refusal = fn(&str) -> Option<(&'static str, String)>;

    fn refusal<T: RequestBody>(body: &str) -> Option<(&'static str, String)> {
        T::read(body.as_bytes()).err().map(|error| (error.status().1, error.to_string()))
    }

    /// A type of body with its fields.
    fn body<T: RequestBody>(fields: &'static [&'static str]) -> (&'static str, Refusal, &'static [&'static str]) {
        (type_name::<T>(), refusal::<T>, fields)
    }

    #[test]
    fn wrong_types_in_any_body_are_refused_by_field_without_names_of_rust_types() {
        let bodies = [
            body::<LoginRequest>(&["username", "password", "cookie"]),
            body::<LinkRequest>(&["code"]),
            body::<RegisterRequest>(&["username", "password"]),
            body::<ElevateRequest>(&["password"]),
            body::<ChangePasswordRequest>(&["current_password", "old_password", "new_password"]),
            body::<CreateTokenRequest>(&["label", "kind", "scopes", "expires_in"]),
            body::<CreateUserRequest>(&["username", "password", "role"]),
            body::<ChangeUserRequest>(&["disabled", "role", "password"]),
            body::<CreateDeviceRequest>(&["name", "serial", "model", "user_id", "primary"]),
            body::<ChangeDeviceRequest>(&["name", "serial", "model", "primary", "user_ids"]),
            body::<SetPrimaryRequest>(&["user_id"]),
            body::<PairRequest>(&["device_code", "name", "serial", "model"]),
            body::<ClaimRequest>(&["code", "name", "primary", "user_id"]),
            body::<SendRequest>(&["type", "message", "user_id", "delivery", "ttl"]),
            body::<SendToUserRequest>(&["type", "message", "delivery", "ttl"]),
            body::<SendMessageRequest>(&["type", "message", "delivery", "ttl"]),
            body::<ObserveRequest>(&["temp", "text", "icon", "at"]),
            body::<SetCatalogRequest>(&["items"]),
        ];
        let routed: BTreeSet<_> = ROUTES.iter().filter_map(|route| route.request.map(|name| name())).collect();
        assert_eq!(bodies.iter().map(|(name, ..)| *name).collect::<BTreeSet<_>>(), routed);
        let values = [
            "null",
            "true",
            "5",
            "-1",
            "1.5",
            "18446744073709551616",
            "\"secret\"",
            "[]",
            "[5]",
            "[{}]",
            "[[]]",
            "[{\"name\": 5}]",
            "{}",
            "{\"live\": 5}",
        ];
        for (name, refusal, fields) in bodies {
            for (field, value) in fields.iter().flat_map(|field| values.map(|value| (field, value))) {
                if ["kind", "role", "delivery"].contains(field) {
                    continue; // one of several names: another type is refused as `invalid_json`
                }
                let text = format!("{{\"{field}\": {value}}}");
                let Some((code, message)) = refusal(&text) else { continue };
                let what = format!("{name} {text}: {code} {message}");
                assert_eq!(code, "invalid", "{what}");
                let (path, rest) = message.split_once(' ').unwrap();
                assert!(fields.contains(&path.split(['.', '[']).next().unwrap()), "{what}");
                assert!(rest == "is required" || rest.starts_with("must be "), "{what}");
                for word in ["expected", "invalid", "struct", "u64", "unit", "variant", "another type", "line", "secret", "`"] {
                    assert!(!rest.contains(word), "{what}");
                }
            }
        }
    }

    #[test]
    fn wrong_values_in_bodies_are_explained() {
        const U64: &str = "must be a whole number from 0 to 18446744073709551615";
        for (refusal, body, text) in [
            (refusal::<SendMessageRequest> as Refusal, r#"{"ttl": "x"}"#, format!("ttl {U64}")),
            (refusal::<SendRequest>, r#"{"ttl": -1}"#, format!("ttl {U64}")),
            (refusal::<SendToUserRequest>, r#"{"ttl": 18446744073709551616}"#, format!("ttl {U64}")),
            (refusal::<CreateTokenRequest>, r#"{"expires_in": 1.5}"#, format!("expires_in {U64}")),
            (refusal::<CreateTokenRequest>, r#"{"scopes": "send"}"#, "scopes must be a list".into()),
            (
                refusal::<CreateTokenRequest>,
                r#"{"scopes": ["send", "root"]}"#,
                r#"scopes[1] must be "send" or "broadcast" or "read" or "metrics""#.into(),
            ),
            (refusal::<LoginRequest>, r#"{"username": 5}"#, "username must be a string".into()),
            (refusal::<LoginRequest>, r#"{"username": null}"#, "username must be a string".into()),
            (refusal::<LoginRequest>, r#"{"username": "a"}"#, "password is required".into()),
            (refusal::<LoginRequest>, r#"{"cookie": "yes"}"#, "cookie must be true or false".into()),
            (refusal::<RegisterRequest>, r#"{"username": "a", "username": "b"}"#, "username must be given only once".into()),
            (refusal::<ChangeDeviceRequest>, r#"{"user_ids": 5}"#, "user_ids must be a list".into()),
            (refusal::<ChangeDeviceRequest>, r#"{"user_ids": [1, "x"]}"#, "user_ids[1] must be a positive integer".into()),
            (refusal::<ChangeDeviceRequest>, r#"{"serial": []}"#, "serial must be a string".into()),
            (refusal::<SetCatalogRequest>, r#"{"items": {}}"#, "items must be a list".into()),
            (refusal::<SetCatalogRequest>, r#"{"items": [5]}"#, "items[0] must be an object".into()),
            (refusal::<SetCatalogRequest>, r#"{"items": [[]]}"#, "items[0] must be an object".into()),
            (refusal::<SetCatalogRequest>, r#"{"items": [{"name": 5}]}"#, "items[0].name must be a string".into()),
            (refusal::<SetCatalogRequest>, r#"{"items": [{"name": "a"}, {}]}"#, "items[1].name is required".into()),
            (
                refusal::<ObserveRequest>,
                r#"{"temp": 5, "at": "now"}"#,
                "at must be a date and time with an offset, such as 2026-01-31T12:00:00Z".into(),
            ),
            (refusal::<SendRequest>, r#"{"delivery": "later"}"#, r#"delivery must be "live" or "queued""#.into()),
            (refusal::<ChangeUserRequest>, r#"{"role": "root"}"#, r#"role must be "admin" or "user""#.into()),
        ] {
            assert_eq!(refusal(body), Some(("invalid", text)), "{body}");
        }
    }
}
