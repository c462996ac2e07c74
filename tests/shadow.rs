//! `busway plugin shadow`: a candidate on recorded events, beside the version that it is to replace.

use crate::{
    cli::{run, stderr},
    guests::{guest, probe},
    hub::TestHub,
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Output};
use tempfile::{TempDir, tempdir};

/// The files of a plugin that is active, `probe`, and of a candidate, `next`.
fn pair(active: &[u8], candidate: &[u8]) -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("probe.wasm"), active).unwrap();
    fs::write(dir.path().join("probe.toml"), "limits.deadline = \"10s\"\n").unwrap();
    fs::write(dir.path().join("next.wasm"), candidate).unwrap();
    dir
}

async fn shadow(hub: &TestHub, dir: &Path, args: &[&str], input: &str) -> (Option<i32>, Value) {
    let (active, candidate) = (dir.join("probe.wasm"), dir.join("next.wasm"));
    let [active, candidate] = [&active, &candidate].map(|path| path.to_str().unwrap());
    let args = [&["plugin", "shadow", candidate, "--against", active], args].concat();
    let output: Output = run(hub, &args, input).await;
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| json!(stderr(&output))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_does_the_same_differs_in_nothing() {
    let hub = TestHub::start().await;
    let dir = pair(&probe(1), &probe(1));
    let events = r#"{"type": "probe.count"}
        {"type": "probe.count"}
        {"type": "probe.reject"}
        {"type": "task.created"}"#;
    let (code, report) = shadow(&hub, dir.path(), &["--events", "-", "--kv", "count=5"], events).await;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((&report["compared"], &report["differing"]), (&json!(3), &json!(0)), "{report}");
    assert_eq!(report["shadow"]["ended"], json!({"ok": 2, "reject": 1}), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_candidate_would_do_otherwise_on_a_hubs_events_is_told_and_nothing_of_it_happens() {
    let hub = TestHub::start().await;
    for index in 0..20 {
        hub.publish(if index % 4 == 0 { "probe.echo" } else { "probe.count" }, json!(index)).await;
    }
    hub.publish("probe.count", json!("after")).await;
    let head = hub.bus().log().head();
    // Another number, which it sends along; and one that traps on its first event.
    let dir = pair(&probe(1), &probe(2));
    let (code, report) = shadow(&hub, dir.path(), &["--from", "1", "--limit", "20"], "").await;
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(
        (&report["compared"], &report["differing"], &report["percent"]),
        (&json!(20), &json!(20), &json!(100.0))
    );
    let difference = &report["examples"][15]["differences"][0];
    assert_eq!(difference, &json!({"pointer": "/emitted/0/data/version", "active": 1, "shadow": 2}), "{report}");
    assert_eq!(report["examples"][15]["seq"], 20);
    assert_eq!(report["differing_by"], json!({"emitted": 20}));
    let dir = pair(&probe(1), &probe(88_888_888));
    let (code, report) = shadow(&hub, dir.path(), &["--from", "17"], "").await;
    assert_eq!((code, &report["shadow"]["ended"]), (Some(1), &json!({"trap": 5})), "{report}");
    assert_eq!(
        report["examples"][0]["differences"][0],
        json!({"pointer": "/emitted/0", "active": report["examples"][0]["differences"][0]["active"]})
    );
    assert_eq!(hub.bus().log().head(), head, "nothing was published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_and_a_handler_are_not_compared() {
    let hub = TestHub::start().await;
    let dir = pair(&probe(1), &guest("urgent-only"));
    let (code, said) = shadow(&hub, dir.path(), &["--events", "-"], r#"{"type": "probe.echo"}"#).await;
    assert_eq!(code, Some(2));
    assert!(said.as_str().unwrap().contains("expected two of a kind, found a filter against a handler"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_asked_about_every_event() {
    let hub = TestHub::start().await;
    let dir = pair(&guest("urgent-only"), &guest("urgent-only"));
    let events = "{\"type\": \"a\"}\n{\"type\": \"b\", \"metadata\": {\"tags\": [\"urgent\"]}}";
    let (code, report) = shadow(&hub, dir.path(), &["--events", "-"], events).await;
    assert_eq!((code, &report["compared"], &report["unwanted"]), (Some(0), &json!(2), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_was_compared_or_one_does_not_load_nobody_is_told_that_they_are_the_same() {
    let hub = TestHub::start().await;
    let dir = pair(&probe(1), &probe(1));
    let (code, report) = shadow(&hub, dir.path(), &["--events", "-"], "{\"type\": \"task.created\"}").await;
    assert_eq!((code, &report["compared"], &report["unwanted"]), (Some(2), &json!(0), &json!(1)), "{report}");
    let (code, said) = shadow(&hub, dir.path(), &["--events", "-"], "nonsense").await;
    assert!(code == Some(2) && said.as_str().unwrap().contains("event 1"), "{said}");
    let (code, said) = shadow(&hub, pair(&probe(1), b"\0asm").path(), &["--events", "-"], "").await;
    assert!(code == Some(2) && said.as_str().unwrap().contains("load."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_does_not_have_any_more_is_counted() {
    let hub = TestHub::with(|config| config.log.buffer_size = 64.try_into().unwrap()).await;
    for index in 0..100 {
        hub.publish("probe.count", json!(index)).await;
    }
    let oldest = hub.bus().log().oldest();
    let dir = pair(&probe(1), &probe(1));
    let (code, report) = shadow(&hub, dir.path(), &["--from", "11"], "").await;
    assert_eq!((code, &report["missed"]), (Some(0), &json!(oldest - 11)), "{report}");
    assert_eq!(report["compared"].as_u64(), Some(101 - oldest), "{report}");
}
