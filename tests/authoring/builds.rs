//! `busway plugin new` and `build` around a toolchain: what stands in for one is a script in the project's own `.venv`.

use super::{root, stdout};
use crate::{
    cli::{busway, stderr},
    hub::within,
};
use serde_json::json;
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    time::{Duration, SystemTime},
};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Writes the handler that uses all of the contract to where the last argument says.
const GIVES_THE_FIXTURE: &str = "for last; do :; done; cp \"$FIXTURE\" \"$last\"";

/// Runs `busway plugin` in a directory, with no tools but its own and those of the system.
async fn plugin(dir: &Path, args: &[&str]) -> Output {
    within(command(dir, args).output()).await.unwrap()
}

fn command(dir: &Path, args: &[&str]) -> tokio::process::Command {
    let mut command = busway();
    command.current_dir(dir).arg("plugin").args(args).env_remove("BUSWAY_TOOLCHAINS");
    command.env("FIXTURE", root().canonicalize().unwrap().join("tests/fixtures/contract-0.1/handler.wasm"));
    command
}

/// A project `made` below a directory, in a language of which one tool does this.
async fn project(language: &str, tool: &str, does: &str) -> TempDir {
    let dir = tempdir().unwrap();
    let made = plugin(dir.path(), &["new", "made", "--lang", language, "--kind", "handler"]).await;
    assert!(made.status.success(), "{}", stderr(&made));
    let bin = dir.path().join("made/.venv/bin");
    fs::create_dir_all(&bin).unwrap();
    script(&bin.join(tool), does);
    fs::write(dir.path().join("made/made.toml"), "[grants]\npublish = [\"seen.*\"]\nkv = true\n").unwrap();
    let tests = dir.path().join("made/tests");
    fs::remove_dir_all(&tests).unwrap();
    fs::create_dir(&tests).unwrap();
    let test = json!({"events": [{"type": "fixture.a"}], "expect": [{"kv": {"count": 2}}]});
    fs::write(tests.join("one.json"), test.to_string()).unwrap();
    dir
}

