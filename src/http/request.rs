//! Authorised calls and their bodies.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::accounts::By;
use crate::app::App;
use crate::auth::Caller;
use crate::core::ids::UserId;
use crate::core::mismatch::{Format, Mismatch};
use crate::core::text::nearest;
use crate::http::error::ApiError;
use crate::net::client_addr::ClientAddr;
use crate::wire::check_readable;

/// The most items in a page of a list.
pub const MAX_PAGE: usize = 1000;
/// The length of a page where none is asked for.
const DEFAULT_PAGE: usize = 100;

/// An authorised call.
#[derive(Clone)]
pub struct Call {
    /// The server.
    pub app: Arc<App>,
    /// The caller; `None` only on routes that need no credential.
    pub caller: Option<Caller>,
    /// The token, where a browser page brought it in its cookie.
    pub cookie: Option<String>,
    /// `{id}` of the path.
    pub id: Option<u64>,
    /// `{name}` of the path, decoded.
    pub name: Option<String>,
    /// The client's address.
    pub address: ClientAddr,
    /// Received over HTTPS, up to a trusted proxy at least.
    pub encrypted: bool,
    /// The origin of the page that sent it, in words; `None` for a page of this server, and for no page.
    pub foreign_page: Option<String>,
    /// The query's parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// The body, at most `limits.push_bytes` long.
    pub body: Bytes,
}

impl Call {
    /// Returns the caller.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] when there is none.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// Returns the requester of a change, for the account services.
    pub fn by(&self) -> By<'_> {
        let operator = self.caller.as_ref().is_some_and(Caller::is_operator); // which has no address
        By { caller: self.caller.as_ref(), address: (!operator).then_some(self.address), trail: &self.app.audit }
    }

    /// Reports whether nobody between the client and this server could read the call: it came over HTTPS, or from this machine.
    pub fn is_private(&self) -> bool {
        // Who connects to the server's own address is on this machine, too, and has that address.
        let is_own = || self.app.address.get().is_some_and(|own| ClientAddr::from(*own).ip == self.address.ip);
        self.encrypted || self.address.ip.is_loopback() || is_own()
    }

    /// Returns the path's id as a newtype; `what` names the kind of object.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] when the path has none.
    pub fn id<T>(&self, new: impl Fn(u64) -> T, what: &'static str) -> Result<T, ApiError> {
        self.id.map(new).ok_or(ApiError::NotFound(what))
    }

    /// Returns a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns `?user_id=`, the user that an administrator asks about.
    ///
    /// # Errors
    /// [`ApiError::Invalid`].
    pub fn asked_user(&self) -> Result<Option<UserId>, ApiError> {
        let wrong = |_| ApiError::Invalid("user_id must be an id".into());
        self.parameter("user_id").map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// Returns `?after=` and `?limit=`.
    ///
    /// # Errors
    /// [`ApiError::Invalid`].
    pub fn page(&self) -> Result<(u64, usize), ApiError> {
        let after = self.parameter("after").map_or(Ok(0), str::parse);
        let after = after.map_err(|_| ApiError::Invalid("after must be an id".into()))?;
        Ok((after, self.limit(DEFAULT_PAGE)?))
    }

    /// Returns `?limit=`, or `default` where there is none.
    ///
    /// # Errors
    /// [`ApiError::Invalid`].
    pub fn limit(&self, default: usize) -> Result<usize, ApiError> {
        match self.parameter("limit").map(str::parse) {
            None => Ok(default),
            Some(Ok(n @ 1..=MAX_PAGE)) => Ok(n),
            Some(_) => Err(ApiError::Invalid("limit must be a number from 1 to 1000".into())),
        }
    }

    /// Runs a longer read of the store on a thread for blocking work.
    ///
    /// # Errors
    /// Those of `job`; [`ApiError::Internal`] when it panics.
    pub async fn blocking<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    {
        let app = self.app.clone();
        tokio::task::spawn_blocking(move || job(&app)).await.map_err(ApiError::internal)?
    }
}

