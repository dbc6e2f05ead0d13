//! Who may call a route: a set of actors.

use crate::auth::Actor;

/// A set of [`Actor`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// With or without a credential.
    pub const ANYONE: Self = Self(Self::bit(Actor::Anonymous) | Self::bit(Actor::Device) | Self::PROGRAMS.0);
    /// Users, administrators and service tokens, but not devices: a device's token reaches its own WebSocket only.
    pub const PROGRAMS: Self = Self(Self::bit(Actor::Service) | Self::USERS.0);
    /// With any credential.
    pub const TOKENS: Self = Self(Self::bit(Actor::Device) | Self::PROGRAMS.0);
    /// Users and administrators in person.
    pub const USERS: Self = Self(Self::bit(Actor::User) | Self::ADMINS.0);
    /// Administrators, service tokens and devices, such as a weather station.
    pub const STATIONS: Self = Self(Self::bit(Actor::Device) | Self::bit(Actor::Service) | Self::ADMINS.0);
    /// Administrators and service tokens: who watches the server, such as a collector of metrics.
    pub const WATCHERS: Self = Self(Self::bit(Actor::Service) | Self::ADMINS.0);
    /// Administrators.
    pub const ADMINS: Self = Self(Self::bit(Actor::Admin));

    const fn bit(actor: Actor) -> u8 {
        1 << actor as u8
    }

    /// Whether `actor` is in the set.
    pub const fn allows(self, actor: Actor) -> bool {
        self.0 & Self::bit(actor) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_nest() {
        let actors = [Actor::Anonymous, Actor::Device, Actor::Service, Actor::User, Actor::Admin];
        let allowed = |access: Access| actors.map(|a| access.allows(a));
        assert_eq!(allowed(Access::ANYONE), [true; 5]);
        assert_eq!(allowed(Access::TOKENS), [false, true, true, true, true]);
        assert_eq!(allowed(Access::PROGRAMS), [false, false, true, true, true]);
        assert_eq!(allowed(Access::STATIONS), [false, true, true, false, true]);
        assert_eq!(allowed(Access::WATCHERS), [false, false, true, false, true]);
        assert_eq!(allowed(Access::USERS), [false, false, false, true, true]);
        assert_eq!(allowed(Access::ADMINS), [false, false, false, false, true]);
    }
}
