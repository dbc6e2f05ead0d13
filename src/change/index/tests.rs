//! Tests of the index.

use super::*;
use crate::core::client::ClientName;
use crate::core::ids::DeviceId;

const ANA: UserId = UserId(1);
const TO_ANA: Recipient = Recipient::User(ANA);
const LAMP: Recipient = Recipient::Device(DeviceId(1));
const NOW: Timestamp = Timestamp::EPOCH;

fn name(text: &str) -> ClientName {
    ClientName::chosen(text).unwrap()
}

fn index(messages: usize, keep: usize) -> Index {
    let limits = MailboxConfig { messages, readers: 3, reader_days: 1, ..MailboxConfig::default() };
    let mut index = Index::new(limits, HistoryConfig { retain: 100, messages: keep, receipts: 100 });
    index.add_user(ANA, MessageId(0));
    index
}

fn ack(client: &str, upto: u64) -> Ack {
    let (zero, client) = (MessageId(0), name(client));
    Ack { user: ANA, client, device: Some(DeviceId(1)), upto: MessageId(upto), told: zero, told_broadcasts: zero, passed: vec![] }
}

fn append(index: &mut Index, recipient: Recipient, id: u64, expires: u64, length: u32) {
    index.append(&Head { id: MessageId(id), recipient, sender: ANA, expires, ttl: 1000, created: NOW, length });
}

/// Adds messages of one byte that live for a thousand seconds.
fn fill(index: &mut Index, to: Recipient, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        append(index, to, id, 1000, 1);
        index.add_block(MessageId(id), MessageId(id), 1, 1);
    }
}

/// Removes the blocks that are of no use any more, as a commit does.
fn write(index: &mut Index, effects: &Effects) {
    effects.freed.iter().for_each(|&first| index.remove_block(first));
}

/// Applies a proof, and returns the messages that it has removed.
fn prove(index: &mut Index, ack: &Ack, now: u64) -> Vec<u64> {
    let mut effects = Effects::default();
    let (_, more) = index.acknowledge(ack, MAX_OPERATION_MESSAGES, now, NOW, &mut effects);
    assert!(!more);
    effects.removed.iter().map(|id| id.0).collect()
}

#[test]
fn proof_of_many_messages_is_applied_in_parts() {
    let mut index = index(5000, 10);
    index.join(ANA, &name("a"), 1, NOW).unwrap();
    fill(&mut index, TO_ANA, (1..=1300).step_by(2));
    fill(&mut index, Recipient::All, (2..=1300).step_by(2));
    let (mut rounds, mut total) = (0, 0);
    loop {
        rounds += 1;
        let mut effects = Effects::default();
        let (count, more) = index.acknowledge(&ack("a", 2000), MAX_OPERATION_MESSAGES, 1, NOW, &mut effects);
        assert!(count <= MAX_OPERATION_MESSAGES && effects.size() <= 3 * MAX_OPERATION_MESSAGES);
        total += count;
        if !more {
            break;
        }
    }
    assert_eq!((rounds, total), (1300usize.div_ceil(MAX_OPERATION_MESSAGES), 1300));
    assert_eq!(index.size(TO_ANA, 1), Size::default());
}

#[test]
fn full_by_number_and_by_bytes() {
    let mut s = index(2, 10);
    append(&mut s, LAMP, 1, 50, 10);
    assert_eq!(s.room(LAMP, ANA, 10, true), Ok(()));
    append(&mut s, LAMP, 2, 50, 10);
    assert_eq!(s.room(LAMP, ANA, 0, true), Err(Full::Mailbox));
    assert_eq!(s.room(Recipient::All, ANA, 0, true), Ok(()));
    assert!(prove(&mut s, &ack("a", 1), 5).is_empty());
    assert_eq!(s.room(LAMP, ANA, 10, true), Ok(()));
    let large = usize::try_from(MailboxConfig::default().bytes).unwrap();
    assert_eq!(s.room(LAMP, ANA, large, true), Err(Full::Mailbox));
    assert_eq!(s.size(LAMP, 5), Size { messages: 1, bytes: 10, oldest: Some(MessageId(2)) });
}

