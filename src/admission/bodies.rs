//! The memory of the bodies of requests: all together have a share of the memory budget.
//!
//! A body beyond its first bytes asks for all that it was announced to need, once, before more of it is read: so none waits for another
//! that waits itself. Where there is no room, it waits, and its client with it: bodies that arrive at the speed of a network are soon
//! handled and gone. What is still arriving after [`MIN_SLOW_TIME`] gives way to a user, or an address without a user, who holds less.
//! So nobody can keep others out by sending slowly, nor do many requests of one client take anything from each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::NetKey;
use crate::config::Config;
use crate::core::ids::UserId;

/// The bytes of each body that are not counted: no more than the buffers of its connection.
pub const FREE_BYTES: usize = 4096;
/// The time after which a body that is still arriving gives way to others.
const MIN_SLOW_TIME: Duration = Duration::from_secs(1);
/// The interval at which a body that waits looks for others that have become slow.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The owner of a body's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The user of the credential.
    User(UserId),
    /// The client's address, where no credential is needed.
    Address(NetKey),
}

/// A body's part of the memory.
struct Part {
    holder: Holder,
    bytes: usize,
    began: Instant,
    /// It has arrived, and will soon be gone.
    whole: bool,
    given_up: CancellationToken,
}

/// The parts in use, in the order in which they began.
#[derive(Default)]
struct Parts {
    next: u64,
    bytes: usize,
    all: BTreeMap<u64, Part>,
}

/// The memory for bodies.
pub struct Bodies {
    limit: AtomicUsize,
    parts: Mutex<Parts>,
    freed: Notify,
}

/// The memory of one body; returned when dropped.
pub struct BodyMemory {
    bodies: Arc<Bodies>,
    number: u64,
    given_up: CancellationToken,
}

/// Returns the bytes for all bodies: their share of the memory budget, but room for two of the largest.
fn limit(config: &Config) -> usize {
    config.storage.max_body_bytes().max(config.limits.push_bytes.saturating_mul(2))
}

