//! A compiler that is ended, or is no compiler: of the file nothing is known then, and nothing is remembered.

use super::Beside;
use crate::{
    guests::probe,
    hub::{TestHub, until, within},
};
use busway::plugin::Compiler;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A directory with a cache that knows the healthy plugin already, and nothing of any other.
async fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    hub.install("probe", probe(1), "").await;
    (hub.end().await, cache)
}

fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_is_none_says_nothing_of_a_file_and_is_asked_again() {
    let (mut dir, cache) = place().await;
    let kept = fs::read_dir(&cache).unwrap().count();
    let at = dir.path().to_owned();
    let cases = [
        (at.join("nowhere"), "No such file"),
        (
            program(&at, "fails", "echo out of order >&2; exit 1"),
            "says nothing of the file (exit status: 1): out of order",
        ),
        (program(&at, "silent", "exit 0"), "what it wrote cannot be used"),
        (program(&at, "garbage", "echo '\\177ELF and more of it'"), "what it wrote cannot be used"),
        (program(&at, "gone", "kill -9 $$"), "ended from outside"),
        (program(&at, "told", "kill -2 $$"), "ended from outside"),
    ];
    for (program, text) in cases {
        let hub = TestHub::durable(dir, |config| {
            config.plugins.cache = cache.clone();
            config.plugins.compiler = Compiler::Child(program);
        })
        .await;
        hub.plugin_until("probe", |status| status["state"] == "active").await;
        let before = hub.events().await.iter().filter(|event| event["type"] == "probed.count").count();
        assert_eq!(hub.compilations("saved").await, 1, "the one beside it was compiled before");
        for attempt in 1..=2 {
            hub.put("strange.wasm", probe(2));
            within(async { while hub.compilations("failed").await < attempt {} }).await;
            hub.publish("probe.count", json!(null)).await;
        }
        let error = hub.refused("strange").await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], "load.io", "{error}");
        assert!(message.starts_with("cannot run the compiler") && message.contains(text), "{error}");
        hub.events_of("probed.count", before + 2).await;
        assert_eq!(fs::read_dir(&cache).unwrap().count(), kept, "nothing is remembered");
        hub.remove("strange.wasm");
        dir = hub.end().await;
    }
    let hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    hub.install("strange", probe(2), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_killed_at_work_is_said_to_be_and_the_hub_goes_on() {
    let (dir, cache) = place().await;
    let pid_file = dir.path().join("pid");
    let stuck = program(dir.path(), "stuck", &format!("echo $$ > {}\nexec /bin/sleep 1000", pid_file.display()));
    let hub = TestHub::durable(dir, |config| {
        config.plugins.cache = cache;
        config.plugins.compiler = Compiler::Child(stuck);
    })
    .await;
    hub.plugin_until("probe", |status| status["state"] == "active").await;
    let mut beside = Beside { published: 0 };
    hub.put("strange.wasm", probe(2));
    let pid = || fs::read_to_string(&pid_file).unwrap_or_default().trim().to_owned();
    until(|| !pid().is_empty()).await;
    beside.publish(&hub).await;
    hub.events_of("probed.count", 1).await;
    assert_eq!(hub.get("/v1/plugins/strange").await.1["state"], json!("loading"));
    let killed = std::process::Command::new("kill").args(["-9", &pid()]).status().unwrap();
    assert!(killed.success());
    let error = hub.refused("strange").await;
    assert!(error["message"].as_str().unwrap().contains("ended from outside (signal: 9"), "{error}");
    beside.lost_nothing(&hub).await;
}
