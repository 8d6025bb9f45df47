//! Feeds the target `go_gzip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("go_gzip", bytes));
