//! Permits: limits for the number of things at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use tokio::sync::Notify;

/// A number of permits for each key.
pub struct Permits<K: Hash + Eq + Clone> {
    limit: AtomicU32,
    in_use: Arc<Mutex<HashMap<K, u32>>>,
}

/// A permit in use; returned when dropped.
pub struct Permit<K: Hash + Eq + Clone> {
    key: K,
    in_use: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Clone> Permits<K> {
    /// Allows `limit` permits a key; 0: any number.
    pub fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), in_use: Arc::default() }
    }

    /// Changes the limit for each key; permits in use stay valid, and count.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns a permit; `None` when all of this key's are in use.
    pub fn try_acquire(&self, key: K) -> Option<Permit<K>> {
        let mut in_use = self.in_use.lock();
        let count = in_use.get(&key).copied().unwrap_or(0);
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && count >= limit {
            return None;
        }
        in_use.insert(key.clone(), count + 1);
        Some(Permit { key, in_use: self.in_use.clone() })
    }
}

impl<K: Hash + Eq + Clone> Permit<K> {
    /// Returns what it is a permit of.
    pub const fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Hash + Eq + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock();
        match in_use.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                in_use.remove(&self.key);
            }
        }
    }
}

/// Permits that are waited for.
pub struct SharedPermits {
    limit: AtomicU32,
    in_use: AtomicU32,
    freed: Notify,
}

/// A permit of [`SharedPermits`]; returned when dropped.
pub struct SharedPermit(Arc<SharedPermits>);

impl SharedPermits {
    /// Allows `limit` permits; 0: any number.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit: AtomicU32::new(limit), in_use: AtomicU32::new(0), freed: Notify::new() })
    }

    /// Changes the limit; permits in use stay valid, and count.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Release);
        self.freed.notify_waiters();
    }

    /// Returns the number of permits in use.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Returns a permit; `None` when all are in use.
    pub fn try_acquire(self: &Arc<Self>) -> Option<SharedPermit> {
        let room = |in_use: u32| match self.limit.load(Ordering::Acquire) {
            0 => Some(in_use + 1),
            limit => (in_use < limit).then_some(in_use + 1),
        };
        let acquired = self.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        acquired.is_ok().then(|| SharedPermit(self.clone()))
    }

    /// Waits for a permit.
    pub async fn acquire(self: &Arc<Self>) -> SharedPermit {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable(); // before the check, so that a permit returned after it is noticed
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            freed.await;
        }
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_by_key_and_returned_on_drop() {
        let permits = Permits::new(2);
        let first = permits.try_acquire("a").unwrap();
        let _second = permits.try_acquire("a").unwrap();
        assert!(permits.try_acquire("a").is_none());
        assert!(permits.try_acquire("b").is_some());
        drop(first);
        assert!(permits.try_acquire("a").is_some());
        assert_eq!(permits.in_use.lock().len(), 1, "keys without permits are removed");
    }

    #[test]
    fn changed_limit_counts_permits_in_use() {
        let permits = Permits::new(1);
        let _first = permits.try_acquire("a").unwrap();
        permits.set_limit(2);
        let _second = permits.try_acquire("a").unwrap();
        assert!(permits.try_acquire("a").is_none());
        permits.set_limit(1);
        drop(_second);
        assert!(permits.try_acquire("a").is_none());
    }

    #[tokio::test]
    async fn acquire_waits_for_a_returned_permit_or_a_higher_limit() {
        let permits = SharedPermits::new(1);
        let first = permits.acquire().await;
        let mut second = std::pin::pin!(permits.acquire());
        let mut third = std::pin::pin!(permits.acquire());
        assert!(futures_util::poll!(second.as_mut()).is_pending() && futures_util::poll!(third.as_mut()).is_pending());
        drop(first);
        let second = second.await;
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        permits.set_limit(2);
        let third = third.await;
        permits.set_limit(1);
        drop(third);
        assert!(futures_util::poll!(std::pin::pin!(permits.acquire())).is_pending(), "one more than the limit is in use");
        drop(second);
        drop(permits.acquire().await);
        permits.set_limit(0);
        let _all = [permits.acquire().await, permits.acquire().await, permits.acquire().await];
    }

    #[test]
    fn limit_of_zero_allows_any_number() {
        let permits = Permits::new(0);
        let all: Vec<_> = (0..1000).map(|_| permits.try_acquire(()).unwrap()).collect();
        assert_eq!(all.len(), 1000);
    }
}
