//! The limits of the fields of requests.

/// The largest number of users that share a device.
pub(super) const MAX_DEVICE_USERS: usize = 100;
/// The longest lifetime that can be asked for, in seconds: ten years.
pub(super) const MAX_LIFETIME_SECONDS: u64 = 10 * 366 * 86_400;
