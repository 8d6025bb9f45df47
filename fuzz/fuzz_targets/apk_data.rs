//! Feeds the target `apk_data`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("apk_data", bytes));
