//! The delivery of messages to one connection.
//!
//! A connection follows the announcements of its groups for as long as it keeps up. When it missed one, or its window is closed,
//! it falls back to the log, reads on from where it stands, and follows the announcements again once it has read everything.

use super::window::{Watermark, Window};
use crate::core::ids::{DeviceId, MessageId};
use crate::hub::Announcement;
use crate::mailbox::{Gap, LogReader, Mailbox};
use crate::store::StoreError;

/// The position in the log and the batches in flight.
#[derive(Debug)]
pub(super) struct Delivery {
    reader: LogReader,
    window: Window,
    /// The client acknowledges with `ack` messages: pongs prove nothing.
    client_acks: bool,
    /// The log may hold messages that no announcement will bring.
    behind: bool,
    /// Everything up to here has been written.
    written: MessageId,
}

impl Delivery {
    /// Starts at `reader`'s position; `behind`: the log may hold messages already.
    pub(super) fn new(reader: LogReader, client_acks: bool, behind: bool) -> Self {
        Self { reader, window: Window::new(), client_acks, behind, written: MessageId(0) }
    }

    /// Returns whether the client acknowledges with `ack` messages.
    pub(super) fn client_acks(&self) -> bool {
        self.client_acks
    }

    /// Returns whether the log is to be read now: it may hold something, and the window has room.
    pub(super) fn must_read(&self) -> bool {
        self.behind && self.window.open()
    }

    /// Notes that an announcement was missed: the log is read again.
    pub(super) fn missed(&mut self) {
        self.behind = true;
    }

    /// Returns whether `announcement` is to be written now, on top of `messages` queued ones and `bytes` that are about to be. A
    /// queued one that is not written now is in the log, and is read from there.
    pub(super) fn accepts(&mut self, announcement: &Announcement, messages: usize, bytes: usize) -> bool {
        if !self.reader.wants(announcement) {
            return false;
        }
        let Some(id) = announcement.id else { return true };
        if !self.reader.accepts(announcement.payload().len()) {
            self.behind = true; // the log passes over it
        }
        if !self.behind && !self.window.open_for(messages, bytes) {
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
    pub(super) async fn read(&mut self, mailbox: &Mailbox, max_bytes: usize) -> Result<(Option<Gap>, Vec<(MessageId, Vec<u8>)>), StoreError> {
        let batch = self.reader.read(mailbox, max_bytes, self.window.room()).await?;
        self.behind = !batch.complete;
        // May be beyond the last message, where the log holds nothing more to deliver.
        self.reader.advance(batch.upto);
        if let Some(passed) = self.reader.last_passed()
            && batch.messages.is_empty()
            && self.window.newest().is_none()
        {
            mailbox.received(&mut self.reader, passed); // no proof will follow
        }
        Ok((batch.gap, batch.messages))
    }

    /// Notes that queued messages up to `upto` are about to be written, as `bytes` with their framing. Returns the payload of the
    /// ping that asks for the proof of their receipt, unless the client acknowledges itself.
    pub(super) fn sending(&mut self, upto: MessageId, messages: usize, bytes: usize) -> Option<Watermark> {
        self.window.sent(upto, messages, bytes);
        self.reader.advance(upto);
        (!self.client_acks).then(|| self.window.watermark(upto))
    }

    /// Notes that everything up to `upto` has been written.
    pub(super) fn written(&mut self, mailbox: &Mailbox, upto: MessageId) {
        mailbox.written(&self.reader, std::mem::replace(&mut self.written, upto), upto);
    }

    /// The payload of a ping that asks for the proof of everything in flight; `None` while nothing is in flight or wanted.
    pub(super) fn watermark(&self) -> Option<Watermark> {
        self.window.newest().filter(|_| !self.client_acks).map(|upto| self.window.watermark(upto))
    }

    /// Applies a pong. An empty one answers a ping without a watermark and proves nothing.
    pub(super) fn pong(&mut self, mailbox: &Mailbox, payload: &[u8]) {
        if !payload.is_empty() {
            let upto = self.window.read(payload).filter(|_| !self.client_acks);
            self.acknowledge(mailbox, upto);
        }
    }

    /// Applies the client's proof that it has everything up to `upto`, if that was ever written to it.
    pub(super) fn acknowledge(&mut self, mailbox: &Mailbox, upto: Option<MessageId>) {
        match upto.filter(|&id| self.window.received(id)) {
            Some(id) => {
                tracing::debug!(upto = id.0, "acknowledged");
                // With nothing in flight, everything that was read has been received or passed over.
                let passed = self.reader.last_passed().filter(|_| self.window.newest().is_none());
                mailbox.received(&mut self.reader, id.max(passed.unwrap_or(id)));
            }
            None => {
                tracing::debug!(upto = upto.map(|id| id.0), "acknowledgement of nothing in flight ignored");
                mailbox.strange_ack();
            }
        }
    }

    /// Stops reading `device`'s mailbox.
    pub(super) fn leave(&mut self, device: DeviceId) {
        self.reader.leave(device);
    }
}