fn script(file: &Path, does: &str) {
    fs::write(file, format!("#!/bin/sh\n{does}\n")).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_installed_is_said_with_the_directory_to_do_it_in() {
    let dir = tempdir().unwrap();
    let made = plugin(dir.path(), &["new", "a", "--lang", "python", "--kind", "handler", "--dir", "my plugin"]).await;
    let said = stdout(&made);
    assert!(
        said.contains("\n  cd 'my plugin' && python3 -m venv .venv && ") && said.ends_with("plugin build\n"),
        "{said}"
    );
    let mut build = command(dir.path(), &["build", "my plugin"]);
    let output = within(build.env("PATH", "/nowhere").output()).await.unwrap();
    let (said, place) = (stderr(&output), dir.path().canonicalize().unwrap().join("my plugin"));
    assert!(said.contains(&format!("install it with:\n  cd '{}' && python3 -m venv", place.display())), "{said}");
    assert!(said.starts_with("busway: building a (python) …\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_put_where_it_is_told_under_the_name_of_the_file_and_no_sidecar_is_written_over() {
    let dir = project("python", "componentize-py", GIVES_THE_FIXTURE).await;
    let hub = dir.path().join("hub");
    fs::create_dir(&hub).unwrap();
    let build = async |out: &str| {
        let output = plugin(dir.path(), &["build", "made", "--out", out]).await;
        (output.status.success(), stdout(&output), stderr(&output))
    };
    let (ok, text, said) = build("hub").await;
    assert!(ok && text.starts_with("handler made 1.2.3: Uses all of contract 0.1\n"), "{text}{said}");
    assert!(
        text.contains("\n  needs          ") && text.contains("hub/made.wasm: "),
        "for people, also in a pipe: {text}"
    );
    assert_eq!(said, "busway: building made (python) …\n");
    let own = fs::read_to_string(dir.path().join("made/made.toml")).unwrap();
    assert_eq!(fs::read_to_string(hub.join("made.toml")).unwrap(), own);
    fs::write(hub.join("made.toml"), "[grants]\nkv = true\n").unwrap();
    let (ok, text, said) = build("hub/made.wasm").await;
    assert!(ok && text.contains("is granted     kv, "), "as the hub would take it: {text}");
    assert!(said.contains("hub/made.toml is not the same as ") && said.contains("left as it is"), "{said}");
    assert_eq!(fs::read_to_string(hub.join("made.toml")).unwrap(), "[grants]\nkv = true\n");
    let (ok, text, said) = build("hub/other.wasm").await;
    assert!(ok && text.starts_with("handler other 1.2.3"), "{text}{said}");
    assert!(hub.join("other.toml").exists() && !dir.path().join("made/made.wasm").exists());
    for (out, problem) in [("hub/Other One.wasm", "expected a plugin's name"), ("hub/other", "ends in .wasm")] {
        let (ok, text, said) = build(out).await;
        assert!(!ok && text.is_empty() && said.contains(problem) && !said.contains("building"), "{text}{said}");
    }
    let left = fs::read_dir(&hub).unwrap().count();
    assert_eq!(left, 4, "two plugins, and nothing that was written aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tested_is_the_last_build_and_a_source_that_is_newer_is_named() {
    let dir = project("python", "componentize-py", GIVES_THE_FIXTURE).await;
    let made = dir.path().join("made");
    fs::write(made.join("made.wasm"), "of long ago").unwrap();
    let output = plugin(&made, &["test"]).await;
    assert!(output.status.code() == Some(2) && stderr(&output).contains("build it first"), "{}", stderr(&output));
    assert!(plugin(&made, &["build", "-o", "../made.wasm"]).await.status.success());
    let output = plugin(&made, &["test"]).await;
    assert!(output.status.success() && stderr(&output).is_empty(), "{}{}", stdout(&output), stderr(&output));
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().write(true).open(made.join("plugin.py")).unwrap().set_modified(later).unwrap();
    let output = plugin(dir.path(), &["test", "made"]).await;
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("which is older than made/plugin.py: build it again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_ends_well_and_writes_nothing_is_an_error() {
    let dir = project("python", "componentize-py", GIVES_THE_FIXTURE).await;
    assert!(plugin(dir.path(), &["build", "made"]).await.status.success());
    script(&dir.path().join("made/.venv/bin/componentize-py"), "exit 0");
    let output = plugin(dir.path(), &["build", "made"]).await;
    let said = stderr(&output);
    assert!(!output.status.success() && said.contains("expected the python toolchain to write"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_built_by_one_at_a_time() {
    let dir = project("python", "componentize-py", GIVES_THE_FIXTURE).await;
    let lock = File::options().write(true).create(true).truncate(false).open(dir.path().join("made/.busway/lock"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    let mut build = command(dir.path(), &["build", "made"]).spawn().unwrap();
    let mut said = BufReader::new(build.stderr.take().unwrap()).lines();
    let mut next = async || within(said.next_line()).await.unwrap().unwrap();
    assert!(next().await.contains("building made"));
    assert!(next().await.contains("waiting for another build of "));
    assert!(!dir.path().join("made/.busway/built.wasm").exists());
    lock.unlock().unwrap();
    assert!(within(build.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn go_fetches_nothing_and_knows_of_no_workspace_around_it() {
    let tool = "env > env.txt; while [ \"$1\" != -o ]; do shift; done; cp \"$FIXTURE\" \"$2\"";
    let dir = project("go", "go", tool).await;
    let mut build = command(dir.path(), &["build", "made"]);
    build.env("GOPROXY", "https://proxy.golang.org").env("GOWORK", "/elsewhere/go.work").env("GOPRIVATE", "*");
    let output = within(build.output()).await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let env = fs::read_to_string(dir.path().join("made/env.txt")).unwrap();
    for wanted in ["GOPROXY=off", "GONOPROXY=none", "GOWORK=off"] {
        assert!(env.lines().any(|line| line == wanted), "{wanted} in {env}");
    }
}
