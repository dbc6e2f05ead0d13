//! The messages that have been written to a client and that it has not yet acknowledged.
//!
//! Queued messages are followed by pings whose payload, the watermark, names the highest id written. RFC 6455 (section 5.5.3)
//! makes every client send it back, in order, and allows it to answer only the newest of several: so a pong proves everything up
//! to its watermark.
//!
//! The size of the window adapts to the client, so that nothing waits in the network for long: it doubles while proofs come
//! back quickly and halves when they are late, at most once a round trip. Several pings are in flight in each window, so that
//! proofs come back while it is still full. Time is a parameter.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::ids::MessageId;

/// The largest number of messages in flight.
const MAX_MESSAGES: usize = 1000;
/// The bytes of a window at level 0; each level doubles them, so the highest one has 1 MiB. The message that crosses the size is
/// still written.
const LEVEL_0_BYTES: usize = 1024;
/// The level of a new connection: 8 messages or 8 KiB.
const START_LEVEL: u8 = 3;
/// The highest level: [`MAX_MESSAGES`] or 1 MiB.
const MAX_LEVEL: u8 = 10;
/// A proof that took at most so long lets the window grow.
const QUICK_PROOF: Duration = Duration::from_secs(1);
/// A proof that took longer makes the window shrink.
const SLOW_PROOF: Duration = Duration::from_secs(5);
/// The number of pings in a full window.
const PINGS_PER_WINDOW: usize = 8;
/// Up to so many messages in flight, each has its own ping: a client that reads what waits and closes has proved all but the last.
pub(super) const SHORT_MESSAGES: usize = 8;
/// A larger message has a ping before it, so that what precedes it can be proved while it is on its way.
const LARGE_MESSAGE_BYTES: usize = 4 * 1024;
/// The largest number of pings in flight. Some clients close the connection when they have 60 to answer.
const MAX_PINGS: usize = 32;
/// The number of batches for which memory is kept while none is in flight.
const IDLE_BATCHES: usize = 16;

/// The payload of a ping behind a batch: the id and the connection's nonce, in printable characters. Some clients treat the
/// payload as a C string, and cut it at the first zero byte.
pub(super) type Watermark = String;

/// The pings that a message needs around it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pings {
    /// The payload of the ping before it.
    pub before: Option<Watermark>,
    /// The payload of the ping behind it.
    pub behind: Option<Watermark>,
}

/// The effect of a claim that everything up to an id was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It proves messages that nothing had proved on this connection.
    New,
    /// It adds nothing to earlier ones.
    Repeated,
    /// The id is beyond everything that was written.
    NeverSent,
}

/// The messages that a connection leaves unproved at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unproven {
    /// The first of them.
    pub(super) first: Option<MessageId>,
    /// Their number.
    pub(super) count: usize,
    /// Set if anything was proved on this connection.
    pub(super) proved_any: bool,
}

/// Consecutive messages that one ping proves.
#[derive(Debug)]
struct Batch {
    first: MessageId,
    upto: MessageId,
    messages: usize,
    bytes: usize,
    written_at: Instant,
}

/// The batches in flight.
#[derive(Debug)]
pub(super) struct Window {
    batches: VecDeque<Batch>,
    messages: usize,
    bytes: usize,
    /// The last batch has no ping behind it yet, and grows.
    open_batch: bool,
    level: u8,
    /// The level changes when a message beyond this one is proved: once a round trip.
    changed_at: MessageId,
    /// The highest id written.
    newest: MessageId,
    /// Something was proved.
    proved_any: bool,
    /// The client acknowledges with `ack` messages, at moments of its own choice: the window has its full size from the start, no
    /// pings, and each message is a batch.
    client_acks: bool,
    /// Part of every watermark of this connection, so that a pong made for another one is recognised.
    nonce: u64,
}

impl Window {
    /// An empty window; a `cautious` one starts with one message.
    pub(super) fn new(cautious: bool) -> Self {
        Self {
            batches: VecDeque::new(),
            messages: 0,
            bytes: 0,
            open_batch: false,
            level: if cautious { 0 } else { START_LEVEL },
            changed_at: MessageId(0),
            newest: MessageId(0),
            proved_any: false,
            client_acks: false,
            nonce: rand::random(),
        }
    }

    /// An empty window for a client that sends `ack`s: at its full size, for such a client may send one every 1,000 messages.
    pub(super) fn for_client_acks() -> Self {
        Self { level: MAX_LEVEL, client_acks: true, ..Self::new(false) }
    }

