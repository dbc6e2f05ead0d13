//! The idempotency keys that are kept, by sender and by the time at which they expire.
//!
//! # Invariants
//! - A key is stored under its sender and a hash, so that this is a function of what is on disk.
//! - Nobody can push out another sender's keys while its own are more: a user has a bound of its own, and where there are too many in
//!   all, those of the sender that holds the most make room.

use std::collections::{BTreeSet, HashMap};

use crate::core::ids::UserId;

/// The most keys that are kept.
const MAX_KEYS: usize = 100_000;
/// The most keys of one user, other than administrators and services.
const MAX_KEYS_PER_USER: usize = 10_000;

/// The form in which a key is stored: the sender, and the beginning of a hash over sender and key.
pub type StoredKey = [u8; 32];

/// Returns the stored form of the key whose hash is `hash`.
pub fn stored(sender: UserId, hash: &[u8; 32]) -> StoredKey {
    let mut key = *hash;
    key[..8].copy_from_slice(&sender.to_key());
    key
}

/// Returns the sender of a stored key. Versions before 0.2 stored the hash alone: each of theirs counts as a sender's only one.
fn sender(key: &StoredKey) -> UserId {
    let mut id = [0; 8];
    id.copy_from_slice(&key[..8]);
    UserId(u64::from_be_bytes(id))
}

/// The keys of one sender.
#[derive(Debug, Clone, Copy)]
struct Held {
    count: usize,
    /// The time at which its oldest key expires, in seconds of the service clock.
    first: u64,
}

/// The keys that are kept. Takes about 60 bytes for each, and 100 for each sender.
#[derive(Debug)]
pub struct Keys {
    most: usize,
    most_per_user: usize,
    /// By sender, oldest first.
    keys: BTreeSet<(UserId, u64, StoredKey)>,
    senders: HashMap<UserId, Held>,
    /// Senders by the number of their keys.
    sizes: BTreeSet<(usize, UserId)>,
    /// Senders by the time at which their oldest key expires.
    due: BTreeSet<(u64, UserId)>,
}

impl Default for Keys {
    fn default() -> Self {
        Self::bounded(MAX_KEYS, MAX_KEYS_PER_USER)
    }
}

impl Keys {
    /// Keeps up to `most` keys, and up to `most_per_user` of a user.
    fn bounded(most: usize, most_per_user: usize) -> Self {
        Self { most, most_per_user, keys: BTreeSet::new(), senders: HashMap::new(), sizes: BTreeSet::new(), due: BTreeSet::new() }
    }

    /// Adds a key that expires at `until`.
    pub fn insert(&mut self, key: StoredKey, until: u64) {
        let sender = sender(&key);
        if self.keys.insert((sender, until, key)) {
            self.count(sender, 1);
        }
    }

    /// Makes room where the keys of the sender of `key` are too many, or all; returns the key that must go. `bounded` senders have a
    /// bound of their own.
    pub fn excess(&mut self, key: &StoredKey, bounded: bool) -> Option<StoredKey> {
        let sender = sender(key);
        let own = self.senders.get(&sender).map_or(0, |held| held.count);
        if bounded && own > self.most_per_user {
            return self.pop(sender);
        }
        if self.keys.len() <= self.most {
            return None;
        }
        let &(_, most) = self.sizes.last()?;
        self.pop(most)
    }

    /// Removes up to `most` keys that have expired by `now`, and returns them.
    pub fn expire(&mut self, now: u64, most: usize) -> Vec<StoredKey> {
        let mut over = Vec::new();
        while over.len() < most
            && let Some(&(until, sender)) = self.due.first()
            && until <= now
        {
            over.extend(self.pop(sender));
        }
        over
    }

    /// Removes the oldest key of a sender.
    fn pop(&mut self, sender: UserId) -> Option<StoredKey> {
        let oldest = *self.of(sender).next()?;
        self.keys.remove(&oldest);
        self.count(sender, -1);
        Some(oldest.2)
    }

    fn of(&self, sender: UserId) -> impl Iterator<Item = &(UserId, u64, StoredKey)> {
        self.keys.range((sender, 0, [0; 32])..=(sender, u64::MAX, [u8::MAX; 32]))
    }

