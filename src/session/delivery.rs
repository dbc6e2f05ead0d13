//! The delivery of messages to one connection.
//!
//! A connection follows the announcements of its groups for as long as it keeps up. When it missed one, or its window is closed,
//! it falls back to the log, reads on from where it stands, and follows the announcements again once it has read everything.

use tokio::time::Instant;

use super::end::End;
use super::window::{Pings, Proof, SHORT_MESSAGES, Unproven, Watermark, Window};
use crate::core::ids::{DeviceId, MessageId};
use crate::hub::Announcement;
use crate::mailbox::{Ending, Gap, LogReader, Mailbox};
use crate::store::StoreError;
use crate::wire::inbound::parse;
use crate::wire::{CloseCode, Inbound};

/// The number of periodic pings in a row without a new proof, at which a connection counts as unproved: two intervals lie between
/// them.
const UNPROVED_PINGS: u8 = 3;

/// The position in the log and the batches in flight.
#[derive(Debug)]
pub(super) struct Delivery {
    reader: LogReader,
    window: Window,
    /// Everything up to here had been received when the connection started.
    received_before: MessageId,
    /// The number of periodic pings since the last new proof that asked for one.
    unproved_pings: u8,
    /// The log may hold messages that no announcement will bring.
    behind: bool,
    /// Everything up to here has been written.
    written: MessageId,
}

impl Delivery {
    /// Starts at `reader`'s position, up to `received_before` everything having been received earlier; `behind`: the log may hold
    /// messages already; `cautious`: one message in flight at first. A client that acknowledges itself is promised a full window.
    pub(super) fn new(reader: LogReader, received_before: MessageId, client_acks: bool, behind: bool, cautious: bool) -> Self {
        let window = if client_acks { Window::for_client_acks() } else { Window::new(cautious) };
        Self { reader, window, received_before, unproved_pings: 0, behind, written: MessageId(0) }
    }

    /// Returns whether the client acknowledges with `ack` messages.
    pub(super) fn client_acks(&self) -> bool {
        self.window.client_acks()
    }

    /// Returns whether the log is to be read now: it may hold something, and the window has room.
    pub(super) fn must_read(&self) -> bool {
        self.behind && self.window.open_for_log()
    }

    /// Notes that an announcement was missed: the log is read again.
    pub(super) fn missed(&mut self) {
        self.behind = true;
    }

    /// Returns whether `announcement` is to be written now. A queued one that is not written now is in the log, and is read from
    /// there.
    pub(super) fn accepts(&mut self, announcement: &Announcement) -> bool {
        if !self.reader.wants(announcement) {
            return false;
        }
        let Some(id) = announcement.id else { return true };
        if !self.reader.accepts(announcement.payload().len()) {
            self.behind = true; // the log passes over it
        }
        if !self.behind && !self.window.open() {
            tracing::debug!(id = id.0, "window closed: later messages are read from the log");
            self.behind = true;
        }
        !self.behind
    }

