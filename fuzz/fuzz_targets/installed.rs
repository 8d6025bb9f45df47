//! Feeds the target `installed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("installed", bytes));
