//! The metrics of a session that are more than one number.

use super::end::End;
use crate::telemetry::metrics::{Metrics, Received, Refused, Sent, SessionEnd};
use crate::wire::{CloseCode, ErrorCode};

/// Counts the end of a connection, also of one that was refused right after the handshake.
pub fn ended(metrics: &Metrics, end: End) {
    let End::Close(code, _) = end else {
        if end.too_big_for_client() {
            metrics.sessions.too_big_for_client.inc();
        }
        return metrics.sessions.ended.inc(SessionEnd::Client);
    };
    metrics.sessions.ended.inc(code.into());
    if code == CloseCode::TooBig {
        metrics.refused.inc(Refused::FrameTooLarge);
    }
    if code.announced() {
        metrics.traffic.sent.inc(Sent::Disconnect);
    }
}

/// Counts that reading has ended with `end`, before a message was counted.
pub(super) fn reading_ended(metrics: &Metrics, end: End) {
    if matches!(end, End::Close(CloseCode::RateLimited, _)) {
        metrics.refused.inc(Refused::Flood);
    }
}

/// Counts a message that was answered with an error instead of being processed.
pub(super) fn rejected(metrics: &Metrics, code: ErrorCode) {
    metrics.traffic.received.inc(Received::Rejected);
    if code == ErrorCode::MessageTooLarge {
        metrics.refused.inc(Refused::MessageTooLarge);
    }
}
