//! Accounts, devices and their credentials as services: each change is one call that checks the [`policy`], commits,
//! and writes the audit trail. Connections that lost their right by it are closed.
//!
//! # Invariants
//! - Nothing else changes users, devices or tokens, except for their times of last use. Connections that lose their right by such a change
//!   are ended by the app's reaction to it; one that is just starting checks itself.
//! - Rights are checked by the policy before each call. For creating accounts and tokens and for changing accounts they are
//!   checked again, as an [`Authority`] inside the write, since they may have been revoked while the request waited for a password
//!   hash, a body, or its turn.

pub mod access;
mod clients;
mod devices;
mod import;
mod limits;
mod links;
mod pairing;
pub mod policy;
mod tokens;
mod users;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::audit::Audit;
use crate::auth::{AuthError, Caller};
use crate::change::{ImportError, PairingError};
use crate::core::ids::{DeviceId, UserId};
use crate::core::names::NameError;
use crate::core::text::TextError;
use crate::net::client_addr::ClientAddr;
use crate::store::{Authority, Device, StoreError, User};
use crate::telemetry::audit::AuditEvent;
use crate::telemetry::metrics::Refused;

pub use devices::{BoundDevice, PatchDevice};
pub use pairing::PairingProgress;
use policy::{Action, Denied, Relation, Requester};
pub use tokens::{Issued, TokenOptions};
pub use users::{LogInKind, NewAccount, PatchAccount};

/// The requester of a change and its origin, for the policy, the write and the audit trail.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The authenticated caller; `None` where none is needed, such as at a log-in.
    pub caller: Option<&'a Caller>,
    /// The client's address; `None` at the command line.
    pub address: Option<ClientAddr>,
    /// The audit trail.
    pub trail: &'a Audit,
}

impl By<'_> {
    /// Returns the caller.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] when there is none.
    pub fn caller(&self) -> Result<&Caller, Denied> {
        self.caller.ok_or(Denied::Unauthenticated)
    }

    /// Returns the subject of the policy's decisions.
    pub fn requester(&self) -> Requester {
        self.caller.map_or(Requester::ANONYMOUS, Requester::from)
    }

    /// Returns the authority for changes to the caller's own data.
    fn authority(&self) -> Result<Authority, Denied> {
        self.caller().map(Caller::authority)
    }

    /// Returns the authority for changes to another user's data.
    fn admin_authority(&self) -> Result<Authority, Denied> {
        self.caller().map(Caller::admin_authority)
    }

    /// Returns the address for rate limits.
    fn limited_address(&self) -> ClientAddr {
        self.address.unwrap_or_else(|| IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
    }

    /// Records an event in the audit trail.
    fn audit(&self, event: AuditEvent<'_>) {
        self.audit_for(event, self.caller.map(|caller| caller.user.id));
    }

    /// Records an event in the audit trail where `user` acts without being authenticated by a token.
    fn audit_for(&self, event: AuditEvent<'_>, user: Option<UserId>) {
        self.trail.record(event, user, self.address.map(|address| address.ip));
    }
}

/// Errors of the account services.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// Refused by the policy.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A credential or password was refused, or could not be made.
    #[error(transparent)]
    Auth(AuthError),
    /// A pairing can't be started, claimed or polled.
    #[error(transparent)]
    Pairing(PairingError),
    /// Refused by that rate limit; retry after that time.
    #[error("too many requests")]
    RateLimited(Refused, Duration),
    /// A field of the request is unusable; the text names it.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A part of an import was not made.
    #[error(transparent)]
    Import(ImportError),
    /// Accounts are created by administrators only.
    #[error("registration is closed")]
    RegistrationClosed,
    /// The store failed or refused the change.
    #[error(transparent)]
    Store(StoreError),
}

impl From<AuthError> for AccountsError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => Self::Store(error),
            other => Self::Auth(other),
        }
    }
}

impl From<PairingError> for AccountsError {
    fn from(error: PairingError) -> Self {
        match error {
            PairingError::Store(error) => Self::Store(error),
            other => Self::Pairing(other),
        }
    }
}

impl From<StoreError> for AccountsError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TextError> for AccountsError {
    fn from(error: TextError) -> Self {
        Self::Field(error.into())
    }
}