    /// Returns whether the client acknowledges with `ack` messages.
    pub(super) fn client_acks(&self) -> bool {
        self.client_acks
    }

    /// The number of messages that may be in flight now.
    pub(super) fn size(&self) -> usize {
        (1 << self.level).min(MAX_MESSAGES)
    }

    fn size_bytes(&self) -> usize {
        LEVEL_0_BYTES << self.level
    }

    /// Returns whether another message may be written.
    pub(super) fn open(&self) -> bool {
        self.messages < self.size() && self.bytes < self.size_bytes()
    }

    /// Returns whether there is room enough for reading the log: a quarter of the window, since each read costs a task. A client
    /// that sends `ack`s may wait for the window to be full.
    pub(super) fn open_for_log(&self) -> bool {
        let quarter = |size: usize| (size / 4).max(1);
        let roomy =
            self.messages + quarter(self.size()) <= self.size() && self.bytes + quarter(self.size_bytes()) <= self.size_bytes();
        self.open() && (roomy || self.client_acks)
    }

    /// The number of messages and of bytes that may still be written.
    pub(super) fn room(&self) -> (usize, usize) {
        (self.size().saturating_sub(self.messages), self.size_bytes().saturating_sub(self.bytes))
    }

    /// Notes that a message is about to be written, and `rest` more behind it. Returns the pings that it needs.
    pub(super) fn sending(&mut self, id: MessageId, bytes: usize, rest: usize, now: Instant) -> Pings {
        let before = if self.open_batch && bytes > LARGE_MESSAGE_BYTES { self.close_batch() } else { None };
        self.messages += 1;
        self.bytes += bytes;
        self.newest = self.newest.max(id);
        let (ping_messages, ping_bytes) = (self.size() / PINGS_PER_WINDOW, self.size_bytes() / PINGS_PER_WINDOW);
        let short = self.messages + rest <= SHORT_MESSAGES;
        let full = match self.batches.back_mut().filter(|_| self.open_batch) {
            Some(batch) => {
                (batch.upto, batch.messages, batch.bytes) = (id, batch.messages + 1, batch.bytes + bytes);
                batch.messages >= ping_messages || batch.bytes >= ping_bytes
            }
            None => {
                self.batches.push_back(Batch { first: id, upto: id, messages: 1, bytes, written_at: now });
                self.open_batch = !self.client_acks;
                ping_messages <= 1 || bytes >= ping_bytes
            }
        };
        let behind = if full || short || rest == 0 { self.close_batch() } else { None };
        Pings { before, behind }
    }

    /// Ends the growing batch, if there is one, and returns the payload of the ping behind it. While the most pings are in flight it
    /// grows on.
    pub(super) fn close_batch(&mut self) -> Option<Watermark> {
        if self.batches.len() > MAX_PINGS {
            return None;
        }
        std::mem::take(&mut self.open_batch).then(|| self.batches.back().map(|last| self.watermark(last.upto)))?
    }

    /// The payload of a ping that asks for the proof of everything in flight; `None` while nothing is in flight or pongs prove
    /// nothing.
    pub(super) fn newest_watermark(&self) -> Option<Watermark> {
        self.batches.back().filter(|_| !self.client_acks).map(|last| self.watermark(last.upto))
    }

    fn watermark(&self, upto: MessageId) -> Watermark {
        format!("{}.{:016x}", upto.0, self.nonce)
    }

    /// The id in a pong's payload, when it is a watermark of this connection, whole and unchanged.
    pub(super) fn read(&self, payload: &[u8]) -> Option<MessageId> {
        let text = std::str::from_utf8(payload).ok()?;
        let id = MessageId(text.split_once('.')?.0.parse().ok()?);
        (self.watermark(id) == text).then_some(id)
    }

    /// Applies the claim that everything up to `upto` was received.
    pub(super) fn received(&mut self, upto: MessageId, now: Instant) -> Proof {
        if upto > self.newest {
            return Proof::NeverSent;
        }
        if self.batches.front().is_none_or(|first| upto < first.upto) {
            return Proof::Repeated;
        }
        self.proved_any = true;
        // A window that the client's messages do not fill says nothing about how much it takes.
        let used = self.messages * 2 >= self.size() || self.bytes * 2 >= self.size_bytes();
        let mut written_at = None;
        while let Some(first) = self.batches.front()
            && first.upto <= upto
        {
            self.messages -= first.messages;
            self.bytes -= first.bytes;
            written_at = Some(first.written_at);
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            self.open_batch = false;
            self.batches.shrink_to(IDLE_BATCHES);
        }
        if let Some(written_at) = written_at.filter(|_| !self.client_acks && upto > self.changed_at) {
            self.adapt(now.saturating_duration_since(written_at), used);
        }
        Proof::New
    }

