//! Successful replies to calls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use salvo::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use salvo::http::{ResBody, Response, StatusCode};
use serde::Serialize;

use super::error::{ApiError, JSON};
use crate::admission::answers::{Answers, AnswersOf, CutOff, FREE_BYTES, OnItsWay, Room};

/// The header of an answer to a repeated request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The usual number of headers of a response.
const HEADERS: usize = 8;

/// What a reply has besides its data.
#[derive(Debug)]
pub struct Head {
    status: StatusCode,
    /// The text for people.
    pub message: String,
    token: Option<String>,
    cookie: Option<String>,
    /// The name of the file that browsers make of the body.
    file_name: Option<String>,
    replayed: bool,
    /// The path of what was created; every 201 has one.
    location: Option<String>,
}

/// A successful reply with `data` of type `T`; `()` stands for none.
#[derive(Debug)]
pub struct Reply<T> {
    head: Head,
    data: Option<T>,
}

impl Reply<()> {
    /// 200 without data.
    pub fn done(message: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, message, None)
    }
}

impl<T> Reply<T> {
    fn new(status: StatusCode, message: impl Into<String>, data: Option<T>) -> Self {
        let head =
            Head { status, message: message.into(), token: None, cookie: None, file_name: None, replayed: false, location: None };
        Self { head, data }
    }

    /// 200 with data.
    pub fn ok(message: impl Into<String>, data: T) -> Self {
        Self::new(StatusCode::OK, message, Some(data))
    }

    /// 201 with data, and `location`, the path of what was created: one that GET shows, or else the path of its collection with its id.
    pub fn created(message: impl Into<String>, data: T, location: impl Into<String>) -> Self {
        Self::ok(message, data).into_created(location)
    }

    /// The same with 201 and `location`, as for [`created`](Self::created).
    pub fn into_created(mut self, location: impl Into<String>) -> Self {
        self.head.status = StatusCode::CREATED;
        self.head.location = Some(location.into());
        self
    }

    /// The same with a token beside `data`, for clients of the guide's system, which look for it there.
    pub fn with_token(mut self, token: &str) -> Self {
        self.head.token = Some(token.to_owned());
        self
    }

    /// The same as the answer to a repeated request, which a header says.
    pub fn with_replayed(mut self) -> Self {
        self.head.replayed = true;
        self
    }

    /// The same with a `Set-Cookie` header.
    pub fn with_cookie(mut self, cookie: String) -> Self {
        self.head.cookie = Some(cookie);
        self
    }

    /// The same as a file of that name, which has no character that is special in a quoted string.
    pub fn with_file_name(mut self, name: String) -> Self {
        self.head.file_name = Some(name);
        self
    }

    /// Returns its data apart from the rest.
    pub fn into_parts(self) -> (Head, Option<T>) {
        (self.head, self.data)
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
        }
        let (head, data) = reply.into_parts();
        let envelope = Envelope { status: "success", message: &head.message, token: head.token.as_deref(), data: data.as_ref() };
        let body = serde_json::to_vec(&envelope).map_err(ApiError::internal)?;
        Ok(Answer::new(head, JSON, Content::Whole(body.into())))
    }
}

impl Payload for Raw {
    fn encode(reply: Reply<Self>) -> Result<Answer, ApiError> {
        let (head, raw) = reply.into_parts();
        let Raw { media_type, body } = raw.ok_or_else(|| ApiError::internal("a reply without its body"))?;
        let content = match body {
            ResBody::Once(bytes) => Content::Whole(bytes),
            body => Content::Stream(body),
        };
        Ok(Answer::new(head, media_type, content))
    }
}

/// The body of an encoded reply.
pub enum Content {
    /// All of it, without room for it if it needs some.
    Whole(Bytes),
    /// With the room that it takes.
    OnItsWay(OnItsWay),
    /// A stream, whose source bounds what it holds.
    Stream(ResBody),
}

impl Content {
    /// Returns the content that consists of these segments; a short one needs no room.
    pub fn from_segments(segments: VecDeque<Bytes>, room: Room) -> Self {
        if segments.iter().map(Bytes::len).sum::<usize>() <= FREE_BYTES {
            return Self::Whole(segments.iter().flatten().copied().collect());
        }
        Self::OnItsWay(room.send(segments))
    }
}

/// A body that is sent as its connection takes it.
struct Sending(OnItsWay);

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.next_chunk().map(|chunk| chunk.map(Frame::data).map_err(|error: CutOff| error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.0.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.left() as u64)
    }
}

/// An encoded reply.
pub struct Answer {
    head: Head,
    media_type: &'static str,
    content: Content,
}

impl Answer {
    /// An answer with this content.
    pub fn new(head: Head, media_type: &'static str, content: Content) -> Self {
        Self { head, media_type, content }
    }