impl Bodies {
    /// Creates the memory with the configured limits.
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit(config)), parts: Mutex::default(), freed: Notify::new() })
    }

    /// Applies other limits.
    pub fn reload(&self, config: &Config) {
        self.limit.store(limit(config), Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Returns the bytes for all bodies.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Waits for room for a body of `bytes`, which are at most [`limit`](Self::limit).
    pub async fn reserve(self: &Arc<Self>, holder: &Holder, bytes: usize) -> BodyMemory {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable(); // before the look, so that room that is made after it is noticed
            if let Some(memory) = self.try_reserve(holder, bytes) {
                return memory;
            }
            tokio::select! {
                () = freed => {}
                () = sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    /// Makes room for `bytes`, if slow bodies can give way; `None` where there is none.
    fn try_reserve(self: &Arc<Self>, holder: &Holder, bytes: usize) -> Option<BodyMemory> {
        let (limit, mut parts) = (self.limit(), self.parts.lock());
        // One that is larger than the limit has become since it was asked for is alone.
        while parts.bytes > 0 && parts.bytes.saturating_add(bytes) > limit {
            let victim = parts.victim(holder, bytes)?;
            parts.remove(victim);
        }
        let (number, given_up) = (parts.next, CancellationToken::new());
        parts.next += 1;
        parts.bytes += bytes;
        let part = Part { holder: holder.clone(), bytes, began: Instant::now(), whole: false, given_up: given_up.clone() };
        parts.all.insert(number, part);
        Some(BodyMemory { bodies: self.clone(), number, given_up })
    }
}

impl Parts {
    fn remove(&mut self, number: u64) {
        if let Some(part) = self.all.remove(&number) {
            self.bytes -= part.bytes;
            part.given_up.cancel();
        }
    }

    /// Returns the body that gives way to one of `bytes` of `holder`: the oldest slow one of who holds the most, and more than `holder`
    /// would then; as much is enough where it has been slow for long.
    fn victim(&self, holder: &Holder, bytes: usize) -> Option<u64> {
        let mut held = HashMap::<&Holder, usize>::new();
        for part in self.all.values() {
            *held.entry(&part.holder).or_default() += part.bytes;
        }
        let own = held.get(holder).copied().unwrap_or(0).saturating_add(bytes);
        let gives_way = |part: &Part| {
            let (time, held) = (part.began.elapsed(), held[&part.holder]);
            let slow = if held > own { time >= MIN_SLOW_TIME } else { held == own && time >= 5 * MIN_SLOW_TIME };
            !part.whole && part.holder != *holder && slow
        };
        let candidates = self.all.iter().filter(|(_, part)| gives_way(part));
        // Of those that hold the same, the last of the reversed order is the oldest.
        candidates.rev().max_by_key(|(_, part)| held[&part.holder]).map(|(&number, _)| number)
    }
}

impl BodyMemory {
    /// Completes when the body has had to give way.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Notes that the body has arrived: it no longer gives way. Returns whether it had to before.
    pub fn arrived(&self) -> bool {
        let mut parts = self.bodies.parts.lock();
        let part = parts.all.get_mut(&self.number);
        part.map(|part| part.whole = true).is_some()
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        self.bodies.parts.lock().remove(self.number);
        self.bodies.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;
    use std::task::Poll;

    fn bodies(limit: usize) -> Arc<Bodies> {
        let bodies = Bodies::new(&Config::default());
        bodies.limit.store(limit, Ordering::Relaxed);
        bodies
    }

    fn user(n: u64) -> Holder {
        Holder::User(UserId(n))
    }

    fn used(bodies: &Bodies) -> (usize, usize) {
        let parts = bodies.parts.lock();
        (parts.bytes, parts.all.len())
    }

    #[test]
    fn share_is_that_of_the_budget_and_room_for_two() {
        let mut config = Config::default();
        assert_eq!(limit(&config), 8 << 20);
        config.limits.push_bytes = 10 << 20;
        assert_eq!(limit(&config), 20 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn body_waits_for_room_and_gets_what_others_return() {
        let (bodies, other) = (bodies(100), user(2));
        let first = bodies.reserve(&user(1), 60).await;
        assert!(first.arrived());
        let mut waiting = pin!(bodies.reserve(&other, 50));
        assert!(poll!(waiting.as_mut()).is_pending());
        tokio::time::advance(10 * MIN_SLOW_TIME).await;
        assert!(poll!(waiting.as_mut()).is_pending(), "one that has arrived gives way to none");
        drop(first);
        let second = waiting.await;
        assert_eq!(used(&bodies), (50, 1));
        drop(second);
        assert_eq!(used(&bodies), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_of_the_one_who_holds_most_gives_way_and_the_oldest_first() {
        let (bodies, honest) = (bodies(100), user(3));
        let mut slow = Vec::new();
        for (n, bytes) in [(2, 20), (1, 40), (1, 40)] {
            slow.push(bodies.reserve(&user(n), bytes).await);
        }
        let mut waiting = pin!(bodies.reserve(&honest, 30));
        assert!(poll!(waiting.as_mut()).is_pending(), "none is slow yet");
        tokio::time::advance(MIN_SLOW_TIME).await;
        let honest = waiting.await;
        assert_eq!(poll!(pin!(slow[1].given_up())), Poll::Ready(()));
        assert!(poll!(pin!(slow[0].given_up())).is_pending() && poll!(pin!(slow[2].given_up())).is_pending());
        assert_eq!((slow[1].arrived(), slow[2].arrived(), honest.arrived()), (false, true, true));
        assert_eq!(used(&bodies), (90, 3));
        drop(slow);
        assert_eq!(used(&bodies), (30, 1), "returned once");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_takes_from_those_who_hold_less_or_from_themselves() {
        let (bodies, large, new) = (bodies(100), user(2), user(3));
        let parts = [bodies.reserve(&user(1), 30).await, bodies.reserve(&large, 60).await];
        tokio::time::advance(100 * MIN_SLOW_TIME).await;
        let mut more = pin!(bodies.reserve(&large, 20));
        assert!(poll!(more.as_mut()).is_pending());
        // One who holds as much takes it only from what has been slow for long.
        let mut same = pin!(bodies.reserve(&new, 60));
        assert!(poll!(same.as_mut()).is_ready());
        assert!(poll!(pin!(parts[0].given_up())).is_pending());
        assert_eq!(poll!(pin!(parts[1].given_up())), Poll::Ready(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_bodies_of_one_holder_take_turns_and_all_arrive() {
        let bodies = bodies(100);
        let turns = (0..50).map(|_| async {
            let memory = bodies.reserve(&user(1), 40).await;
            sleep(Duration::from_millis(700)).await; // all of them together take far longer than a slow one may
            assert!(used(&bodies).0 <= 100 && memory.arrived());
        });
        tokio::time::timeout(Duration::from_secs(60), futures_util::future::join_all(turns)).await.unwrap();
        assert_eq!(used(&bodies), (0, 0));
    }
}
