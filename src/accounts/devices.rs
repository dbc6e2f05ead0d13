//! Devices: create, claim, change, hand over, delete.

use super::limits::MAX_DEVICE_USERS;
use super::policy::Action;
use super::{Accounts, AccountsError, By, FieldError};
use crate::auth::pairings::typed_code;
use crate::change::{ChangeDevice, ClaimPairing, CreateDevice, DeleteDevice, PairingError, SetPrimary, UnbindDevice};
use crate::core::ids::{DeviceId, UserId};
use crate::core::text::check_text;
use crate::store::{Device, DeviceChange, MIN_MAX_BYTES, NewDevice, StoreError};
use crate::telemetry::audit::AuditEvent;

/// A change of a device; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct PatchDevice {
    /// For people.
    pub name: Option<String>,
    /// Unique; an inner `None` removes it.
    pub serial: Option<Option<String>>,
    /// For people; an inner `None` removes it.
    pub model: Option<Option<String>>,
    /// The longest payload that it accepts, in bytes; an inner `None` removes it.
    pub max_bytes: Option<Option<u32>>,
    /// The new state: the caller's primary device, or no longer.
    pub primary: Option<bool>,
    /// All the users it shall be bound to. For administrators.
    pub users: Option<Vec<UserId>>,
}

/// A device with the user that it was bound to, or whose primary device it became.
#[derive(Debug)]
pub struct BoundDevice {
    /// The device.
    pub device: Device,
    /// The user it is bound to.
    pub user: UserId,
}

/// Refuses unusable properties of a device.
pub(super) fn check_info(name: Option<&str>, serial: Option<&str>, model: Option<&str>) -> Result<(), FieldError> {
    check_text("name", name, 1)?;
    check_text("serial", serial, 1)?;
    Ok(check_text("model", model, 0)?)
}

/// Refuses a limit of payloads that is too small to be of use.
fn check_max_bytes(max_bytes: Option<u32>) -> Result<(), FieldError> {
    if max_bytes.is_some_and(|max| max < MIN_MAX_BYTES) { Err(FieldError::MaxBytes) } else { Ok(()) }
}

