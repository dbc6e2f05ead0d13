//! How many at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A number of seats for each key.
pub struct Seats<K: Hash + Eq + Clone> {
    limit: u32,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

/// A taken seat; free again when dropped.
pub struct Seat<K: Hash + Eq + Clone> {
    key: K,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Clone> Seats<K> {
    /// `limit` seats a key; 0: any number.
    pub fn new(limit: u32) -> Self {
        Self { limit, taken: Arc::default() }
    }

    /// Takes a seat; `None` when all of this key's are taken.
    pub fn take(&self, key: K) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&key).copied().unwrap_or(0);
        if self.limit > 0 && count >= self.limit {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        Some(Seat { key, taken: self.taken.clone() })
    }
}

impl<K: Hash + Eq + Clone> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_key_and_given_back() {
        let seats = Seats::new(2);
        let first = seats.take("a").unwrap();
        let _second = seats.take("a").unwrap();
        assert!(seats.take("a").is_none());
        assert!(seats.take("b").is_some());
        drop(first);
        assert!(seats.take("a").is_some());
        assert_eq!(seats.taken.lock().unwrap().len(), 1, "empty keys are forgotten");
    }

    #[test]
    fn zero_is_no_limit() {
        let seats = Seats::new(0);
        let all: Vec<_> = (0..1000).map(|_| seats.take(()).unwrap()).collect();
        assert_eq!(all.len(), 1000);
    }
}
