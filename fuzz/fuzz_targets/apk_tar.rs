//! Feeds the target `apk_tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("apk_tar", bytes));
