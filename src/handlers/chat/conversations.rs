//! The last turns of each user's conversation, kept in memory only.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::boot::BootInstant;
use crate::core::ids::UserId;

/// The maximum number of conversations; the least recently used one is evicted.
const MAX_USERS: usize = 1000;
/// The maximum size of one conversation, in bytes.
const MAX_CONVERSATION_BYTES: usize = 32 * 1024;
/// The time after which an unused conversation expires.
const CONVERSATION_TTL: Duration = Duration::from_secs(3600);

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
    /// The number of times that it was cleared: the answer to a question from before is not appended after.
    generation: u64,
    turns: VecDeque<Turn>,
    last_used: BootInstant,
}

/// The conversations of all users.
#[derive(Default)]
pub(super) struct Conversations {
    users: Mutex<HashMap<UserId, Conversation>>,
}

impl Conversations {
    /// Returns the turns of `user`, oldest first, and the generation to which the next answer belongs.
    pub(super) fn get(&self, user: UserId, now: BootInstant) -> (Vec<Turn>, u64) {
        let users = self.users.lock();
        let generation = users.get(&user).map_or(0, |c| c.generation);
        let live = users.get(&user).filter(|c| now.since(c.last_used) < CONVERSATION_TTL);
        (live.map(|c| c.turns.iter().cloned().collect()).unwrap_or_default(), generation)
    }

    /// Appends a turn and keeps the last `max_turns`. Does nothing when the conversation was cleared since `generation` was
    /// returned by [`get`](Self::get).
    pub(super) fn append(&self, user: UserId, turn: Turn, max_turns: usize, generation: u64, now: BootInstant) {
        if max_turns == 0 {
            return;
        }
        let mut users = self.users.lock();
        if users.len() >= MAX_USERS && !users.contains_key(&user) {
            users.retain(|_, c| now.since(c.last_used) < CONVERSATION_TTL);
            if users.len() >= MAX_USERS
                && let Some(oldest) = users.iter().min_by_key(|(_, c)| c.last_used).map(|(id, _)| *id)
            {
                users.remove(&oldest);
            }
        }
        let conversation =
            users.entry(user).or_insert_with(|| Conversation { generation: 0, turns: VecDeque::new(), last_used: now });
        if conversation.generation != generation {
            return;
        }
        if now.since(conversation.last_used) >= CONVERSATION_TTL {
            conversation.turns.clear();
        }
        conversation.last_used = now;
        conversation.turns.push_back(turn);
        while conversation.turns.len() > max_turns
            || conversation.turns.iter().map(Turn::bytes).sum::<usize>() > MAX_CONVERSATION_BYTES
        {
            conversation.turns.pop_front();
        }
    }

    /// Clears the conversation of `user`.
    pub(super) fn clear(&self, user: UserId) {
        let mut users = self.users.lock();
        if users.len() < MAX_USERS || users.contains_key(&user) {
            let empty = || Conversation { generation: 0, turns: VecDeque::new(), last_used: BootInstant::now() };
            let conversation = users.entry(user).or_insert_with(empty);
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
    fn conversations_are_bounded_in_turns_bytes_age_and_number() {
        let (conversations, now) = (Conversations::default(), BootInstant::now());
        for n in 0..5 {
            conversations.append(UserId(1), turn(n, 1), 3, 0, now);
        }
        let questions = |user, now| conversations.get(user, now).0.into_iter().map(|t| t.question).collect::<Vec<_>>();
        assert_eq!(questions(UserId(1), now), ["2", "3", "4"]);
        assert!(questions(UserId(2), now).is_empty());
        conversations.append(UserId(1), turn(9, MAX_CONVERSATION_BYTES - 1), 3, 0, now);
        assert_eq!(questions(UserId(1), now), ["9"]);
        assert!(questions(UserId(1), now + CONVERSATION_TTL).is_empty());
        conversations.clear(UserId(1));
        conversations.append(UserId(1), turn(7, 1), 3, 0, now);
        assert!(questions(UserId(1), now).is_empty(), "the answer to a question from before the clear");
        assert!(questions(UserId(1), now).is_empty());
        for user in 0..MAX_USERS as u64 + 10 {
            conversations.append(UserId(user), turn(1, 1), 3, 0, now + Duration::from_secs(user));
        }
        assert_eq!(conversations.users.lock().len(), MAX_USERS);
    }
}
