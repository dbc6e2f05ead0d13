//! The audit trail: each event is logged, and kept in the store.
//!
//! An event is recorded after the change that it is about was made. Nobody waits until the entry is on disk: it reaches the disk with
//! one of the next commits, within a second or so.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::change::{Changes, RecordAudit};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::{AuditRecord, AuditSubject, Result};
use crate::telemetry::audit::{AuditEvent, Line};

/// The most entries that wait for the writer thread; further ones are logged, and counted in the trail.
const MAX_PENDING: usize = 1024;

/// Entries that wait for the writer thread.
#[derive(Default)]
struct Pending {
    entries: Vec<AuditRecord>,
    /// The number of those for which there was no room.
    left_out: u64,
    /// A job takes them.
    scheduled: bool,
}

/// Records the audit trail.
pub struct Audit {
    changes: Changes,
    /// The number of entries that are kept in the store; 0: none.
    keep: usize,
    pending: Arc<Mutex<Pending>>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Audit {
    /// A trail of which the store keeps the last `keep` entries.
    pub fn new(changes: Changes, keep: usize) -> Self {
        Self { changes, keep, pending: Arc::default() }
    }

    /// Records an event with the acting user, if known, and the client address. Does not wait.
    pub fn record(&self, event: AuditEvent<'_>, user: Option<UserId>, address: Option<IpAddr>) {
        let line = event.line();
        line.log(user, address);
        if self.keep == 0 {
            return;
        }
        let entry = entry(&line, user, address);
        {
            let mut pending = self.pending.lock();
            if pending.entries.len() < MAX_PENDING {
                pending.entries.push(entry);
            } else {
                pending.left_out += 1;
            }
        }
        self.schedule();
    }

    /// Has the writer thread take what waits, unless it is about to. To be called now and then, for what found its queue full.
    pub fn schedule(&self) {
        {
            let mut pending = self.pending.lock();
            if pending.scheduled || pending.entries.is_empty() {
                return;
            }
            pending.scheduled = true;
        }
        let (pending, keep) = (self.pending.clone(), self.keep);
        if !self.changes.defer(move || take(&pending, keep), drop) {
            self.pending.lock().scheduled = false;
        }
    }

    /// Writes what waits, and waits until it is on disk.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn flush(&self) -> Result<()> {
        if self.pending.lock().entries.is_empty() {
            return Ok(());
        }
        self.changes.run(take(&self.pending, self.keep)).await
    }
}

/// Takes the entries that wait.
fn take(pending: &Mutex<Pending>, keep: usize) -> RecordAudit {
    let Pending { mut entries, left_out, .. } = std::mem::take(&mut *pending.lock());
    if left_out > 0 {
        entries.push(entry(&AuditEvent::LeftOut(left_out).line(), None, None));
    }
    RecordAudit { entries, keep }
}