    /// Changes the size after a proof that took so long.
    fn adapt(&mut self, took: Duration, used: bool) {
        let level = match took {
            took if took <= QUICK_PROOF && used => (self.level + 1).min(MAX_LEVEL),
            took if took > SLOW_PROOF => self.level.saturating_sub(1),
            _ => return,
        };
        (self.level, self.changed_at) = (level, self.newest);
    }

    /// The messages in flight.
    pub(super) fn unproven(&self) -> Unproven {
        Unproven { first: self.batches.front().map(|batch| batch.first), count: self.messages, proved_any: self.proved_any }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn id(n: u64) -> MessageId {
        MessageId(n)
    }

    /// A window at `level` with nothing in flight.
    fn at_level(level: u8) -> Window {
        Window { level, ..Window::new(false) }
    }

    /// Writes as many messages of 100 bytes as there is room for, the first being `next`, and returns their watermarks.
    fn fill(window: &mut Window, next: &mut u64, now: Instant) -> Vec<Watermark> {
        let mut watermarks = Vec::new();
        for rest in (0..window.room().0).rev() {
            watermarks.extend(window.sending(id(*next), 100, rest, now).behind);
            *next += 1;
        }
        watermarks
    }

    #[test]
    fn pings_in_flight_are_bounded_and_the_last_one_follows() {
        let (mut window, now) = (at_level(MAX_LEVEL), Instant::now());
        let pings: Vec<Watermark> = (1..=100).filter_map(|n| window.sending(id(n), 100, 0, now).behind).collect();
        assert_eq!(pings.len(), MAX_PINGS);
        assert_eq!(window.close_batch(), None);
        let first = window.read(pings[0].as_bytes()).unwrap();
        assert_eq!(window.received(first, now), Proof::New);
        let last = window.close_batch().unwrap();
        assert_eq!(window.read(last.as_bytes()), Some(id(100)));
        assert_eq!(window.received(id(100), now), Proof::New);
    }

    #[test]
    fn later_watermark_covers_earlier_ones_and_none_counts_twice() {
        let (mut window, now) = (Window::new(false), Instant::now());
        for n in [10, 20, 30] {
            window.sending(id(n), 100, 0, now);
        }
        let pong = window.watermark(id(20));
        assert_eq!(window.read(pong.as_bytes()), Some(id(20)));
        assert_eq!(window.newest_watermark(), Some(window.watermark(id(30))));
        assert_eq!(window.received(id(20), now), Proof::New);
        assert_eq!((window.messages, window.bytes), (1, 100));
        assert_eq!(window.received(id(31), now), Proof::NeverSent);
        assert_eq!(window.received(id(30), now), Proof::New);
        assert_eq!(window.received(id(30), now), Proof::Repeated);
        assert_eq!(window.received(id(10), now), Proof::Repeated);
        assert_eq!((window.messages, window.bytes, window.newest_watermark()), (0, 0, None));
    }

    #[test]
    fn watermark_is_short_and_printable() {
        let window = Window::new(false);
        let watermark = window.watermark(id(u64::MAX));
        assert!(watermark.len() <= 125 && watermark.bytes().all(|b| b.is_ascii_graphic()), "{watermark}");
        assert!(watermark.starts_with("18446744073709551615."));
    }

    #[test]
    fn cut_or_altered_watermark_proves_nothing() {
        let window = Window::new(false);
        let good = window.watermark(id(5));
        let mut forged = good.clone().into_bytes();
        *forged.last_mut().unwrap() ^= 1;
        let other = good.replacen('5', "6", 1);
        assert_eq!(window.read(other.as_bytes()), Some(id(6)), "of this connection: `received` knows what was written");
        let padded = [format!("+{good}"), format!("0{good}"), format!("{good}\0"), good.to_uppercase() + "x"];
        for payload in padded.iter().map(String::as_bytes).chain([&forged[..], b"", b"abc", b"5.", &[0; 16], &[0xff; 125]]) {
            assert_eq!(window.read(payload), None, "{payload:?}");
        }
        for cut in 0..good.len() {
            assert_eq!(window.read(&good.as_bytes()[..cut]), None, "{cut}");
        }
        assert_eq!(Window::new(false).read(good.as_bytes()), None, "of another connection");
    }

    #[test]
    fn new_window_holds_8_messages_or_8_kib_and_a_cautious_one_a_single_message() {
        let now = Instant::now();
        let mut window = Window::new(false);
        let (mut next, mut cautious) = (1, Window::new(true));
        assert_eq!(fill(&mut window, &mut next, now).len(), 8, "a ping behind each");
        assert!(!window.open());
        let mut window = Window::new(false);
        window.sending(id(1), 8 * 1024, 0, now);
        assert!(!window.open());
        cautious.sending(id(1), 10, 0, now);
        assert!(!cautious.open());
    }

    #[test]
    fn window_grows_to_the_maximum_within_seven_quick_round_trips() {
        let (mut window, mut next, mut now) = (Window::new(false), 1, Instant::now());
        for round in 0..7 {
            assert_eq!(window.size(), 8 << round);
            let watermarks = fill(&mut window, &mut next, now);
            assert!((8..=9).contains(&watermarks.len()), "{watermarks:?}");
            now += Duration::from_millis(900);
            for watermark in watermarks {
                let upto = window.read(watermark.as_bytes()).unwrap();
                assert_eq!(window.received(upto, now), Proof::New);
            }
            assert_eq!(window.messages, 0);
        }
        assert_eq!((window.size(), window.size_bytes()), (1000, 1 << 20));
        fill(&mut window, &mut next, now);
        window.received(window.newest, now);
        assert_eq!(window.size(), 1000, "no more than that");
    }

    #[test]
    fn late_proofs_shrink_the_window_to_one_message() {
        let (mut window, mut next, mut now) = (at_level(MAX_LEVEL), 1, Instant::now());
        for size in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1] {
            let watermarks = fill(&mut window, &mut next, now);
            now += Duration::from_millis(5001);
            for watermark in watermarks {
                window.received(window.read(watermark.as_bytes()).unwrap(), now);
            }
            assert_eq!(window.size(), size);
        }
        // In between nothing changes.
        let mut window = at_level(5);
        let watermarks = fill(&mut window, &mut next, now);
        now += Duration::from_secs(3);
        for watermark in watermarks {
            window.received(window.read(watermark.as_bytes()).unwrap(), now);
        }
        assert_eq!(window.level, 5);
    }

