//! Watchers of single messages: they are notified of the outcome once.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc::Sender;

use crate::core::ids::{MessageId, Recipient};
use crate::store::EndState;

/// The outcome of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its recipient has received it.
    Received,
    /// Its life ended before.
    Expired,
    /// It was taken back, cleared, or passed over by every reader.
    Dropped(EndState),
}

/// The channel of a watcher, with room for every message that it watches.
pub type OutcomeSender = Sender<(MessageId, Outcome)>;

/// The watched messages, each by one watcher. Bounded by the number that each connection may watch.
#[derive(Default)]
pub struct Outcomes(Mutex<BTreeMap<(Recipient, MessageId), OutcomeSender>>);

impl Outcomes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Recipient, MessageId), OutcomeSender>> {
        self.0.lock()
    }

    /// Watches a message.
    pub fn watch(&self, recipient: Recipient, id: MessageId, sender: OutcomeSender) {
        self.lock().insert((recipient, id), sender);
    }

    /// Notifies the watcher of one message of its end. One that has been notified before is not notified again.
    pub fn ended(&self, recipient: Recipient, id: MessageId, state: EndState) {
        let mut watched = self.lock();
        if watched.is_empty() {
            return;
        }
        if let Some(sender) = watched.remove(&(recipient, id)) {
            let outcome = match state {
                EndState::Acked => Outcome::Received,
                EndState::Expired => Outcome::Expired,
                other => Outcome::Dropped(other),
            };
            let _ = sender.try_send((id, outcome)); // it has room, or its receiver is gone
        }
    }

    /// Removes watchers whose receiver is gone.
    pub fn remove_closed(&self) {
        self.lock().retain(|_, sender| !sender.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::DeviceId;

    #[test]
    fn each_watcher_is_notified_once_and_only_of_its_own_messages() {
        let (outcomes, lamp, toy) = (Outcomes::default(), Recipient::Device(DeviceId(1)), Recipient::Device(DeviceId(2)));
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        for (recipient, id) in [(lamp, 1), (toy, 2), (lamp, 3), (lamp, 9)] {
            outcomes.watch(recipient, MessageId(id), sender.clone());
        }
        for id in [1, 3, 4, 3] {
            outcomes.ended(lamp, MessageId(id), EndState::Acked);
        }
        outcomes.ended(toy, MessageId(2), EndState::Expired);
        let mut notified = Vec::new();
        while let Ok(outcome) = receiver.try_recv() {
            notified.push(outcome);
        }
        let expected = [(MessageId(1), Outcome::Received), (MessageId(3), Outcome::Received), (MessageId(2), Outcome::Expired)];
        assert_eq!(notified, expected);
        assert_eq!(outcomes.lock().keys().collect::<Vec<_>>(), [&(lamp, MessageId(9))]);
        drop(receiver);
        outcomes.remove_closed();
        assert!(outcomes.lock().is_empty());
    }
}
