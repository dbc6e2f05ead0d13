//! `mixed`: homes. Each has devices and a program; programs push to their devices, devices ask and ping.

use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::push::{Sender, Stop};
use super::{Bench, Delivery, Meter, Tasks, conclude, merge, outcome};
use crate::core::awake::timeout;
use crate::load::ledger::{Inbox, Sent};
use crate::load::mark::Mark;
use crate::load::pace;
use crate::load::population::Home;
use crate::load::receivers::{Flow, Receivers, Refusals, Shared, connect};
use crate::load::report::Outcome;
use crate::load::ws::Socket;
use crate::load::{LoadError, Result};

/// The shares of the rate: queued pushes to devices; of the requests of devices, one in this many is a chat, the others are pings.
const PUSH_SHARE: f64 = 0.6;
const CHAT_EVERY: u32 = 2;
/// Requests of one device that may be due and not sent.
const OPEN_REQUESTS: usize = 64;
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;
/// The time for answers to the last pings, with which messages are acknowledged.
const ACKNOWLEDGEMENT_TIME: Duration = Duration::from_millis(200);
/// The longest wait until devices have sent the requests that are due.
const SENDING_TIMEOUT: Duration = Duration::from_secs(20);

impl Bench<'_> {
    /// Runs the homes at the rate of the sizes.
    pub(super) fn mixed(&mut self) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            let (devices, rate) = (self.sizes.devices, self.sizes.mixed_rate);
            let mut outcome = outcome("mixed", &[("devices", devices as f64), ("rate", rate), ("size", self.sizes.size as f64)]);
            let homes = self.population.homes(devices).await?;
            let target = self.target();
            let tokens = homes.iter().flat_map(|home| home.devices.iter().map(|device| device.token.clone())).collect();
            let sockets = connect(&target, tokens, AT_ONCE, &mut outcome.refused).await?;
            let programs =
                connect(&target, homes.iter().map(|home| home.token.clone()).collect(), AT_ONCE, &mut outcome.refused).await?;
            let open: HashSet<usize> = sockets.iter().map(|(at, _)| *at).collect();
            outcome.figures.insert("homes".into(), homes.len() as f64);
            outcome.figures.insert("connections".into(), (sockets.len() + programs.len()) as f64);

            let shared = Shared::new(Flow::Free);
            let programs = Receivers::start(programs, &shared);
            let mut receiving = Devices::start(sockets, homes.len() as u32, &shared);
            let meter = Meter::start(self.process);
            let tasks = self.programs(&homes, &open, &shared);
            let asked = pace::start(shared.epoch, rate * (1.0 - PUSH_SHARE), self.span(), 1).pop();
            let asking = AbortOnDropHandle::new(tokio::spawn(ask(asked, std::mem::take(&mut receiving.requests))));
            let mut all = Vec::new();
            for (sent, refused) in tasks.join(&self.progress, "mixed", self.span()).await? {
                all.extend(sent);
                merge(&mut outcome.refused, refused);
            }
            let _ = asking.await;
            receiving.all_sent().await;
            all.extend(receiving.sent.lock().drain(..));
            let total = || all.iter().map(|sent| u64::from(sent.count) - sent.unsure.len() as u64).sum::<u64>();
            shared.wait_for(total()).await;
            meter.fill(&mut outcome, shared.received.load(Ordering::Acquire));
            tokio::time::sleep(ACKNOWLEDGEMENT_TIME).await;
            let inboxes = receiving.end().await;
            programs.end().await;
            outcome.figures.insert("devices".into(), inboxes.len() as f64);
            conclude(&mut outcome, &shared, &all, &inboxes);
            Ok(outcome)
        })
    }

    /// Starts the programs' sending to those of their devices that are in `open`.
    fn programs(&self, homes: &[Home], open: &HashSet<usize>, shared: &Arc<Shared>) -> Tasks<(Vec<Sent>, Refusals)> {
        let mut tasks = Tasks::new();
        let rate = self.sizes.mixed_rate * PUSH_SHARE;
        let due = pace::start(shared.epoch, rate, self.span(), homes.len().max(1));
        let mut first = 0;
        for ((number, home), due) in homes.iter().enumerate().zip(due) {
            let own = home.devices.iter().enumerate().map(|(n, device)| (first + n, device.path.clone()));
            let own = own.filter(|(at, _)| open.contains(at)).map(|(at, path)| (at as u32, path));
            let sender = Sender::new(self, number as u32, own, Delivery::Queued, shared).with_token(&home.token);
            tasks.spawn(sender.run(Some(due), Stop::After(Duration::MAX)));
            first += home.devices.len();
        }
        tasks
    }
}

