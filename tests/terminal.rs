//! What a terminal is shown: nothing that others wrote steers it, whichever command shows it.
//! Through a pipe, JSON is what it is.

use crate::{
    cli::{busway, run},
    guests::guest,
    hub::{TestHub, within},
};
use serde_json::json;
use std::path::Path;
use tokio::process::Command;

/// Control characters of both ranges, line separators, marks and overrides of direction, a
/// character that takes no space, and a tag.
const ODD: &str = "\u{7f}\u{85}\u{9b}31m\u{9d}0;t\u{9c}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}";

/// Runs the program on a terminal of its own (`script` of util-linux): what is shown there.
async fn on_terminal(args: &[&str]) -> String {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let program = busway().as_std().get_program().to_str().unwrap().to_owned();
    let line: Vec<String> = [program.as_str()].iter().chain(args).map(|word| quoted(word)).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).kill_on_drop(true);
    script.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("RUST_LOG");
    script.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches"));
    let output = within(script.stdin(std::process::Stdio::null()).output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// That nothing of [`ODD`] is there as it is, but as escapes.
#[track_caller]
fn is_escaped(shown: &str) {
    let found: Vec<char> =
        shown.chars().filter(|c| ODD.chars().any(|odd| odd == *c && !odd.is_ascii_graphic())).collect();
    assert!(found.is_empty(), "{found:?} in {shown:?}");
    // As JSON has it, or as a message quotes it.
    assert!(shown.contains("\\u009b31m") || shown.contains("\\u{9b}31m"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_writes_characters_of_an_event_to_a_terminal_that_steer_it() {
    let hub = TestHub::start().await;
    let url = hub.url("");
    hub.publish("odd", json!({ODD: [ODD]})).await;
    let tail = ["--url", &url, "tail", "--from", "earliest", "--types", "odd", "--limit", "1"];
    let shown = on_terminal(&tail).await;
    is_escaped(&shown);
    assert!(shown.contains("\u{1b}["), "colours of our own are there: {shown:?}");
    let shown = on_terminal(&[&tail[..], &["--json"]].concat()).await;
    is_escaped(&shown);
    let line = shown.lines().find(|line| line.contains("odd")).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["data"], json!({ODD: [ODD]}), "an escape is JSON's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_errors_nor_tables_nor_the_log_write_such_characters_to_a_terminal() {
    let hub = TestHub::start().await;
    let url = hub.url("");
    // A refusal quotes what was found.
    is_escaped(&on_terminal(&["--url", &url, "tail", "--filter", ODD]).await);
    // What was typed is part of what clap says.
    is_escaped(&on_terminal(&["tail", "--from", ODD]).await);
    // A file's name in the table of plugins, and a setting that the plugin's log line repeats.
    hub.put(&format!("{ODD}.wasm"), b"");
    let listed = within(async {
        loop {
            let shown = on_terminal(&["--url", &url, "plugin", "list"]).await;
            if shown.contains("not a plugin") {
                return shown;
            }
        }
    });
    is_escaped(&listed.await);
    // A hub whose directory has such a name says it in its log and its notes.
    let dir = tempfile::tempdir().unwrap();
    let odd_dir = dir.path().join(ODD);
    std::fs::write(&odd_dir, b"a file, so it is no directory").unwrap();
    is_escaped(
        &on_terminal(&["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins", odd_dir.to_str().unwrap()]).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_pipe_json_is_what_it_is_byte_for_byte() {
    let hub = TestHub::start().await;
    let seq = hub.publish("odd", json!({ODD: [ODD, "\u{1b}[2J"]})).await;
    let (_, page) = hub.get(&format!("/v1/events?from={seq}&limit=1")).await;
    assert_eq!(page["events"][0]["data"], json!({ODD: [ODD, "\u{1b}[2J"]}));
    let output = run(&hub, &["tail", "--from", "earliest", "--types", "odd", "--limit", "1"], "").await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(ODD), "{text:?}");
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_plugin_on_a_file_are_shown_without_such_characters() {
    let dir = tempfile::tempdir().unwrap();
    let (file, event) = (dir.path().join("redact.wasm"), dir.path().join("event.json"));
    std::fs::write(&file, guest("redact")).unwrap();
    std::fs::write(&event, json!({"type": "log.entry", "data": ODD}).to_string()).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let call = ["plugin", "call", &path(&file), "--event", &path(&event)];
    is_escaped(&on_terminal(&call).await);
    is_escaped(&on_terminal(&[&call[..], &["--json"]].concat()).await);
}
