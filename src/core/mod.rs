//! Types that every other module may use: ids, time, and the characters that are safe to show. No I/O.

pub mod hex;
pub mod ids;
pub mod text;
pub mod time;
