//! Feeds the target `apk_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("apk_index", bytes));
