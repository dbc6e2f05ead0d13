//! Operation of a server: the first start, periodic clean-up, reload, systemd.

pub mod first_start;
pub mod names;
pub mod reload;
pub mod sweep;
pub mod systemd;