    #[test]
    fn unused_window_does_not_grow() {
        let (mut window, now) = (Window::new(false), Instant::now());
        for n in 1..100 {
            window.sending(id(n), 10, 0, now);
            window.received(id(n), now);
        }
        assert_eq!(window.size(), 8);
    }

    #[test]
    fn large_message_has_a_ping_before_it() {
        let (mut window, now) = (at_level(6), Instant::now());
        assert_eq!(window.sending(id(1), 100, 20, now), Pings::default());
        let pings = window.sending(id(2), LARGE_MESSAGE_BYTES + 1, 19, now);
        assert_eq!(pings.before, Some(window.watermark(id(1))));
        assert_eq!(window.sending(id(3), 100, 18, now).before, None);
    }

    #[test]
    fn batch_is_closed_where_fewer_messages_follow_than_expected() {
        let (mut window, now) = (at_level(6), Instant::now());
        assert_eq!(window.sending(id(1), 100, 20, now), Pings::default());
        assert_eq!(window.close_batch(), Some(window.watermark(id(1))));
        assert_eq!(window.close_batch(), None);
    }

    #[test]
    fn short_batch_has_a_ping_behind_each_message_at_any_size() {
        for level in 0..=MAX_LEVEL {
            let (mut window, now) = (at_level(level), Instant::now());
            let messages = window.size().min(SHORT_MESSAGES);
            for n in 1..=messages as u64 {
                let pings = window.sending(id(n), 100, messages - n as usize, now);
                assert_eq!(pings.behind, Some(window.watermark(id(n))), "{level}");
            }
        }
    }

    #[test]
    fn log_is_read_again_once_a_quarter_is_free() {
        let (mut window, mut next, now) = (at_level(MAX_LEVEL), 1, Instant::now());
        fill(&mut window, &mut next, now);
        for (upto, open) in [(125, false), (250, true)] {
            window.received(id(upto), now);
            assert_eq!(window.open_for_log(), open, "{upto}");
        }
        for level in 0..=START_LEVEL {
            assert!(at_level(level).open_for_log());
        }
    }

