//! Types that every other module may use: ids, names, time, hexadecimal, characters that are safe to display, and words
//! for values that serde refuses. No I/O.

pub mod client;
pub mod disk;
pub mod hex;
pub mod ids;
pub mod mismatch;
pub mod names;
pub mod text;
pub mod time;