/// The devices, each a task.
struct Devices {
    /// Where to hand each the due time of a request.
    requests: Vec<mpsc::Sender<u64>>,
    inboxes: Vec<Arc<Mutex<Inbox>>>,
    /// What those have sent that are no longer asked.
    sent: Arc<Mutex<Vec<Sent>>>,
    tasks: JoinSet<()>,
}

impl Devices {
    /// As senders, their numbers begin at `first`.
    fn start(sockets: Vec<(usize, Socket)>, first: u32, shared: &Arc<Shared>) -> Self {
        let mut this = Self { requests: Vec::new(), inboxes: Vec::new(), sent: Arc::default(), tasks: JoinSet::new() };
        for (at, socket) in sockets {
            let (to, due) = mpsc::channel(OPEN_REQUESTS);
            let inbox = Arc::new(Mutex::new(Inbox::new(at as u32)));
            this.requests.push(to);
            this.inboxes.push(inbox.clone());
            let device = Device { socket, at: at as u32, number: first + at as u32, shared: shared.clone(), inbox };
            this.tasks.spawn(device.run(due, this.sent.clone()));
        }
        this
    }

    /// Waits until each has sent what was due, now that nothing more is.
    async fn all_sent(&self) {
        let sending = async {
            while self.sent.lock().len() < self.inboxes.len() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(SENDING_TIMEOUT, sending).await;
    }

    /// Ends them, and returns what they have received.
    async fn end(mut self) -> Vec<Inbox> {
        self.tasks.shutdown().await;
        self.inboxes.into_iter().map(|inbox| std::mem::take(&mut *inbox.lock())).collect()
    }
}

/// Hands the due times of requests to devices in turn.
async fn ask(due: Option<mpsc::Receiver<u64>>, devices: Vec<mpsc::Sender<u64>>) {
    let Some(mut due) = due else { return };
    let mut turn = 0;
    while let Some(nanos) = due.recv().await {
        // One that has ended is noted by itself.
        if let Some(device) = devices.get(turn % devices.len().max(1)) {
            let _ = device.send(nanos).await;
        }
        turn += 1;
    }
}

/// A device: it receives pushes, and sends requests when they are due.
struct Device {
    socket: Socket,
    at: u32,
    /// As a sender: beyond the numbers of the programs.
    number: u32,
    shared: Arc<Shared>,
    inbox: Arc<Mutex<Inbox>>,
}

impl Device {
    async fn run(mut self, mut due: mpsc::Receiver<u64>, report: Arc<Mutex<Vec<Sent>>>) {
        let mut sent = Sent { sender: self.number, recipient: self.at, ..Sent::default() };
        let mut asking = true;
        let error = loop {
            tokio::select! {
                text = self.socket.next() => match text {
                    Ok(text) => {
                        self.shared.record(self.at as usize, text, &mut self.inbox.lock());
                    }
                    Err(error) => break error,
                },
                nanos = due.recv(), if asking => match nanos {
                    Some(nanos) => {
                        self.request(sent.count, nanos);
                        sent.count += 1;
                        if let Err(error) = self.socket.flush().await {
                            break error;
                        }
                    }
                    None => {
                        asking = false;
                        report.lock().push(sent.clone());
                    }
                },
            }
        };
        if asking {
            // Of its last request, nobody knows.
            if let LoadError::Refused(_) | LoadError::Closed { .. } | LoadError::Io { .. } = error {
                sent.unsure = sent.count.checked_sub(1).into_iter().collect();
            }
            report.lock().push(sent);
        }
        self.shared.note_end(&error);
    }

    /// Queues a chat or a ping.
    fn request(&mut self, number: u32, nanos: u64) {
        let mut text = Vec::with_capacity(128);
        text.extend_from_slice(if number.is_multiple_of(CHAT_EVERY) {
            br#"{"type":"chat_message","message":"turn the light on","ref":""#.as_slice()
        } else {
            br#"{"type":"ping","message":{},"ref":""#
        });
        self.shared.marks.append(&mut text, Mark { sender: self.number, recipient: self.at, number, nanos });
        text.extend_from_slice(b"\"}");
        self.socket.queue(&text);
    }
}
