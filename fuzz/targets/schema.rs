//! JSON Schemas of strangers: a schema is compiled or refused, and a check of a value ends within
//! its steps. The input is a schema, a line break, and a value.

#![no_main]

use busway::plugin::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (schema, value) = text.split_once('\n').unwrap_or((text, "null"));
    let Ok(schema) = Schema::compile(schema) else { return };
    let Ok(value) = serde_json::from_str(value) else { return };
    let (verdict, taken) = schema.check_within(&value, Schema::MAX_STEPS);
    assert!(taken <= Schema::MAX_STEPS);
    // With fewer steps than it takes, the value is refused, whatever it is; with as many, the
    // verdict is the same.
    let (less, _) = schema.check_within(&value, taken - 1);
    assert!(less.is_err_and(|error| error.found == "one that takes more"), "{taken} steps");
    assert_eq!(schema.check_within(&value, taken).0, verdict);
});
