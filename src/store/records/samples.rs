//! Records of the figures of the last day, for charts: small, and of no use to anything else.

use serde::{Deserialize, Serialize};

use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;
use crate::store::checked::checked_values;
use crate::store::table::{DecodeKey, Key};

/// The seconds of a [`Slot`].
pub const SLOT_SECONDS: u64 = 600;
/// The seconds of a [`Minute`].
pub const MINUTE_SECONDS: u64 = 60;

/// Makes numbers of periods since 1970 keys.
macro_rules! periods {
    ($($(#[$doc:meta])* $name:ident $seconds:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the one that `at` is in.
            pub fn of(at: Timestamp) -> Self {
                Self(u64::try_from(at.unix_seconds()).unwrap_or(0) / $seconds)
            }

            /// Returns the one that is `count` before it.
            pub const fn before(self, count: u64) -> Self {
                Self(self.0.saturating_sub(count))
            }

            /// Returns its beginning, in seconds since 1970.
            pub const fn begin(self) -> u64 {
                self.0.saturating_mul($seconds)
            }
        }

        impl Key for $name {
            type Bytes<'a> = [u8; 8];
            fn encode(&self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
        }

        impl DecodeKey for $name {
            fn decode(bytes: &[u8]) -> Option<Self> {
                Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
            }
        }
    )*};
}

periods! {
    /// A minute since 1970, by the wall clock.
    Minute MINUTE_SECONDS;
    /// Ten minutes since 1970, by the wall clock.
    Slot SLOT_SECONDS;
}

/// The figures of one moment, or of the time up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Live connections.
    pub connections: u32,
    /// Messages that came in a second.
    pub received_per_second: f32,
    /// Messages that were written to clients in a second.
    pub sent_per_second: f32,
    /// Pending messages.
    pub queue_messages: u64,
    /// The 99th percentile of the durations of commits, in milliseconds.
    pub commit_p99_ms: f32,
    /// Resident memory, in bytes; 0: not known.
    pub memory_bytes: u64,
    /// The size of the store on disk, in bytes.
    pub disk_bytes: u64,
}

/// The devices that were online in a slot, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OnlineDevices(pub Vec<DeviceId>);

impl OnlineDevices {
    /// Returns whether `device` was.
    pub fn contains(&self, device: DeviceId) -> bool {
        self.0.binary_search(&device).is_ok()
    }
}

checked_values!(Sample, OnlineDevices);