#[test]
fn sender_is_bounded_over_all_mailboxes() {
    let limits = MailboxConfig { sender_bytes: 1000, ..MailboxConfig::default() };
    let mut s = Index::new(limits, HistoryConfig { retain: 100, messages: 10, receipts: 100 });
    let room = |s: &Index, bytes| s.room(LAMP, ANA, bytes, false);
    assert_eq!(room(&s, 5000), Ok(()), "one message is always accepted");
    for (id, recipient) in [(1, LAMP), (2, Recipient::User(ANA)), (3, Recipient::All)] {
        append(&mut s, recipient, id, 50, 300);
    }
    assert_eq!((room(&s, 100), room(&s, 101)), (Ok(()), Err(Full::Sender)));
    assert_eq!((s.room(LAMP, UserId(77), 101, false), s.room(LAMP, ANA, 101, true)), (Ok(()), Ok(())));
    // Whatever ends the wait of a message: receipt, cancellation, clearing, the end of its life, the deletion of its mailbox.
    assert!(prove(&mut s, &ack("a", 1), 5).is_empty());
    assert_eq!((s.payload_bytes(), room(&s, 400), room(&s, 401)), (900, Ok(()), Err(Full::Sender)), "received, and kept");
    s.cancel(Recipient::User(ANA), MessageId(2));
    assert_eq!((room(&s, 700), room(&s, 701)), (Ok(()), Err(Full::Sender)));
    s.sweep(51);
    assert_eq!((room(&s, 5000), s.payload_bytes()), (Ok(()), 300));
    append(&mut s, LAMP, 4, 1000, 900);
    s.clear(LAMP, 9, 52);
    append(&mut s, LAMP, 5, 1000, 900);
    assert_eq!((room(&s, 101), s.payload_bytes()), (Err(Full::Sender), 1200));
    s.forget(LAMP, None, 53);
    assert_eq!((room(&s, 5000), s.payload_bytes()), (Ok(()), 0));
}

#[test]
fn history_is_bounded_by_bytes() {
    let limits = MailboxConfig { bytes: 1000, ..MailboxConfig::default() };
    let mut s = Index::new(limits, HistoryConfig { retain: 1_000_000, messages: 1000, receipts: 100 });
    for id in 1..=20 {
        append(&mut s, LAMP, id, 5000, 300);
        prove(&mut s, &ack("a", id), 5);
        assert_eq!(s.payload_bytes(), 300 * id.min(3), "{id}");
    }
}

#[test]
fn last_tenth_of_messages_and_bytes_is_kept_for_the_privileged() {
    for (messages, for_users) in [(1, 1), (5, 5), (9, 9), (10, 9), (19, 18), (20, 18), (1000, 900)] {
        let mut s = index(messages, 10);
        for id in 1..=messages as u64 {
            let by_user = s.room(LAMP, ANA, 1, false);
            assert_eq!(by_user.is_ok(), id <= for_users, "{id} of {messages}");
            assert_eq!(s.room(LAMP, ANA, 1, true), Ok(()), "{id} of {messages}");
            append(&mut s, LAMP, id, 1000, 1);
        }
        assert_eq!((s.room(LAMP, ANA, 0, true), s.room(LAMP, ANA, 0, false)), (Err(Full::Mailbox), Err(Full::Mailbox)));
        s.clear(LAMP, 1, 5);
        assert_eq!((s.room(LAMP, ANA, 0, true), s.room(LAMP, ANA, 0, false).is_ok()), (Ok(()), for_users == messages as u64));
    }
    let sized = |bytes| {
        let limits = MailboxConfig { messages: 0, bytes, sender_bytes: 0, ..MailboxConfig::default() };
        Index::new(limits, HistoryConfig { retain: 100, messages: 10, receipts: 100 })
    };
    let mut s = sized(1000);
    append(&mut s, LAMP, 1, 1000, 800);
    assert_eq!((s.room(LAMP, ANA, 100, false), s.room(LAMP, ANA, 101, false)), (Ok(()), Err(Full::Mailbox)));
    assert_eq!((s.room(LAMP, ANA, 200, true), s.room(LAMP, ANA, 201, true)), (Ok(()), Err(Full::Mailbox)));
    // The one message that is always accepted takes nothing of the tenth, however large it is.
    let mut s = sized(1000);
    append(&mut s, LAMP, 1, 1000, 5000);
    assert_eq!(
        (s.room(LAMP, ANA, 1, false), s.room(LAMP, ANA, 100, true), s.room(LAMP, ANA, 101, true)),
        (Err(Full::Mailbox), Ok(()), Err(Full::Mailbox))
    );
    append(&mut s, LAMP, 2, 1000, 100);
    assert_eq!(s.room(LAMP, ANA, 1, true), Err(Full::Mailbox));
    let mut s = sized(0);
    append(&mut s, LAMP, 1, 1000, 5000);
    assert_eq!(s.room(LAMP, ANA, 1 << 30, false), Ok(()), "no bound");
}