/// Returns the entry of an event.
fn entry(line: &Line<'_>, user: Option<UserId>, address: Option<IpAddr>) -> AuditRecord {
    let Line { event, subject, device, token, role, disabled, password, records, count, name } = *line;
    let of_user = subject.map(|id| AuditSubject::User(UserId(id)));
    let of_device = device.map(|id| AuditSubject::Device(DeviceId(id)));
    let of_token = token.map(|id| AuditSubject::Token(TokenId(id)));
    let subject = of_user.or(of_device).or(of_token);
    let fields: [(&str, Option<Value>); 6] = [
        ("token", token.filter(|_| subject != of_token).map(Value::from)),
        ("role", role.map(Value::from)),
        ("disabled", disabled.map(Value::from)),
        ("password", password.filter(|&changed| changed).map(Value::from)),
        ("records", records.map(Value::from)),
        ("count", count.map(Value::from)),
    ];
    let details: BTreeMap<_, _> = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let name = name.map(str::to_owned);
    AuditRecord { at: Timestamp::now(), event: event.into(), user, subject, name, address, details }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Settings;
    use crate::store::Store;
    use crate::telemetry::audit::UserChanges;
    use crate::telemetry::metrics::Metrics;

    fn audit(keep: usize) -> (tempfile::TempDir, Store, Audit) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let settings = Settings { mailbox: Default::default(), history: Default::default() };
        let changes = Changes::open(store.clone(), settings, Metrics::new(Arc::default())).unwrap();
        (dir, store, Audit::new(changes, keep))
    }

    fn listed(store: &Store) -> Vec<AuditRecord> {
        store.audit(None).map(|entry| entry.unwrap().1).collect()
    }

    #[test]
    fn entry_has_the_parts_of_its_event() {
        let of = |event: AuditEvent<'_>| {
            let AuditRecord { event, subject, name, details, .. } = entry(&event.line(), None, None);
            (event, subject, name, serde_json::to_string(&details).unwrap())
        };
        let (user, device, token) = (UserId(7), DeviceId(3), TokenId(9));
        let changes = UserChanges { role: Some("admin"), disabled: Some(false), password: true };
        for (event, expected) in [
            (AuditEvent::LoggedIn(token), ("login", Some(AuditSubject::Token(token)), None, "{}")),
            (AuditEvent::LogInFailed(None), ("login_failed", None, None, "{}")),
            (
                AuditEvent::UserChanged(user, changes),
                ("user_changed", Some(AuditSubject::User(user)), None, r#"{"disabled":false,"password":true,"role":"admin"}"#),
            ),
            (AuditEvent::UserDeleted(user, "ana"), ("user_deleted", Some(AuditSubject::User(user)), Some("ana"), "{}")),
            (
                AuditEvent::PairingDone(device, token),
                ("pairing_done", Some(AuditSubject::Device(device)), None, r#"{"token":9}"#),
            ),
            (AuditEvent::LeftOut(5), ("left_out", None, None, r#"{"count":5}"#)),
        ] {
            let (name, subject, of_subject, details) = expected;
            assert_eq!(of(event), (name.to_owned(), subject, of_subject.map(str::to_owned), details.to_owned()));
        }
    }

    #[tokio::test]
    async fn entries_are_kept_in_order_and_none_where_none_are_wanted() {
        let (_dir, store, audit) = audit(100);
        for n in 0..250u64 {
            audit.record(AuditEvent::TokenMade(TokenId(n)), Some(UserId(n % 9)), None);
        }
        audit.changes.commit().await.unwrap();
        let tokens: Vec<_> = listed(&store).into_iter().map(|entry| entry.subject).collect();
        assert_eq!(tokens, (150..250).rev().map(|n| Some(AuditSubject::Token(TokenId(n)))).collect::<Vec<_>>());
        let none = Audit::new(audit.changes.clone(), 0);
        none.record(AuditEvent::Registered, None, None);
        none.flush().await.unwrap();
        assert_eq!(listed(&store).len(), 100);
    }

    #[tokio::test]
    async fn entries_beyond_the_room_are_counted_and_a_stopped_store_stops_nobody() {
        let (_dir, store, audit) = audit(10_000);
        audit.pending.lock().scheduled = true; // as long as the writer thread is busy with something else
        for _ in 0..MAX_PENDING + 7 {
            audit.record(AuditEvent::LinkRefused, None, Some([192, 0, 2, 1].into()));
        }
        assert_eq!(audit.pending.lock().entries.len(), MAX_PENDING);
        audit.flush().await.unwrap();
        let entries = listed(&store);
        assert_eq!((entries.len(), &*entries[0].event, &entries[0].details["count"]), (MAX_PENDING + 1, "left_out", &7.into()));
        store.close().unwrap();
        audit.record(AuditEvent::Registered, None, None);
        audit.schedule();
        assert!(!audit.pending.lock().scheduled);
        assert!(audit.flush().await.is_err());
    }
}
