//! Publishers and readers that outlive the server, and their records of what was accepted and received.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ADMIN_PASSWORD, Client, http};

/// A user who is sent to.
pub struct Recipient {
    pub id: u64,
    pub token: String,
    /// Every message whose send was answered with success: id → text.
    pub accepted: Mutex<BTreeMap<u64, String>>,
    /// Every message that arrived, by the first time it did.
    pub received: Mutex<Vec<(u64, String)>>,
}

/// The state that publishers and readers share.
pub struct Load {
    pub address: Mutex<SocketAddr>,
    pub admin: String,
    pub recipients: Vec<Recipient>,
    pub stop: AtomicBool,
    counter: AtomicU64,
}

impl Load {
    /// Logs in and makes `count` users on a running server.
    pub async fn prepare(address: SocketAddr, count: usize) -> Arc<Self> {
        let admin = http::log_in(address, "admin", ADMIN_PASSWORD).await;
        let mut recipients = Vec::new();
        for n in 0..count {
            let (name, password) = (format!("reader{n}"), "reader-password");
            let made =
                http::post(address, "/api/users", &admin, json!({"username": name, "password": password})).await.expect(201);
            let (id, token) = (made["data"]["id"].as_u64().unwrap(), http::log_in(address, &name, password).await);
            recipients.push(Recipient { id, token, accepted: Mutex::default(), received: Mutex::default() });
        }
        let (stop, counter) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { address: Mutex::new(address), admin, recipients, stop, counter })
    }

    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sends one message of about `size` bytes to recipient `to`, and notes it when it was accepted.
    pub async fn send(&self, to: usize, size: usize) -> Option<u64> {
        let recipient = &self.recipients[to];
        let text = format!("{}-{}", self.counter.fetch_add(1, Ordering::Relaxed), "x".repeat(size));
        let (path, body) = (format!("/api/messages/user/{}", recipient.id), json!({"message": text}).to_string());
        let answer = http::try_call(self.address(), "POST", &path, &self.admin, &body).await?;
        let id = answer.json["data"]["id"].as_u64().filter(|_| answer.status == 200)?;
        recipient.accepted.lock().unwrap().insert(id, text);
        Some(id)
    }

    /// Starts `count` publishers, which go on until [`Load::stop`] is set, whatever happens to the server. One message in `large` has
    /// 100 KB; 0: none.
    pub fn publish(self: &Arc<Self>, tasks: &mut JoinSet<()>, count: usize, large: u32) {
        for _ in 0..count {
            let load = self.clone();
            tasks.spawn(async move {
                while !load.stopped() {
                    let to = rand::random_range(0..load.recipients.len());
                    let size = if large > 0 && rand::random_ratio(1, large) { 100_000 } else { 20 };
                    if load.send(to, size).await.is_none() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
    }

    /// Reads recipient `who`'s messages on one connection: up to `most` of them, or to the id `until`, or until nothing comes for
    /// `idle`. Ids must rise on it. Records each message when it comes for the first time.
    pub async fn read(&self, who: usize, most: usize, until: u64, idle: Duration) {
        let recipient = &self.recipients[who];
        let path = format!("/ws/device/?token={}", recipient.token);
        let opening = Client::open(self.address(), &path, &[]);
        let Ok(Ok(Client { stream: mut client, .. })) = timeout(Duration::from_secs(5), opening).await else { return };
        let (mut last, mut seen) = (0, 0);
        while seen < most
            && last < until
            && let Ok(Some(Ok(message))) = timeout(idle, client.next()).await
        {
            let Ok(text) = message.into_text() else { continue };
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            let Some(id) = event["id"].as_u64() else { continue };
            assert!(id > last, "id {id} after {last} on one connection");
            (last, seen) = (id, seen + 1);
            let mut received = recipient.received.lock().unwrap();
            match received.binary_search_by_key(&id, |r| r.0) {
                Ok(at) => assert_eq!(received[at].1, event["message"], "message {id} has changed"),
                Err(at) => {
                    assert_eq!(at, received.len(), "message {id} came for the first time after a newer one");
                    received.push((id, event["message"].as_str().unwrap().to_owned()));
                }
            }
        }
        // Sometimes with a closing handshake, sometimes without.
        if rand::random_bool(0.5) {
            let _ = timeout(Duration::from_millis(500), client.close(None)).await;
        }
    }

    /// Starts one reader a recipient that connects and disconnects until [`Load::stop`] is set.
    pub fn come_and_go(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        for who in 0..self.recipients.len() {
            let load = self.clone();
            tasks.spawn(async move {
                while !load.stopped() {
                    let most = rand::random_range(1..200);
                    load.read(who, most, u64::MAX, Duration::from_millis(100)).await;
                    tokio::time::sleep(Duration::from_millis(rand::random_range(0..50))).await;
                }
            });
        }
    }

    /// Reads until everything accepted has arrived, and returns how many that were.
    pub async fn settle(&self) -> usize {
        let mut total = 0;
        for (who, recipient) in self.recipients.iter().enumerate() {
            let missing = || {
                let received = recipient.received.lock().unwrap();
                let has = |id: &u64| received.binary_search_by_key(id, |r| r.0).is_ok();
                recipient.accepted.lock().unwrap().keys().copied().filter(|id| !has(id)).collect::<Vec<_>>()
            };
            for _ in 0..5 {
                let Some(last) = missing().last().copied() else { break };
                self.read(who, usize::MAX, last, Duration::from_secs(5)).await;
            }
            assert_eq!(missing(), Vec::<u64>::new(), "accepted messages never arrived");
            let received = recipient.received.lock().unwrap();
            for (id, text) in &*recipient.accepted.lock().unwrap() {
                let at = received.binary_search_by_key(id, |r| r.0).unwrap();
                assert_eq!(&received[at].1, text, "message {id} has changed");
                total += 1;
            }
        }
        total
    }
}
