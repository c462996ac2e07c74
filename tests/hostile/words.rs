//! Words that are meant to look like the hub's own, in the log of the real program.

use super::guest::{Guest, JSON, More, OK, RET};
use crate::cli::{Serving, busway};
use serde_json::{Value, json};
use std::fs;

/// What a reader of the log takes for something else: each begins where a line of its own would.
const FORGED: [&str; 4] = [
    "done\n2099-01-01T00:00:00.000000Z ERROR busway::hub: forged",
    "done\"}}\n{\"timestamp\":\"2099-01-01T00:00:00.000000Z\",\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"},\"target\":\"busway\"}",
    "done\r\u{1b}[2K\u{1b}[31mforged\u{1b}[0m\u{8}\u{7f}",
    "done \u{202e}degrof\u{2066}\u{2028}\u{85}\0",
];

/// Where they are in memory: above what else is there.
const AT: usize = 70_000;

/// Says each of them, asks for a setting of that name, and then says that it is done.
fn forger() -> Vec<u8> {
    let (mut data, mut body) = (String::new(), String::new());
    for text in FORGED {
        let at = AT + data.len() / 3;
        let text_at = format!("(i32.const {at}) (i32.const {})", text.len());
        body += &format!("(call $log (i32.const 2) {text_at}) (call $get {text_at} {RET})");
        data.extend(text.bytes().map(|byte| format!("\\{byte:02x}")));
    }
    body += &format!(
        "(call $publish (i32.const 288) (i32.const 9) {JSON} {RET}) (call $log (i32.const 2) (i32.const 256) (i32.const 9)) {OK}"
    );
    let fields = format!("(data (i32.const {AT}) \"{data}\")").leak();
    wat::parse_str(Guest { more: More::CONFIG, fields, ..Guest::handler(body) }.wat()).unwrap()
}

/// What the program says from the event on until the plugin is done.
async fn said(json: bool) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("forger.wasm"), forger()).unwrap();
    let sidecar = "limits.deadline = \"10s\"\nsubscriptions = [{ event_types = [\"task.created\"] }]\n[grants]\npublish = [\"*\"]\nconfig = [\"none\"]";
    fs::write(dir.path().join("forger.toml"), sidecar).unwrap();
    let mut command = busway();
    command.args(["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"]).arg(dir.path());
    command.args(json.then_some("--log-json")).env("RUST_LOG", "info,plugin=debug");
    let mut serving = Serving::of(&mut command).await;
    serving.until_said("activated").await;
    let url = format!("http://{}/v1/events", serving.address);
    crate::hub::http_client().post(url).json(&json!({"type": "task.created"})).send().await.unwrap();
    serving.all_until_said("test text").await
}

/// As the log shows it: with the escapes of JSON (RFC 8259, section 7).
fn shown(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => format!("\\u{:04x}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_lines_and_escape_codes_stay_one_line_of_the_log_each() {
    let lines = said(false).await;
    // A line and a key each, and the last one.
    assert_eq!(lines.len(), 2 * FORGED.len() + 1, "{lines:#?}");
    for (index, line) in lines.iter().enumerate() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let (level, words) =
            if index % 2 == 0 { (" INFO plugin: ", "") } else { ("DEBUG plugin: ", "config: denied: ") };
        let text = FORGED.get(index / 2).map_or("test text".to_owned(), |text| shown(text));
        for part in [level, words, "plugin=forger", &text] {
            assert!(line.contains(part) && !line.starts_with("2099"), "{part}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_lines_and_forged_json_stay_one_object_of_the_log_each() {
    let lines = said(true).await;
    assert_eq!(lines.len(), 2 * FORGED.len() + 1, "{lines:#?}");
    for (index, line) in lines.iter().enumerate() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = FORGED.get(index / 2).map_or("test text".to_owned(), |text| shown(text));
        let (level, field) = if index % 2 == 0 { ("INFO", "message") } else { ("DEBUG", "key") };
        let fields = &object["fields"];
        assert_eq!((&object["level"], &object["target"]), (&json!(level), &json!("plugin")), "{line}");
        assert_eq!((&fields["plugin"], &fields[field]), (&json!("forger"), &json!(text)), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_asked_for_is_cut_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let body = format!(
        "(call $get (i32.const {AT}) (i32.const 60000) {RET}) (call $log (i32.const 2) (i32.const 256) (i32.const 9)) {OK}"
    );
    let start = "(memory.fill (i32.const 70000) (i32.const 10) (i32.const 60000))";
    let guest = Guest { more: More::CONFIG, start, ..Guest::handler(body) };
    fs::write(dir.path().join("long.wasm"), wat::parse_str(guest.wat()).unwrap()).unwrap();
    let sidecar =
        "limits.deadline = \"10s\"\nsubscriptions = [{ event_types = [\"task.created\"] }]\n[grants]\nconfig = []";
    fs::write(dir.path().join("long.toml"), sidecar).unwrap();
    let mut command = busway();
    command.args(["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"]).arg(dir.path());
    let mut serving = Serving::of(command.env("RUST_LOG", "info,plugin=debug")).await;
    serving.until_said("activated").await;
    let url = format!("http://{}/v1/events", serving.address);
    crate::hub::http_client().post(url).json(&json!({"type": "task.created"})).send().await.unwrap();
    let lines = serving.all_until_said("test text").await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("\\n… (cut, 60000 bytes)") && lines[0].len() < 10_000, "{}", lines[0].len());
}
