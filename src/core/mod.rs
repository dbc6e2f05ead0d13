//! Types that every other module may use: ids, names of clients, time and lives, hexadecimal, characters that are safe to display, and words
//! for values that serde refuses. No I/O but clocks.

pub mod awake;
pub mod boot;
pub mod client;
pub mod hex;
pub mod ids;
pub mod lifetime;
pub mod mismatch;
pub mod text;
pub mod time;
