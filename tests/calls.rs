//! Calls of a plugin, watched while they end.

use crate::{
    cli::busway,
    guests::probe,
    hub::{TestHub, within},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_calls_are_told_with_what_they_said_did_and_used_up() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry.attempts = 1").await;
    let args = ["--url", &hub.url(""), "plugin", "calls", "probe", "--json"];
    let mut child = busway().args(args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Nothing says that it watches but the first call that it shows.
    let mut publish = tokio::time::interval(Duration::from_millis(20));
    let first = within(async {
        loop {
            tokio::select! {
                line = lines.next_line() => return line.unwrap().unwrap(),
                _ = publish.tick() => drop(hub.publish("probe.count", json!(null)).await),
            }
        }
    })
    .await;
    let call: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&call["type"], &call["ended"], &call["attempt"]), (&json!("probe.count"), &json!("ok"), &json!(1)));
    assert_eq!(call["emitted"][0]["type"], "probed.count", "{call}");
    let line = format!("handed {} attempt 1", call["seq"]);
    assert_eq!(call["said"]["lines"][0], json!({"level": "info", "message": line}), "{call}");
    let calls: Vec<&Value> = call["said"]["trace"].as_array().unwrap().iter().map(|host| &host["call"]).collect();
    assert_eq!(calls, ["log", "kv.increment", "publish"], "{call}");
    assert!(call["fuel"].as_u64() > Some(0) && call["memory"].as_u64() > Some(0), "{call}");
    hub.publish("probe.trap", json!(null)).await;
    let trapped = within(async {
        loop {
            let call: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            if call["type"] == "probe.trap" {
                return call;
            }
        }
    })
    .await;
    assert_eq!((&trapped["ended"], &trapped["emitted"]), (&json!("trap"), &json!([])), "{trapped}");
    assert!(trapped["message"].as_str().unwrap().contains("told to trap"), "{trapped}");
    assert_eq!(hub.get("/v1/plugins/nobody/calls").await.0, 404);
}
