//! Publishers and readers that outlive the server, and their records of what was accepted and received.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ADMIN_PASSWORD, Client, http};

/// Messages by id.
type Messages = BTreeMap<u64, String>;

/// The readers of a user who is at two places, and has a third client that connects once and is then absent to the end.
pub const THREE_READERS: [&str; 3] = ["phone", "tablet", "attic"];
/// Those of them that come and go.
pub const PRESENT_READERS: [&str; 2] = ["phone", "tablet"];
/// The reader of connections that state no name.
pub const DEFAULT_READER: &str = "default";

/// A reader of a user, and its own record.
pub struct ReaderRecord {
    /// The name that its connections state; [`DEFAULT_READER`]: they state none.
    pub name: &'static str,
    /// Every message that arrived, by the first time it did.
    received: Mutex<Messages>,
}

/// A user who is sent to.
pub struct Recipient {
    pub id: u64,
    pub token: String,
    /// Every message to it whose send was answered with success.
    accepted: Mutex<Messages>,
    readers: Vec<ReaderRecord>,
}

impl Recipient {
    /// Returns the path of a connection of that reader.
    fn path(&self, reader: &ReaderRecord) -> String {
        let query = if reader.name == DEFAULT_READER { String::new() } else { format!("&client={}", reader.name) };
        format!("/ws/device/?token={}{query}", self.token)
    }
}

/// The state that publishers and readers share.
pub struct Load {
    pub address: Mutex<SocketAddr>,
    pub admin: String,
    pub recipients: Vec<Recipient>,
    /// Every broadcast whose send was answered with success.
    broadcasts: Mutex<Messages>,
    pub stop: AtomicBool,
    counter: AtomicU64,
}

impl Load {
    /// Logs in and makes `count` users on a running server, each with the default reader.
    pub async fn prepare(address: SocketAddr, count: usize) -> Arc<Self> {
        Self::build(address, count, &[DEFAULT_READER]).await
    }

