//! Records of the audit trail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::table::json_values;

/// The object of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditSubject {
    /// An account.
    User(UserId),
    /// A device.
    Device(DeviceId),
    /// A token.
    Token(TokenId),
}

/// An entry of the audit trail. Without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The time of the event.
    pub at: Timestamp,
    /// Its name, which may be of a later version.
    pub event: String,
    /// The acting user; 0 for the command line; `None` where nobody was authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<AuditSubject>,
    /// The name of an object that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its other parts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
}

json_values!(AuditRecord);
