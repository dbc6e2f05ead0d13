//! Pages of lists, encoded item by item: no page is longer than [`MAX_PAGE_BYTES`], whatever its items are, unless a single item is.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::error::{ApiError, JSON};
use super::reply::{Answer, Content, Payload, Reply};
use super::request::Call;
use crate::admission::answers::{FREE_BYTES, MAX_PAGE_BYTES, Room};
use crate::app::App;

/// The bytes of text from which on it becomes a segment of an answer.
const SEGMENT_BYTES: usize = 64 * 1024;
/// The bytes around the items of a page, at most.
const ENVELOPE_BYTES: usize = 256;

/// The place of an item in its list, which is the `after` of what follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// Of a list in the order of ids.
    Id(u64),
    /// Of a list in the order of names.
    Name(String),
}

/// The items of a page as JSON, separated by commas, in pieces that are freed one by one when they have been sent.
#[derive(Debug)]
pub struct Page {
    segments: VecDeque<Bytes>,
    /// What is not part of a segment yet.
    tail: Vec<u8>,
    /// The bytes of all of it.
    bytes: usize,
    items: usize,
    /// The most items.
    limit: usize,
    /// The next item, where it did not fit.
    scratch: Vec<u8>,
}

impl Page {
    /// An empty page, of at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self { segments: VecDeque::new(), tail: Vec::new(), bytes: 0, items: 0, limit, scratch: Vec::new() }
    }

    /// Takes items of a list, each with its place, until the page is full. Returns the place of the last one, where others follow it.
    ///
    /// # Errors
    /// The first error that `items` returns; [`ApiError::Internal`] for an item that can't be encoded.
    pub fn fill<T: Serialize>(
        &mut self,
        items: impl IntoIterator<Item = Result<(Place, T), ApiError>>,
    ) -> Result<Option<Place>, ApiError> {
        let mut last = None;
        for item in items {
            let (place, item) = item?;
            if self.items >= self.limit {
                return Ok(last);
            }
            self.scratch.clear();
            serde_json::to_writer(&mut self.scratch, &item).map_err(ApiError::internal)?;
            if self.items > 0 && self.bytes + 1 + self.scratch.len() > MAX_PAGE_BYTES {
                return Ok(last);
            }
            let encoded = std::mem::take(&mut self.scratch);
            self.separate();
            self.text(&encoded);
            self.scratch = encoded;
            last = Some(place);
        }
        Ok(None)
    }

    /// Adds an item that is JSON already. Its size is not checked.
    pub fn push(&mut self, encoded: Vec<u8>) {
        self.separate();
        if encoded.len() < FREE_BYTES {
            return self.text(&encoded);
        }
        self.close_segment();
        self.bytes += encoded.len();
        self.segments.push_back(encoded.into());
    }

    /// Returns the bytes of room that a page with items of `bytes`, that are JSON already, takes.
    pub fn room_for(items: usize, bytes: usize) -> usize {
        bytes + items + ENVELOPE_BYTES
    }

    fn separate(&mut self) {
        if self.items > 0 {
            self.text(b",");
        }
        self.items += 1;
    }

    fn text(&mut self, text: &[u8]) {
        self.tail.extend_from_slice(text);
        self.bytes += text.len();
        if self.tail.len() >= SEGMENT_BYTES {
            self.close_segment();
        }
    }

    fn close_segment(&mut self) {
        if !self.tail.is_empty() {
            self.tail.shrink_to_fit(); // it may have doubled just before
            self.segments.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    /// Finishes the page; `next`: the place of its last item, where others follow.
    pub fn finish<T>(mut self, next: Option<Place>, room: Room) -> List<T> {
        self.close_segment();
        List { segments: self.segments, next, room, items: PhantomData }
    }
}

/// A page of a list of `T`, encoded, with the room that it takes. In a reply it is `data`, with `next` beside it where there are
/// more.
pub struct List<T> {
    segments: VecDeque<Bytes>,
    next: Option<Place>,
    room: Room,
    items: PhantomData<fn() -> T>,
}

impl<T: Serialize> Payload for List<T> {
    fn encode(reply: Reply<Self>) -> Result<Answer, ApiError> {
        let (head, list) = reply.into_parts();
        let List { mut segments, next, room, .. } = list.ok_or_else(|| ApiError::internal("a list without its items"))?;
        let envelope = serde_json::to_string(&head.message).map_err(ApiError::internal)?;
        segments.push_front(format!(r#"{{"status":"success","message":{envelope},"data":["#).into());
        let end = match next {
            None => "]}".to_owned(),
            Some(next) => format!(r#"],"next":{}}}"#, serde_json::to_string(&next).map_err(ApiError::internal)?),
        };
        segments.push_back(end.into());
        Ok(Answer::new(head, JSON, Content::from_segments(segments, room)))
    }
}

impl Call {
    /// Waits for room for an answer of `bytes`.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when there is none in time; [`ApiError::Unauthorized`] or [`ApiError::Forbidden`] where the caller has lost
    /// rights meanwhile.
    pub async fn room(&self, bytes: usize) -> Result<Room, ApiError> {
        let (app, rights) = (&self.app, self.app.auth.rights());
        let user = self.caller.as_ref().map(|caller| caller.user.id);
        let room = app.admission.answers.reserve(user, bytes).await.ok_or(ApiError::NO_ROOM)?;
        let changed = self.caller.as_ref().filter(|caller| !caller.is_operator() && !app.auth.unchanged(caller, rights));
        match changed.map(|caller| (app.auth.present_actor(caller), caller.actor())) {
            Some((None, _)) => Err(ApiError::Unauthorized),
            Some((Some(present), former)) if present != former => Err(ApiError::Forbidden),
            Some(_) | None => Ok(room),
        }
    }

    /// Answers with a page of at most `limit` items, which `fill` adds on a thread for blocking work. It returns the place of the last
    /// one, where others follow it.
    ///
    /// # Errors
    /// Those of `fill`; [`ApiError::Busy`] when there is no room for the answer in time.
    pub async fn list<T, F>(&self, limit: usize, fill: F) -> Result<Reply<List<T>>, ApiError>
    where
        F: FnOnce(&App, &mut Page) -> Result<Option<Place>, ApiError> + Send + 'static,
    {
        let room = self.room(MAX_PAGE_BYTES).await?;
        let (page, next) = self
            .blocking(move |app| {
                let mut page = Page::new(limit);
                let next = fill(app, &mut page)?;
                Ok((page, next))
            })
            .await?;
        Ok(Reply::ok("ok", page.finish(next, room)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::answers::Answers;
    use crate::telemetry::metrics::Metrics;

    fn text(list: List<String>) -> String {
        let answer = Payload::encode(Reply::ok("ok", list)).unwrap();
        String::from_utf8(answer.into_bytes()).unwrap()
    }

    async fn room() -> Room {
        Answers::new(8 << 20, Metrics::new(std::sync::Arc::default())).reserve(None, 1).await.unwrap()
    }

    fn items(lengths: &[usize]) -> impl Iterator<Item = Result<(Place, String), ApiError>> + '_ {
        lengths.iter().zip(1..).map(|(&length, id)| Ok((Place::Id(id), "x".repeat(length))))
    }

    #[tokio::test]
    async fn page_is_json_with_the_place_of_its_last_item() {
        let mut page = Page::new(2);
        let next = page.fill(items(&[1, 2, 3])).unwrap();
        assert_eq!(text(page.finish(next, room().await)), r#"{"status":"success","message":"ok","data":["x","xx"],"next":2}"#);
        let mut page = Page::new(2);
        let next = page.fill(items(&[1, 2])).unwrap();
        assert_eq!(text(page.finish(next, room().await)), r#"{"status":"success","message":"ok","data":["x","xx"]}"#);
        assert_eq!(text(Page::new(2).finish(None, room().await)), r#"{"status":"success","message":"ok","data":[]}"#);
        let mut page = Page::new(1);
        let next = page.fill([Ok((Place::Name("a\"".into()), 1)), Ok((Place::Name("b".into()), 2))]).unwrap();
        let value: Value = serde_json::from_str(&text(page.finish(next, room().await))).unwrap();
        assert_eq!((&value["data"], &value["next"]), (&json!([1]), &json!("a\"")));
    }

    #[test]
    fn no_more_items_are_made_than_fit() {
        let made = Cell::new(0);
        let endless = std::iter::repeat_with(|| {
            made.set(made.get() + 1);
            Ok((Place::Id(made.get()), "x".repeat(100_000)))
        });
        let mut page = Page::new(1000);
        assert_eq!(page.fill(endless).unwrap(), Some(Place::Id(10)));
        assert_eq!(made.get(), 11);
        let mut page = Page::new(1000);
        let failing = [Ok((Place::Id(1), 1)), Err(ApiError::Forbidden), Ok((Place::Id(2), 2))];
        assert!(matches!(page.fill(failing), Err(ApiError::Forbidden)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever the items are, their pages are short, and together they are the list.
        #[test]
        fn pages_are_bounded_and_complete(
            lengths in proptest::collection::vec(prop_oneof![8 => 0..200usize, 8 => 0..200_000usize, 1 => Just(1_500_000)], 0..40),
            limit in 1..40usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (mut start, mut found) = (0, Vec::new());
            loop {
                let mut page = Page::new(limit);
                let list = lengths[start..].iter().zip(start as u64 + 1..);
                let next = page.fill(list.map(|(&length, id)| Ok((Place::Id(id), "x".repeat(length))))).unwrap();
                let (count, bytes) = (page.items, page.bytes);
                prop_assert!(bytes <= MAX_PAGE_BYTES || count == 1, "{bytes} bytes, {count} items");
                let text = text(page.finish(next.clone(), runtime.block_on(room())));
                prop_assert!(text.len() <= Page::room_for(count, bytes));
                let value: Value = serde_json::from_str(&text).unwrap();
                let data = value["data"].as_array().unwrap();
                prop_assert_eq!(data.len(), count);
                prop_assert!(count <= limit);
                found.extend(data.iter().map(|item| item.as_str().unwrap().len()));
                prop_assert_eq!(value.get("next").and_then(Value::as_u64).map(Place::Id), next.clone());
                let Some(Place::Id(last)) = next else { break };
                prop_assert!(count > 0);
                start = last as usize;
            }
            prop_assert_eq!(found, lengths);
        }
    }
}
