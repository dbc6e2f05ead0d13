//! What the types do not tell of a schema: lengths, ranges, names that are written as texts. By the schema's name and a JSON pointer.

/// A text that people see, as [`check_text`](crate::core::text::check_text) takes it, which must not be empty.
const TEXT: &str = r#"{"minLength":1,"maxLength":100,"format":"qy-text"}"#;
/// The same, which may be empty.
const NOTE: &str = r#"{"maxLength":100,"format":"qy-note"}"#;
/// A new password.
const PASSWORD: &str = r#"{"minLength":8,"maxLength":128,"format":"qy-password"}"#;
/// A new name of a user.
const USERNAME: &str = r#"{"minLength":1,"maxLength":150,"format":"qy-username"}"#;
/// The payload that a device takes, in bytes.
const MAX_BYTES: &str = r#"{"minimum":1024,"maximum":4294967295}"#;
/// The life of a message, in seconds.
const TTL: &str = r#"{"minimum":1,"maximum":31622400}"#;
/// A content, which is anything but nothing.
const CONTENT: &str = r#"{"not":{"type":"null"}}"#;
/// A live message has no life.
const LIVE: &str = r#"{"anyOf":[{"properties":{"delivery":{"enum":["queued",null]}}},{"properties":{"ttl":{"type":"null"}}}]}"#;
/// What a typed name or password may be.
const TYPED: &str = r#"{"minLength":1}"#;

/// Schema, place, and what is added there.
pub const CONSTRAINTS: &[(&str, &str, &str)] = &[
    ("LoginRequest", "/properties/username", TYPED),
    ("LoginRequest", "/properties/password", TYPED),
    ("LinkRequest", "/properties/code", TYPED),
    ("ElevateRequest", "/properties/password", TYPED),
    ("RegisterRequest", "/properties/username", USERNAME),
    ("RegisterRequest", "/properties/password", PASSWORD),
    ("ChangePasswordRequest", "/properties/new_password", PASSWORD),
    ("CreateTokenRequest", "/properties/label", NOTE),
    ("CreateTokenRequest", "/properties/expires_in", r#"{"minimum":1,"maximum":316224000}"#),
    ("CreateTokenRequest", "/properties/scopes", r#"{"minItems":1}"#),
    ("CreateUserRequest", "/properties/username", USERNAME),
    ("CreateUserRequest", "/properties/password", PASSWORD),
    ("ChangeUserRequest", "/properties/password", PASSWORD),
    ("CreateDeviceRequest", "/properties/name", TEXT),
    ("CreateDeviceRequest", "/properties/serial", TEXT),
    ("CreateDeviceRequest", "/properties/model", NOTE),
    ("CreateDeviceRequest", "/properties/max_bytes", MAX_BYTES),
    ("ChangeDeviceRequest", "/properties/name", TEXT),
    ("ChangeDeviceRequest", "/properties/serial", TEXT),
    ("ChangeDeviceRequest", "/properties/model", NOTE),
    ("ChangeDeviceRequest", "/properties/max_bytes", MAX_BYTES),
    ("ChangeDeviceRequest", "/properties/user_ids", r#"{"minItems":1,"maxItems":100}"#),
    ("PairRequest", "/properties/name", TEXT),
    ("PairRequest", "/properties/serial", TEXT),
    ("PairRequest", "/properties/model", NOTE),
    (
        "PairRequest",
        "",
        r#"{"anyOf":[
            {"properties":{"device_code":{"type":"null"}}},
            {"properties":{"name":{"type":"null"},"serial":{"type":"null"},"model":{"type":"null"}}}
        ]}"#,
    ),
    ("PairResponse", "/anyOf/1/properties/state", r#"{"const":"pending"}"#),
    ("PairResponse", "/anyOf/2/properties/state", r#"{"const":"paired"}"#),
    ("ClaimRequest", "/properties/name", TEXT),
    ("SendRequest", "/properties/ttl", TTL),
    ("SendRequest", "", LIVE),
    ("SendToUserRequest", "/properties/message", CONTENT),
    ("SendToUserRequest", "/properties/ttl", TTL),
    ("SendToUserRequest", "", LIVE),
    ("SendMessageRequest", "/properties/message", CONTENT),
    ("SendMessageRequest", "/properties/ttl", TTL),
    ("SendMessageRequest", "", LIVE),
    ("ReceiptResponse", "/properties/to", r#"{"enum":["user","device","all"]}"#),
    (
        "ReceiptResponse",
        "/properties/status",
        r#"{"enum":["queued","sent","acked","expired","cancelled","cleared","undeliverable"]}"#,
    ),
    ("ReaderResponse", "/properties/status", r#"{"const":"undeliverable"}"#),
    ("MailboxResponse", "/properties/to", r#"{"enum":["user","device","all"]}"#),
    ("QueuedResponse", "/properties/status", r#"{"enum":["queued","sent"]}"#),
    ("PresenceResponse", "/properties/slots", r#"{"maxItems":144,"items":{"enum":[0,1]}}"#),
    ("AuditResponse", "/properties/subject_kind", r#"{"enum":["user","device","token",null]}"#),
    ("Setting", "/properties/source", r#"{"enum":["default","file","environment","flag"]}"#),
    ("ConnectionItem", "/properties/proof", r#"{"const":"none"}"#),
    ("ObserveRequest", "/properties/text", NOTE),
    ("ObserveRequest", "/properties/icon", TEXT),
    ("ObserveRequest", "/properties/at", r#"{"format":"date-time"}"#),
    ("SetCatalogRequest", "/properties/items", r#"{"maxItems":1000}"#),
    ("CatalogEntry", "/properties/name", TEXT),
    ("CatalogEntry", "/properties/artist", NOTE),
    ("CatalogEntry", "/properties/style", NOTE),
];
