//! The check before the compiler takes any bytes, and not long over them: `make fuzz` ends an input that takes five seconds.

#![no_main]

use busway::plugin::check_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As they are, and behind the first bytes of a component.
    let checked = [check_file(bytes), check_file(&[b"\0asm\x0d\0\x01\0", bytes].concat())];
    for error in checked.into_iter().filter_map(Result::err) {
        assert!(error.code().starts_with("load."), "{error}");
    }
});
