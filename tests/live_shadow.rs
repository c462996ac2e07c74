//! A live shadow: a candidate in the plugin directory, compared with the active version on what that handles, and promoted.

use crate::{
    cli::{run, stderr},
    guests::{TRAPS, guest, probe},
    hub::{TestHub, within},
};
use serde_json::{Value, json};

/// Waits until the report on a plugin's shadow meets a condition.
async fn report_until(hub: &TestHub, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let (_, report) = hub.get(&format!("/v1/plugins/{name}/shadow")).await;
            if condition(&report) {
                return report;
            }
        }
    })
    .await
}

/// A hub with the probe and a candidate for its place.
async fn with_candidate(candidate: impl AsRef<[u8]>, manifest: &str) -> TestHub {
    let hub = TestHub::start().await;
    hub.put("probe-next.wasm", candidate);
    hub.install("probe", probe(1), &format!("shadow = \"probe-next.wasm\"\n{manifest}")).await;
    report_until(&hub, "probe", |report| report["since"].is_string()).await;
    hub
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_shadow_that_does_the_same_differs_in_nothing_and_has_no_effects() {
    let hub = TestHub::start().await;
    // One after the other: else the two may count the same events in another order.
    hub.install("probe", probe(1), "order_by = \"seq\"").await;
    for _ in 0..5 {
        hub.publish("probe.count", json!(null)).await;
    }
    hub.events_of("probed.count", 5).await;
    // It begins with the memory that there is, so both go on counting from 5.
    hub.put("probe-next.wasm", probe(1));
    hub.put("probe.toml", "order_by = \"seq\"\nshadow = \"probe-next.wasm\"");
    report_until(&hub, "probe", |report| report["since"].is_string()).await;
    for _ in 0..20 {
        hub.publish("probe.count", json!(null)).await;
    }
    hub.publish("probe.reject", json!(null)).await;
    let report = report_until(&hub, "probe", |report| report["compared"] == 21).await;
    assert_eq!((&report["differing"], &report["missed"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(report["shadow"]["ended"], json!({"ok": 20, "reject": 1}), "{report}");
    let counted = hub.events_of("probed.count", 25).await;
    assert_eq!(
        (counted.len(), &counted[24]["data"]["count"]),
        (25, &json!(25)),
        "each once, and nothing of the shadow's"
    );
    let (status, _) = hub.get("/v1/plugins/probe-next").await;
    assert_eq!(status, 404, "it is no plugin of its own");
    let (_, list) = hub.get("/v1/plugins").await;
    assert_eq!(list["refused"]["probe-next.wasm"], "it is the shadow of probe");
    let (_, metrics) = hub.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("busway_shadow_compared_total{plugin=\"probe\"} 21\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_shadow_does_otherwise_is_told_and_promoted_it_is_the_active_version() {
    let hub = with_candidate(probe(2), "").await;
    for index in 0..10 {
        hub.publish(if index % 2 == 0 { "probe.count" } else { "probe.reject" }, json!(index)).await;
    }
    let report = report_until(&hub, "probe", |report| report["compared"] == 10).await;
    assert_eq!((&report["differing"], &report["percent"]), (&json!(5), &json!(50.0)), "{report}");
    let difference = json!([{"pointer": "/emitted/0/data/version", "active": 1, "shadow": 2}]);
    assert_eq!(report["examples"][4]["differences"], difference, "{report}");
    let output = run(&hub, &["plugin", "shadow", "probe"], "").await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["compared"], 10);

    let output = run(&hub, &["plugin", "promote", "probe"], "").await;
    assert!(output.status.success(), "{}", stderr(&output));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status["state"], &status["sha256"]), (&json!("active"), &report["sha256"]), "{status}");
    hub.publish("probe.count", json!(null)).await;
    let counted = hub.events_of("probed.count", 6).await;
    assert_eq!((&counted[5]["data"]["version"], &counted[5]["data"]["count"]), (&json!(2), &json!(6)));
    let plugins = hub.dir.path().join("plugins");
    assert!(!plugins.join("probe-next.wasm").exists());
    assert_eq!(std::fs::read(plugins.join("probe.wasm")).unwrap(), probe(2), "and it is after a restart");
    hub.plugin_until("probe", |status| status.get("shadow").is_none()).await;
    let (status, problem) = hub.post("/v1/plugins/probe/promote", &json!(null)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("plugin.state")), "{problem}");
    // The next one is compared with it.
    hub.put("probe-next.wasm", probe(3));
    report_until(&hub, "probe", |report| report["since"].is_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_shadow_that_faults_harms_nobody() {
    let hub = with_candidate(probe(TRAPS), "").await;
    for index in 0..10 {
        hub.publish("probe.echo", json!(index)).await;
    }
    let report = report_until(&hub, "probe", |report| report["compared"] == 10).await;
    assert_eq!(report["shadow"]["ended"], json!({"trap": 10}), "{report}");
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!(
        (&status["state"], &status["faults"], &status["ok"]),
        (&json!("active"), &json!({}), &json!(10)),
        "{status}"
    );
    assert!(hub.events().await.iter().all(|event| event["type"] != "plugin.fault"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_tried_again_counts_once_in_the_shadows_memory() {
    let hub = with_candidate(probe(1), "").await;
    // Both fail at first, and go on together.
    hub.publish("probe.retry", json!(3)).await;
    hub.events_of("probed.retry", 1).await;
    let report = report_until(&hub, "probe", |report| report["compared"] == 3).await;
    assert_eq!(
        (&report["differing"], &report["shadow"]["ended"]),
        (&json!(0), &json!({"retry": 2, "ok": 1})),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_has_a_live_shadow_too() {
    let hub = TestHub::start().await;
    hub.put("next.wasm", guest("urgent-only"));
    hub.install("urgent-only", guest("urgent-only"), "shadow = \"next.wasm\"").await;
    report_until(&hub, "urgent-only", |report| report["since"].is_string()).await;
    hub.bus().publish(busway::event::NewEvent::new("task.created").tag("urgent")).await.unwrap();
    hub.publish("task.created", json!(null)).await;
    let output = run(&hub, &["tail", "--filter", "urgent-only", "--from", "1", "--limit", "1", "--json"], "").await;
    assert!(output.status.success(), "{}", stderr(&output));
    let report = report_until(&hub, "urgent-only", |report| report["compared"].as_u64() >= Some(1)).await;
    assert_eq!(report["differing"], 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_candidate_says_why_and_is_not_promoted() {
    let hub = with_candidate(guest("urgent-only"), "").await;
    let (_, report) = hub.get("/v1/plugins/probe/shadow").await;
    assert_eq!(report["error"]["code"], "load.exports", "{report}");
    let (status, problem) = hub.post("/v1/plugins/probe/promote", &json!(null)).await;
    assert_eq!((status, &problem["code"]), (422, &json!("load.exports")), "{problem}");
    // A sidecar with a mistake in it does not make the candidate a plugin.
    hub.put("probe.toml", "shadow = \"probe-next.wasm\"\ncolour = 1");
    hub.plugin_until("probe", |status| status["last_error"]["code"] == "load.manifest").await;
    hub.put("probe-next.wasm", probe(2));
    hub.put("other.wasm", probe(3));
    hub.plugin_until("other", |status| status["state"] == "active").await;
    assert_eq!(hub.get("/v1/plugins/probe-next").await.0, 404);
    // Nor is its own file one.
    hub.put("other.toml", "shadow = \"other.wasm\"");
    hub.plugin_until("other", |status| status["last_error"]["code"] == "load.describe").await;
}
