//! What a handler gets and what it gives.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use salvo::http::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use salvo::http::{ResBody, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::audit::{self, Act};
use crate::auth::Caller;
use crate::error::{ApiError, write_json};
use crate::ids::UserId;

/// The longest page of a list.
const MAX_PAGE: usize = 1000;
/// The usual page of a list.
const USUAL_PAGE: usize = 100;

/// One authorised call.
pub(super) struct Call {
    /// The server.
    pub(super) app: Arc<App>,
    /// Who calls; `None` only where anyone may.
    pub(super) caller: Option<Caller>,
    /// The token, where a browser page brought it in its cookie.
    pub(super) cookie: Option<String>,
    /// `{id}` of the path.
    pub(super) id: Option<u64>,
    /// `{name}` of the path, decoded.
    pub(super) name: Option<String>,
    /// Where from.
    pub(super) address: IpAddr,
    /// Whether it came over HTTPS, up to a proxy of ours at least.
    pub(super) encrypted: bool,
    /// Whether it comes from a page of ours, or from no page.
    pub(super) own_origin: bool,
    /// The query's parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The `Idempotency-Key` header.
    pub(super) idempotency_key: Option<String>,
    /// The body, at most `limits.push_bytes` long.
    pub(super) body: Bytes,
}

impl Call {
    /// Who calls.
    pub(super) fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// Writes the audit trail.
    pub(super) fn audit(&self, act: Act<'_>) {
        let console = self.caller.as_ref().is_some_and(Caller::is_console); // which comes from no address
        audit::note(act, self.caller.as_ref().map(|caller| caller.user.id), (!console).then_some(self.address));
    }

    /// The same for a refusal, of which one address can make any number.
    pub(super) fn audit_refusal(&self, act: Act<'_>) {
        match self.app.door.refusal_lines.check(&self.address.into()) {
            Ok(()) => self.audit(act),
            Err(_) => self.app.metrics.audit_left_out.inc(),
        }
    }

    /// The path's id as a newtype; `what` it would be the id of.
    pub(super) fn id<T>(&self, new: impl Fn(u64) -> T, what: &'static str) -> Result<T, ApiError> {
        self.id.map(new).ok_or(ApiError::NotFound(what))
    }

    /// A query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `?after=` and `?limit=`.
    pub(super) fn page(&self) -> Result<(u64, usize), ApiError> {
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
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        parse(&self.body)
    }

    /// As [`json`](Self::json), but an empty body counts as `{}`.
    pub(super) fn json_or_empty<'a, T: Deserialize<'a> + Default>(&'a self) -> Result<T, ApiError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// Runs a longer read of the store away from the sessions.
    pub(super) async fn blocking<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    {
        let app = self.app.clone();
        tokio::task::spawn_blocking(move || job(&app)).await.map_err(ApiError::internal)?
    }
}

/// A JSON object of type `T`.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
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
pub(super) struct BodyUserId(pub(super) UserId);

impl BodyUserId {
    /// Reads a raw JSON value.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
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

/// A successful answer.
#[derive(Debug, Serialize)]
pub(super) struct Reply {
    #[serde(skip)]
    code: StatusCode,
    /// A `Set-Cookie` header.
    #[serde(skip)]
    cookie: Option<String>,
    /// Something else than JSON, which is sent instead.
    #[serde(skip)]
    body: Option<(&'static str, ResBody)>,
    status: &'static str,
    message: String,
    /// At the top for clients of the guide's system, which look for it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// The `after` of the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl Reply {
    /// 200 without data.
    pub(super) fn done(message: impl Into<String>) -> Self {
        let (status, message) = ("success", message.into());
        Self { code: StatusCode::OK, cookie: None, body: None, status, message, token: None, data: None, next: None }
    }

    /// 200 with something else than JSON, as its media type says.
    pub(super) fn other(media_type: &'static str, body: ResBody) -> Self {
        Self { body: Some((media_type, body)), ..Self::done("") }
    }

    /// 200 with data.
    pub(super) fn data(message: impl Into<String>, data: &impl Serialize) -> Result<Self, ApiError> {
        let data = serde_json::value::to_raw_value(data).map_err(ApiError::internal)?;
        Ok(Self { data: Some(data), ..Self::done(message) })
    }

    /// 201 with data.
    pub(super) fn created(message: impl Into<String>, data: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { code: StatusCode::CREATED, ..Self::data(message, data)? })
    }

    /// The same with 201.
    pub(super) fn into_created(self) -> Self {
        Self { code: StatusCode::CREATED, ..self }
    }

    /// 200 with a page of a list, whose last item has id `last`.
    pub(super) fn page(items: &[impl Serialize], last: Option<u64>, more: bool) -> Result<Self, ApiError> {
        Ok(Self { next: last.filter(|_| more), ..Self::data("ok", &items)? })
    }

    /// The same with a token at the top.
    pub(super) fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// The same with a cookie.
    pub(super) fn with_cookie(self, cookie: String) -> Self {
        Self { cookie: Some(cookie), ..self }
    }

    /// Writes the answer.
    pub(super) fn render(self, res: &mut Response) {
        if let Some((media_type, body)) = self.body {
            res.status_code(self.code);
            res.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            res.replace_body(body);
            return;
        }
        if let Some(cookie) = self.cookie.as_ref().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            res.headers_mut().insert(SET_COOKIE, cookie);
        }
        write_json(res, self.code, &self);
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
