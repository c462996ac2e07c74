//! Writes `corpus/`: what the targets begin with. Itself a target without a test, because whatever is built with these flags and
//! this library has to be one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path};

fuzz_target!(init: seeds().expect("the directory can be written to"), |_bytes: &[u8]| {});

fn seeds() -> std::io::Result<()> {
    let metadata = r#""metadata":{"event_id":"e","timestamp":"2026-11-22T07:35:00.1Z","source":"s","tags":["a","b","a"],"causation_id":"p","hops":2,"chain":[1,2],"extensions":{"traceparent":"00-1"}}"#;
    let event = format!(r#"{{"seq":7,"type":"task.created","data":{{"a":[1.10,"\u00e9\n",null]}},{metadata}}}"#);
    let batch = format!("[{event},{{\"type\":\"x\",\"data\":{{\n \"b\" : [ true ]\r\n}}}}]");
    write("event", &[event.as_bytes(), batch.as_bytes(), br#"{"type":"x"}"#])?;
    write(
        "filter",
        &[
            b"task.*\ntask.created".as_slice(),
            b"*a*b?*\nxaxbx",
            b"{\"event_types\":[\"task.*\",\"?\"],\"source_patterns\":[\"*s\"]}\ntask.x s a",
            b"{\"required_tags\":[\"a\",\"b\"],\"excluded_tags\":[\"c\"]}\nx s a b",
        ],
    )?;
    write(
        "manifest",
        &[
            b"enabled = true\nisolation = \"reuse\"\norder_by = \"correlation_id\"\nconcurrency = 8\nstart = 7\n".as_slice(),
            b"filter = \"urgent-only\"\nfilter_params = { a = [1, 2.5, 1979-05-27] }\non_error = \"open\"\nretry.attempts = 3\n",
            b"[grants]\npublish = [\"task.*\"]\nkv = true\n[config]\nkey = \"value\"\n[[subscriptions]]\nevent_types = [\"a\"]\n",
            b"[limits]\ndeadline = \"50ms\"\nfuel = 10_000\nmemory = \"64KiB\"\noutbox_events = 1\noutbox_bytes = \"1MiB\"\n",
        ],
    )?;
    write(
        "schema",
        &[
            br##"{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"pattern":"^[ab]{1,9}$"}}}
{"a":"ab"}"##
                .as_slice(),
            br#"{"anyOf":[{"items":{"multipleOf":0.1}},{"uniqueItems":true,"contains":{"const":1},"maxContains":2}]}
[1.0,{"a":null},2]"#,
            br#"{"if":{"minProperties":2},"then":{"additionalProperties":false},"else":{"not":{"enum":[1,"a"]}}}
{"a":1,"b":2}"#,
        ],
    )?;
    let files = [
        "(component)",
        "(component (core module (memory 1) (func (result i32) i32.const 1) (data (i32.const 0) \"x\")))",
        "(component (component (core module $m) (core instance (instantiate $m))) (type (func (param \"a\" string))))",
        "(component (import \"a\" (func $f)) (core func (canon lower (func $f))) (export \"b\" (func $f)))",
    ];
    let files: Vec<Vec<u8>> = files.iter().map(|text| wat::parse_str(text).expect("well formed")).collect();
    // The target puts the first eight bytes before them once more.
    let files: Vec<&[u8]> = files.iter().flat_map(|file| [&file[..], &file[8..]]).collect();
    write("gate", &files)
}

fn write(target: &str, seeds: &[&[u8]]) -> std::io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
