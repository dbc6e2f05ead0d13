//! What was said before: the last turns of each user's conversation, in memory only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::core::ids::UserId;

/// How many users' conversations are kept; the one unused for longest makes room.
const MOST_USERS: usize = 1000;
/// How much of one is kept, in bytes.
const MOST_BYTES: usize = 32 * 1024;
/// How long an unused one is kept.
const FORGET: Duration = Duration::from_secs(3600);

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) question: String,
    pub(super) answer: String,
}

impl Turn {
    fn bytes(&self) -> usize {
        self.question.len() + self.answer.len()
    }
}

struct Conversation {
    /// How often it has been forgotten: what was asked before is not remembered after.
    generation: u64,
    turns: VecDeque<Turn>,
    last: Instant,
}

/// The conversations.
#[derive(Default)]
pub(super) struct Memory {
    users: Mutex<HashMap<UserId, Conversation>>,
}

impl Memory {
    /// What `user` has said and heard, oldest first, and the generation to remember the answer in.
    pub(super) fn recall(&self, user: UserId, now: Instant) -> (Vec<Turn>, u64) {
        let users = self.users.lock();
        let generation = users.get(&user).map_or(0, |c| c.generation);
        let kept = users.get(&user).filter(|c| now.saturating_duration_since(c.last) < FORGET);
        (kept.map(|c| c.turns.iter().cloned().collect()).unwrap_or_default(), generation)
    }

    /// Adds a turn, unless everything has been forgotten since `generation` was recalled, and keeps the last `turns`.
    pub(super) fn remember(&self, user: UserId, turn: Turn, turns: usize, generation: u64, now: Instant) {
        if turns == 0 {
            return;
        }
        let mut users = self.users.lock();
        if users.len() >= MOST_USERS && !users.contains_key(&user) {
            users.retain(|_, c| now.saturating_duration_since(c.last) < FORGET);
            if users.len() >= MOST_USERS
                && let Some(oldest) = users.iter().min_by_key(|(_, c)| c.last).map(|(id, _)| *id)
            {
                users.remove(&oldest);
            }
        }
        let conversation = users.entry(user).or_insert_with(|| Conversation { generation: 0, turns: VecDeque::new(), last: now });
        if conversation.generation != generation {
            return;
        }
        if now.saturating_duration_since(conversation.last) >= FORGET {
            conversation.turns.clear();
        }
        conversation.last = now;
        conversation.turns.push_back(turn);
        while conversation.turns.len() > turns || conversation.turns.iter().map(Turn::bytes).sum::<usize>() > MOST_BYTES {
            conversation.turns.pop_front();
        }
    }

    /// Forgets what `user` has said.
    pub(super) fn forget(&self, user: UserId) {
        let mut users = self.users.lock();
        if users.len() < MOST_USERS || users.contains_key(&user) {
            let fresh = || Conversation { generation: 0, turns: VecDeque::new(), last: Instant::now() };
            let conversation = users.entry(user).or_insert_with(fresh);
            conversation.turns.clear();
            conversation.generation += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(n: usize, bytes: usize) -> Turn {
        Turn { question: n.to_string(), answer: "x".repeat(bytes) }
    }

    #[test]
    fn the_last_turns_of_each_within_bounds() {
        let (memory, now) = (Memory::default(), Instant::now());
        for n in 0..5 {
            memory.remember(UserId(1), turn(n, 1), 3, 0, now);
        }
        let questions = |user, now| memory.recall(user, now).0.into_iter().map(|t| t.question).collect::<Vec<_>>();
        assert_eq!(questions(UserId(1), now), ["2", "3", "4"]);
        assert!(questions(UserId(2), now).is_empty());
        memory.remember(UserId(1), turn(9, MOST_BYTES - 1), 3, 0, now);
        assert_eq!(questions(UserId(1), now), ["9"]);
        assert!(questions(UserId(1), now + FORGET).is_empty());
        memory.forget(UserId(1));
        memory.remember(UserId(1), turn(7, 1), 3, 0, now);
        assert!(questions(UserId(1), now).is_empty(), "an answer that comes after");
        assert!(questions(UserId(1), now).is_empty());
        for user in 0..MOST_USERS as u64 + 10 {
            memory.remember(UserId(user), turn(1, 1), 3, 0, now + Duration::from_secs(user));
        }
        assert_eq!(memory.users.lock().len(), MOST_USERS);
    }
}
