//! Pairing from the device's side: start, poll, fetch the token. The states are in [`auth::pairings`](crate::auth::pairings).

use std::time::Instant;

use super::devices::check_info;
use super::revocation::react;
use super::{Accounts, AccountsError, By};
use crate::auth::Secret;
use crate::auth::pairings::{DeviceAuthorization, DeviceInfo, PairingError, Poll};
use crate::change::RevokeDeviceTokens;
use crate::core::boot::BootInstant;
use crate::core::ids::{DeviceId, UserId};
use crate::store::{Authority, Device, NewToken, StoreError, TokenKind};
use crate::telemetry::audit::AuditEvent;
use crate::telemetry::metrics::Refused;

/// The state of a pairing, for its device.
#[derive(Debug)]
pub enum PairingProgress {
    /// Not claimed yet; the code expires after that many seconds.
    Pending(u64),
    /// Claimed: the device's token, this once.
    Paired {
        /// The token's secret.
        secret: Secret,
        /// The owner.
        user: UserId,
        /// The device's record.
        device: Device,
    },
}

impl Accounts<'_> {
    /// Starts a pairing of the device that describes itself as `info`.
    ///
    /// # Errors
    /// [`AccountsError`]: a field, too many pairings from this address or in all.
    pub fn start_pairing(&self, by: &By<'_>, info: DeviceInfo) -> Result<DeviceAuthorization, AccountsError> {
        check_info(info.name.as_deref(), info.serial.as_deref(), info.model.as_deref())?;
        let from = by.limited_address().into();
        let limited = self.app.admission.pairings.check(&from);
        limited.map_err(|wait| AccountsError::RateLimited(Refused::PairingsRate, wait))?;
        let started = self.app.pairings.begin(info, from, BootInstant::now())?;
        by.audit(AuditEvent::PairingBegun);
        Ok(started)
    }

    /// Returns the state of a pairing; once it is claimed, with a token for the device.
    ///
    /// # Errors
    /// [`AccountsError`]: the pairing has expired, the device polls too often, this address guesses device codes, the store.
    pub async fn poll_pairing(&self, by: &By<'_>, device_code: &str) -> Result<PairingProgress, AccountsError> {
        // Device codes can't be guessed; unknown ones are counted like refused credentials.
        let polled = self.app.pairings.poll(device_code, BootInstant::now());
        if matches!(polled, Err(PairingError::Unknown)) {
            let limited = self.app.admission.refusals.check(&by.limited_address().into(), Instant::now());
            limited.map_err(|wait| AccountsError::RateLimited(Refused::RefusalsRate, wait))?;
        }
        let handout = match polled? {
            Poll::Pending(left) => return Ok(PairingProgress::Pending(left.as_secs())),
            Poll::Claimed(handout) => handout,
        };
        let user = handout.user;
        match self.issue_paired(by, user, handout.device).await {
            Ok((secret, device)) => {
                handout.done();
                Ok(PairingProgress::Paired { secret, user, device })
            }
            // The device or its owner has been deleted meanwhile: there is nothing to retry for.
            Err(AccountsError::Store(StoreError::Missing(_))) => {
                handout.done();
                Err(PairingError::Unknown.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Issues the device's token; those that it had before from the same user are revoked.
    async fn issue_paired(&self, by: &By<'_>, user: UserId, device: DeviceId) -> Result<(Secret, Device), AccountsError> {
        let store = &self.app.store;
        let record = store.device(device)?.ok_or(StoreError::Missing("device"))?;
        react(self.app, &self.app.changes.run(RevokeDeviceTokens { user, device }).await?)?;
        let new = |hash| NewToken {
            device_id: Some(device),
            kind: TokenKind::Device,
            label: "pairing".to_owned(),
            make_room: false,
            because: Authority::System,
            ..NewToken::login(user, hash)
        };
        let issued = self.issue(new).await?;
        by.audit_for(AuditEvent::PairingDone(device, issued.token.id), Some(user));
        Ok((issued.secret, record))
    }
}
