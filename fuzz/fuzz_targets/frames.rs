//! Fuzz target of `qy_lty::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qy_lty::fuzzing::frames(bytes));
