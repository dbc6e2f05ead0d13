//! Who wants to know when a message has been received.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::Sender;

use crate::ids::{MessageId, Recipient};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its recipient has it.
    Received,
    /// Its life ended before.
    Expired,
}

/// Whom to tell: a channel with room for everything that its owner watches.
pub type Teller = Sender<(MessageId, Fate)>;

/// The watched messages, each by one watcher. Bounded by what each connection may watch.
#[derive(Default)]
pub(super) struct Watches(Mutex<BTreeMap<(Recipient, MessageId), Teller>>);

impl Watches {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Recipient, MessageId), Teller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, recipient: Recipient, id: MessageId, teller: Teller) {
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
            tell(&mut watched, recipient, id, Fate::Received);
        }
    }

    /// One message has met its fate; what has been told before is not told again.
    pub(super) fn tell(&self, recipient: Recipient, id: MessageId, fate: Fate) {
        tell(&mut self.lock(), recipient, id, fate);
    }

    /// Forgets what nobody wants to know any more.
    pub(super) fn forget_closed(&self) {
        self.lock().retain(|_, teller| !teller.is_closed());
    }
}

fn tell(watched: &mut BTreeMap<(Recipient, MessageId), Teller>, recipient: Recipient, id: MessageId, fate: Fate) {
    if let Some(teller) = watched.remove(&(recipient, id)) {
        let _ = teller.try_send((id, fate)); // it has room, or its owner has gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DeviceId;

    #[test]
    fn each_is_told_once_and_only_of_its_own() {
        let (watches, lamp, toy) = (Watches::default(), Recipient::Device(DeviceId(1)), Recipient::Device(DeviceId(2)));
        let (teller, mut told) = tokio::sync::mpsc::channel(8);
        for (recipient, id) in [(lamp, 1), (toy, 2), (lamp, 3), (lamp, 9)] {
            watches.add(recipient, MessageId(id), teller.clone());
        }
        watches.received(lamp, MessageId(5));
        watches.received(lamp, MessageId(5));
        watches.tell(toy, MessageId(2), Fate::Expired);
        let mut heard = Vec::new();
        while let Ok(fate) = told.try_recv() {
            heard.push(fate);
        }
        assert_eq!(heard, [(MessageId(1), Fate::Received), (MessageId(3), Fate::Received), (MessageId(2), Fate::Expired)]);
        assert_eq!(watches.lock().keys().collect::<Vec<_>>(), [&(lamp, MessageId(9))]);
        drop(told);
        watches.forget_closed();
        assert!(watches.lock().is_empty(), "nobody listens any more");
    }
}
