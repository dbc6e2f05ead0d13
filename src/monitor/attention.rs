//! What needs an administrator's attention.

use std::sync::atomic::Ordering;

use crate::app::App;
use crate::core::time::Timestamp;
use crate::health::Health;
use crate::history::{Attention, DiskFigures, Level};

/// The part of a limit from which on it is worth a warning.
const NEAR_LIMIT: f64 = 0.9;

/// The time before the end of the certificate from which on it is worth a warning: Let's Encrypt's are renewed 30 days before.
const CERTIFICATE_NOTICE_SECONDS: i64 = 14 * 86_400;

/// What the overview knows already.
pub(super) struct Facts<'a> {
    /// The health checks.
    pub(super) health: Health,
    /// The disk.
    pub(super) disk: &'a DiskFigures,
    /// Live connections.
    pub(super) connections: usize,
}

/// Returns what needs attention, the most urgent first.
pub(super) fn attention(app: &App, facts: &Facts<'_>) -> Vec<Attention> {
    let config = app.config();
    let mut found = Vec::new();
    let mut add = |code, level, message: String| found.push(Attention { code, level, message });
    let Facts { health, disk, connections } = facts;
    if !health.commit {
        add("commit_failed", Level::Error, "The disk takes no writes. Repair it, then restart the server.".into());
    }
    if !health.hub {
        add("hub_failed", Level::Error, "Messages are not passed on in memory. Restart the server.".into());
    }
    if !health.disk_space {
        let (free, least) = (mebibytes(disk.free_bytes), mebibytes(disk.min_free_bytes));
        let message = format!("The disk is nearly full: {free} free, {least} needed. Messages are refused until space is freed.");
        add("disk_low", Level::Error, message);
    } else if disk.min_free_bytes > 0 && disk.free_bytes < disk.min_free_bytes.saturating_mul(2) {
        let (free, least) = (mebibytes(disk.free_bytes), mebibytes(disk.min_free_bytes));
        let message = format!("Free disk space is short: {free}. Below {least} messages are refused.");
        add("disk_low", Level::Warning, message);
    }
    if let Some(loss) = app.store.loss() {
        let text = loss.description();
        let remedy = "qy-lty check shows what; qy-lty check --acknowledge ends this notice.";
        add("loss", Level::Error, format!("The store has lost data: {text}. {remedy}"));
    }
    if let Some((level, message)) = certificate(app, Timestamp::now()) {
        add("certificate_expires", level, message);
    }
    let (index, most) = (app.mailbox.index_bytes(), config.storage.max_index_bytes());
    if index as f64 >= most as f64 * NEAR_LIMIT {
        let message = "Queued messages use up their share of storage.memory_budget; beyond it messages are refused. Raise it, or clear queues.";
        add("memory_low", Level::Warning, message.into());
    }
    let limit = config.limits.connections;
    if limit > 0 && *connections as f64 >= f64::from(limit) * NEAR_LIMIT {
        let message = format!("{connections} of {limit} connections are in use (limits.connections).");
        add("connections_near_limit", Level::Warning, message);
    }
    // The address is that of a socket of systemd where there is one.
    let listens_beyond = app.address.get().is_some_and(|address| !address.ip().is_loopback());
    if listens_beyond && !config.tls.enabled() && config.server.trusted_proxies.is_empty() {
        let message = "The server listens beyond this machine without TLS: passwords and messages can be read on the network. \
                       Set tls.self_signed, tls.cert and tls.key, or put a reverse proxy in front (server.trusted_proxies).";
        add("no_tls", Level::Warning, message.into());
    }
    found
}

/// Returns what there is to say of the end of the certificate at `now`.
fn certificate(app: &App, now: Timestamp) -> Option<(Level, String)> {
    let end = app.certificate_end.get()?.load(Ordering::Relaxed);
    expiry(Timestamp::from_unix_micros(end.saturating_mul(1_000_000)), now).filter(|_| end != 0)
}

/// Returns what there is to say at `now` of a certificate that is valid until `end`.
fn expiry(end: Timestamp, now: Timestamp) -> Option<(Level, String)> {
    let left = end.unix_seconds() - now.unix_seconds();
    let date = end.to_string();
    let date = date.split('T').next().unwrap_or_default();
    match left {
        ..=0 => Some((
            Level::Error,
            format!("The TLS certificate has expired on {date}. Renew it; the files are read again by themselves."),
        )),
        1..CERTIFICATE_NOTICE_SECONDS => {
            Some((Level::Warning, format!("The TLS certificate expires on {date}. Renew it in time.")))
        }
        _ => None,
    }
}

/// Returns a number of bytes for people.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_worth_a_warning_two_weeks_before_its_end_and_an_error_behind_it() {
        let end = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let level = |days: u64| expiry(end, end.minus(std::time::Duration::from_secs(days * 86_400))).map(|(level, _)| level);
        assert_eq!((level(15), level(13), level(0)), (None, Some(Level::Warning), Some(Level::Error)));
        assert!(expiry(end, end.plus_seconds(1)).unwrap().1.contains("2027-01-15"));
    }
}