#[test]
fn reload_applies_to_existing_history() {
    let mut s = index(3, 10);
    fill(&mut s, LAMP, 1..=3);
    prove(&mut s, &ack("a", 2), 50);
    assert!(s.sweep(60).removed.is_empty(), "kept for 100");
    let limits = MailboxConfig { messages: 1, ..MailboxConfig::default() };
    s.reload(limits, HistoryConfig { retain: 20, messages: 10, receipts: 100 }, 65);
    assert_eq!(s.room(LAMP, ANA, 1, true), Err(Full::Mailbox));
    assert!(s.sweep(65).removed.is_empty());
    assert_eq!(s.sweep(70).removed, [MessageId(1), MessageId(2)]);
    assert_eq!(s.size(LAMP, 70).messages, 1, "pending messages stay");
}

#[test]
fn history_is_bounded_by_number_and_by_time() {
    let mut s = index(10, 2);
    fill(&mut s, LAMP, 1..=4);
    assert_eq!(prove(&mut s, &ack("a", 3), 10), [1]);
    assert_eq!(s.sweep(109), Effects::default());
    assert_eq!(s.sweep(110).removed, [MessageId(2), MessageId(3)]);
    assert!(s.contains(LAMP, MessageId(4)));
}

#[test]
fn messages_expire_in_any_order() {
    let mut s = index(10, 10);
    append(&mut s, LAMP, 1, 30, 7);
    append(&mut s, LAMP, 2, 10, 7);
    assert_eq!(s.sweep(9), Effects::default());
    assert_eq!(s.sweep(10).removed, [MessageId(2)]);
    assert_eq!(s.size(LAMP, 10).bytes, 7);
    assert_eq!(s.sweep(35).removed, [MessageId(1)]);
    assert!(s.due.is_empty() && s.queues.is_empty());
}

#[test]
fn message_is_kept_until_every_reader_has_it() {
    let mut s = index(10, 0);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    s.join(ANA, &name("b"), 1, NOW).unwrap();
    fill(&mut s, TO_ANA, 1..=3);
    assert!(prove(&mut s, &ack("a", 3), 5).is_empty());
    assert_eq!(s.size(TO_ANA, 5).messages, 0, "what some reader has does not count");
    assert_eq!(s.delivery_state(TO_ANA, MessageId(1)).0, DeliveryState::Received);
    assert_eq!(prove(&mut s, &ack("b", 2), 5), [1, 2]);
    let place = s.reader(TO_ANA, ANA, &name("b"), MessageId(0), 5);
    assert_eq!((place.cursor, place.waiting, place.missed), (MessageId(2), 1, 0));
    // A reader that is added later starts with what nobody has.
    s.join(ANA, &name("c"), 1, NOW).unwrap();
    assert_eq!(s.reader(TO_ANA, ANA, &name("c"), MessageId(0), 5).waiting, 0);
    assert_eq!(s.join(ANA, &name("d"), 1, NOW), Err(TooManyReaders));
    assert_eq!(s.join(ANA, &ClientName::of_device(DeviceId(7)), 1, NOW), Ok(Joined::Further), "devices do not count");
}

