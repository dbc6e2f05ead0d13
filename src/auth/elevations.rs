//! Elevated sessions: those of browsers whose user has shown the password again. In memory only.
//!
//! # Invariants
//! - A session is elevated through its own token: none of another, also of the same user, and none after the token is gone.
//! - Kept are the times, not the ends, so that a changed setting holds at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::boot::BootInstant;
use crate::store::TokenHash;

/// The largest number of sessions; beyond it the one that was elevated first is removed. Each has cost the hash of a password.
const MAX_ELEVATED: usize = 10_000;

/// The elevated sessions: their tokens, each with the time at which the password was shown.
#[derive(Default)]
pub(super) struct Elevations(Mutex<HashMap<TokenHash, BootInstant>>);

impl Elevations {
    /// Notes that the user of a session has shown the password now.
    pub(super) fn note(&self, token: TokenHash) {
        let mut elevated = self.0.lock();
        if elevated.len() >= MAX_ELEVATED
            && !elevated.contains_key(&token)
            && let Some(oldest) = elevated.iter().min_by_key(|(_, at)| **at).map(|(token, _)| *token)
        {
            elevated.remove(&oldest);
        }
        elevated.insert(token, BootInstant::now());
    }

    /// Returns the time since the user of a session has shown the password again, if that has happened.
    pub(super) fn age(&self, token: &TokenHash) -> Option<Duration> {
        let at = self.0.lock().get(token).copied()?;
        Some(BootInstant::now().since(at))
    }

    /// Removes those that were elevated longer ago than `life`, and those whose token is gone.
    pub(super) fn sweep(&self, life: Duration, has: impl Fn(&TokenHash) -> bool) {
        let tokens: Vec<TokenHash> = self.0.lock().keys().copied().collect();
        let gone: HashSet<TokenHash> = tokens.into_iter().filter(|token| !has(token)).collect(); // without the lock: it reads
        let (mut elevated, now) = (self.0.lock(), BootInstant::now());
        elevated.retain(|token, at| now.since(*at) < life && !gone.contains(token));
        elevated.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes it as if a session had been elevated so long ago.
    fn age(elevations: &Elevations, token: TokenHash, age: Duration) {
        elevations.0.lock().insert(token, BootInstant::now().before(age));
    }

    #[test]
    fn session_is_elevated_alone_and_until_its_time_or_its_token_is_gone() {
        let (elevations, [one, other]) = (Elevations::default(), ["a", "b"].map(TokenHash::of));
        elevations.note(one);
        assert!(elevations.age(&one).is_some() && elevations.age(&other).is_none());
        age(&elevations, one, Duration::from_secs(600));
        elevations.sweep(Duration::from_secs(3600), |_| true);
        assert!(elevations.age(&one).unwrap() >= Duration::from_secs(600));
        elevations.note(one);
        assert!(elevations.age(&one).unwrap() < Duration::from_secs(600), "again");
        elevations.note(other);
        age(&elevations, one, Duration::from_secs(600));
        elevations.sweep(Duration::from_secs(600), |_| true);
        assert!(elevations.age(&one).is_none() && elevations.age(&other).is_some());
        elevations.note(one);
        elevations.sweep(Duration::from_secs(600), |token| *token == one);
        assert!(elevations.age(&one).is_some() && elevations.age(&other).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_one_elevated_first_gives_way() {
        let elevations = Elevations::default();
        let token = |n: usize| TokenHash::of(&n.to_string());
        (0..MAX_ELEVATED).for_each(|n| elevations.note(token(n)));
        age(&elevations, token(7), Duration::from_secs(60));
        elevations.note(token(8));
        assert!(elevations.age(&token(7)).is_some(), "it was there already");
        elevations.note(token(MAX_ELEVATED));
        assert!(elevations.age(&token(7)).is_none() && elevations.age(&token(8)).is_some());
        assert_eq!(elevations.0.lock().len(), MAX_ELEVATED);
    }
}
