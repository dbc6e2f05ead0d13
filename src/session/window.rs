//! The messages that have been written to a client and that it has not yet acknowledged.
//!
//! Each batch of queued messages is followed by a ping whose payload, the watermark, names the highest id written. RFC 6455
//! (section 5.5.3) makes every client send it back, in order, and allows it to answer only the newest of several: so a pong proves
//! everything up to its watermark. Several batches may be in flight, up to the window's size; then reading the log pauses.

use std::collections::VecDeque;

use crate::core::ids::MessageId;

/// The largest number of messages in flight.
const MAX_MESSAGES: usize = 1000;
/// The number of bytes in flight at which the window closes; the batch that crosses it is still written.
const MAX_BYTES: usize = 1 << 20;

/// The payload of a ping behind a batch: the id in big-endian order, then the connection's nonce.
pub(super) type Watermark = [u8; 16];

/// One batch.
#[derive(Debug)]
struct Batch {
    upto: MessageId,
    messages: usize,
    bytes: usize,
}

/// The batches in flight.
#[derive(Debug)]
pub(super) struct Window {
    batches: VecDeque<Batch>,
    messages: usize,
    bytes: usize,
    /// Part of every watermark of this connection, so that a pong made for another one is recognised.
    nonce: [u8; 8],
}

impl Window {
    pub(super) fn new() -> Self {
        Self { batches: VecDeque::new(), messages: 0, bytes: 0, nonce: rand::random() }
    }

    /// Returns whether more may be written.
    pub(super) fn open(&self) -> bool {
        self.open_for(0, 0)
    }

    /// Returns whether more may be written on top of `messages` and `bytes` that are about to be.
    pub(super) fn open_for(&self, messages: usize, bytes: usize) -> bool {
        self.messages + messages < MAX_MESSAGES && self.bytes + bytes < MAX_BYTES
    }

    /// The number of messages that may still be written.
    pub(super) fn room(&self) -> usize {
        MAX_MESSAGES.saturating_sub(self.messages)
    }

    /// Notes a batch that is about to be written.
    pub(super) fn sent(&mut self, upto: MessageId, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
        self.batches.push_back(Batch { upto, messages, bytes });
    }

    /// The newest id in flight.
    pub(super) fn newest(&self) -> Option<MessageId> {
        self.batches.back().map(|last| last.upto)
    }

    /// The payload of the ping behind a batch.
    pub(super) fn watermark(&self, upto: MessageId) -> Watermark {
        let mut payload = [0; 16];
        payload[..8].copy_from_slice(&upto.to_key());
        payload[8..].copy_from_slice(&self.nonce);
        payload
    }

    /// The id in a pong's payload, when it is a watermark of this connection.
    pub(super) fn read(&self, payload: &[u8]) -> Option<MessageId> {
        let (id, nonce) = payload.split_at_checked(8)?;
        MessageId::from_key(id).filter(|_| nonce == self.nonce)
    }

    /// Notes that everything up to `upto` has been received. Returns `false` when nothing up to there is in flight, or more is
    /// claimed than was written.
    pub(super) fn received(&mut self, upto: MessageId) -> bool {
        if self.batches.back().is_none_or(|last| upto > last.upto) {
            return false;
        }
        let before = self.batches.len();
        while let Some(first) = self.batches.front()
            && first.upto <= upto
        {
            self.messages -= first.messages;
            self.bytes -= first.bytes;
            self.batches.pop_front();
        }
        // An `ack` may lie inside a batch: it moves the cursor, and the batch stays in flight.
        self.batches.len() < before || self.batches.front().is_some_and(|first| upto < first.upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_watermark_covers_earlier_ones_and_none_counts_twice() {
        let mut window = Window::new();
        for id in [10, 20, 30] {
            window.sent(MessageId(id), 5, 100);
        }
        let pong = window.watermark(MessageId(20));
        assert_eq!((window.read(&pong), window.newest()), (Some(MessageId(20)), Some(MessageId(30))));
        assert!(window.received(MessageId(20)));
        assert_eq!((window.messages, window.bytes), (5, 100));
        assert!(!window.received(MessageId(31)), "never written");
        assert!(window.received(MessageId(30)));
        assert!(!window.received(MessageId(30)), "nothing is in flight any more");
        assert_eq!((window.messages, window.bytes), (0, 0));
    }

    #[test]
    fn forged_payload_is_not_a_watermark() {
        let window = Window::new();
        let mut forged = window.watermark(MessageId(5));
        forged[15] ^= 1;
        for payload in [&forged[..], &[], b"abc", &window.watermark(MessageId(5))[..15], &[0; 125]] {
            assert_eq!(window.read(payload), None);
        }
    }

    #[test]
    fn window_closes_by_messages_and_by_bytes() {
        let mut window = Window::new();
        window.sent(MessageId(1), MAX_MESSAGES - 1, 1);
        assert!(window.open() && !window.open_for(1, 0));
        window.sent(MessageId(2), 1, 1);
        assert!(!window.open());
        assert!(window.received(MessageId(2)) && window.open());
        window.sent(MessageId(3), 1, MAX_BYTES);
        assert!(!window.open());
    }
}
