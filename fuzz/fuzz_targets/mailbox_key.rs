//! See `qy_lty::store::fuzz_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qy_lty::store::fuzz_key(bytes));
