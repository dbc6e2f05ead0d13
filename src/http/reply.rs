//! Successful answers to calls.

use salvo::http::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use salvo::http::{ResBody, Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{ApiError, write_json};

/// A successful answer.
#[derive(Debug, Serialize)]
pub struct Reply {
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
    pub fn done(message: impl Into<String>) -> Self {
        let (status, message) = ("success", message.into());
        Self { code: StatusCode::OK, cookie: None, body: None, status, message, token: None, data: None, next: None }
    }

    /// 200 with something else than JSON, as its media type says.
    pub fn other(media_type: &'static str, body: ResBody) -> Self {
        Self { body: Some((media_type, body)), ..Self::done("") }
    }

    /// 200 with data.
    pub fn data(message: impl Into<String>, data: &impl Serialize) -> Result<Self, ApiError> {
        let data = serde_json::value::to_raw_value(data).map_err(ApiError::internal)?;
        Ok(Self { data: Some(data), ..Self::done(message) })
    }

    /// 201 with data.
    pub fn created(message: impl Into<String>, data: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { code: StatusCode::CREATED, ..Self::data(message, data)? })
    }

    /// The same with 201.
    pub fn into_created(self) -> Self {
        Self { code: StatusCode::CREATED, ..self }
    }

    /// 200 with a page of a list, whose last item has id `last`.
    pub fn page(items: &[impl Serialize], last: Option<u64>, more: bool) -> Result<Self, ApiError> {
        Ok(Self { next: last.filter(|_| more), ..Self::data("ok", &items)? })
    }

    /// The same with a token at the top.
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// The same with a cookie.
    pub fn with_cookie(self, cookie: String) -> Self {
        Self { cookie: Some(cookie), ..self }
    }

    /// Writes the answer.
    pub fn render(self, res: &mut Response) {
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
