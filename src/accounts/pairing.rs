//! Pairing from the device's side: start, poll, fetch the token. The states are in [`change`](crate::change).

use std::time::Instant;

use super::devices::check_info;
use super::{Accounts, AccountsError, By};
use crate::auth::{Secret, pairings};
use crate::change::{BeginPairing, CollectPairing, PairingError, PairingState};
use crate::core::boot::BootInstant;
use crate::core::ids::UserId;
use crate::store::{Device, DeviceInfo, TokenHash};
use crate::telemetry::audit::AuditEvent;
use crate::telemetry::metrics::Refused;

/// The answer to a started pairing (RFC 8628 section 3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    /// The device's secret, with which it polls.
    pub device_code: Secret,
    /// The code that the device shows and its owner types in.
    pub user_code: String,
}

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
    /// [`AccountsError`]: a field, too many pairings from this address or in all, the store.
    pub async fn start_pairing(&self, by: &By<'_>, info: DeviceInfo) -> Result<DeviceAuthorization, AccountsError> {
        check_info(info.name.as_deref(), info.serial.as_deref(), info.model.as_deref())?;
        let from = by.limited_address().into();
        let limited = self.app.admission.pairings.check(&from);
        limited.map_err(|wait| AccountsError::RateLimited(Refused::PairingsRate, wait))?;
        let device_code = Secret::device_code().ok_or(PairingError::NoRandom)?;
        let codes = pairings::user_codes().ok_or(PairingError::NoRandom)?;
        let begin = BeginPairing { device_code: device_code.hash(), codes, device: info, from: from.to_string() };
        let user_code = self.app.changes.run_soon(begin).await?;
        by.audit(AuditEvent::PairingBegun);
        Ok(DeviceAuthorization { device_code, user_code })
    }

    /// Returns the state of a pairing; once it is claimed, with a token for the device.
    ///
    /// # Errors
    /// [`AccountsError`]: the pairing has expired, the device polls too often, this address guesses device codes, the store.
    pub async fn poll_pairing(&self, by: &By<'_>, device_code: &str) -> Result<PairingProgress, AccountsError> {
        let device_code = TokenHash::of(device_code);
        let now = self.app.changes.clock().present().lived;
        let state = self.app.changes.memory().pairings.state(&device_code, now);
        let Some(state) = state else {
            // Device codes can't be guessed; unknown ones are counted like refused credentials.
            let limited = self.app.admission.refusals.check(&by.limited_address().into(), Instant::now());
            limited.map_err(|wait| AccountsError::RateLimited(Refused::RefusalsRate, wait))?;
            return Err(PairingError::Unknown.into());
        };
        self.app.polls.check(device_code, BootInstant::now()).map_err(PairingError::TooMany)?;
        match state {
            PairingState::Pending(left) => Ok(PairingProgress::Pending(left.as_secs())),
            PairingState::Claimed(user) => self.collect_pairing(by, user, device_code).await,
        }
    }

    /// Issues the device's token; those that it had before from the same user are revoked.
    async fn collect_pairing(&self, by: &By<'_>, user: UserId, device_code: TokenHash) -> Result<PairingProgress, AccountsError> {
        let secret = Secret::token().ok_or(PairingError::NoRandom)?;
        let limit = self.app.config().limits.tokens_per_user;
        let collected = self.app.changes.run(CollectPairing { device_code, secret: secret.hash(), limit }).await;
        let paired = collected.inspect_err(|_| self.app.polls.forget(&device_code))?;
        if let Some(retired) = paired.retired {
            by.audit_for(AuditEvent::TokenRevoked(retired), Some(user));
        }
        by.audit_for(AuditEvent::PairingDone(paired.device.id, paired.token.id), Some(user));
        Ok(PairingProgress::Paired { secret, user, device: paired.device })
    }
}
