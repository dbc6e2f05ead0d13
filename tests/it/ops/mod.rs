//! Operation: the process, the command line, health, metrics, systemd, TLS, upgrades.

mod bench;
mod clocks;
mod command_line;
mod disk_words;
mod first_minute;
mod health;
mod import;
mod metrics;
mod old_names;
mod people;
mod process;
mod repeated_lines;
mod sleep;
mod systemd;
mod tls;
mod upgrade;
