//! Whatever stands in a sidecar, it is read or refused with a place in it.

#![no_main]

use busway::plugin::{Limits, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            assert!((1..=64).contains(&manifest.concurrency) && (1..=100).contains(&manifest.retry.attempts));
            assert!(manifest.limits.over(Limits::HANDLER).fuel >= 10_000);
            manifest.config_texts();
        }
        Err(error) => {
            let lines = 1 + text.matches('\n').count();
            assert!((1..=lines).contains(&error.line), "line {} of {lines}: {error}", error.line);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
});
