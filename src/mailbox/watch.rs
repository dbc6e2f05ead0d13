//! Who wants to know when a message has been received.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use tokio::sync::mpsc::Sender;

use crate::core::ids::{MessageId, Recipient};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its recipient has it.
    Received,
    /// Its life ended before.
    Expired,
}

/// Whom to tell: a channel with room for everything that its owner watches.
pub type OutcomeSender = Sender<(MessageId, Outcome)>;

/// The watched messages, each by one watcher. Bounded by what each connection may watch.
#[derive(Default)]
pub(super) struct Watches(Mutex<BTreeMap<(Recipient, MessageId), OutcomeSender>>);

impl Watches {
    fn lock(&self) -> parking_lot::MutexGuard<'_, BTreeMap<(Recipient, MessageId), OutcomeSender>> {
        self.0.lock()
    }

    pub(super) fn add(&self, recipient: Recipient, id: MessageId, teller: OutcomeSender) {
        self.lock().insert((recipient, id), teller);
    }

    /// Everything for `recipient` up to `upto` has been received.
    pub(super) fn received(&self, recipient: Recipient, upto: MessageId) {
        let mut watched = self.lock();
        if watched.is_empty() {
            return;
        }
        let ids: Vec<MessageId> = watched.range((recipient, MessageId(0))..=(recipient, upto)).map(|((_, id), _)| *id).collect();
        for id in ids {
            tell(&mut watched, recipient, id, Outcome::Received);
        }
    }

    /// One message has met its fate; what has been told before is not told again.
    pub(super) fn tell(&self, recipient: Recipient, id: MessageId, fate: Outcome) {
        tell(&mut self.lock(), recipient, id, fate);
    }

    /// Forgets what nobody wants to know any more.
    pub(super) fn forget_closed(&self) {
        self.lock().retain(|_, teller| !teller.is_closed());
    }
}

fn tell(watched: &mut BTreeMap<(Recipient, MessageId), OutcomeSender>, recipient: Recipient, id: MessageId, fate: Outcome) {
    if let Some(teller) = watched.remove(&(recipient, id)) {
        let _ = teller.try_send((id, fate)); // it has room, or its owner has gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::DeviceId;

    #[test]
    fn each_is_told_once_and_only_of_its_own() {
        let (watches, lamp, toy) = (Watches::default(), Recipient::Device(DeviceId(1)), Recipient::Device(DeviceId(2)));
        let (teller, mut told) = tokio::sync::mpsc::channel(8);
        for (recipient, id) in [(lamp, 1), (toy, 2), (lamp, 3), (lamp, 9)] {
            watches.add(recipient, MessageId(id), teller.clone());
        }
        watches.received(lamp, MessageId(5));
        watches.received(lamp, MessageId(5));
        watches.tell(toy, MessageId(2), Outcome::Expired);
        let mut heard = Vec::new();
        while let Ok(fate) = told.try_recv() {
            heard.push(fate);
        }
        assert_eq!(
            heard,
            [(MessageId(1), Outcome::Received), (MessageId(3), Outcome::Received), (MessageId(2), Outcome::Expired)]
        );
        assert_eq!(watches.lock().keys().collect::<Vec<_>>(), [&(lamp, MessageId(9))]);
        drop(told);
        watches.forget_closed();
        assert!(watches.lock().is_empty(), "nobody listens any more");
    }
}
