//! The count of loss, duplicates, order and misdelivery.
//!
//! A recipient keeps an [`Inbox`], a bit for each number of each sender; a sender keeps what was accepted, a [`Sent`] for each
//! recipient. [`judge`] compares them at the end.

use serde::Serialize;

use super::mark::{EVERYBODY, Mark};

/// The highest number that is believed: an inbox must not grow with what a peer makes up.
const MAX_NUMBER: u32 = 1 << 26;

/// What a recipient has received.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The recipient's number.
    recipient: u32,
    /// By sender; few, so that a search is short.
    tracks: Vec<(u32, Track)>,
    duplicates: u64,
    disordered: u64,
    misdelivered: u64,
}

/// The numbers received from one sender.
#[derive(Debug, Default)]
struct Track {
    seen: Vec<u64>,
    count: u64,
    /// One beyond the highest.
    next: u32,
}

impl Track {
    fn has(&self, number: u32) -> bool {
        self.seen.get(number as usize / 64).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }
}

/// What a message was to its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The first of its number.
    New,
    /// One of a number that was received already.
    Duplicate,
    /// One for somebody else, or of an impossible number.
    Misdelivered,
}

impl Inbox {
    /// For that recipient.
    pub fn new(recipient: u32) -> Self {
        Self { recipient, ..Self::default() }
    }

    /// Counts a message.
    pub fn record(&mut self, mark: Mark) -> Received {
        if (mark.recipient != self.recipient && mark.recipient != EVERYBODY) || mark.number >= MAX_NUMBER {
            self.misdelivered += 1;
            return Received::Misdelivered;
        }
        let at = match self.tracks.iter().position(|(sender, _)| *sender == mark.sender) {
            Some(at) => at,
            None => {
                self.tracks.push((mark.sender, Track::default()));
                self.tracks.len() - 1
            }
        };
        let track = &mut self.tracks[at].1;
        if track.has(mark.number) {
            self.duplicates += 1;
            return Received::Duplicate;
        }
        let word = mark.number as usize / 64;
        if track.seen.len() <= word {
            track.seen.resize(word + 1, 0);
        }
        track.seen[word] |= 1 << (mark.number % 64);
        track.count += 1;
        if mark.number < track.next {
            self.disordered += 1;
        } else {
            track.next = mark.number + 1;
        }
        Received::New
    }
}

/// What a sender has sent to one recipient: the numbers from 0 on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The sender's number.
    pub sender: u32,
    /// The recipient's number, or [`EVERYBODY`].
    pub recipient: u32,
    /// The count of numbers used.
    pub count: u32,
    /// Those of them whose acceptance is not known, since their connection broke: they may arrive or not.
    pub unsure: Vec<u32>,
}

/// The outcome for all messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Messages that were accepted and have to be received, once for each recipient.
    pub expected: u64,
    /// Messages received, each once, without those of unknown acceptance.
    pub received: u64,
    /// Messages that were accepted and not received.
    pub lost: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Messages received after a later one of the same sender.
    pub disordered: u64,
    /// Messages received by somebody else, or that were never sent.
    pub misdelivered: u64,
    /// Messages of which nobody knows whether they were accepted.
    pub unsure: u64,
}

impl Verdict {
    /// Reports whether each message arrived once, in order, and where it should.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicates + self.disordered + self.misdelivered == 0
    }

    /// Adds another outcome.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disordered += other.disordered;
        self.misdelivered += other.misdelivered;
        self.unsure += other.unsure;
    }
}

