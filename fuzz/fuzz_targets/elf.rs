//! Feeds the target `elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("elf", bytes));
