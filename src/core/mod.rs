//! Types that every other module may use: ids, time, hexadecimal, and characters that are safe to display. No I/O.

pub mod hex;
pub mod ids;
pub mod text;
pub mod time;
