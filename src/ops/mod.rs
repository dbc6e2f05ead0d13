//! Operation of a server: the first start, the banner, periodic clean-up, reload, systemd.

pub mod banner;
pub mod first_start;
pub mod membership;
pub mod names;
pub mod reload;
pub mod sweep;
pub mod systemd;
