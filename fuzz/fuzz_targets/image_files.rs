//! Feeds the target `image_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("image_files", bytes));
