//! `busway plugin dev`: an author changes a file and sees what the plugin makes of it.

use crate::{
    conformance::built::{BUSWAY, toolchains},
    hub::PATIENCE,
};
use serde_json::Value;
use std::{env, fs, process::Stdio};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines},
    process::Command,
    time::timeout,
};

/// The toolchain takes some seconds each time, and more beside other tests.
const BUILDS: u32 = 8;

async fn line_with<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>, is_it: impl Fn(&str) -> bool) -> Option<String> {
    let look = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if is_it(&line) {
                return Some(line);
            }
        }
        None
    };
    timeout(PATIENCE * BUILDS, look).await.expect("it came in time")
}

/// A call that emitted an event of this type.
fn emitted(line: &str, event_type: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|call| call["emitted"][0]["type"] == event_type)
}

/// A handler that answers `dev.asked` with this.
fn source(emitted: &str) -> String {
    const TEXT: &str = r#"import { Description, Event, Failure, NewEvent, Subscription, publish } from "./.busway/sdk/busway";
export function describe(): Description {
  const about = new Description("echo", "0.1.0", "Answers");
  about.subscriptions = [new Subscription(["dev.asked"])];
  about.emits = ["dev.*"];
  about.capabilities = ["publish"];
  return about;
}
export function handle(event: Event, attempt: u32): Failure | null {
  return publish(new NewEvent("dev.answered", event.data)).failure;
}
"#;
    TEXT.replace("dev.answered", emitted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_built_and_loaded_and_one_that_does_not_build_changes_nothing() {
    if !toolchains().join("npm/node_modules/.bin/asc").exists() {
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "`make toolchains` comes first");
        return println!("left out: AssemblyScript is not installed; `make toolchains` does it");
    }
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("echo");
    let new = ["plugin", "new", "echo", "--lang", "assemblyscript", "--kind", "handler"];
    let made = Command::new(BUSWAY).current_dir(dir.path()).args(new).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(project.join("plugin.ts"), source("dev.one")).unwrap();
    fs::write(project.join("echo.toml"), "[grants]\npublish = [\"dev.*\"]\n").unwrap();
    let events = dir.path().join("events.jsonl");
    fs::write(&events, "{\"type\": \"dev.asked\", \"data\": 1}\n").unwrap();
    let mut dev = Command::new(BUSWAY)
        .args(["plugin", "dev", "--json", "--events"])
        .args([&events, &project])
        .env("BUSWAY_TOOLCHAINS", toolchains())
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(dev.stderr.take().unwrap()).lines();
    let mut calls = BufReader::new(dev.stdout.take().unwrap()).lines();
    assert!(line_with(&mut said, |line| line.contains("echo is active")).await.is_some());
    assert!(line_with(&mut said, |line| line.contains("waiting for changes")).await.is_some());
    assert!(line_with(&mut calls, |line| emitted(line, "dev.one")).await.is_some());

    fs::write(project.join("plugin.ts"), "nonsense(").unwrap();
    assert!(line_with(&mut said, |line| line.contains("BUILD FAILED")).await.is_some());
    assert!(line_with(&mut said, |line| line.contains("waiting for changes")).await.is_some());

    fs::write(project.join("plugin.ts"), source("dev.two")).unwrap();
    let line = line_with(&mut said, |line| line.contains("echo is active")).await.unwrap();
    assert!(line.contains("generation"), "{line}");
    assert!(line_with(&mut calls, |line| emitted(line, "dev.two")).await.is_some());
}
