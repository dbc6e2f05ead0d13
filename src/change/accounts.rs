//! Operations on accounts, tokens and devices.
//!
//! Each makes its whole change: an account or a device that is deleted or handed over takes its mailbox with it. Those after
//! which connections may have lost their right return what they have [`Touched`].

use serde::{Deserialize, Serialize};

use super::log::remove_mailbox;
use super::{Machine, Moment, Operation};
use crate::core::ids::{DeviceId, Recipient, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::accounts::write;
use crate::store::{
    Authority, Device, DeviceChange, NewDevice, NewToken, NewUser, Result, StoreError, Token, TokenHash, User, UserChange,
};

/// The accounts and devices whose connections may have lost their right by a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Users whose credentials may no longer be accepted.
    pub users: Vec<UserId>,
    /// Devices that were taken from users.
    pub devices_taken: Vec<(UserId, DeviceId)>,
}

impl Touched {
    /// `user`'s credentials.
    pub fn user(user: UserId) -> Self {
        Self { users: vec![user], devices_taken: Vec::new() }
    }

    /// `device`, taken from `users`.
    fn taken(device: DeviceId, users: impl IntoIterator<Item = UserId>) -> Self {
        Self { users: Vec::new(), devices_taken: users.into_iter().map(|user| (user, device)).collect() }
    }
}

/// Removes the mailbox of `device` if the device is gone.
fn remove_mailbox_of_deleted(machine: &mut Machine<'_>, device: DeviceId) -> Result<()> {
    if machine.trees.devices.contains(&device)? { Ok(()) } else { remove_mailbox(machine, Recipient::Device(device)) }
}

/// Adds an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateUser {
    /// The account.
    pub new: NewUser,
    /// The right that it is made with.
    pub authority: Authority,
}

impl Operation for CreateUser {
    type Output = User;
    /// [`StoreError::Taken`], [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<User> {
        self.authority.check(machine.trees, None)?;
        let joined = machine.log().newest()?;
        write::create_user(machine.trees, self.new, moment.wall, joined)
    }
}

/// Changes an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeUser {
    /// The account.
    pub id: UserId,
    /// The change.
    pub change: UserChange,
    /// The right that it is made with.
    pub authority: Authority,
}

impl Operation for ChangeUser {
    /// The account as it is now.
    type Output = (User, Touched);
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`], [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<(User, Touched)> {
        self.authority.check(machine.trees, Some(self.id))?;
        Ok((write::change_user(machine.trees, self.id, self.change)?, Touched::user(self.id)))
    }
}

/// Deletes an account with its tokens, bindings and mailbox; devices that nobody else has are deleted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteUser {
    /// The account.
    pub id: UserId,
}

impl Operation for DeleteUser {
    type Output = Touched;
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<Touched> {
        let devices = write::delete_user(machine.trees, self.id)?;
        remove_mailbox(machine, Recipient::User(self.id))?;
        for device in devices {
            remove_mailbox_of_deleted(machine, device)?;
        }
        Ok(Touched::user(self.id))
    }
}

/// Adds a token where its user has fewer than `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// The token.
    pub new: NewToken,
    /// The most tokens that a user may have.
    pub limit: usize,
}

impl Operation for CreateToken {
    /// The token, and the one that was deleted for it.
    type Output = (Token, Option<TokenId>);
    /// [`StoreError::Full`], [`StoreError::Missing`] user or device, [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<(Token, Option<TokenId>)> {
        if !machine.trees.users.contains(&self.new.user_id)? {
            return Err(StoreError::Missing("user"));
        }
        self.new.because.check(machine.trees, Some(self.new.user_id))?;
        write::create_token(machine.trees, self.new, self.limit, moment.wall)
    }
}

/// Deletes a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteToken {
    /// Its user.
    pub user: UserId,
    /// The token.
    pub id: TokenId,
}

impl Operation for DeleteToken {
    type Output = Touched;
    /// [`StoreError::Missing`] when the user has no such token.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<Touched> {
        write::delete_token(machine.trees, self.user, self.id)?;
        Ok(Touched::user(self.user))
    }
}

/// Deletes the tokens that a user has for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeDeviceTokens {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Operation for RevokeDeviceTokens {
    type Output = Touched;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<Touched> {
        let count = write::revoke_device_tokens(machine.trees, self.user, self.device)?;
        Ok(if count > 0 { Touched::user(self.user) } else { Touched::default() })
    }
}

/// Adds a device, bound to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDevice {
    /// The device.
    pub new: NewDevice,
    /// Its user.
    pub user: UserId,
    /// The most devices that a user may have; 0: any number.
    pub limit: usize,
}

impl Operation for CreateDevice {
    type Output = Device;
    /// [`StoreError::Missing`] user, [`StoreError::Taken`] serial, [`StoreError::Full`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Device> {
        write::create_device(machine.trees, self.new, self.user, self.limit, moment.wall)
    }
}

/// Changes a device. One that none of its users keeps is handed over: its mailbox, the earlier users' messages, is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDevice {
    /// The device.
    pub id: DeviceId,
    /// The change.
    pub change: DeviceChange,
}

impl Operation for ChangeDevice {
    /// The device as it is now.
    type Output = (Device, Touched);
    /// [`StoreError::Missing`] device or user, [`StoreError::Taken`] serial.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<(Device, Touched)> {
        let before = machine.trees.device_users.keys_of(&self.id).count();
        let (device, taken_from) = write::change_device(machine.trees, self.id, self.change)?;
        if !taken_from.is_empty() && taken_from.len() == before {
            remove_mailbox(machine, Recipient::Device(self.id))?;
        }
        Ok((device, Touched::taken(self.id, taken_from)))
    }
}

/// Makes a device the primary device of a user, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPrimary {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Make it the primary one.
    pub primary: bool,
}

impl Operation for SetPrimary {
    type Output = ();
    /// [`StoreError::Missing`] when the device is not bound to the user.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        write::set_primary(machine.trees, self.user, self.device, self.primary)
    }
}

/// Takes a device from a user; without further users it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbindDevice {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Operation for UnbindDevice {
    type Output = Touched;
    /// [`StoreError::Missing`] when the device is not bound to the user.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<Touched> {
        write::unbind_device(machine.trees, self.user, self.device)?;
        remove_mailbox_of_deleted(machine, self.device)?;
        Ok(Touched::taken(self.device, [self.user]))
    }
}

/// Deletes a device with its bindings, tokens and mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteDevice {
    /// The device.
    pub id: DeviceId,
}

impl Operation for DeleteDevice {
    type Output = Touched;
    /// [`StoreError::Missing`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<Touched> {
        let users = write::delete_device(machine.trees, self.id)?;
        remove_mailbox(machine, Recipient::Device(self.id))?;
        Ok(Touched::taken(self.id, users))
    }
}

/// Writes the times at which tokens were last used and devices last connected. Those deleted meanwhile are skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Tokens and times.
    pub tokens: Vec<(TokenHash, Timestamp)>,
    /// Devices and times.
    pub devices: Vec<(DeviceId, Timestamp)>,
}

impl Operation for Seen {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        write::note_seen(machine.trees, &self.tokens, &self.devices)
    }
}