    #[test]
    fn client_that_acknowledges_may_wait_for_a_full_window() {
        let (mut window, now) = (Window::for_client_acks(), Instant::now());
        for n in 1..=1000 {
            assert!(window.open_for_log());
            assert_eq!(window.sending(id(n), 100, 0, now), Pings::default());
        }
        assert!(!window.open());
        let later = now + Duration::from_secs(60);
        assert_eq!(window.received(id(400), later), Proof::New);
        assert_eq!((window.messages, window.size()), (600, 1000));
        assert_eq!(window.unproven(), Unproven { first: Some(id(401)), count: 600, proved_any: true });
        assert_eq!(window.received(id(1000), later), Proof::New);
        assert!(window.batches.capacity() <= IDLE_BATCHES);
    }

    #[test]
    fn acknowledgement_between_two_messages_proves_the_first_of_them_once() {
        let (mut window, now) = (Window::for_client_acks(), Instant::now());
        for n in [10, 20] {
            window.sending(id(n), 100, 0, now);
        }
        assert_eq!(window.received(id(12), now), Proof::New);
        assert_eq!(window.received(id(13), now), Proof::Repeated);
        assert_eq!(window.received(id(9), now), Proof::Repeated);
        assert_eq!(window.received(id(20), now), Proof::New);
    }

    /// Lets a client that takes `rate` bytes a second empty a backlog, and returns the longest time that anything was in flight
    /// once the window had adapted, and the time for all.
    fn drain_at(rate: f64, messages: u64, bytes: usize) -> (Duration, Duration) {
        let (mut window, start) = (Window::new(false), Instant::now());
        let (mut now, mut free_at, mut next, mut longest) = (start, start, 1, Duration::ZERO);
        let mut on_the_way = VecDeque::new();
        while next <= messages || !on_the_way.is_empty() {
            while next <= messages && window.open() {
                free_at = free_at.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
                let rest = (window.room().0 as u64).min(messages - next + 1) - 1;
                let pings = window.sending(id(next), bytes, usize::try_from(rest).unwrap(), now);
                on_the_way.extend(pings.behind.map(|watermark| (free_at, now, watermark)));
                next += 1;
            }
            let (at, sent, watermark) = on_the_way.pop_front().expect("a closed window has a ping in flight");
            now = now.max(at);
            if next > messages / 2 {
                longest = longest.max(now - sent);
            }
            assert_eq!(window.received(window.read(watermark.as_bytes()).unwrap(), now), Proof::New);
        }
        assert_eq!((window.messages, window.bytes), (0, 0));
        (longest, now - start)
    }

    proptest! {
        #[test]
        fn nothing_is_in_flight_for_long_at_any_rate(rate in 500.0..500_000.0f64, bytes in 50usize..2000) {
            let (longest, all) = drain_at(rate, 600, bytes);
            // A message alone takes its time, and no rate is left unused by more than the round trips of an empty queue.
            let alone = Duration::from_secs_f64(bytes as f64 / rate);
            prop_assert!(longest <= Duration::from_secs(10) + 2 * alone, "{longest:?}");
            prop_assert!(all <= Duration::from_secs_f64(600.0 * bytes as f64 / rate) * 2, "{all:?}");
        }

        #[test]
        fn counts_are_those_of_the_batches(steps in vec((0u64..3, 1usize..9000, 0u64..40), 1..200)) {
            let (mut window, mut next, mut now) = (Window::new(false), 1, Instant::now());
            for (kind, bytes, n) in steps {
                now += Duration::from_millis(n * 200);
                if kind < 2 && window.open() {
                    let rest = usize::try_from(n % 5).unwrap();
                    window.sending(id(next), bytes, rest, now);
                    next += 1;
                } else {
                    let claimed = next.saturating_sub(n);
                    let known = claimed < next;
                    prop_assert_eq!(window.received(id(claimed), now) != Proof::NeverSent, known);
                }
                prop_assert_eq!(window.messages, window.batches.iter().map(|b| b.messages).sum::<usize>());
                prop_assert_eq!(window.bytes, window.batches.iter().map(|b| b.bytes).sum::<usize>());
                prop_assert!(window.level <= MAX_LEVEL && window.messages <= MAX_MESSAGES);
                prop_assert_eq!(window.unproven().count, window.messages);
            }
        }
    }
}
