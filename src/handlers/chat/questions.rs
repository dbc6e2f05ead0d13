//! The questions that are being answered, by user: the conversation is the user's, and what clears it stops them on every connection.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::core::ids::UserId;
use crate::handlers::Stop;

/// The questions of all users. Their number is bounded by that of the requests in flight on all connections.
#[derive(Debug, Default)]
pub(super) struct Questions {
    users: Mutex<HashMap<UserId, HashMap<u64, Stop>>>,
    /// The number of the next question.
    next: Mutex<u64>,
}

/// A question in the list; it leaves it when dropped.
pub(super) struct Listed<'a> {
    questions: &'a Questions,
    user: UserId,
    number: u64,
}

impl Questions {
    /// Adds a question of `user`.
    pub(super) fn add(&self, user: UserId, stop: &Stop) -> Listed<'_> {
        let number = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        self.users.lock().entry(user).or_default().insert(number, stop.clone());
        Listed { questions: self, user, number }
    }

    /// Stops all questions of `user`.
    pub(super) fn stop(&self, user: UserId) {
        if let Some(questions) = self.users.lock().get(&user) {
            for stop in questions.values() {
                stop.stop();
            }
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut users = self.questions.users.lock();
        if let Some(questions) = users.get_mut(&self.user) {
            questions.remove(&self.number);
            if questions.is_empty() {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_ends_the_questions_of_one_user() {
        let questions = Questions::default();
        let stops: Vec<Stop> = (0..3).map(|_| Stop::default()).collect();
        let first = questions.add(UserId(1), &stops[0]);
        let second = questions.add(UserId(1), &stops[1]);
        let other = questions.add(UserId(2), &stops[2]);
        drop(first);
        questions.stop(UserId(1));
        questions.stop(UserId(9));
        assert_eq!(stops.iter().map(Stop::is_stopped).collect::<Vec<_>>(), [false, true, false]);
        drop((second, other));
        assert!(questions.users.lock().is_empty());
    }
}
