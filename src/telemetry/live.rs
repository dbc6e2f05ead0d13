//! Events for those who look on: messages in both directions, and the statuses of queued messages.
//!
//! # Invariants
//! - Without a watcher, an event costs its maker one relaxed load: nothing is made, copied or locked.
//! - With watchers, publishing never waits: each has a queue of its own with a bound on events and bytes, from which the oldest are
//!   dropped and counted.
//! - A watcher's filter is applied before its queue: what it did not ask for drops nothing of what it did.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::client::ClientName;
use crate::core::ids::{ConnId, DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;

/// The most events that wait for one watcher.
const MAX_EVENTS: usize = 2048;
/// The most bytes of contents that wait for one watcher. One event may have more.
const MAX_BYTES: usize = 1 << 20;
/// The longest content of a message that is shown, in bytes.
const MAX_CONTENT_BYTES: usize = 64 * 1024;
/// The longest type that is shown, in characters.
const MAX_TYPE_CHARS: usize = 64;

/// The bytes that an event holds beyond its own size.
pub trait Weigh {
    /// Returns their number.
    fn bytes(&self) -> usize;
}

/// Returns whether a watcher asks for an event.
type Filter<T> = Box<dyn Fn(&T) -> bool + Send>;

/// The events of one watcher.
struct Queue<T> {
    filter: Filter<T>,
    events: VecDeque<Arc<T>>,
    bytes: usize,
    /// The number of events that were dropped since the last look.
    lost: u64,
}

impl<T: Weigh> Queue<T> {
    /// Adds an event that the watcher asks for, and drops the oldest ones where there are too many.
    fn push(&mut self, event: &Arc<T>) {
        if !(self.filter)(event) {
            return;
        }
        self.bytes += event.bytes();
        self.events.push_back(event.clone());
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            self.pop();
            self.lost += 1;
        }
    }

    fn pop(&mut self) -> Option<Arc<T>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.bytes();
        Some(event)
    }
}

/// The queue of a watcher, shared with the feed.
type SharedQueue<T> = Arc<Mutex<Queue<T>>>;

/// Events of one kind, and those who watch them.
pub struct Feed<T> {
    watchers: AtomicUsize,
    queues: Mutex<Vec<SharedQueue<T>>>,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self { watchers: AtomicUsize::new(0), queues: Mutex::default() }
    }
}

impl<T> std::fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("watchers", &self.watchers).finish_non_exhaustive()
    }
}

impl<T: Weigh> Feed<T> {
    /// Returns whether anybody watches: makers of events ask first.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Passes an event to those who watch.
    pub fn publish(&self, event: T) {
        let event = Arc::new(event);
        for queue in self.queues.lock().iter() {
            queue.lock().push(&event);
        }
    }

    /// Watches the events that `filter` selects.
    pub fn watch(self: &Arc<Self>, filter: impl Fn(&T) -> bool + Send + 'static) -> Watcher<T> {
        let queue = Queue { filter: Box::new(filter), events: VecDeque::new(), bytes: 0, lost: 0 };
        let queue = Arc::new(Mutex::new(queue));
        self.queues.lock().push(queue.clone());
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher { feed: self.clone(), queue }
    }
}

/// One who watches, until this is dropped.
pub struct Watcher<T> {
    feed: Arc<Feed<T>>,
    queue: SharedQueue<T>,
}

impl<T: Weigh> Watcher<T> {
    /// Takes up to `limit` events, with up to `max_bytes` of contents but at least one event; and the number of those that were dropped in
    /// front of them.
    pub fn take(&self, limit: usize, max_bytes: usize) -> (Vec<Arc<T>>, u64) {
        let mut queue = self.queue.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.events.front()
            && taken.len() < limit
            && (taken.is_empty() || bytes + next.bytes() <= max_bytes)
        {
            bytes += next.bytes();
            taken.extend(queue.pop());
        }
        (taken, std::mem::take(&mut queue.lost))
    }

