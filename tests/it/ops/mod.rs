//! Operation: the process, the command line, health, metrics, systemd, TLS, upgrades.

mod clocks;
mod command_line;
mod health;
mod metrics;
mod process;
mod sleep;
mod systemd;
mod tls;
mod upgrade;