    /// Puts the path that `prefix` returns, which a proxy has taken away from the URL, in front of the answer's location, if it has one.
    pub fn below(mut self, prefix: impl FnOnce() -> Option<String>) -> Self {
        if let Some(location) = &mut self.head.location
            && let Some(prefix) = prefix()
        {
            location.insert_str(0, &prefix);
        }
        self
    }

    /// Waits for room for the answer, where it needs some and has none yet.
    ///
    /// # Errors
    /// The answer as it is, when there is none in time.
    pub async fn with_room(mut self, answers: &Arc<Answers>, user: AnswersOf) -> Result<Self, Self> {
        if let Content::Whole(bytes) = &self.content
            && bytes.len() > FREE_BYTES
        {
            let Some(room) = answers.reserve(user, bytes.len()).await else { return Err(self) };
            self.content = Content::from_segments([bytes.clone()].into(), room);
        }
        Ok(self)
    }

    /// Writes the response.
    pub fn render(self, res: &mut Response) {
        let Self { head, media_type, content } = self;
        res.status_code(head.status);
        let headers = res.headers_mut();
        headers.reserve(HEADERS); // at once, instead of twice while they are added
        if let Some(cookie) = head.cookie.as_ref().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            headers.insert(SET_COOKIE, cookie);
        }
        let attachment = head.file_name.map(|name| format!("attachment; filename=\"{name}\""));
        if let Some(attachment) = attachment.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(CONTENT_DISPOSITION, attachment);
        }
        if let Some(location) = head.location.as_ref().and_then(|location| HeaderValue::from_str(location).ok()) {
            headers.insert(LOCATION, location);
        }
        if head.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        res.replace_body(match content {
            Content::Whole(bytes) => ResBody::Once(bytes),
            Content::OnItsWay(sending) => ResBody::Boxed(Box::pin(Sending(sending))),
            Content::Stream(body) => body,
        });
    }

    /// Returns the body, which is no stream.
    #[cfg(test)]
    pub fn into_bytes(self) -> Vec<u8> {
        match self.content {
            Content::Whole(bytes) => bytes.to_vec(),
            Content::OnItsWay(mut sending) => std::iter::from_fn(|| sending.next_chunk()).flat_map(Result::unwrap).collect(),
            Content::Stream(body) => panic!("{body:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn text(answer: Answer) -> String {
        String::from_utf8(answer.into_bytes()).unwrap()
    }

    #[test]
    fn reply_encodes_only_the_fields_that_it_has() {
        assert_eq!(text(Payload::encode(Reply::done("d")).unwrap()), r#"{"status":"success","message":"d"}"#);
        let items = Payload::encode(Reply::ok("ok", vec![1, 2])).unwrap();
        assert_eq!(text(items), r#"{"status":"success","message":"ok","data":[1,2]}"#);
        let token = Payload::encode(Reply::created("c", 5, "/c/5").with_token("t")).unwrap();
        assert_eq!((token.head.status, token.head.location.as_deref()), (StatusCode::CREATED, Some("/c/5")));
        assert_eq!(text(token), r#"{"status":"success","message":"c","token":"t","data":5}"#);
    }

    #[test]
    fn location_is_below_the_path_that_a_proxy_takes_away() {
        let location = |prefix: Option<&str>| {
            let answer = Payload::encode(Reply::created("c", 5, "/c/5")).unwrap().below(|| prefix.map(str::to_owned));
            let mut response = Response::new();
            answer.render(&mut response);
            response.headers()[LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!([location(None), location(Some("/qy"))], ["/c/5", "/qy/c/5"]);
        let plain = Payload::encode(Reply::done("d")).unwrap().below(|| panic!("it has no location"));
        assert_eq!(plain.head.location, None);
    }

    #[tokio::test(start_paused = true)]
    async fn long_answer_needs_room_and_a_short_one_does_not() {
        let answers = Answers::new(1 << 20, Metrics::new(Arc::default()));
        let answer = |length: usize| Payload::encode(Reply::ok("ok", "x".repeat(length))).unwrap();
        let all = answers.reserve(None, usize::MAX).await.unwrap();
        let short = answer(1000).with_room(&answers, None).await.ok().unwrap();
        assert!(matches!(short.content, Content::Whole(_)));
        assert!(answer(100_000).with_room(&answers, None).await.is_err());
        drop(all);
        let long = answer(100_000).with_room(&answers, None).await.ok().unwrap();
        assert!(matches!(long.content, Content::OnItsWay(_)));
        let text = text(long);
        assert!(text.starts_with(r#"{"status":"success","message":"ok","data":"xxx"#) && text.ends_with(r#"xxx"}"#));
        assert_eq!(text.matches('x').count(), 100_000);
    }
}
