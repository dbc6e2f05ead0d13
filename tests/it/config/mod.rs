//! The configuration file, its layers and its reload.

mod files;
mod reload;
