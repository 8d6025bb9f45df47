//! Feeds the target `compare_tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("compare_tar", bytes));
