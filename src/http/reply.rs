//! Successful replies to calls.

use salvo::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE};
use salvo::http::{ResBody, Response, StatusCode};
use serde::Serialize;

use super::error::{ApiError, JSON};

/// The header of an answer to a repeated request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The usual number of headers of a response.
const HEADERS: usize = 8;

/// A successful reply with `data` of type `T`; `()` stands for none.
#[derive(Debug)]
pub struct Reply<T> {
    status: StatusCode,
    message: String,
    token: Option<String>,
    data: Option<T>,
    next: Option<u64>,
    cookie: Option<String>,
    replayed: bool,
}

impl Reply<()> {
    /// 200 without data.
    pub fn done(message: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, message, None)
    }
}

impl<T> Reply<T> {
    fn new(status: StatusCode, message: impl Into<String>, data: Option<T>) -> Self {
        Self { status, message: message.into(), token: None, data, next: None, cookie: None, replayed: false }
    }

    /// 200 with data.
    pub fn ok(message: impl Into<String>, data: T) -> Self {
        Self::new(StatusCode::OK, message, Some(data))
    }

    /// 201 with data.
    pub fn created(message: impl Into<String>, data: T) -> Self {
        Self::new(StatusCode::CREATED, message, Some(data))
    }

    /// The same with 201.
    pub fn into_created(self) -> Self {
        Self { status: StatusCode::CREATED, ..self }
    }

    /// The same with a token beside `data`, for clients of the guide's system, which look for it there.
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// The same as the answer to a repeated request, which a header says.
    pub fn with_replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    /// The same with a `Set-Cookie` header.
    pub fn with_cookie(self, cookie: String) -> Self {
        Self { cookie: Some(cookie), ..self }
    }
}

impl<T> Reply<Vec<T>> {
    /// 200 with a page of a list, whose last item has id `last`; `more`: whether there is a next page.
    pub fn page(items: Vec<T>, last: Option<u64>, more: bool) -> Self {
        Self { next: last.filter(|_| more), ..Self::ok("ok", items) }
    }
}

/// A reply that is not JSON.
#[derive(Debug)]
pub struct Raw {
    /// `Content-Type`.
    pub media_type: &'static str,
    /// The body, which may be a stream.
    pub body: ResBody,
}

/// A type that replies carry.
pub trait Payload: Sized {
    /// Encodes a reply.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when the data can't be encoded.
    fn encode(reply: Reply<Self>) -> Result<Answer, ApiError>;
}

impl<T: Serialize> Payload for T {
    fn encode(reply: Reply<Self>) -> Result<Answer, ApiError> {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            status: &'static str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            token: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a T>,
            /// The `after` of the next page, where there is one.
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<u64>,
        }
        let Reply { status, message, token, data, next, cookie, replayed } = &reply;
        let envelope = Envelope { status: "success", message, token: token.as_deref(), data: data.as_ref(), next: *next };
        let body = serde_json::to_vec(&envelope).map_err(ApiError::internal)?.into();
        Ok(Answer { status: *status, cookie: cookie.clone(), replayed: *replayed, media_type: JSON, body })
    }
}

impl Payload for Raw {
    fn encode(reply: Reply<Self>) -> Result<Answer, ApiError> {
        let raw = reply.data.ok_or_else(|| ApiError::internal("a reply without its body"))?;
        Ok(Answer {
            status: reply.status,
            cookie: reply.cookie,
            replayed: reply.replayed,
            media_type: raw.media_type,
            body: raw.body,
        })
    }
}

/// An encoded reply.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    cookie: Option<String>,
    replayed: bool,
    media_type: &'static str,
    body: ResBody,
}

impl Answer {
    /// Writes the response.
    pub fn render(self, res: &mut Response) {
        res.status_code(self.status);
        let headers = res.headers_mut();
        headers.reserve(HEADERS); // at once, instead of twice while they are added
        if let Some(cookie) = self.cookie.as_ref().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            headers.insert(SET_COOKIE, cookie);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        res.replace_body(self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: Answer) -> String {
        match answer.body {
            ResBody::Once(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reply_encodes_only_the_fields_that_it_has() {
        assert_eq!(text(Payload::encode(Reply::done("d")).unwrap()), r#"{"status":"success","message":"d"}"#);
        let page = Payload::encode(Reply::page(vec![1, 2], Some(2), true)).unwrap();
        assert_eq!(text(page), r#"{"status":"success","message":"ok","data":[1,2],"next":2}"#);
        let last = Payload::encode(Reply::page(vec![1], Some(1), false)).unwrap();
        assert_eq!(text(last), r#"{"status":"success","message":"ok","data":[1]}"#);
        let token = Payload::encode(Reply::created("c", 5).with_token("t")).unwrap();
        assert_eq!(token.status, StatusCode::CREATED);
        assert_eq!(text(token), r#"{"status":"success","message":"c","token":"t","data":5}"#);
    }
}
