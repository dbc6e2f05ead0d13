//! Sets of actors.

use crate::auth::Actor;

/// A set of [`Actor`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// No actor.
    pub const NOBODY: Self = Self(0);
    /// The owner of the data directory.
    pub const OPERATOR: Self = Self(Self::bit(Actor::Operator));
    /// Administrators.
    pub const ADMINS: Self = Self(Self::bit(Actor::Admin) | Self::OPERATOR.0);
    /// Users and administrators in person.
    pub const USERS: Self = Self(Self::bit(Actor::User) | Self::ADMINS.0);
    /// Administrators and service tokens: programs that watch the server, such as a collector of metrics.
    pub const WATCHERS: Self = Self(Self::bit(Actor::Service) | Self::ADMINS.0);
    /// Administrators, service tokens and devices, such as a weather station.
    pub const STATIONS: Self = Self(Self::bit(Actor::Device) | Self::WATCHERS.0);
    /// Users, administrators and service tokens, but not devices: a device's token reaches its own WebSocket only.
    pub const PROGRAMS: Self = Self(Self::bit(Actor::Service) | Self::USERS.0);
    /// Any credential.
    pub const TOKENS: Self = Self(Self::bit(Actor::Device) | Self::PROGRAMS.0);
    /// With or without a credential.
    pub const ANYONE: Self = Self(Self::bit(Actor::Anonymous) | Self::TOKENS.0);

    const fn bit(actor: Actor) -> u8 {
        1 << actor as u8
    }

    /// Returns whether `actor` is in the set.
    pub const fn allows(self, actor: Actor) -> bool {
        self.0 & Self::bit(actor) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_nest() {
        let allowed = |access: Access| Actor::ALL.map(|actor| access.allows(actor));
        assert_eq!(allowed(Access::ANYONE), [true; 6]);
        assert_eq!(allowed(Access::TOKENS), [false, true, true, true, true, true]);
        assert_eq!(allowed(Access::PROGRAMS), [false, false, true, true, true, true]);
        assert_eq!(allowed(Access::STATIONS), [false, true, true, false, true, true]);
        assert_eq!(allowed(Access::WATCHERS), [false, false, true, false, true, true]);
        assert_eq!(allowed(Access::USERS), [false, false, false, true, true, true]);
        assert_eq!(allowed(Access::ADMINS), [false, false, false, false, true, true]);
        assert_eq!(allowed(Access::OPERATOR), [false, false, false, false, false, true]);
        assert_eq!(allowed(Access::NOBODY), [false; 6]);
    }
}
