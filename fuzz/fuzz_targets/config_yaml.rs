//! Feeds the target `config_yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("config_yaml", bytes));