/// Unusable fields of requests.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// A new name that is empty or too long, or can mislead.
    #[error("username {0}")]
    Username(#[from] NameError),
    /// Zero, or longer than ten years.
    #[error("expires_in must be 1 to {} seconds", limits::MAX_LIFETIME_SECONDS)]
    Lifetime,
    /// A device's token is asked for without the device.
    #[error("kind: make a device's token with POST /api/devices/{{id}}/token")]
    DeviceTokenWithoutDevice,
    /// Another kind of token is asked for on a device's route.
    #[error("kind must be \"device\" here")]
    OnlyDeviceTokens,
    /// Scopes are asked for a token that can't have any.
    #[error("scopes are for tokens of kind \"service\" only")]
    OnlyServicesHaveScopes,
    /// The list of scopes is empty.
    #[error("scopes must name at least one scope; leave it out for all of them")]
    NoScopes,
    /// A name, serial, model or label is too short, too long, or hides its content.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A one-time link would log in as a user who is disabled.
    #[error("the user is disabled; enable the user first")]
    UserDisabled,
    /// The list of a device's users is empty or too long.
    #[error("user_ids must hold 1 to {} ids; DELETE removes the device", limits::MAX_DEVICE_USERS)]
    UserIds,
    /// A limit of payloads that is too small.
    #[error("max_bytes must be at least {}", crate::store::MIN_MAX_BYTES)]
    MaxBytes,
    /// A primary device must be bound to its user.
    #[error("primary: the device is not bound to you; PUT its primary with a user_id")]
    NotBound,
}

/// The account services of one server.
#[derive(Clone, Copy)]
pub struct Accounts<'a> {
    app: &'a App,
}

impl App {
    /// Returns the account services.
    pub fn accounts(&self) -> Accounts<'_> {
        Accounts { app: self }
    }
}

impl Accounts<'_> {
    /// Checks the policy for `action` on an object of that `relation`; `what` names the object where it is hidden.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn permit(&self, by: &By<'_>, action: Action, relation: Relation, what: &'static str) -> Result<(), Denied> {
        let rules = policy::Rules { cross_user: self.app.config().messages.cross_user };
        policy::check(by.requester().actor, action, relation, rules, what)
    }

    /// Returns the account `id` where the policy permits `action` on it.
    ///
    /// # Errors
    /// [`Denied`]; [`StoreError::Missing`] when there is none; else when the store fails.
    pub fn user(&self, by: &By<'_>, action: Action, id: UserId) -> Result<Arc<User>, AccountsError> {
        self.permit(by, action, by.requester().to_user(id), "user")?;
        Ok(self.app.store.user(id)?.ok_or(StoreError::Missing("user"))?)
    }

    /// Returns the device `id` where the policy permits `action` on it.
    ///
    /// # Errors
    /// [`Denied`]; [`StoreError::Missing`] when there is none; else when the store fails.
    pub fn device(&self, by: &By<'_>, action: Action, id: DeviceId) -> Result<Device, AccountsError> {
        let relation = by.requester().to_device(&self.app.store, id)?;
        self.permit(by, action, relation, "device")?;
        Ok(self.app.store.device(id)?.ok_or(StoreError::Missing("device"))?)
    }

    /// Returns the user on whose behalf the caller acts: itself, or, for administrators, the one it names.
    ///
    /// # Errors
    /// [`Denied`]; [`StoreError::Missing`] when there is no such user; else when the store fails.
    pub fn acting_for(&self, by: &By<'_>, named: Option<UserId>) -> Result<UserId, AccountsError> {
        let id = named.unwrap_or(by.caller()?.user.id);
        Ok(self.user(by, Action::ActForUser, id)?.id)
    }

    /// Writes a refusal to the audit trail, of which one address can cause any number: beyond a rate they are only counted.
    fn audit_refusal(&self, by: &By<'_>, event: AuditEvent<'_>) {
        match by.address.map(|address| self.app.admission.refusal_lines.check(&address.into())) {
            None | Some(Ok(())) => by.audit(event),
            Some(Err(_)) => self.app.metrics.audit_suppressed.inc(),
        }
    }
}
