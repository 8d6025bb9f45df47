//! Feeds the target `apk_package`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("apk_package", bytes));
