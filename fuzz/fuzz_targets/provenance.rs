#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| obscura_fuzz::run("provenance", input));