    /// Logs in and makes `count` users on a running server, each with these readers, all of which have connected once.
    pub async fn with_readers(address: SocketAddr, count: usize, names: &[&'static str]) -> Arc<Self> {
        let load = Self::build(address, count, names).await;
        for recipient in &load.recipients {
            for reader in &recipient.readers {
                let mut client = Client::open(address, &recipient.path(reader), &[]).await.unwrap();
                assert_eq!(client.json().await["type"], "connection_status");
            }
        }
        load
    }

    async fn build(address: SocketAddr, count: usize, names: &[&'static str]) -> Arc<Self> {
        let admin = http::log_in(address, "admin", ADMIN_PASSWORD).await;
        let mut recipients = Vec::new();
        for n in 0..count {
            let (name, password) = (format!("reader{n}"), "reader-password");
            let made =
                http::post(address, "/api/users", &admin, json!({"username": name, "password": password})).await.expect(201);
            let (id, token) = (made["data"]["id"].as_u64().unwrap(), http::log_in(address, &name, password).await);
            let readers = names.iter().map(|&name| ReaderRecord { name, received: Mutex::default() }).collect();
            recipients.push(Recipient { id, token, accepted: Mutex::default(), readers });
        }
        let (address, stop, counter) = (Mutex::new(address), AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { address, admin, recipients, broadcasts: Mutex::default(), stop, counter })
    }

    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sends one message of about `size` bytes to `path`, and notes it when it was accepted.
    async fn post(&self, path: &str, size: usize, accepted: &Mutex<Messages>) -> Option<u64> {
        let text = format!("{}-{}", self.counter.fetch_add(1, Ordering::Relaxed), "x".repeat(size));
        let body = json!({"message": text}).to_string();
        let answer = http::try_call(self.address(), "POST", path, &self.admin, &body).await?;
        let id = answer.json["data"]["id"].as_u64().filter(|_| answer.status == 200)?;
        accepted.lock().unwrap().insert(id, text);
        Some(id)
    }

    /// Sends one message of about `size` bytes to recipient `to`, and notes it when it was accepted.
    pub async fn send(&self, to: usize, size: usize) -> Option<u64> {
        let recipient = &self.recipients[to];
        self.post(&format!("/api/messages/user/{}", recipient.id), size, &recipient.accepted).await
    }

    /// Sends one broadcast of about `size` bytes, and notes it when it was accepted.
    pub async fn broadcast(&self, size: usize) -> Option<u64> {
        self.post("/api/messages/broadcast", size, &self.broadcasts).await
    }

    /// Starts `count` publishers, which go on until [`Load::stop`] is set, whatever happens to the server. One message in `large` has
    /// 100 KB, and one in `broadcasts` is a short broadcast; 0: none.
    pub fn publish(self: &Arc<Self>, tasks: &mut JoinSet<()>, count: usize, large: u32, broadcasts: u32) {
        let one_in = |n: u32| n > 0 && rand::random_ratio(1, n);
        for _ in 0..count {
            let load = self.clone();
            tasks.spawn(async move {
                while !load.stopped() {
                    let sent = if one_in(broadcasts) {
                        load.broadcast(20).await
                    } else {
                        let to = rand::random_range(0..load.recipients.len());
                        load.send(to, if one_in(large) { 100_000 } else { 20 }).await
                    };
                    if sent.is_none() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
    }

    /// Reads as `reader` of `recipient` on one connection: up to `most` messages, or to the id `until`, or until nothing comes for
    /// `idle`. Ids must rise on it, and nothing may have given way. Records each message when it comes for the first time.
    async fn read(&self, recipient: &Recipient, reader: &ReaderRecord, most: usize, until: u64, idle: Duration) {
        let path = recipient.path(reader);
        let opening = Client::open(self.address(), &path, &[]);
        let Ok(Ok(Client { stream: mut client, .. })) = timeout(Duration::from_secs(5), opening).await else { return };
        let name = reader.name;
        let (mut last, mut seen) = (0, 0);
        while seen < most
            && last < until
            && let Ok(Some(Ok(message))) = timeout(idle, client.next()).await
        {
            let Ok(text) = message.into_text() else { continue };
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            let given_up = event["type"] == "missed" || event["missed"].as_u64().is_some_and(|n| n > 0);
            assert!(!given_up, "messages gave way for {name}: {event}");
            let Some(id) = event["id"].as_u64() else { continue };
            assert!(id > last, "id {id} after {last} on one connection of {name}");
            (last, seen) = (id, seen + 1);
            let mut received = reader.received.lock().unwrap();
            if let Some(before) = received.get(&id) {
                assert_eq!(before, &event["message"], "message {id} has changed for {name}");
            } else {
                let newest = received.last_key_value().map_or(0, |(id, _)| *id);
                assert!(id > newest, "message {id} came to {name} for the first time after {newest}");
                received.insert(id, event["message"].as_str().unwrap().to_owned());
            }
        }
        // Sometimes with a closing handshake, sometimes without.
        if rand::random_bool(0.5) {
            let _ = timeout(Duration::from_millis(500), client.close(None)).await;
        }
    }

    /// Starts these readers of each recipient, which connect and disconnect until [`Load::stop`] is set.
    pub fn come_and_go(self: &Arc<Self>, tasks: &mut JoinSet<()>, names: &'static [&'static str]) {
        for who in 0..self.recipients.len() {
            for &name in names {
                let load = self.clone();
                tasks.spawn(async move {
                    let recipient = &load.recipients[who];
                    let reader = recipient.readers.iter().find(|reader| reader.name == name).unwrap();
                    while !load.stopped() {
                        let most = rand::random_range(1..200);
                        load.read(recipient, reader, most, u64::MAX, Duration::from_millis(100)).await;
                        tokio::time::sleep(Duration::from_millis(rand::random_range(0..50))).await;
                    }
                });
            }
        }
    }

    /// Reads until everything accepted has arrived at every reader, and returns how many messages that were. Readers of one user
    /// must have received the same, also of the sends that were not answered.
    pub async fn settle(&self) -> usize {
        let broadcasts = self.broadcasts.lock().unwrap().clone();
        let mut total = broadcasts.len();
        for recipient in &self.recipients {
            let mut due = recipient.accepted.lock().unwrap().clone();
            total += due.len();
            due.extend(broadcasts.clone());
            let Some(last) = due.last_key_value().map(|(id, _)| *id) else { continue };
            for reader in &recipient.readers {
                self.catch_up(recipient, reader, &due).await;
            }
            let upto = |reader: &ReaderRecord| reader.received().range(..=last).map(|(id, _)| *id).collect::<Vec<_>>();
            let first = upto(&recipient.readers[0]);
            for reader in &recipient.readers[1..] {
                assert_eq!(upto(reader), first, "{} and {} of one user", reader.name, recipient.readers[0].name);
            }
        }
        total
    }

    /// Reads as `reader` until it has all that is due.
    async fn catch_up(&self, recipient: &Recipient, reader: &ReaderRecord, due: &Messages) {
        let missing = || {
            let received = reader.received();
            due.keys().copied().filter(|id| !received.contains_key(id)).collect::<Vec<_>>()
        };
        for _ in 0..5 {
            let Some(last) = missing().last().copied() else { break };
            self.read(recipient, reader, usize::MAX, last, Duration::from_secs(5)).await;
        }
        assert_eq!(missing(), Vec::<u64>::new(), "accepted messages never arrived at {}", reader.name);
        let received = reader.received();
        for (id, text) in due {
            assert_eq!(&received[id], text, "message {id} has changed for {}", reader.name);
        }
    }
}

impl ReaderRecord {
    fn received(&self) -> MutexGuard<'_, Messages> {
        self.received.lock().unwrap()
    }
}