/// A body that a route takes.
pub trait RequestBody: DeserializeOwned {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`], [`ApiError::Invalid`].
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        parse(body)
    }
}

/// Parses a JSON object of type `T`.
///
/// # Errors
/// [`ApiError::InvalidJson`]; [`ApiError::Invalid`], which names the field.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::InvalidJson("body is not UTF-8".into()))?;
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(ApiError::InvalidJson("body must be a JSON object".into())); // serde would take an array for a struct
    }
    // Before serde, which only skips what is passed on as it was written.
    check_readable(text).map_err(|why| ApiError::InvalidJson(format!("body is not valid JSON: {why}")))?;
    // Nearly all bodies are right; only for the others it is worth the time to follow the path to what is wrong.
    serde_json::from_str(text).or_else(|_| parse_with_path(text))
}

/// Parses JSON of type `T`, and follows the path to what is wrong.
fn parse_with_path<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.into_inner());
        let message = inner.to_string();
        if inner.is_data() {
            ApiError::Invalid(invalid(&path, message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message)))
        } else {
            ApiError::InvalidJson(format!("body is not valid JSON: {message}"))
        }
    })?;
    json.end().map_err(|error| ApiError::InvalidJson(format!("body is not valid JSON: {error}")))?;
    Ok(value)
}

/// The same, but an empty body counts as `{}`.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// Returns the text of an error at `path` from serde's message: the field and the values that it takes. The given value is left
/// out: it may be a password, and clients log the replies.
fn invalid(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    if let Some((field, text)) = unknown_field(message) {
        // The unknown field is the last part of the path.
        let parent = path.strip_suffix(field).unwrap_or(path).trim_end_matches('.');
        return if parent.is_empty() { text } else { format!("{parent}: {text}") };
    }
    let below = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    let quoted = |start: &str| message.strip_prefix(start)?.strip_suffix('`').map(below);
    if let Some(field) = quoted("missing field `") {
        return format!("{field} is required");
    }
    if let Some(field) = quoted("duplicate field `") {
        return format!("{field} must be given only once");
    }
    let text = match Mismatch::parse(message, Format::Json) {
        Some(mismatch) => format!("must be {}", mismatch.expected.as_deref().unwrap_or("of another type")),
        None => message.to_owned(),
    };
    if path.is_empty() { text } else { format!("{path} {text}") }
}

/// The longest unknown field that is quoted whole and compared with the right ones, in characters.
const MAX_FIELD_CHARS: usize = 64;

/// Returns, where serde complains of an unknown field, that field and the text for it.
fn unknown_field(message: &str) -> Option<(&str, String)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, known) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no fields"))?;
    if field.chars().count() > MAX_FIELD_CHARS {
        let start: String = field.chars().take(MAX_FIELD_CHARS).collect();
        return Some((field, format!("unknown field \"{start}…\"")));
    }
    let near = nearest(field, known.split('`').skip(1).step_by(2));
    let near = near.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
    Some((field, format!("unknown field \"{field}\"{near}")))
}

/// A user's id in a body: a positive integer or its decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyUserId(pub UserId);

impl BodyUserId {
    /// Reads a raw JSON value; `None` where it is no id.
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
    fn error_text_does_not_repeat_the_given_value() {
        for (message, text) in [
            ("invalid type: string \"secret, expected x\", expected a boolean", "x must be true or false"),
            ("invalid value: integer `-5`, expected u64", "x must be a whole number from 0 to 18446744073709551615"),
            ("unknown variant `secret`, expected `admin` or `user`", "x must be \"admin\" or \"user\""),
            ("invalid type: string \"secret\", expected unit", "x must be of another type"),
            ("invalid type: string \"secret\"", "x must be of another type"),
            ("missing field `name`", "x.name is required"),
        ] {
            assert_eq!(invalid("x", message), text);
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "name")]
        _name: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default, rename = "items")]
        _items: Vec<Inner>,
        #[serde(rename = "model")]
        _model: Option<String>,
    }

    #[test]
    fn unknown_field_is_named_with_the_nearest_known_one() {
        let long = "x".repeat(100);
        let cut = format!("unknown field \"{}…\"", "x".repeat(64));
        for (body, text) in [
            (r#"{"modle": 1}"#.to_owned(), r#"unknown field "modle"; did you mean "model"?"#),
            (r#"{"entirely different": 1}"#.into(), r#"unknown field "entirely different""#),
            (r#"{"a`, expected b": 1}"#.into(), r#"unknown field "a`, expected b""#),
            (r#"{"items": [{}, {"nam": 1}]}"#.into(), r#"items[1]: unknown field "nam"; did you mean "name"?"#),
            (r#"{"": 1}"#.into(), r#"unknown field """#),
            (format!(r#"{{"{long}": 1}}"#), cut.as_str()),
        ] {
            match parse::<Outer>(body.as_bytes()) {
                Err(ApiError::Invalid(said)) => assert_eq!(said, text),
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
