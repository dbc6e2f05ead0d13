//! The door: who may knock, how often, and how many may be inside at once. Judged before anyone says who they are.

pub mod address;
pub mod listen;
pub mod origin;
pub mod rates;
pub mod seats;

use crate::config::{Config, Limits};
use crate::ids::UserId;

pub use address::NetKey;
pub use rates::{Penalty, Rate};
pub use seats::{Seat, Seats};

/// The state of the door.
pub struct Door {
    /// Live connections in all.
    pub total: Seats<()>,
    /// Live connections by address.
    pub by_address: Seats<NetKey>,
    /// Live connections by user.
    pub by_user: Seats<UserId>,
    /// WebSocket handshakes by address.
    pub connects: Rate<NetKey>,
    /// Refused credentials by address.
    pub refusals: Penalty<NetKey>,
    /// Messages by user, over all connections.
    pub messages: Rate<UserId>,
    /// Allowed web origins.
    pub origins: origin::Origins,
}

impl Door {
    /// A door with the configured limits.
    pub fn new(config: &Config) -> Self {
        let Limits { connections, connections_per_address, connections_per_user, .. } = config.limits;
        Self {
            total: Seats::new(connections),
            by_address: Seats::new(connections_per_address),
            by_user: Seats::new(connections_per_user),
            connects: Rate::per_minute(config.limits.connects_per_minute),
            refusals: Penalty::per_minute(config.limits.refusals_per_minute),
            messages: Rate::per_minute(config.limits.user_messages_per_minute),
            origins: origin::Origins::new(&config.server.origins, config.server.listen.ip().is_loopback()),
        }
    }

    /// Forgets who has not come for a while; call it every minute.
    pub fn sweep(&self) {
        self.connects.sweep();
        self.refusals.sweep();
        self.messages.sweep();
    }
}