#[test]
fn messages_beyond_the_bound_give_way_and_are_counted_for_those_who_lack_them() {
    let mut s = index(3, 0);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    s.join(ANA, &name("b"), 1, NOW).unwrap();
    for id in 1..=6 {
        fill(&mut s, TO_ANA, [id]);
        prove(&mut s, &ack("a", id), 5);
    }
    let place = s.reader(TO_ANA, ANA, &name("b"), MessageId(0), 5);
    assert_eq!((place.waiting, place.missed), (3, 3));
    assert_eq!(s.reader(TO_ANA, ANA, &name("a"), MessageId(0), 5).missed, 0);
    // Told, and proved something: no longer counted.
    prove(&mut s, &Ack { told: place.told, ..ack("b", 4) }, 5);
    assert_eq!(s.reader(TO_ANA, ANA, &name("b"), MessageId(0), 5).missed, 0);
    for id in 7..=9 {
        fill(&mut s, TO_ANA, [id]);
        prove(&mut s, &ack("a", id), 5);
    }
    assert_eq!(s.reader(TO_ANA, ANA, &name("b"), MessageId(0), 5).missed, 2);
}

#[test]
fn message_that_every_reader_passes_over_is_undeliverable() {
    let mut s = index(10, 10);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    s.join(ANA, &name("b"), 1, NOW).unwrap();
    fill(&mut s, TO_ANA, 1..=3);
    let mut effects = Effects::default();
    let passing = |client, upto| Ack { passed: vec![MessageId(2)], ..ack(client, upto) };
    s.acknowledge(&passing("a", 3), 100, 5, NOW, &mut effects);
    assert_eq!(effects.passed.len(), 1);
    assert_eq!(s.size(TO_ANA, 5).messages, 1, "nobody has it");
    s.acknowledge(&passing("b", 2), 100, 5, NOW, &mut effects);
    let last = effects.ended.last().map(|ended| (ended.head.id, ended.state));
    assert_eq!(last, Some((MessageId(2), EndState::Undeliverable)));
    assert_eq!(s.size(TO_ANA, 5).messages, 0);
}

#[test]
fn broadcasts_are_pending_for_each_user_separately() {
    let mut s = index(10, 10);
    let bob = UserId(2);
    s.add_user(bob, MessageId(0));
    s.add_user(UserId(3), MessageId(2));
    fill(&mut s, Recipient::All, 1..=2);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    prove(&mut s, &ack("a", 2), 5);
    let waiting = |s: &Index, user| s.reader(Recipient::All, user, &name("a"), MessageId(0), 5).waiting;
    assert_eq!((waiting(&s, ANA), waiting(&s, bob)), (0, 2));
    assert_eq!(waiting(&s, UserId(3)), 0, "broadcasts from before the account are not for it");
    assert_eq!((s.size(Recipient::User(bob), 5).messages, s.size(Recipient::All, 5).messages), (2, 0));
    assert_eq!(s.users_who_have(MessageId(1)), 1);
    assert_eq!(s.clear(Recipient::User(bob), 9, 5).0, 2);
    assert_eq!(waiting(&s, bob), 0);
    assert_eq!(s.users_who_have(MessageId(1)), 1, "cleared is not received");
}

#[test]
fn blocks_are_freed_with_their_last_message_and_shrunk_before() {
    let mut s = index(100, 0);
    for id in 1..=8 {
        append(&mut s, LAMP, id, 1000, 1);
    }
    s.add_block(MessageId(1), MessageId(8), 8, 8);
    let mut effects = Effects::default();
    for id in 1..=8 {
        s.acknowledge(&ack("a", id), 100, 5, NOW, &mut effects);
    }
    assert_eq!((effects.shrunk, effects.freed), (vec![MessageId(1)], vec![MessageId(1)]));
    assert_eq!(s.block_of(MessageId(3)), Some(MessageId(1)), "until it is removed from the disk");
    s.remove_block(MessageId(1));
    assert_eq!(s.block_of(MessageId(3)), None);
}

#[test]
fn forget_leaves_nothing() {
    let mut s = index(10, 10);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    fill(&mut s, TO_ANA, 1..=2);
    prove(&mut s, &ack("a", 1), 5);
    let effects = s.forget(TO_ANA, None, 5);
    assert_eq!(effects.removed, [MessageId(1), MessageId(2)]);
    write(&mut s, &effects);
    assert!(s.due.is_empty() && s.queues.is_empty() && s.cursors.is_empty() && s.marks.is_empty());
    assert!(s.places.is_empty() && s.blocks.is_empty());
}

