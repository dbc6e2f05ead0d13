//! Types that every other module may use: ids, names, time, lives and deadlines, hexadecimal, characters that are safe to
//! display, words for values that serde refuses, and the connection that a task works for. No I/O but clocks and timers.

pub mod awake;
pub mod boot;
pub mod client;
pub mod disk;
pub mod hex;
pub mod ids;
pub mod lifetime;
pub mod map;
pub mod mismatch;
pub mod names;
pub mod subject;
pub mod text;
pub mod time;
