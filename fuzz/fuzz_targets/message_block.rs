//! Fuzz target of `qy_lty::fuzzing::message_block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qy_lty::fuzzing::message_block(bytes));
