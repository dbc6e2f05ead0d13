//! The audit trail: who got in, who did not, and who changed what others may do. One line an event, under the log target
//! `audit`, so that it can be kept apart from the rest; no line ever holds a secret.

use std::net::IpAddr;

use crate::core::ids::{DeviceId, TokenId, UserId};

/// The target of these log lines.
pub const TARGET: &str = "audit";

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// A right password, and the token that was given for it.
    LoggedIn(TokenId),
    /// A wrong password or a disabled account. Not the name as it was given: people type their password into the wrong field.
    LogInFailed(Option<UserId>),
    /// An attempt too many.
    LogInThrottled(Option<UserId>),
    /// The user gave a token back.
    LoggedOut(TokenId),
    /// The user changed the own password.
    PasswordChanged,
    /// A stranger made an account.
    Registered,
    /// This account was made, with this role.
    UserCreated(UserId, &'a str),
    /// An administrator changed this account: its role, its password, whether it is disabled.
    UserChanged(UserId, Changed<'a>),
    /// An administrator removed this account.
    UserDeleted(UserId),
    /// A token was made.
    TokenMade(TokenId),
    /// A token was revoked.
    TokenRevoked(TokenId),
    /// A device asks to be paired.
    PairingBegun,
    /// The user claimed a code: the device is the user's.
    PairingClaimed(DeviceId),
    /// The user claimed a code that is none.
    PairingFailed,
    /// The paired device has fetched its token.
    PairingDone(DeviceId, TokenId),
    /// An administrator said whose a device is.
    DeviceBound(DeviceId),
    /// A user gave a device away, or an administrator took it from everybody.
    DeviceDeleted(DeviceId),
}

/// What became of an account; `None` is unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed<'a> {
    /// The role's name.
    pub role: Option<&'a str>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
    /// Whether it has a new password.
    pub password: bool,
}

/// Writes one line: the act, by whom (where that is known) and from where.
pub fn note(act: Act<'_>, user: Option<UserId>, address: Option<IpAddr>) {
    let (user, address) = (user.map(|id| id.0), address.map(tracing::field::display));
    macro_rules! line {
        ($event:literal $(, $($field:tt)*)?) => {
            tracing::info!(target: TARGET, event = $event, user, address $(, $($field)*)?)
        };
    }
    match act {
        Act::LoggedIn(token) => line!("login", token = token.0),
        Act::LogInFailed(id) => line!("login_failed", subject = id.map(|id| id.0)),
        Act::LogInThrottled(id) => line!("login_throttled", subject = id.map(|id| id.0)),
        Act::LoggedOut(token) => line!("logout", token = token.0),
        Act::PasswordChanged => line!("password_changed"),
        Act::Registered => line!("registered"),
        Act::UserCreated(id, role) => line!("user_created", subject = id.0, role),
        Act::UserChanged(id, Changed { role, disabled, password }) => {
            line!("user_changed", subject = id.0, role, disabled, password);
        }
        Act::UserDeleted(id) => line!("user_deleted", subject = id.0),
        Act::TokenMade(token) => line!("token_made", token = token.0),
        Act::TokenRevoked(token) => line!("token_revoked", token = token.0),
        Act::PairingBegun => line!("pairing_begun"),
        Act::PairingClaimed(device) => line!("pairing_claimed", device = device.0),
        Act::PairingFailed => line!("pairing_failed"),
        Act::PairingDone(device, token) => line!("pairing_done", device = device.0, token = token.0),
        Act::DeviceBound(device) => line!("device_bound", device = device.0),
        Act::DeviceDeleted(device) => line!("device_deleted", device = device.0),
    }
}
