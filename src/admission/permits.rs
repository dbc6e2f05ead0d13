//! How many at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use tokio::sync::Notify;

/// A number of seats for each key.
pub struct Permits<K: Hash + Eq + Clone> {
    limit: AtomicU32,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

/// A taken seat; free again when dropped.
pub struct Permit<K: Hash + Eq + Clone> {
    key: K,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Clone> Permits<K> {
    /// `limit` seats a key; 0: any number.
    pub fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), taken: Arc::default() }
    }

    /// From now on `limit` seats a key; who has one keeps it.
    pub fn set(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a seat; `None` when all of this key's are taken.
    pub fn take(&self, key: K) -> Option<Permit<K>> {
        let mut taken = self.taken.lock();
        let count = taken.get(&key).copied().unwrap_or(0);
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && count >= limit {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        Some(Permit { key, taken: self.taken.clone() })
    }
}

impl<K: Hash + Eq + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.key);
            }
        }
    }
}

/// Permits for which one waits.
pub struct Gate {
    limit: AtomicU32,
    taken: AtomicU32,
    freed: Notify,
}

/// A seat that was waited for; free again when dropped.
pub struct Pass(Arc<Gate>);

impl Gate {
    /// `limit` seats; 0: any number.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit: AtomicU32::new(limit), taken: AtomicU32::new(0), freed: Notify::new() })
    }

    /// From now on `limit` seats; who has one keeps it.
    pub fn set(&self, limit: u32) {
        self.limit.store(limit, Ordering::Release);
        self.freed.notify_waiters();
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a seat, once one is free.
    pub async fn enter(self: &Arc<Self>) -> Pass {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable(); // before the look: what is freed after it is heard of
            let room = |taken: u32| match self.limit.load(Ordering::Acquire) {
                0 => Some(taken + 1),
                limit => (taken < limit).then_some(taken + 1),
            };
            if self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok() {
                return Pass(self.clone());
            }
            freed.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_key_and_given_back() {
        let seats = Permits::new(2);
        let first = seats.take("a").unwrap();
        let _second = seats.take("a").unwrap();
        assert!(seats.take("a").is_none());
        assert!(seats.take("b").is_some());
        drop(first);
        assert!(seats.take("a").is_some());
        assert_eq!(seats.taken.lock().len(), 1, "empty keys are forgotten");
    }

    #[test]
    fn another_limit_counts_who_is_inside() {
        let seats = Permits::new(1);
        let _first = seats.take("a").unwrap();
        seats.set(2);
        let _second = seats.take("a").unwrap();
        assert!(seats.take("a").is_none());
        seats.set(1);
        drop(_second);
        assert!(seats.take("a").is_none());
    }

    #[tokio::test]
    async fn at_the_gate_one_waits_for_room_however_it_comes() {
        let gate = Gate::new(1);
        let first = gate.enter().await;
        let mut second = std::pin::pin!(gate.enter());
        let mut third = std::pin::pin!(gate.enter());
        assert!(futures_util::poll!(second.as_mut()).is_pending() && futures_util::poll!(third.as_mut()).is_pending());
        drop(first);
        let second = second.await;
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        gate.set(2);
        let third = third.await;
        gate.set(1);
        drop(third);
        assert!(futures_util::poll!(std::pin::pin!(gate.enter())).is_pending(), "one too many was inside");
        drop(second);
        drop(gate.enter().await);
        gate.set(0);
        let _all = [gate.enter().await, gate.enter().await, gate.enter().await];
    }

    #[test]
    fn zero_is_no_limit() {
        let seats = Permits::new(0);
        let all: Vec<_> = (0..1000).map(|_| seats.take(()).unwrap()).collect();
        assert_eq!(all.len(), 1000);
    }
}
