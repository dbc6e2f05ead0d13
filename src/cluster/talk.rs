//! What nodes tell each other beside the log, on the engine's core: live messages, and who is connected where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::log::LogError;
use super::nats::NatsLog;
use super::peers::{Answer, Listener, Teller, Told};
use super::replica::SharedReplica;
use super::{BootId, NodeName, Position};
use crate::core::ids::Recipient;
use crate::hub::{Announcement, Hub};

/// The channels.
const PEERS: &str = "peers";
const LIVE: &str = "live";
/// The time for which connections come and go before others are told.
const GATHER: Duration = Duration::from_millis(10);
/// The time after which something is told although nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The pause before the engine is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait until other nodes have applied a change: who then asks another one may not find it there yet.
const MAX_SYNC: Duration = Duration::from_millis(250);
/// The questions that wait for an answer of others, or of this node, at most.
const MAX_SYNCS: usize = 1024;
/// The live messages that wait to be passed on, at most; further ones are lost to other nodes.
const MAX_LIVE: usize = 4096;

/// The line before a live message.
#[derive(Serialize, Deserialize)]
struct LiveHead {
    boot: BootId,
    to: Recipient,
}

/// Returns a live message as it is passed on.
fn encode_live(boot: BootId, announcement: &Announcement) -> Bytes {
    let head = LiveHead { boot, to: announcement.recipient };
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default(); // numbers and names
    bytes.push(b'\n');
    bytes.extend_from_slice(announcement.payload());
    bytes.into()
}

/// Returns the sender's run and the message; `None` where it is of no known form.
fn decode_live(bytes: &Bytes) -> Option<(BootId, Announcement)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let LiveHead { boot, to } = serde_json::from_slice(&bytes[..end]).ok()?;
    Some((boot, Announcement::new(to, None, bytes.slice(end + 1..))))
}

/// Talks with other nodes until it is dropped.
pub async fn talk(log: NatsLog, replica: SharedReplica, hub: Arc<Hub>) {
    let (node, boot) = (replica.node.clone(), replica.boot);
    let (outward, sent) = mpsc::channel(MAX_LIVE);
    let (asking, asked) = mpsc::channel(MAX_SYNCS);
    let here = Arc::downgrade(&replica);
    replica.changes().set_everywhere(move || {
        let (done, told) = oneshot::channel();
        let position = here.upgrade().map(|replica| replica.at().position);
        let is_asked = position.is_some_and(|position| asking.try_send(Sync { position, done }).is_ok());
        Box::pin(async move {
            if is_asked {
                let _ = timeout(MAX_SYNC, told).await;
            }
        })
    });
    hub.set_outward(move |announcement| {
        let _ = outward.try_send(encode_live(boot, announcement)); // at most once
    });
    let (teller, listener) = (Teller::new(node.clone(), boot), Listener::new(node, boot, hub.clone()));
    let (syncs, next_sync, answers) = (BTreeMap::new(), 0, FuturesUnordered::new());
    let mut talk = Talk { log, hub, replica, teller, listener, sent, asked, syncs, next_sync, answers };
    loop {
        if let Err(error) = talk.run().await {
            tracing::debug!(%error, "not in touch with other nodes");
        }
        sleep(RETRY).await;
    }
}

/// The question when every node has applied the log up to a position.
struct Sync {
    position: Position,
    done: oneshot::Sender<()>,
}

struct Talk {
    log: NatsLog,
    hub: Arc<Hub>,
    replica: SharedReplica,
    teller: Teller,
    listener: Listener,
    /// Live messages of this node.
    sent: mpsc::Receiver<Bytes>,
    /// Questions of this node that are to be asked.
    asked: mpsc::Receiver<Sync>,
    /// Those that were asked, by their numbers, with the nodes that have not answered.
    syncs: BTreeMap<u64, (BTreeSet<NodeName>, Sync)>,
    next_sync: u64,
    /// Questions of others, until the log has been applied here.
    answers: FuturesUnordered<BoxFuture<'static, Option<(BootId, u64)>>>,
}