impl Accounts<'_> {
    /// Creates a device, bound to the caller or to the user `named`.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, the serial is taken, too many devices, the store.
    pub async fn create_device(&self, by: &By<'_>, new: NewDevice, named: Option<UserId>) -> Result<BoundDevice, AccountsError> {
        check_info(Some(&new.name), new.serial.as_deref(), new.model.as_deref())?;
        check_max_bytes(new.max_bytes)?;
        let user = self.acting_for(by, named)?;
        let device = self.store_device(new, user).await?;
        Ok(BoundDevice { device, user })
    }

    /// Changes a device, and for administrators its users. Where none of its users keeps it, its queued messages are removed: the
    /// new owners get the device, not the former owners' messages.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, no such device or user, the serial is taken, the store.
    pub async fn change_device(&self, by: &By<'_>, id: DeviceId, patch: PatchDevice) -> Result<Device, AccountsError> {
        self.device(by, Action::ManageDevice, id)?;
        let PatchDevice { name, serial, model, max_bytes, primary, users } = patch;
        check_max_bytes(max_bytes.flatten())?;
        let text = |field: &Option<Option<String>>| field.clone().flatten();
        check_info(name.as_deref(), text(&serial).as_deref(), text(&model).as_deref())?;
        if let Some(users) = &users {
            self.check_users(by, id, users)?;
        }
        let (store, caller) = (&self.app.store, by.caller()?.user.id);
        // Before anything is changed: one's primary device is one of one's own.
        let owns = match &users {
            Some(users) => users.contains(&caller),
            None => store.owns(caller, id)?,
        };
        if primary.is_some() && !owns {
            return Err(FieldError::NotBound.into());
        }
        let before = store.device_users(id)?;
        let change = DeviceChange { name, serial, model, max_bytes, users };
        let device = self.app.changes.run(ChangeDevice { id, change }).await?;
        if before != store.device_users(id)? {
            by.audit(AuditEvent::DeviceBound(id));
        }
        if let Some(primary) = primary {
            self.app.changes.run(SetPrimary { user: caller, device: id, primary }).await?;
        }
        Ok(device)
    }

    /// Checks that the caller may bind `device` to `users`, and that there are such users.
    fn check_users(&self, by: &By<'_>, device: DeviceId, users: &[UserId]) -> Result<(), AccountsError> {
        let relation = by.requester().to_device(&self.app.store, device)?;
        self.permit(by, Action::AssignDevice, relation, "device")?;
        if users.is_empty() || users.len() > MAX_DEVICE_USERS {
            return Err(FieldError::UserIds.into());
        }
        for &user in users {
            self.app.store.user(user)?.ok_or(StoreError::Missing("user"))?;
        }
        Ok(())
    }

    /// Unbinds a device from the caller; the last user, or an administrator, deletes it altogether.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such device, the store.
    pub async fn delete_device(&self, by: &By<'_>, id: DeviceId) -> Result<(), AccountsError> {
        let device = self.device(by, Action::ManageDevice, id)?;
        let (store, caller) = (&self.app.store, by.caller()?.user.id);
        let assigns = by.requester().to_device(store, id)?;
        if self.permit(by, Action::AssignDevice, assigns, "device").is_ok() {
            self.app.changes.run(DeleteDevice { id }).await?;
        } else {
            self.app.changes.run(UnbindDevice { user: caller, device: id }).await?;
        }
        by.audit(AuditEvent::DeviceDeleted(device.id, &device.name));
        Ok(())
    }

    /// Makes a device the primary one of the caller, or of the user `named`. Takes effect at the next connection.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such device or user, not bound to that user, the store.
    pub async fn set_primary(&self, by: &By<'_>, id: DeviceId, named: Option<UserId>) -> Result<BoundDevice, AccountsError> {
        let device = self.device(by, Action::ManageDevice, id)?;
        let user = self.acting_for(by, named)?;
        self.app.changes.run(SetPrimary { user, device: id, primary: true }).await?;
        Ok(BoundDevice { device, user })
    }

    /// Claims the device that shows `code`, for the caller or the user `named`. Where `primary` is `None`, it becomes the primary device
    /// of a user who has no other one, so that `"target": "device"` means it.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, no such code ([`StoreError::Missing`]), too many wrong codes, the serial is taken, too
    /// many devices, the store.
    pub async fn claim_device(
        &self,
        by: &By<'_>,
        code: &str,
        name: Option<String>,
        primary: Option<bool>,
        named: Option<UserId>,
    ) -> Result<BoundDevice, AccountsError> {
        check_info(name.as_deref(), None, None)?;
        let user = self.acting_for(by, named)?;
        let (caller, limit) = (by.caller()?.user.id, self.app.config().limits.devices_per_user);
        let claimed = match typed_code(code) {
            Some(code) => self.app.changes.run(ClaimPairing { code, by: caller, user, name, primary, limit }).await,
            None => {
                let blocked = self.app.changes.memory().pairings.blocked(caller, self.app.changes.clock().present().lived);
                Err(blocked.map_or(PairingError::Unknown, PairingError::TooMany))
            }
        };
        let device = claimed.map_err(|error| {
            if matches!(error, PairingError::Unknown | PairingError::TooMany(_)) {
                self.audit_refusal(by, AuditEvent::PairingFailed);
            }
            match error {
                PairingError::Unknown => StoreError::Missing("code").into(),
                other => AccountsError::from(other),
            }
        })?;
        by.audit(AuditEvent::PairingClaimed(device.id));
        Ok(BoundDevice { device, user })
    }

    async fn store_device(&self, new: NewDevice, user: UserId) -> Result<Device, AccountsError> {
        let limit = self.app.config().limits.devices_per_user;
        Ok(self.app.changes.run(CreateDevice { new, user, limit }).await?)
    }
}
