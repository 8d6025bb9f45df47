//! Feeds the target `evidence_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("evidence_set", bytes));
