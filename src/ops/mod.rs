//! What looks on: the first start, periodic cleaning, other settings, systemd.

pub mod first_start;
pub mod reload;
pub mod sweep;
pub mod systemd;
