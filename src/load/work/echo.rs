//! `echo`: requests and their replies on the same connection, some of them open at any time.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, Meter, Tasks, conclude, outcome};
use crate::core::awake::timeout;
use crate::load::ledger::{Inbox, Sent};
use crate::load::mark::Mark;
use crate::load::receivers::{Flow, Shared, connect};
use crate::load::report::Outcome;
use crate::load::ws::Socket;
use crate::load::{LoadError, Result};

/// The longest wait for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;

impl Bench<'_> {
    /// Keeps `depth` pings open on each connection.
    pub(super) fn echo(&mut self, depth: u32) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            let connections = self.sizes.echo;
            let name = format!("echo {depth}");
            let mut outcome = outcome(&name, &[("connections", connections as f64), ("depth", f64::from(depth))]);
            let recipients = self.recipients(connections).await?;
            let tokens = recipients.iter().cycle().take(connections).map(|one| one.token.clone()).collect();
            let sockets = connect(&self.target(), tokens, AT_ONCE, &mut outcome.refused).await?;
            let (shared, mut tasks) = (Shared::new(Flow::Free), Tasks::new());
            let meter = Meter::start(self.process);
            for (at, socket) in sockets {
                tasks.spawn(Box::pin(exchange(socket, at as u32, depth, self.span(), shared.clone())));
            }
            let (sent, inboxes): (Vec<Sent>, Vec<Inbox>) =
                tasks.join(&self.progress, &name, self.span()).await?.into_iter().unzip();
            meter.fill(&mut outcome, shared.received.load(std::sync::atomic::Ordering::Acquire));
            conclude(&mut outcome, &shared, &sent, &inboxes);
            Ok(outcome)
        })
    }
}

/// Sends and receives on one connection until the time is over and every reply is there.
async fn exchange(mut socket: Socket, at: u32, depth: u32, span: Duration, shared: Arc<Shared>) -> Result<(Sent, Inbox)> {
    let (mut inbox, mut text) = (Inbox::new(at), Vec::new());
    let mut sent = Sent { sender: at, recipient: at, ..Sent::default() };
    let (begin, mut open) = (Instant::now(), 0);
    let outcome = loop {
        while open < depth && begin.elapsed() < span {
            text.clear();
            text.extend_from_slice(br#"{"type":"ping","message":{},"ref":""#);
            shared.marks.append(&mut text, Mark { sender: at, recipient: at, number: sent.count, nanos: shared.now() });
            text.extend_from_slice(b"\"}");
            socket.queue(&text);
            (sent.count, open) = (sent.count + 1, open + 1);
        }
        if open == 0 {
            break Ok(());
        }
        if let Err(error) = socket.flush().await {
            break Err(error);
        }
        match timeout(REPLY_TIMEOUT, replies(&mut socket, at, &shared, &mut inbox)).await {
            Ok(Ok(replies)) => open = open.saturating_sub(replies),
            Ok(Err(error)) => break Err(error),
            Err(_) => break Err(LoadError::Other("a reply did not come in time".into())),
        }
    };
    if let Err(error) = outcome {
        // Of what was open when the connection ended, nobody knows what was accepted; without an end, it is lost.
        if !matches!(error, LoadError::Other(_)) {
            sent.unsure = (sent.count.saturating_sub(open)..sent.count).collect();
        }
        shared.note_end(&error);
        return Ok((sent, inbox));
    }
    socket.close().await;
    Ok((sent, inbox))
}

/// Receives a reply, and those that have been read with it; returns their number.
async fn replies(socket: &mut Socket, at: u32, shared: &Shared, inbox: &mut Inbox) -> Result<u32> {
    let mut count = 0;
    while count == 0 {
        count += u32::from(shared.record(at as usize, socket.next().await?, inbox).is_some());
    }
    while let Some(text) = socket.next_read()? {
        count += u32::from(shared.record(at as usize, text, inbox).is_some());
    }
    Ok(count)
}
