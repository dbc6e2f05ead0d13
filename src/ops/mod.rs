//! What looks on: the first start, periodic cleaning, systemd.

pub mod first_start;
pub mod sweep;
pub mod systemd;
