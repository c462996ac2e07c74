//! What plugins ask for and are granted, as operators see it.

use crate::{
    cli::{busway, stderr},
    guests::{guest, probe},
    hub::{TestHub, within},
};
use serde_json::{Value, json};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_version_asks_beyond_the_one_before_is_in_its_status_and_its_event() {
    let hub = TestHub::start().await;
    let first = hub.install("x", guest("task-timer"), "").await;
    assert!(first.get("asks_beyond").is_none(), "{first}");
    hub.put("x.wasm", probe(1));
    let second = hub.plugin_until("x", |status| status["generation"] == 2).await;
    let beyond = &second["asks_beyond"];
    assert!(beyond["capabilities"].as_array().unwrap().contains(&json!("config")), "{second}");
    assert!(beyond["emits"].as_array().unwrap().contains(&json!("probed.*")), "{second}");
    let told = &hub.events_of("plugin.activated", 2).await[1]["data"];
    assert_eq!((&told["generation"], &told["asks_beyond"]), (&json!(2), beyond));
    hub.put("x.wasm", probe(2));
    let third = hub.plugin_until("x", |status| status["generation"] == 3).await;
    assert!(third.get("asks_beyond").is_none(), "{third}");
    assert!(hub.events_of("plugin.activated", 3).await[2]["data"].get("asks_beyond").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_asks_for_more_than_it_is_granted_runs_without_and_says_so() {
    let hub = TestHub::start().await;
    let grants = "[grants]\npublish = [\"probed.*\"]\nlog = false";
    let status = hub.install("probe", probe(1), grants).await;
    assert_eq!(
        (&status["asked"], &status["granted"]),
        (&json!(["publish", "kv", "config", "log"]), &json!(["publish"]))
    );
    let warnings = status["warnings"].to_string();
    for lack in ["asks for `kv`", "asks for `config`", "asks for `log`", "says that it emits \\\"probe.again\\\""] {
        assert!(warnings.contains(lack), "{warnings}");
    }
    hub.publish("probe.log", json!(null)).await;
    hub.publish("probe.echo", json!(null)).await;
    hub.events_of("probed.echo", 1).await;
    let status = hub.plugin_until("probe", |status| status["ok"] == 2).await;
    assert_eq!(status["refused"]["denied"], 1, "its log line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_with_another_without_a_hub() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (new, old) = (file("x.wasm", &probe(1)), file("Version 1.0.wasm", &guest("task-timer")));
    fs::write(dir.path().join("x.toml"), "[grants]\nkv = true").unwrap();
    let check = async |against: &str| {
        let output = within(busway().args(["plugin", "check", &new, "--against", against]).output()).await.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let checked = check(&old).await;
    assert_eq!(checked["asked"], json!(["publish", "kv", "config", "log"]), "{checked}");
    assert_eq!(checked["granted"], json!(["kv", "log"]), "{checked}");
    let warning = "asks for `publish`, which the operator does not grant: it runs without";
    assert!(checked["warnings"].as_array().unwrap().iter().any(|text| text == warning), "{checked}");
    let beyond = &checked["asks_beyond"];
    assert!(beyond["capabilities"].as_array().unwrap().contains(&json!("config")), "{beyond}");
    assert!(beyond["emits"].as_array().unwrap().contains(&json!("probed.*")), "{beyond}");
    let checked = check(&new).await;
    assert!(checked["asks_beyond"].is_null() && checked.get("asks_beyond").is_some(), "{checked}");
}