#[test]
fn readers_without_connections_are_forgotten_after_a_while() {
    let mut s = index(10, 10);
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    s.join(ANA, &name("b"), 1, NOW).unwrap();
    assert!(!s.must_join(ANA, &name("b"), 3600) && s.must_join(ANA, &name("b"), 3601));
    s.join(ANA, &name("b"), 4000, NOW).unwrap();
    assert_eq!(s.expire_readers(86_400).len(), 0);
    assert_eq!(s.expire_readers(86_401).len(), 1);
    let left: Vec<_> = s.readers(ANA, "", 10, 5).into_iter().map(|reader| reader.client).collect();
    assert_eq!(left, [name("b")]);
}

#[test]
fn readers_are_listed_by_name_in_parts() {
    let mut s = index(10, 10);
    for reader in ["c", "b", "a"] {
        s.join(ANA, &name(reader), 1, NOW).unwrap();
    }
    let names =
        |after, limit| s.readers(ANA, after, limit, 5).into_iter().map(|reader| reader.client.to_string()).collect::<String>();
    assert_eq!([names("", 10), names("", 2), names("a", 1), names("aa", 10), names("c", 10)], ["abc", "ab", "b", "bc", ""]);
}

#[test]
fn sent_state_and_deliveries_are_kept_until_received() {
    let mut s = index(10, 10);
    fill(&mut s, LAMP, 1..=2);
    let when = |micros| Timestamp::from_unix_micros(micros);
    s.sent(LAMP, MessageId(0), MessageId(1), when(5), &[]);
    s.sent(LAMP, MessageId(0), MessageId(2), when(9), &[MessageId(2)]);
    assert_eq!(s.delivery_state(LAMP, MessageId(1)), (DeliveryState::Sent(when(5)), 2));
    assert_eq!(s.delivery_state(LAMP, MessageId(2)), (DeliveryState::Queued, 0));
    assert_eq!(s.clear(LAMP, 9, 5).2.removed, [MessageId(1), MessageId(2)]);
    assert_eq!((s.total(), s.delivery_state(LAMP, MessageId(1)).1), ((0, Size::default()), 2));
}

#[test]
fn memory_is_that_of_what_is_there() {
    let mut s = index(1000, 0);
    let with_user = s.memory_bytes();
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    s.join(ANA, &name("b"), 1, NOW).unwrap();
    assert_eq!(s.memory_bytes() - with_user, 2 * READER_BYTES);
    fill(&mut s, TO_ANA, 1..=10);
    assert_eq!(s.memory_bytes() - with_user, 2 * READER_BYTES + 10 * (MESSAGE_BYTES + BLOCK_BYTES));
    let effects = s.cancel(TO_ANA, MessageId(3));
    write(&mut s, &effects);
    assert_eq!(s.memory_bytes() - with_user, 2 * READER_BYTES + 9 * (MESSAGE_BYTES + BLOCK_BYTES));
    s.forget_reader(ANA, &name("b"), 1);
    assert_eq!(s.memory_bytes() - with_user, READER_BYTES + 9 * (MESSAGE_BYTES + BLOCK_BYTES));
    let effects = s.forget(TO_ANA, None, 1);
    write(&mut s, &effects);
    assert_eq!(s.memory_bytes(), with_user - USER_BYTES);
}

#[test]
fn mailbox_is_cleared_in_parts() {
    let mut s = index(1000, 10);
    s.add_user(ANA, MessageId(0));
    s.join(ANA, &name("a"), 1, NOW).unwrap();
    fill(&mut s, TO_ANA, 1..=10);
    fill(&mut s, Recipient::All, [11]);
    let (count, left, effects) = s.clear(TO_ANA, 4, 5);
    assert_eq!((count, left, effects.ended.len()), (5, true, 5), "with the broadcast");
    assert_eq!(
        s.messages(TO_ANA, MessageId(0), MessageId(99)).map(|waiting| waiting.id.0).collect::<Vec<_>>(),
        [5, 6, 7, 8, 9, 10]
    );
    assert_eq!(s.place_of(TO_ANA).unwrap().reader(&name("a")).unwrap().cursor, MessageId(4));
    assert_eq!((s.clear(TO_ANA, 4, 5).0, s.clear(TO_ANA, 4, 5).1), (4, false));
    assert_eq!(s.clear(TO_ANA, 4, 5).0, 0);
}
