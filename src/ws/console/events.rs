//! The frames of a console, but those of connections.

use std::sync::Arc;

use serde::Serialize;

use super::request::Topic;
use crate::history::OverviewResponse;
use crate::wire::frame::{self, TEXT};

/// A frame to a console.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ConsoleEvent<'a, T: Serialize> {
    /// The first frame.
    Hello {
        /// The version of the server.
        version: &'static str,
        /// `admin` or `user`.
        role: &'static str,
        /// Traffic comes with contents.
        console_contents: bool,
    },
    /// A subscription has begun.
    Subscribed {
        /// Its topic.
        topic: &'static str,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Its topic.
        topic: &'static str,
    },
    /// The answer to a ping.
    Pong,
    /// The figures of the present moment.
    Overview {
        /// As `GET /api/monitor/overview` has them.
        data: &'a OverviewResponse,
    },
    /// Statuses of messages.
    Receipts {
        /// In their order.
        items: &'a [Arc<T>],
    },
    /// Messages.
    Traffic {
        /// In their order.
        items: &'a [Arc<T>],
    },
    /// Items of a topic were dropped.
    Lost {
        /// The topic.
        topic: &'static str,
        /// Their number.
        count: u64,
    },
    /// A message of the console was refused.
    Error {
        /// For programs.
        code: &'static str,
        /// For people.
        message: &'a str,
        /// The topic that it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'static str>,
    },
}

/// A frame without items.
pub(super) type PlainEvent<'a> = ConsoleEvent<'a, ()>;

impl PlainEvent<'_> {
    /// A frame that says that `count` items of `topic` were dropped.
    pub(super) const fn lost(topic: Topic, count: u64) -> Self {
        Self::Lost { topic: topic.name(), count }
    }
}

/// Appends a frame to `out`.
pub(super) fn append(out: &mut Vec<u8>, event: &impl Serialize) {
    match serde_json::to_vec(event) {
        Ok(json) => frame::append(out, TEXT, &json),
        Err(error) => tracing::error!(%error, "failed to encode an event of a console"),
    }
}
