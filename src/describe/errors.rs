//! The codes of REST errors, each with its status and its body as it is sent.

use std::time::Duration;

use salvo::http::{ResBody, Response};
use serde_json::{Value, json};

use crate::auth::AuthError;
use crate::health::Health;
use crate::http::error::ApiError;
use crate::store::{Scope, Scopes};
use crate::telemetry::metrics::Refused;

/// An error of a REST call.
pub struct Code {
    /// The HTTP status.
    pub status: u16,
    /// The machine-readable code.
    pub code: &'static str,
    /// The body.
    pub body: Value,
}

/// An error of every code.
fn samples() -> Vec<ApiError> {
    let health = Health { running: true, disk_space: false, commit: true, hub: true, store: true, cluster: None };
    let wait = Duration::from_secs(3);
    vec![
        ApiError::InvalidJson("body is not valid JSON: expected value at line 1 column 2".into()),
        ApiError::Invalid("limit must be a number from 1 to 1000".into()),
        ApiError::MissingParameter("message"),
        ApiError::ReservedType("pong".into()),
        ApiError::Unauthorized,
        ApiError::WrongPassword,
        ApiError::WrongLink(AuthError::WrongLink),
        ApiError::ExposedLink(AuthError::ExposedLink),
        ApiError::Forbidden,
        ApiError::ScopeMissing(Scopes::of(Scope::Send)),
        ApiError::ElevationRequired,
        ApiError::RegistrationClosed,
        ApiError::ForeignOrigin("\"https://other.example\"; list it in server.origins".into()),
        ApiError::UnknownHost("other.example".into()),
        ApiError::Csrf,
        ApiError::PairingOver,
        ApiError::NotFound("user"),
        ApiError::MethodNotAllowed,
        ApiError::Taken("username"),
        ApiError::Full("devices"),
        ApiError::LastAdmin,
        ApiError::BodyTooSlow,
        ApiError::TooLarge(262_144),
        ApiError::NotJson,
        ApiError::ContentCoding("br".into()),
        ApiError::Expectation("200-ok".into()),
        ApiError::TransferCoding("gzip".into()),
        ApiError::UpgradeRequired,
        ApiError::TooMany(Refused::RequestsRate, wait),
        ApiError::Internal("8c1f02ab".into()),
        ApiError::KeyReused,
        ApiError::AlreadyReceived,
        ApiError::AlreadyEnded("expired"),
        ApiError::BackupRunning,
        ApiError::MailboxFull,
        ApiError::SenderFull,
        ApiError::DiskLow,
        ApiError::MemoryLow,
        ApiError::NotReady("the disk is nearly full", health),
        ApiError::Busy(Refused::AnswerRoom),
    ]
}

/// Returns every code.
pub fn codes() -> Vec<Code> {
    let code = |error: &ApiError| {
        let mut response = Response::new();
        error.render(&mut response);
        let ResBody::Once(body) = &response.body else { panic!("{error}") };
        let (status, code) = error.status();
        Code { status: status.as_u16(), code, body: serde_json::from_slice(body).unwrap() }
    };
    samples().iter().map(code).collect()
}

/// The schema of an error's body.
pub fn schema() -> Value {
    let field = json!({ "type": "string", "description": "The missing parameter, of `missing_parameter`." });
    json!({
        "type": "object",
        "required": ["status", "message", "code"],
        "properties": {
            "status": { "const": "error" },
            "message": { "type": "string", "description": "For people; names the field and the remedy." },
            "code": { "type": "string", "description": "For programs." },
            "retry_after": { "type": "integer", "minimum": 1, "description": "Seconds after which to try again." },
            "data": { "anyOf": [
                { "type": "object", "required": ["field"], "properties": { "field": field } },
                { "$ref": "#/components/schemas/Health" }
            ] }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_the_protocol_page_lists() {
        let page = include_str!("../../docs/protocol.md");
        let (_, table) = page.split_once("### Status codes").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        for code in codes() {
            let row = table.lines().find(|line| line.starts_with(&format!("| {} |", code.status)));
            let row = row.unwrap_or_else(|| panic!("no row for {}", code.status));
            assert!(row.contains(&format!("`{}`", code.code)), "{} {} is not listed", code.status, code.code);
        }
        let known = codes();
        let other = ["code", "retry_after", "body_seconds"];
        for code in table.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_code = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !other.contains(&code);
            assert!(!is_code || known.iter().any(|one| one.code == code), "{code} has no sample");
        }
    }
}
