//! See `qy_lty::rest::fuzz_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qy_lty::rest::fuzz_body(bytes));