/// Compares what was sent with what was received. A message to [`EVERYBODY`] is for each inbox.
pub fn judge<'a>(sent: &[Sent], inboxes: impl IntoIterator<Item = &'a Inbox>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_recipient = std::collections::HashMap::<u32, Vec<&Sent>>::new();
    for one in sent {
        by_recipient.entry(one.recipient).or_default().push(one);
        verdict.unsure += one.unsure.len() as u64;
    }
    let none = Vec::new();
    for inbox in inboxes {
        verdict.duplicates += inbox.duplicates;
        verdict.disordered += inbox.disordered;
        verdict.misdelivered += inbox.misdelivered;
        let own = by_recipient.get(&inbox.recipient).unwrap_or(&none);
        let mut known = 0;
        for one in own.iter().chain(by_recipient.get(&EVERYBODY).unwrap_or(&none)) {
            let track = inbox.tracks.iter().find(|(sender, _)| *sender == one.sender).map(|(_, track)| track);
            let beyond = track.map_or(0, |track| (one.count..track.next).filter(|n| track.has(*n)).count() as u64);
            let unsure = track.map_or(0, |track| one.unsure.iter().filter(|n| track.has(**n)).count() as u64);
            let received = track.map_or(0, |track| track.count) - beyond - unsure;
            let expected = u64::from(one.count) - one.unsure.len() as u64;
            verdict.expected += expected;
            verdict.received += received;
            verdict.lost += expected - received;
            verdict.misdelivered += beyond;
            known += u64::from(track.is_some());
        }
        if known < inbox.tracks.len() as u64 {
            let strange =
                |sender: u32| !own.iter().chain(by_recipient.get(&EVERYBODY).unwrap_or(&none)).any(|one| one.sender == sender);
            verdict.misdelivered +=
                inbox.tracks.iter().filter(|(sender, _)| strange(*sender)).map(|(_, track)| track.count).sum::<u64>();
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(sender: u32, recipient: u32, number: u32) -> Mark {
        Mark { sender, recipient, number, nanos: 0 }
    }

    /// What is done to a message on its way.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Way {
        Delivered,
        Lost,
        Twice,
        /// In front of the last one that came.
        Late,
        ToAnother,
    }

    fn way() -> impl Strategy<Value = Way> {
        prop_oneof![
            6 => Just(Way::Delivered), 1 => Just(Way::Lost), 1 => Just(Way::Twice), 1 => Just(Way::Late), 1 => Just(Way::ToAnother)
        ]
    }

    proptest! {
        #[test]
        fn every_fault_is_counted_exactly(ways in proptest::collection::vec((0_u32..3, 0_u32..4, way()), 0..300)) {
            let mut counts = std::collections::HashMap::new();
            let mut arrivals: Vec<Vec<Mark>> = vec![Vec::new(); 5];
            let mut expected = Verdict::default();
            for (sender, recipient, way) in ways {
                let count = counts.entry((sender, recipient)).or_insert(0_u32);
                let mark = mark(sender, recipient, *count);
                *count += 1;
                expected.expected += 1;
                let arrived = &mut arrivals[recipient as usize];
                match way {
                    Way::Delivered => arrived.push(mark),
                    Way::Lost => expected.lost += 1,
                    Way::Twice => {
                        arrived.extend([mark, mark]);
                        expected.duplicates += 1;
                    }
                    Way::Late => arrived.insert(arrived.len().saturating_sub(1), mark),
                    Way::ToAnother => {
                        arrivals[4].push(mark);
                        expected.lost += 1;
                        expected.misdelivered += 1;
                    }
                }
            }
            expected.received = expected.expected - expected.lost;
            // By the definition: a message that comes for the first time, and behind one with a higher number of its sender.
            for arrived in &arrivals[..4] {
                let first = |(at, mark): &(usize, &Mark)| !arrived[..*at].contains(mark);
                let late = |(at, mark): &(usize, &Mark)| {
                    arrived[..*at].iter().any(|other| other.sender == mark.sender && other.number > mark.number)
                };
                expected.disordered += arrived.iter().enumerate().filter(first).filter(late).count() as u64;
            }
            let inboxes: Vec<Inbox> = (0..5).map(|n| {
                let mut inbox = Inbox::new(n);
                for mark in &arrivals[n as usize] {
                    inbox.record(*mark);
                }
                inbox
            }).collect();
            let sent: Vec<Sent> = counts.iter()
                .map(|((sender, recipient), count)| Sent { sender: *sender, recipient: *recipient, count: *count, unsure: Vec::new() })
                .collect();
            prop_assert_eq!(judge(&sent, &inboxes), expected);
            prop_assert_eq!(expected.is_clean(), expected.lost + expected.duplicates + expected.disordered + expected.misdelivered == 0);
        }
    }

    #[test]
    fn broadcasts_are_expected_by_everybody() {
        let sent = [Sent { sender: 1, recipient: EVERYBODY, count: 3, unsure: vec![] }];
        let mut inboxes = [Inbox::new(0), Inbox::new(1)];
        for number in 0..3 {
            inboxes[0].record(mark(1, EVERYBODY, number));
        }
        inboxes[1].record(mark(1, EVERYBODY, 2));
        let verdict = judge(&sent, &inboxes);
        assert_eq!((verdict.expected, verdict.received, verdict.lost), (6, 4, 2));
    }

    #[test]
    fn messages_of_unknown_acceptance_are_neither_lost_nor_received() {
        let sent = [Sent { sender: 0, recipient: 0, count: 4, unsure: vec![1, 2] }];
        let mut inbox = Inbox::new(0);
        for number in [0, 2, 3] {
            assert_eq!(inbox.record(mark(0, 0, number)), Received::New);
        }
        let verdict = judge(&sent, [&inbox]);
        assert_eq!(verdict, Verdict { expected: 2, received: 2, unsure: 2, ..Verdict::default() });
    }

    #[test]
    fn messages_that_nobody_sent_are_misdelivered() {
        let mut inbox = Inbox::new(0);
        for (sender, number) in [(0, 0), (0, 5), (9, 0), (0, MAX_NUMBER)] {
            inbox.record(mark(sender, 0, number));
        }
        let verdict = judge(&[Sent { sender: 0, recipient: 0, count: 1, unsure: vec![] }], [&inbox]);
        assert_eq!((verdict.lost, verdict.received, verdict.misdelivered), (0, 1, 3));
    }
}