    /// Notes one key more or less of a sender.
    fn count(&mut self, sender: UserId, change: isize) {
        let first = self.of(sender).next().map(|(_, until, _)| *until);
        let before = self.senders.get(&sender).copied();
        if let Some(held) = before {
            self.sizes.remove(&(held.count, sender));
            self.due.remove(&(held.first, sender));
        }
        let Some(first) = first else {
            self.senders.remove(&sender);
            return;
        };
        let count = before.map_or(0, |held| held.count).saturating_add_signed(change);
        self.senders.insert(sender, Held { count, first });
        self.sizes.insert((count, sender));
        self.due.insert((first, sender));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeMap;

    fn key(sender: u64, n: u64) -> StoredKey {
        let mut hash = [0; 32];
        hash[24..].copy_from_slice(&n.to_be_bytes());
        stored(UserId(sender), &hash)
    }

    /// Adds as an append does; returns what had to go.
    fn add(keys: &mut Keys, sender: u64, n: u64, until: u64, bounded: bool) -> Option<StoredKey> {
        keys.insert(key(sender, n), until);
        keys.excess(&key(sender, n), bounded)
    }

    #[test]
    fn one_user_pushes_out_its_own_keys_only() {
        let mut keys = Keys::bounded(1000, 100);
        assert_eq!(add(&mut keys, 1, 0, 5, true), None);
        for n in 0..5000 {
            assert_eq!(add(&mut keys, 2, n, 10 + n, true), n.checked_sub(100).map(|n| key(2, n)));
        }
        assert!(keys.keys.contains(&(UserId(1), 5, key(1, 0))), "the oldest of all");
        assert_eq!(keys.keys.len(), 101);
    }

    #[test]
    fn many_users_together_push_out_keys_of_whoever_holds_the_most() {
        let mut keys = Keys::bounded(1000, 100);
        for n in 0..10 {
            assert_eq!(add(&mut keys, 1, n, 1, true), None); // the oldest of all
        }
        for n in 0..600 {
            assert_eq!(add(&mut keys, 2, n, 2, false), None, "an administrator has no bound of its own");
        }
        for sender in 3..40 {
            for n in 0..100 {
                add(&mut keys, sender, n, 3, true);
            }
        }
        assert_eq!(keys.keys.len(), 1000);
        assert_eq!(keys.senders[&UserId(1)].count, 10, "a sender of few keys loses none");
        let most = keys.senders.values().map(|held| held.count).max().unwrap();
        let administrator = keys.senders[&UserId(2)].count;
        assert!(administrator + 1 >= most && administrator > 20, "{administrator} of {most}");
    }

    #[test]
    fn hashes_of_earlier_versions_count_one_by_one() {
        let mut keys = Keys::bounded(1000, 1);
        for n in 0..100u64 {
            let hash: [u8; 32] = Sha256::digest(n.to_be_bytes()).into();
            keys.insert(hash, 5);
            assert_eq!(keys.excess(&hash, true), None);
        }
        assert_eq!(keys.expire(5, 1000).len(), 100);
        assert!(keys.senders.is_empty() && keys.sizes.is_empty() && keys.due.is_empty());
    }

    proptest! {
        #[test]
        fn keys_are_those_of_a_plain_list(steps in proptest::collection::vec((1..4u64, 0..30u64, 0..50u64, 0..8u64), 1..80)) {
            let (mut keys, mut list) = (Keys::default(), BTreeMap::new());
            for (sender, n, until, now) in steps {
                if list.insert(key(sender, n), until).is_none() {
                    keys.insert(key(sender, n), until);
                } else {
                    let until = keys.keys.iter().find(|(_, _, found)| *found == key(sender, n)).unwrap().1;
                    list.insert(key(sender, n), until);
                }
                for over in keys.expire(now, 2) {
                    prop_assert!(list.remove(&over).unwrap() <= now);
                }
                let rest: BTreeSet<_> = list.iter().map(|(key, until)| (super::sender(key), *until, *key)).collect();
                prop_assert_eq!(&keys.keys, &rest);
                let loaded = list.iter().fold(Keys::default(), |mut keys, (key, until)| {
                    keys.insert(*key, *until);
                    keys
                });
                prop_assert_eq!((&keys.sizes, &keys.due), (&loaded.sizes, &loaded.due), "a function of what is kept");
                prop_assert_eq!(keys.sizes.iter().map(|(count, _)| count).sum::<usize>(), keys.keys.len());
            }
        }
    }
}
