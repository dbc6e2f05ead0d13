//! Fuzz target of `qy_lty::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qy_lty::fuzzing::config(bytes));