    /// Asks for other events from now on.
    pub fn set_filter(&self, filter: impl Fn(&T) -> bool + Send + 'static) {
        self.queue.lock().filter = Box::new(filter);
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        self.feed.queues.lock().retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.feed.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The feeds of a server.
#[derive(Debug, Default)]
pub struct Live {
    /// Messages in both directions.
    pub traffic: Arc<Feed<TrafficEvent>>,
    /// Statuses of queued messages.
    pub receipts: Arc<Feed<ReceiptEvent>>,
    /// The contents of messages are shown (`server.console_contents`).
    contents: AtomicBool,
}

impl Live {
    /// Shows the contents of messages from now on, or no longer.
    pub fn show_contents(&self, shown: bool) {
        self.contents.store(shown, Ordering::Relaxed);
    }

    /// Returns whether the contents of messages are shown.
    pub fn contents(&self) -> bool {
        self.contents.load(Ordering::Relaxed)
    }

    /// Shows a message that was accepted for `recipient`; without an id, a live one.
    pub fn pushed(&self, recipient: Recipient, sender: UserId, id: Option<MessageId>, payload: &[u8]) {
        let (user_id, device_id) = parts(recipient);
        self.traffic.publish(TrafficEvent {
            user_id,
            device_id,
            sender_id: Some(sender),
            delivery: Some(if id.is_some() { "queued" } else { "live" }),
            id,
            ..TrafficEvent::new(Direction::In, "push", payload, self.contents())
        });
    }

    /// Shows a message on a connection.
    pub fn framed(&self, on: Frame, direction: Direction, id: Option<MessageId>, payload: &[u8]) {
        self.traffic.publish(TrafficEvent {
            user_id: Some(on.user),
            device_id: on.device,
            connection_id: Some(on.connection),
            delivery: id.map(|_| "queued"),
            id,
            ..TrafficEvent::new(direction, "frame", payload, self.contents())
        });
    }
}

/// The user and the device that a recipient is; neither for all.
fn parts(recipient: Recipient) -> (Option<UserId>, Option<DeviceId>) {
    match recipient {
        Recipient::User(user) => (Some(user), None),
        Recipient::Device(device) => (None, Some(device)),
        Recipient::All => (None, None),
    }
}

/// The connection of a message.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Its user.
    pub user: UserId,
    /// The device that it stands for.
    pub device: Option<DeviceId>,
    /// Its id.
    pub connection: ConnId,
}

/// The direction of a message, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

/// A message that has come or that is being written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrafficEvent {
    /// The time.
    pub at: Timestamp,
    /// The direction.
    pub direction: Direction,
    /// `push`, a message accepted for a recipient, or `frame`, a message on a WebSocket.
    pub kind: &'static str,
    /// Its `type`; empty where it has none.
    #[serde(rename = "type")]
    pub message_type: String,
    /// The user: the recipient, or that of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The device: the recipient, or the one that the connection stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ConnId>,
    /// The sender of a push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<UserId>,
    /// The bytes of its JSON.
    pub bytes: usize,
    /// `queued` or `live`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<&'static str>,
    /// The id of a queued one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// All of it, where contents are shown and it is not too long; a string where it is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<crate::describe::types::AnyJson>"))]
    pub message: Option<Box<RawValue>>,
}

impl TrafficEvent {
    /// A message of these bytes, of nobody yet.
    fn new(direction: Direction, kind: &'static str, payload: &[u8], contents: bool) -> Self {
        let message = (contents && payload.len() <= MAX_CONTENT_BYTES).then(|| content(payload)).flatten();
        Self {
            at: Timestamp::now(),
            direction,
            kind,
            message_type: type_of(payload),
            user_id: None,
            device_id: None,
            connection_id: None,
            sender_id: None,
            bytes: payload.len(),
            delivery: None,
            id: None,
            message,
        }
    }
}

impl Weigh for TrafficEvent {
    fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.get().len())
    }
}

/// A part of every message.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    message_type: Cow<'a, str>,
}

/// Returns the `type` of a message; empty where there is none.
fn type_of(payload: &[u8]) -> String {
    let typed = serde_json::from_slice::<Typed<'_>>(payload).map(|typed| typed.message_type).unwrap_or_default();
    typed.chars().take(MAX_TYPE_CHARS).collect()
}

/// Returns a message as JSON: a string where it is other text; `None` where it is no text.
fn content(payload: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(payload).ok()?;
    RawValue::from_string(text.to_owned()).or_else(|_| serde_json::value::to_raw_value(text)).ok()
}

/// A status that a queued message has reached.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReceiptEvent {
    /// The message.
    pub id: MessageId,
    /// As in receipts.
    pub status: &'static str,
    /// The time.
    pub at: Timestamp,
    /// The client that it was written to, or that has acknowledged it; without one, it is the status of the message as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientName>,
    /// The recipient, or the user of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The mailbox.
    #[serde(skip)]
    pub recipient: Recipient,
    /// The sender, where that is known.
    #[serde(skip)]
    pub sender: Option<UserId>,
}

