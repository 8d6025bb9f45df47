//! Feeds the target `lockfile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("lockfile", bytes));
