//! The memory of the bodies of requests: all together have a share of the memory budget.
//!
//! A body beyond its first bytes asks for what it needs as it arrives. Where there is no room, it waits, and its client with it: bodies
//! that arrive at the speed of a network are soon handled and gone. What is still arriving after [`MIN_SLOW_TIME`] gives way to others:
//! the oldest of the user, or of the address without a user, that holds the most. So nobody can keep others out by sending slowly.

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

/// A body that had to give way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp;

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

    /// Begins a body of `holder`.
    pub fn begin(self: &Arc<Self>, holder: Holder) -> BodyMemory {
        let mut parts = self.parts.lock();
        let (number, given_up) = (parts.next, CancellationToken::new());
        parts.next += 1;
        let part = Part { holder, bytes: 0, began: Instant::now(), whole: false, given_up: given_up.clone() };
        parts.all.insert(number, part);
        BodyMemory { bodies: self.clone(), number, given_up }
    }

    /// Adds `bytes` to a part if there is room, or if slower ones can give way; returns whether it did.
    fn try_grow(&self, number: u64, bytes: usize) -> Result<bool, GivenUp> {
        let (limit, mut parts) = (self.limit.load(Ordering::Relaxed), self.parts.lock());
        if !parts.all.contains_key(&number) {
            return Err(GivenUp);
        }
        while parts.bytes.saturating_add(bytes) > limit {
            let Some(victim) = parts.victim(number) else { return Ok(false) };
            parts.remove(victim);
            self.freed.notify_waiters();
        }
        if let Some(part) = parts.all.get_mut(&number) {
            part.bytes += bytes;
            parts.bytes += bytes;
        }
        Ok(true)
    }
}

impl Parts {
    fn remove(&mut self, number: u64) {
        if let Some(part) = self.all.remove(&number) {
            self.bytes -= part.bytes;
            part.given_up.cancel();
        }
    }

    /// Returns the body that gives way to `number`: the oldest slow one of the holder that holds the most, who must hold at least as much
    /// as the holder of `number`.
    fn victim(&self, number: u64) -> Option<u64> {
        let own = &self.all.get(&number)?.holder;
        let mut held = HashMap::<&Holder, usize>::new();
        for part in self.all.values() {
            *held.entry(&part.holder).or_default() += part.bytes;
        }
        let slow = |part: &Part| !part.whole && part.bytes > 0 && part.began.elapsed() >= MIN_SLOW_TIME;
        let candidates = self.all.iter().filter(|&(&other, part)| other != number && slow(part));
        let others = candidates.filter(|(_, part)| held[&part.holder] >= held[own]);
        // The first of those that hold the same is the oldest.
        others.rev().max_by_key(|(_, part)| held[&part.holder]).map(|(&other, _)| other)
    }
}

impl BodyMemory {
    /// Waits for room for `bytes` more.
    ///
    /// # Errors
    /// [`GivenUp`], after which it has none.
    pub async fn grow(&self, bytes: usize) -> Result<(), GivenUp> {
        loop {
            let mut freed = std::pin::pin!(self.bodies.freed.notified());
            freed.as_mut().enable(); // before the look, so that room that is made after it is noticed
            if self.bodies.try_grow(self.number, bytes)? {
                return Ok(());
            }
            tokio::select! {
                () = freed => {}
                () = sleep(RETRY_INTERVAL) => {}
                () = self.given_up.cancelled() => return Err(GivenUp),
            }
        }
    }

    /// Completes when the body has had to give way.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Notes that the body has arrived: it no longer gives way.
    ///
    /// # Errors
    /// [`GivenUp`] where it just had to.
    pub fn arrived(&self) -> Result<(), GivenUp> {
        match self.bodies.parts.lock().all.get_mut(&self.number) {
            Some(part) => {
                part.whole = true;
                Ok(())
            }
            None => Err(GivenUp),
        }
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

    #[test]
    fn share_is_that_of_the_budget_and_room_for_two() {
        let mut config = Config::default();
        assert_eq!(limit(&config), 8 << 20);
        config.limits.push_bytes = 10 << 20;
        assert_eq!(limit(&config), 20 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn body_waits_for_room_and_gets_what_others_return() {
        let bodies = bodies(100);
        let (first, second) = (bodies.begin(user(1)), bodies.begin(user(2)));
        first.grow(60).await.unwrap();
        first.arrived().unwrap();
        {
            let mut waiting = pin!(second.grow(50));
            assert!(poll!(waiting.as_mut()).is_pending());
            tokio::time::advance(10 * MIN_SLOW_TIME).await;
            assert!(poll!(waiting.as_mut()).is_pending(), "one that has arrived gives way to none");
            drop(first);
            assert_eq!(waiting.await, Ok(()));
        }
        drop(second);
        let parts = bodies.parts.lock();
        assert_eq!((parts.bytes, parts.all.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_of_the_one_who_holds_most_give_way_oldest_first() {
        let bodies = bodies(100);
        let slow = [bodies.begin(user(1)), bodies.begin(user(1)), bodies.begin(user(2))];
        for (body, bytes) in slow.iter().zip([40, 40, 20]) {
            body.grow(bytes).await.unwrap();
        }
        let honest = bodies.begin(user(3));
        {
            let mut waiting = pin!(honest.grow(30));
            assert!(poll!(waiting.as_mut()).is_pending(), "none is slow yet");
            tokio::time::advance(MIN_SLOW_TIME).await;
            assert_eq!(waiting.await, Ok(()));
        }
        assert_eq!(poll!(pin!(slow[0].given_up())), Poll::Ready(()));
        assert!(poll!(pin!(slow[1].given_up())).is_pending() && poll!(pin!(slow[2].given_up())).is_pending());
        assert_eq!((slow[0].grow(1).await, slow[0].arrived()), (Err(GivenUp), Err(GivenUp)));
        assert_eq!(bodies.parts.lock().bytes, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_who_holds_most_takes_from_nobody_else() {
        let bodies = bodies(100);
        let (small, large) = (bodies.begin(user(1)), bodies.begin(user(2)));
        small.grow(30).await.unwrap();
        large.grow(60).await.unwrap();
        tokio::time::advance(2 * MIN_SLOW_TIME).await;
        let mut more = pin!(large.grow(20));
        assert!(poll!(more.as_mut()).is_pending());
        let newer = bodies.begin(user(2));
        assert_eq!(newer.grow(15).await, Ok(()), "from its own");
        assert_eq!(more.await, Err(GivenUp));
        assert!(poll!(pin!(small.given_up())).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_wait_for_each_other_come_to_an_end() {
        let bodies = bodies(100);
        let all: Vec<_> = (0..10).map(|n| bodies.begin(user(n))).collect();
        for body in &all {
            body.grow(10).await.unwrap();
        }
        let ends = all.into_iter().map(|body| async move { body.grow(45).await });
        let ends = tokio::time::timeout(Duration::from_secs(60), futures_util::future::join_all(ends)).await.unwrap();
        assert!(ends.contains(&Ok(())) && ends.contains(&Err(GivenUp)), "{ends:?}");
        assert_eq!(bodies.parts.lock().bytes, 0);
    }
}
