//! The configuration file, its layers and its reload.

mod files;
