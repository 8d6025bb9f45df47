//! Feeds the target `ld_so_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("ld_so_conf", bytes));
