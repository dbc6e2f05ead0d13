//! What a session counts, where it is more than one number.

use super::socket::End;
use crate::core::time::Timestamp;
use crate::telemetry::metrics::{Metrics, Received, Refused, Sent, SessionEnd};
use crate::wire::frame::append_json;
use crate::wire::{CloseCode, ErrorCode, Event};

/// Notes why a session has ended.
pub(super) fn ended(metrics: &Metrics, end: End) {
    let End::Close(code, _) = end else { return metrics.sessions.ended.inc(SessionEnd::Client) };
    metrics.sessions.ended.inc(code.into());
    if code == CloseCode::TooBig {
        metrics.refused.inc(Refused::FrameTooLarge);
    }
    if code.announced() {
        metrics.traffic.sent.inc(Sent::Disconnect);
    }
}

/// Notes that reading has ended with `end`, before any message was counted.
pub(super) fn hung_up_on(metrics: &Metrics, end: End) {
    if matches!(end, End::Close(CloseCode::RateLimited, _)) {
        metrics.refused.inc(Refused::Flood);
    }
}

/// Notes that a message was answered with an error instead of being read.
pub(super) fn rejected(metrics: &Metrics, code: ErrorCode) {
    metrics.traffic.received.inc(Received::Rejected);
    if code == ErrorCode::MessageTooLarge {
        metrics.refused.inc(Refused::MessageTooLarge);
    }
}

/// Appends `event` as a frame, and counts it.
pub(super) fn append(metrics: &Metrics, out: &mut Vec<u8>, event: &Event, reference: Option<&str>, now: Timestamp) {
    match append_json(out, &event.stamped(reference, now)) {
        Ok(()) => metrics.traffic.record_sent(event),
        Err(error) => tracing::error!(%error, "an event could not be encoded"),
    }
}
