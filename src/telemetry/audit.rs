//! The events of the audit trail: log-ins, failed log-ins, and changes to accounts, tokens and devices. One line per event, under the log
//! target `audit`, so that it can be filtered and stored separately; [`Audit`](crate::audit::Audit) also keeps them in the store. No line
//! contains a secret.

use std::net::IpAddr;

use crate::core::ids::{DeviceId, TokenId, UserId};

/// The log target of audit events.
pub const TARGET: &str = "audit";

/// An event in the audit trail.
#[derive(Debug, Clone, Copy)]
pub enum AuditEvent<'a> {
    /// A log-in with the correct password, and the token that it returned.
    LoggedIn(TokenId),
    /// A wrong password or a disabled account. Holds the account, never the name as it was given: people type their password into
    /// the wrong field.
    LogInFailed(Option<UserId>),
    /// A log-in attempt over the rate limit.
    LogInThrottled(Option<UserId>),
    /// The operator made a one-time link for an account.
    LinkMade(UserId),
    /// A log-in with a one-time link, and the token that it returned.
    LinkUsed(TokenId),
    /// The code of a one-time link that is not valid, or that came over an open connection.
    LinkRefused,
    /// The user revoked the token of the session.
    LoggedOut(TokenId),
    /// The user showed the password again, for the browser session of that token.
    Elevated(TokenId),
    /// The user changed the account's own password.
    PasswordChanged,
    /// An account was created by registration.
    Registered,
    /// An account was created, with the name of its role.
    UserCreated(UserId, &'a str),
    /// An administrator changed an account.
    UserChanged(UserId, UserChanges<'a>),
    /// An administrator deleted an account; with its name.
    UserDeleted(UserId, &'a str),
    /// A token was created.
    TokenMade(TokenId),
    /// A token was revoked.
    TokenRevoked(TokenId),
    /// A device requested pairing.
    PairingBegun,
    /// The user claimed a pairing code, and with it the device.
    PairingClaimed(DeviceId),
    /// The user entered an invalid pairing code.
    PairingFailed,
    /// A paired device received its token.
    PairingDone(DeviceId, TokenId),
    /// An administrator changed the users of a device.
    DeviceBound(DeviceId),
    /// The operator imported so many records from another system.
    Imported(u64),
    /// A user gave up a device, or an administrator deleted it; with its name.
    DeviceDeleted(DeviceId, &'a str),
    /// An administrator began to download a backup.
    BackupDownloaded,
    /// So many refusals, or entries for which there was no room, are not in the trail.
    LeftOut(u64),
}

/// Changes to an account; `None` is unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserChanges<'a> {
    /// The name of the new role.
    pub role: Option<&'a str>,
    /// The new state: disabled or not.
    pub disabled: Option<bool>,
    /// True when the password was changed.
    pub password: bool,
}

/// An event as a line of the log and an entry of the trail: its name and its parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line<'a> {
    /// The name of the event.
    pub event: &'static str,
    /// The account that it is about.
    pub subject: Option<u64>,
    /// The device that it is about.
    pub device: Option<u64>,
    /// The token that it is about, or that was made.
    pub token: Option<u64>,
    /// The name of a role.
    pub role: Option<&'a str>,
    /// The new state of an account.
    pub disabled: Option<bool>,
    /// A password was changed.
    pub password: Option<bool>,
    /// A number of records.
    pub records: Option<u64>,
    /// A number of refusals.
    pub count: Option<u64>,
    /// The name of what was deleted; not logged.
    pub name: Option<&'a str>,
}

impl<'a> AuditEvent<'a> {
    /// Returns the event's name and parts.
    pub fn line(self) -> Line<'a> {
        macro_rules! line {
            ($event:literal $(, $field:ident = $value:expr)*) => {
                Line { event: $event, $($field: Option::from($value),)* ..Line::default() }
            };
        }
        match self {
            AuditEvent::LoggedIn(token) => line!("login", token = token.0),
            AuditEvent::LogInFailed(id) => line!("login_failed", subject = id.map(|id| id.0)),
            AuditEvent::LogInThrottled(id) => line!("login_throttled", subject = id.map(|id| id.0)),
            AuditEvent::LinkMade(id) => line!("link_made", subject = id.0),
            AuditEvent::LinkUsed(token) => line!("link_used", token = token.0),
            AuditEvent::LinkRefused => line!("link_refused"),
            AuditEvent::LoggedOut(token) => line!("logout", token = token.0),
            AuditEvent::Elevated(token) => line!("elevated", token = token.0),
            AuditEvent::PasswordChanged => line!("password_changed"),
            AuditEvent::Registered => line!("registered"),
            AuditEvent::UserCreated(id, role) => line!("user_created", subject = id.0, role = role),
            AuditEvent::UserChanged(id, UserChanges { role, disabled, password }) => {
                line!("user_changed", subject = id.0, role = role, disabled = disabled, password = password)
            }
            AuditEvent::UserDeleted(id, name) => line!("user_deleted", subject = id.0, name = name),
            AuditEvent::TokenMade(token) => line!("token_made", token = token.0),
            AuditEvent::TokenRevoked(token) => line!("token_revoked", token = token.0),
            AuditEvent::PairingBegun => line!("pairing_begun"),
            AuditEvent::PairingClaimed(device) => line!("pairing_claimed", device = device.0),
            AuditEvent::PairingFailed => line!("pairing_failed"),
            AuditEvent::PairingDone(device, token) => line!("pairing_done", device = device.0, token = token.0),
            AuditEvent::DeviceBound(device) => line!("device_bound", device = device.0),
            AuditEvent::Imported(records) => line!("imported", records = records),
            AuditEvent::DeviceDeleted(device, name) => line!("device_deleted", device = device.0, name = name),
            AuditEvent::BackupDownloaded => line!("backup_downloaded"),
            AuditEvent::LeftOut(count) => line!("left_out", count = count),
        }
    }
}

impl Line<'_> {
    /// Logs the event with the acting user, if known, and the client address.
    pub fn log(&self, user: Option<UserId>, address: Option<IpAddr>) {
        let (user, address) = (user.map(|id| id.0), address.map(tracing::field::display));
        let Self { event, subject, device, token, role, disabled, password, records, count, name: _ } = *self;
        tracing::info!(target: TARGET, event, user, address, subject, device, token, role, disabled, password, records, count);
    }
}
