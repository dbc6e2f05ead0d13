//! Types that every other module may use: ids, names of clients, time, hexadecimal, characters that are safe to display, and words
//! for values that serde refuses. No I/O.

pub mod client;
pub mod hex;
pub mod ids;
pub mod mismatch;
pub mod text;
pub mod time;