impl Talk {
    /// Talks until the engine can't be reached.
    async fn run(&mut self) -> Result<(), LogError> {
        let (mut told, mut live) = (self.log.listen(PEERS).await?, self.log.listen(LIVE).await?);
        let question = self.teller.ask(None);
        self.tell(vec![question]).await?;
        let (mut heartbeat, hub) = (interval(HEARTBEAT), self.hub.clone());
        // The time at which others are told of what has changed.
        let mut telling = None;
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = told.next() => match message {
                    Some(message) => self.hear(&message.payload).await?,
                    None => return Ok(()),
                },
                message = live.next() => match message {
                    Some(message) => self.receive(&message.payload),
                    None => return Ok(()),
                },
                Some(message) = self.sent.recv() => {
                    // One that is longer than the servers take is lost, as others may be.
                    if message.len() <= self.log.max_payload() {
                        self.log.tell(LIVE, message).await?;
                    }
                }
                Some(sync) = self.asked.recv() => self.ask(sync).await?,
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => {
                    if let Some((to, id)) = answer {
                        let answer = self.teller.synced(to, id);
                        self.tell(vec![answer]).await?;
                    }
                }
                () = hub.presence().changed(), if telling.is_none() => telling = Some(Instant::now() + GATHER),
                () = sleep_until(telling.unwrap_or_else(Instant::now)), if telling.is_some() => {
                    telling = None;
                    self.tell_changes().await?;
                }
                _ = heartbeat.tick() => {
                    self.listener.forget(Instant::now());
                    self.syncs.retain(|_, (_, sync)| !sync.done.is_closed());
                    self.tell_changes().await?;
                }
            }
        }
    }

    /// Tells who has come and gone here.
    async fn tell_changes(&mut self) -> Result<(), LogError> {
        let changes = self.teller.changes(self.hub.presence().rows());
        self.tell(changes).await
    }

    async fn tell(&mut self, told: Vec<Told>) -> Result<(), LogError> {
        for told in told {
            let bytes = serde_json::to_vec(&told).unwrap_or_default(); // numbers, names and times
            self.log.tell(PEERS, bytes.into()).await?;
        }
        Ok(())
    }

    /// Asks when all nodes that are there have applied the log.
    async fn ask(&mut self, sync: Sync) -> Result<(), LogError> {
        let present = self.listener.present(Instant::now());
        if present.is_empty() || self.syncs.len() >= MAX_SYNCS {
            let _ = sync.done.send(()); // who asks may have gone
            return Ok(());
        }
        self.next_sync += 1;
        let question = self.teller.sync(self.next_sync, sync.position);
        self.syncs.insert(self.next_sync, (present, sync));
        self.tell(vec![question]).await
    }

    /// Notes that a node has answered a question.
    fn note_synced(&mut self, node: &NodeName, id: u64) {
        let is_complete = self.syncs.get_mut(&id).is_some_and(|(left, _)| {
            left.remove(node);
            left.is_empty()
        });
        if is_complete && let Some((_, sync)) = self.syncs.remove(&id) {
            let _ = sync.done.send(()); // who asks may have gone
        }
    }

    /// Prepares the answer to a question of another node.
    fn answer(&mut self, to: BootId, id: u64, position: Position) {
        if self.answers.len() < MAX_SYNCS {
            let replica = self.replica.clone();
            self.answers
                .push(Box::pin(async move { timeout(MAX_SYNC, replica.reached(position)).await.is_ok().then_some((to, id)) }));
        }
    }

    async fn hear(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let Ok(told) = serde_json::from_slice(bytes) else {
            tracing::debug!("another node has told something of no known form");
            return Ok(());
        };
        match self.listener.hear(told, Instant::now()) {
            Answer::None => Ok(()),
            Answer::Ask(node) => {
                let question = self.teller.ask(Some(node));
                self.tell(vec![question]).await
            }
            Answer::All => {
                let all = self.teller.all();
                self.tell(all).await
            }
            Answer::Sync(to, id, position) => {
                self.answer(to, id, position);
                Ok(())
            }
            Answer::Synced(node, id) => {
                self.note_synced(&node, id);
                Ok(())
            }
        }
    }

    /// Publishes a live message of another node here.
    fn receive(&self, bytes: &Bytes) {
        if let Some((boot, announcement)) = decode_live(bytes)
            && boot != self.listener.boot()
        {
            self.hub.publish(Arc::new(announcement));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::DeviceId;

    #[test]
    fn live_message_is_passed_on_byte_for_byte() {
        let announcement = Announcement::new(Recipient::Device(DeviceId(7)), None, &b"{\"a\":\n1.0}"[..]);
        let bytes = encode_live(BootId(3), &announcement);
        assert_eq!(decode_live(&bytes), Some((BootId(3), announcement)));
        for other in [&b""[..], b"{}", b"{}\n{}", b"\n"] {
            assert_eq!(decode_live(&Bytes::copy_from_slice(other)), None);
        }
    }
}
