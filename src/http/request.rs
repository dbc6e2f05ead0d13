//! One authorised call and its body.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::auth::Caller;
use crate::core::ids::UserId;
use crate::http::error::ApiError;
use crate::telemetry::audit::{self, AuditEvent};

/// The longest page of a list.
const MAX_PAGE: usize = 1000;
/// The usual page of a list.
const USUAL_PAGE: usize = 100;

/// One authorised call.
pub struct Call {
    /// The server.
    pub app: Arc<App>,
    /// Who calls; `None` only where anyone may.
    pub caller: Option<Caller>,
    /// The token, where a browser page brought it in its cookie.
    pub cookie: Option<String>,
    /// `{id}` of the path.
    pub id: Option<u64>,
    /// `{name}` of the path, decoded.
    pub name: Option<String>,
    /// Where from.
    pub address: IpAddr,
    /// Whether it came over HTTPS, up to a proxy of ours at least.
    pub encrypted: bool,
    /// Whether it comes from a page of ours, or from no page.
    pub own_origin: bool,
    /// The query's parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// The body, at most `limits.push_bytes` long.
    pub body: Bytes,
}

impl Call {
    /// Who calls.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// Writes the audit trail.
    pub fn audit(&self, act: AuditEvent<'_>) {
        let console = self.caller.as_ref().is_some_and(Caller::is_operator); // which comes from no address
        audit::record(act, self.caller.as_ref().map(|caller| caller.user.id), (!console).then_some(self.address));
    }

    /// The same for a refusal, of which one address can make any number.
    pub fn audit_refusal(&self, act: AuditEvent<'_>) {
        match self.app.admission.refusal_lines.check(&self.address.into()) {
            Ok(()) => self.audit(act),
            Err(_) => self.app.metrics.audit_suppressed.inc(),
        }
    }

    /// The path's id as a newtype; `what` it would be the id of.
    pub fn id<T>(&self, new: impl Fn(u64) -> T, what: &'static str) -> Result<T, ApiError> {
        self.id.map(new).ok_or(ApiError::NotFound(what))
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `?after=` and `?limit=`.
    pub fn page(&self) -> Result<(u64, usize), ApiError> {
        let wrong = |name: &str, what: &str| ApiError::Invalid(format!("{name} must be {what}"));
        let after = self.parameter("after").map_or(Ok(0), |text| text.parse().map_err(|_| wrong("after", "an id")))?;
        let limit = match self.parameter("limit").map(str::parse) {
            None => USUAL_PAGE,
            Some(Ok(n @ 1..=MAX_PAGE)) => n,
            Some(_) => return Err(wrong("limit", "a number from 1 to 1000")),
        };
        Ok((after, limit))
    }

    /// The body as an object of type `T`.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        parse(&self.body)
    }

    /// As [`json`](Self::json), but an empty body counts as `{}`.
    pub fn json_or_empty<'a, T: Deserialize<'a> + Default>(&'a self) -> Result<T, ApiError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// Runs a longer read of the store away from the sessions.
    pub async fn blocking<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    {
        let app = self.app.clone();
        tokio::task::spawn_blocking(move || job(&app)).await.map_err(ApiError::internal)?
    }
}

/// A JSON object of type `T`.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::InvalidJson("body is not UTF-8".into()))?;
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(ApiError::InvalidJson("body must be a JSON object".into())); // serde would take an array for a struct
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.into_inner());
        let what = inner.to_string();
        if inner.is_data() {
            let what = without_value(what.rsplit_once(" at line ").map_or(&what, |(what, _)| what));
            ApiError::Invalid(if path == "." { what } else { format!("{path}: {what}") })
        } else {
            ApiError::InvalidJson(format!("body is not valid JSON: {what}"))
        }
    })?;
    json.end().map_err(|error| ApiError::InvalidJson(format!("body is not valid JSON: {error}")))?;
    Ok(value)
}

/// Takes what was given out of serde's words, such as ``invalid type: integer `5`, expected a string``: it may be a password, and
/// clients log what they are answered. What is expected are our own words, and stands last.
fn without_value(what: &str) -> String {
    let given = ["invalid type: ", "invalid value: ", "unknown variant "].iter().any(|start| what.starts_with(start));
    match what.rsplit_once(", expected ") {
        Some((_, expected)) if given => format!("expected {expected}"),
        _ => what.to_owned(),
    }
}

/// A user's id in a body: a positive integer or its decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyUserId(pub UserId);

impl BodyUserId {
    /// Reads a raw JSON value.
    pub fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        digits.parse().ok().filter(|id: &UserId| id.0 > 0).map(Self)
    }
}

impl<'de> Deserialize<'de> for BodyUserId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::read(raw).ok_or_else(|| serde::de::Error::custom("must be a positive integer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_said_again() {
        for (said, left) in [
            ("invalid type: string \"secret, expected x\", expected a boolean", "expected a boolean"),
            ("invalid value: integer `-5`, expected u64", "expected u64"),
            ("unknown variant `secret`, expected `admin` or `user`", "expected `admin` or `user`"),
            ("unknown field `nam`, expected `name`", "unknown field `nam`, expected `name`"),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(without_value(said), left);
        }
    }
}