    /// Reads the next messages of the log, ids and payloads: about `max_bytes` of payloads, and no more than the window has room
    /// for; and the gap before them, where messages have been removed. The caller writes all of it.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn read(
        &mut self,
        mailbox: &Mailbox,
        max_bytes: usize,
    ) -> Result<(Option<Gap>, Vec<(MessageId, Vec<u8>)>), StoreError> {
        let (messages, bytes) = self.window.room();
        let batch = self.reader.read(mailbox, max_bytes.min(bytes), messages).await?;
        self.behind = !batch.complete;
        // May be beyond the last message, where the log holds nothing more to deliver.
        self.reader.advance(batch.upto);
        if let Some(passed) = self.reader.last_passed()
            && batch.messages.is_empty()
            && self.window.unproven().count == 0
        {
            mailbox.received(&mut self.reader, passed); // no proof will follow
        }
        Ok((batch.gap, batch.messages))
    }

    /// Notes that a queued message of so many bytes is about to be written, and `rest` more behind it. Returns the pings around it
    /// that ask for proofs of receipt.
    pub(super) fn sending(&mut self, id: MessageId, bytes: usize, rest: usize) -> Pings {
        self.reader.advance(id);
        self.window.sending(id, bytes, rest, Instant::now())
    }

    /// Returns the payload of the ping that asks for the proof of the last messages, if they have none behind them yet.
    pub(super) fn last_ping(&mut self) -> Option<Watermark> {
        self.window.close_batch()
    }

    /// Notes that everything up to `upto` has been written.
    pub(super) fn written(&mut self, mailbox: &Mailbox, upto: MessageId) {
        mailbox.written(&self.reader, std::mem::replace(&mut self.written, upto), upto);
    }

    /// The payload of a periodic ping, which asks for the proof of everything in flight; `None` while nothing is in flight or
    /// wanted.
    pub(super) fn periodic_ping(&mut self) -> Option<Watermark> {
        let watermark = self.window.newest_watermark();
        self.unproved_pings = if watermark.is_some() { self.unproved_pings.saturating_add(1) } else { 0 };
        watermark
    }

    /// Returns whether messages have been in flight for two ping intervals while nothing was proved.
    pub(super) fn unproved(&self) -> bool {
        self.unproved_pings >= UNPROVED_PINGS
    }

    /// The number of messages that may be in flight now.
    pub(super) fn window_size(&self) -> usize {
        self.window.size()
    }

    /// Notes the end of the connection, with what it leaves unproved.
    pub(super) fn ended(&mut self, mailbox: &Mailbox, end: End) {
        let Unproven { first, count, proved_any } = self.window.unproven();
        // Each of a few has a ping of its own behind it: the first that is not proved is the one that the client has stopped at.
        let precise = count == 1 || (count <= SHORT_MESSAGES && !self.client_acks());
        let ending = Ending {
            stopped_at: first.filter(|_| precise),
            alone: count == 1,
            unproved: count > 0 && !proved_any,
            too_big: end.too_big_for_client(),
            by_client: end.code().is_none_or(|code| code == CloseCode::TooSlow.code() || code == CloseCode::NoPong.code()),
        };
        mailbox.connection_ended(&mut self.reader, ending);
    }

    /// The messages that are in flight, which the connection leaves unproved if it ends now.
    pub(super) fn unproven(&self) -> Unproven {
        self.window.unproven()
    }

    /// Applies a pong. An empty one answers a ping without a watermark and proves nothing.
    pub(super) fn pong(&mut self, mailbox: &Mailbox, payload: &[u8]) {
        if !payload.is_empty() {
            match self.window.read(payload).filter(|_| !self.client_acks()) {
                Some(upto) => {
                    self.acknowledge(mailbox, upto);
                }
                None => ignored(mailbox, None),
            }
        }
    }

    /// Applies the client's proof that it has everything up to `upto`, if that was ever written to it.
    pub(super) fn acknowledge(&mut self, mailbox: &Mailbox, upto: MessageId) -> Proof {
        let proof = match self.window.received(upto, Instant::now()) {
            Proof::NeverSent if upto <= self.received_before => Proof::Repeated,
            proof => proof,
        };
        if proof == Proof::New {
            tracing::debug!(upto = upto.0, "acknowledged");
            self.unproved_pings = 0;
            // With nothing in flight, everything that was read has been received or passed over.
            let passed = self.reader.last_passed().filter(|_| self.window.unproven().count == 0);
            mailbox.received(&mut self.reader, upto.max(passed.unwrap_or(upto)));
        } else {
            ignored(mailbox, Some(upto));
        }
        proof
    }

    /// Applies a text message of a connection that has ended, where it is an acknowledgement.
    pub(super) fn late_text(&mut self, mailbox: &Mailbox, text: &str) {
        if self.client_acks()
            && let Ok(Inbound::Ack { id, .. }) = parse(text, 0, &[])
        {
            self.acknowledge(mailbox, id);
        }
    }

    /// Stops reading `device`'s mailbox.
    pub(super) fn leave(&mut self, device: DeviceId) {
        self.reader.leave(device);
    }
}

/// Logs and counts an acknowledgement that proves nothing.
fn ignored(mailbox: &Mailbox, upto: Option<MessageId>) {
    tracing::debug!(upto = upto.map(|id| id.0), "acknowledgement of nothing in flight ignored");
    mailbox.strange_ack();
}
