//! Mailboxes of several nodes, which share one log.

use std::task::{Context, Waker};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::cluster::memory::Faults;
use crate::cluster::simulation::{Node, World, run};
use crate::core::ids::DeviceId;
use crate::hub::Subscription;
use crate::wire::JsonObject;

/// The sender and the recipient of the tests.
const SENDER: UserId = UserId(1);
const RECIPIENT: UserId = UserId(2);

/// A node with its mailbox.
struct Place {
    mailbox: Mailbox,
    hub: Arc<Hub>,
}

fn place(node: &Node) -> Place {
    let (running, metrics, hub) = (node.running(), Metrics::new(Arc::default()), Hub::new(16, 1 << 20));
    let mut config = Config::default();
    config.storage.min_free_bytes = 0;
    let mailbox = Mailbox::new(running.store, running.changes, hub.clone(), &config, metrics);
    Place { mailbox, hub }
}

impl Place {
    async fn send(&self, text: &str, watcher: Option<OutcomeSender>) -> Accepted {
        let object = JsonObject::new(&json!({ "message": text })).unwrap();
        let recipient = Recipient::User(RECIPIENT);
        self.mailbox.send(Outgoing { watcher, ..Outgoing::new(recipient, SENDER, object) }).await.unwrap()
    }

    fn subscribe(&self) -> Subscription {
        self.hub.subscribe(RECIPIENT, None::<DeviceId>, false)
    }

    async fn reader(&self) -> LogReader {
        let (user, client) = (RECIPIENT, ClientName::default());
        self.mailbox.join(user, &client).await.unwrap();
        let position = Arc::default();
        let options = ReaderOptions { user, client, device: None, since: None, max_bytes: None, peek: false, position };
        self.mailbox.reader(options).0
    }

    /// Reads all that waits; returns the texts, and the id of the last one.
    async fn read(&self, reader: &mut LogReader) -> (Vec<String>, MessageId) {
        let (mut texts, mut last) = (Vec::new(), MessageId(0));
        loop {
            let chunk = reader.read(&self.mailbox, 100_000, 100).await.unwrap();
            for (id, payload) in &chunk.messages {
                let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
                texts.push(event["message"].as_str().unwrap().to_owned());
                last = *id;
            }
            reader.advance(chunk.upto);
            if chunk.complete {
                return (texts, last);
            }
        }
    }

    fn status(&self, id: MessageId) -> Status {
        self.mailbox.receipt(id).unwrap().unwrap().status
    }
}

/// What a subscription has got so far: ids and payloads.
fn announced(subscription: &mut Subscription) -> Vec<(Option<MessageId>, String)> {
    let mut all = Vec::new();
    while let std::task::Poll::Ready(Ok(batch)) = subscription.poll_batch(&Context::from_waker(Waker::noop())) {
        all.extend(batch.iter().map(|one| (one.id, String::from_utf8_lossy(one.payload()).into_owned())));
    }
    all
}

#[test]
fn message_is_announced_and_read_at_every_node_and_acknowledged_for_all() {
    run(async {
        let (world, mut nodes) = World::new(5, Faults::default());
        for (node, boot) in nodes.iter_mut().zip(1..) {
            node.start(&world, boot, 0);
        }
        world.settle(&nodes).await;
        let places: Vec<Place> = nodes.iter().map(place).collect();
        let mut here: Vec<Subscription> = places.iter().map(Place::subscribe).collect();
        let (watcher, mut outcomes) = tokio::sync::mpsc::channel(4);
        let first = places[0].send("one", Some(watcher)).await;
        assert_eq!(first.recipients, 1, "those at the sender's node");
        let second = places[2].send("two", None).await;
        assert!(second.id > first.id, "one order");
        sleep(Duration::from_secs(1)).await;
        for subscription in &mut here {
            let all = announced(subscription);
            let ids: Vec<_> = all.iter().map(|(id, _)| id.unwrap()).collect();
            assert_eq!(ids, [first.id, second.id]);
            assert!(all[0].1.contains("one") && all[1].1.contains("two"));
        }
        // Read and acknowledged at one node: nobody gets it again at another.
        let mut reader = places[1].reader().await;
        let (texts, last) = places[1].read(&mut reader).await;
        assert_eq!((texts, last), (vec!["one".into(), "two".into()], second.id));
        for place in &places {
            assert!(matches!(place.status(first.id), Status::Queued));
        }
        places[1].mailbox.received(&mut reader, second.id);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(outcomes.recv().await.unwrap(), (first.id, Outcome::Received), "told to the sender, at its node");
        for place in &places {
            assert!(matches!(place.status(first.id), Status::Ended(EndState::Acked, _)));
            let mut reader = place.reader().await;
            assert_eq!(place.read(&mut reader).await.0, Vec::<String>::new());
        }
        drop((places, here, reader));
        for node in &mut nodes {
            node.kill().await;
        }
    });
}
