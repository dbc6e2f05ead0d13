//! Records of devices that are being paired.

use serde::{Deserialize, Serialize};

use crate::core::ids::{DeviceId, UserId};
use crate::store::checked::checked_values;

/// A device's description of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// For people.
    pub name: Option<String>,
    /// Unique: identifies a device that is paired again.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
}

/// A device that is being paired. It is found by the hash of its device code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// Of two, the one that was begun later has the higher number.
    pub number: u64,
    /// The code that the device shows.
    pub user_code: String,
    /// The address that has begun it, as limits count it.
    pub from: String,
    /// The device.
    pub device: DeviceInfo,
    /// Its owner and its record, once somebody has claimed it.
    pub claimed: Option<(UserId, DeviceId)>,
    /// The number of wrong codes that had been tried on this server when it was begun.
    pub wrong_before: u64,
    /// The clock of credentials at its end, in milliseconds.
    pub until: u64,
}

/// The wrong codes of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guesses {
    /// Their number.
    pub count: u8,
    /// The clock of credentials when they are forgotten, in milliseconds.
    pub until: u64,
}

checked_values!(Pairing, Guesses);