impl ReceiptEvent {
    /// The status of a message as a whole.
    pub fn of_message(id: MessageId, recipient: Recipient, sender: UserId, status: &'static str) -> Self {
        let (user_id, device_id) = parts(recipient);
        Self { id, status, at: Timestamp::now(), client: None, user_id, device_id, recipient, sender: Some(sender) }
    }

    /// The status of a message with one client of `user`.
    pub fn of_client(
        id: MessageId,
        recipient: Recipient,
        sender: UserId,
        status: &'static str,
        by: (UserId, ClientName),
    ) -> Self {
        let of_message = Self::of_message(id, recipient, sender, status);
        Self { client: Some(by.1), user_id: of_message.user_id.or(Some(by.0)), ..of_message }
    }
}

impl Weigh for ReceiptEvent {
    fn bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(live: &Live, user: u64, payload: &str) {
        live.pushed(Recipient::User(UserId(user)), UserId(9), None, payload.as_bytes());
    }

    #[test]
    fn events_reach_those_who_watch_and_nobody_else() {
        let live = Live::default();
        assert!(!live.traffic.is_watched());
        let all = live.traffic.watch(|_| true);
        let some = live.traffic.watch(|event| event.user_id == Some(UserId(2)));
        assert!(live.traffic.is_watched());
        for user in [1, 2, 3] {
            pushed(&live, user, r#"{"message":1,"type":"notice"}"#);
        }
        let (events, lost) = all.take(2, usize::MAX);
        assert_eq!((events.len(), lost, events[0].message_type.as_str(), events[0].bytes), (2, 0, "notice", 29));
        assert_eq!(all.take(9, usize::MAX).0.len(), 1);
        some.set_filter(|_| false);
        pushed(&live, 2, "{}");
        assert_eq!(some.take(9, usize::MAX).0.len(), 1);
        drop((all, some));
        assert!(!live.traffic.is_watched() && live.traffic.queues.lock().is_empty());
    }

    #[test]
    fn queue_is_bounded_by_events_and_by_bytes_and_counts_what_it_drops() {
        let live = Live::default();
        let watcher = live.traffic.watch(|_| true);
        for n in 0..MAX_EVENTS + 5 {
            pushed(&live, n as u64, "{}");
        }
        let (events, lost) = watcher.take(usize::MAX, 0);
        assert_eq!((events.len(), lost, events[0].user_id), (MAX_EVENTS, 5, Some(UserId(5))), "the oldest are dropped");
        live.show_contents(true);
        let long = format!(r#"{{"type":"x","message":"{}"}}"#, "x".repeat(MAX_CONTENT_BYTES - 100));
        for _ in 0..100 {
            pushed(&live, 1, &long);
        }
        assert!(watcher.queue.lock().bytes <= MAX_BYTES);
        let (events, lost) = watcher.take(usize::MAX, 3 * long.len());
        assert_eq!((events.len(), lost > 80), (3, true));
        assert_eq!(watcher.take(1, 0).0.len(), 1, "at least one");
    }

    #[test]
    fn contents_are_shown_only_where_that_is_allowed_and_whatever_they_are() {
        let live = Live::default();
        let watcher = live.traffic.watch(|_| true);
        let frame = Frame { user: UserId(1), device: None, connection: ConnId(3) };
        let last = |payload: &[u8]| {
            live.framed(frame, Direction::Out, Some(MessageId(7)), payload);
            serde_json::to_value(&*watcher.take(1, usize::MAX).0[0]).unwrap()
        };
        let hidden = last(br#"{"type":"chat","message":"secret"}"#);
        assert!(hidden.get("message").is_none() && hidden["type"] == "chat" && hidden["connection_id"] == 3);
        assert_eq!((&hidden["delivery"], &hidden["direction"], &hidden["id"]), (&"queued".into(), &"out".into(), &7.into()));
        live.show_contents(true);
        assert_eq!(last(br#"{"type":"a\u0062","n":[1]}"#)["message"], serde_json::json!({"type": "ab", "n": [1]}));
        assert_eq!(last(b"{no json")["message"], "{no json");
        assert_eq!((last(b"\xff\xfe").get("message"), &last(b"5")["type"]), (None, &"".into()));
        assert!(last(&vec![b'1'; MAX_CONTENT_BYTES + 1]).get("message").is_none());
        let long = last(format!(r#"{{"type":"{}"}}"#, "长".repeat(100)).as_bytes());
        assert_eq!(long["type"].as_str().unwrap().chars().count(), MAX_TYPE_CHARS);
    }
}
