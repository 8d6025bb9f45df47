//! Feeds the target `config_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("config_json", bytes));
