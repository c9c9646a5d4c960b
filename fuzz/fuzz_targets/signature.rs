#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kindpack_fuzz::signature(bytes));
