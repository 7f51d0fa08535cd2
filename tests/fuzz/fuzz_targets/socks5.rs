#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| exeat_fuzz::socks5(input));
