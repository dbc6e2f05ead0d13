//! Records of devices.

use serde::{Deserialize, Serialize};

use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::time::Timestamp;
use crate::store::table::json_values;

/// The least limit that a client may set for payloads, in bytes.
pub const MIN_MAX_BYTES: u32 = 1024;

/// A companion device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// From 1.
    pub id: DeviceId,
    /// Chosen by the owner.
    pub name: String,
    /// Unique where given.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last connection, to the minute or so.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    /// The longest payload that it accepts, in bytes; longer ones are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// The newest message when it was handed over to other users: none up to it is theirs. Its mailbox is emptied in another write of the
    /// same commit, which a crash can cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied: Option<MessageId>,
}

json_values!(Device);

/// A new device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// Chosen by the owner.
    pub name: String,
    /// Unique where given.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
    /// Makes it its user's primary device.
    pub primary: bool,
    /// The longest payload that it accepts, in bytes, at least [`MIN_MAX_BYTES`].
    pub max_bytes: Option<u32>,
}

/// A change to a device; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceChange {
    /// Chosen by the owner.
    pub name: Option<String>,
    /// Unique; an inner `None` removes it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub serial: Option<Option<String>>,
    /// For people; an inner `None` removes it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub model: Option<Option<String>>,
    /// In bytes; an inner `None` removes it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Option<u32>>,
    /// All users that it is to be bound to; not empty.
    pub users: Option<Vec<UserId>>,
}

/// Distinguishes `null` (remove it) from absent (leave it).
fn nullable<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
