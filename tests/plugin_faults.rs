//! A fault has one code wherever it shows, and what the hub does about a plugin that faults shows too.

use crate::{
    cli::{Serving, busway},
    guests::{TRAPS, probe},
    hostile::guest::Guest,
    hub::TestHub,
};
use busway::{config::AdmissionConfig, event::NewEvent};
use serde_json::{Value, json};

/// A sidecar for a handler of these types, each event tried once.
fn of(types: &str) -> String {
    format!("retry.attempts = 1\nsubscriptions = [{{ event_types = {types} }}]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_has_the_same_code_in_the_status_the_metrics_the_dead_letter_and_its_event() {
    let hub = TestHub::start().await;
    let cases = [
        ("fuel", "probe.spin", ""),
        ("deadline", "probe.spin", "fuel = 1000000000000\ndeadline = \"50ms\""),
        ("memory", "probe.grow", "deadline = \"10s\"\nfuel = 1000000000000"),
        ("stack", "probe.deep", "deadline = \"10s\"\nfuel = 1000000000000"),
        ("trap", "probe.trap", ""),
        ("loop", "probe.again", ""),
    ];
    for (code, event_type, limits) in cases {
        let events = if code == "loop" { String::new() } else { format!(", required_tags = [\"{code}\"]") };
        let manifest = format!(
            "retry.attempts = 1\nsubscriptions = [{{ event_types = [\"{event_type}\"]{events} }}]\n[limits]\n{limits}"
        );
        let installed = hub.install(code, probe(1), &manifest).await;
        let caused = hub.bus().publish(NewEvent::new(event_type).tag(code)).await.unwrap();
        let is_its = |event: &Value| event["type"] == "plugin.fault" && event["data"]["plugin"] == code;
        let events = hub.events_until(|events| events.iter().any(is_its)).await;
        let told = &events.iter().find(|event| is_its(event)).unwrap();
        let data = &told["data"];
        assert_eq!((&told["metadata"]["source"], &data["code"]), (&json!("busway"), &json!(code)));
        assert_eq!((&data["sha256"], &data["type"]), (&installed["sha256"], &json!(event_type)));
        assert_eq!(data["suppressed"], 0, "{data}");
        if code != "loop" {
            assert_eq!((&data["seq"], &data["event_id"]), (&json!(caused.seq), &json!(caused.event_id)), "{data}");
        }
        let (_, status) = hub.get(&format!("/v1/plugins/{code}")).await;
        assert_eq!((&status["faults"], &status["last_error"]["code"]), (&json!({code: 1}), &json!(code)));
        assert_eq!(status["last_error"]["message"], data["message"]);
        let (_, metrics) = hub.get("/metrics").await;
        let line = format!("busway_plugin_faults_total{{plugin=\"{code}\",code=\"{code}\"}} 1\n");
        assert!(metrics.as_str().unwrap().contains(&line), "{line}");
    }
    let letters = hub.events_of("plugin.dead_letter", cases.len()).await;
    assert!(letters.iter().all(|letter| letter["data"]["code"] == letter["data"]["plugin"]), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_in_the_log_with_its_code_and_what_the_guest_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("probe.wasm"), probe(1)).unwrap();
    let mut command = busway();
    let args = ["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"];
    let mut serving = Serving::of(command.args(args).arg(dir.path())).await;
    serving.until_said("activated").await;
    let url = format!("http://{}/v1/events", serving.address);
    crate::hub::http_client().post(url).json(&json!({"type": "probe.trap"})).send().await.unwrap();
    let line = serving.until_said("fault: ").await;
    for part in ["probe", "trap", "told to trap"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_not_told_of_its_own_faults_and_others_are() {
    let hub = TestHub::start().await;
    let types = "[\"probe.trap\", \"plugin.fault\"]";
    hub.install("faulty", probe(1), &of(types)).await;
    hub.install("watcher", probe(2), &of("[\"plugin.fault\"]")).await;
    for _ in 0..3 {
        hub.publish("probe.trap", json!(null)).await;
    }
    hub.events_of("plugin.fault", 1).await;
    hub.plugin_until("faulty", |status| status["faults"]["trap"] == 3).await;
    let head = hub.publish("last", json!(null)).await;
    hub.plugin_until("faulty", |status| status["done"].as_u64() >= Some(head)).await;
    let told = hub.events_of("plugin.fault", 1).await.len() as u64;
    hub.plugin_until("watcher", |status| status["calls"].as_u64() >= Some(told)).await;
    let (_, faulty) = hub.get("/v1/plugins/faulty").await;
    assert_eq!(faulty["calls"], 3, "{faulty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_that_fault_over_everything_tell_of_no_faults_over_each_others() {
    let hub = TestHub::start().await;
    for name in ["one", "other"] {
        hub.install(name, probe(TRAPS), &of("[\"x\", \"plugin.fault\"]")).await;
    }
    hub.publish("x", json!(null)).await;
    for name in ["one", "other"] {
        // Over `x`, and over what was told of the other's fault.
        hub.plugin_until(name, |status| status["faults"]["trap"].as_u64() >= Some(2)).await;
    }
    let told = hub.events_of("plugin.fault", 2).await;
    assert!(told.iter().all(|event| event["data"]["type"] == "x"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_faults_means_what_its_operator_says() {
    for (on_error, status) in [("closed", 422), ("open", 200)] {
        let hub = TestHub::with(|config| {
            config.admission = vec![AdmissionConfig { filter: "test".into(), params: None }];
        })
        .await;
        let wasm = wat::parse_str(Guest::filter("unreachable").wat()).unwrap();
        hub.install("test", wasm, &format!("on_error = \"{on_error}\"")).await;
        assert_eq!(hub.post("/v1/events", &json!({"type": "a"})).await.0, status, "{on_error}");
        let told = &hub.events_of("plugin.fault", 1).await[0]["data"];
        assert_eq!((&told["plugin"], &told["code"], &told["type"]), (&json!("test"), &json!("trap"), &json!("a")));
        let (_, plugin) = hub.get("/v1/plugins/test").await;
        assert_eq!(plugin["faults"]["trap"], 1, "what is told is not asked about at the door");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_faults_shows_in_the_status_and_is_undone_by_enable() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.put("probe.wasm", probe(TRAPS));
    let bad = hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.publish("probe.echo", json!(null)).await;
    let status = hub.plugin_until("probe", |status| status["rejected"].is_object()).await;
    assert_eq!(status["rejected"], json!({"sha256": bad["sha256"], "automatic": true}));
    assert_eq!((&status["state"], &status["generation"]), (&json!("active"), &json!(1)));
    let (code, status) = hub.post("/v1/plugins/probe/enable", &json!({})).await;
    assert_eq!((code, &status["sha256"]), (200, &bad["sha256"]), "{status}");
    assert!(status.get("rejected").is_none(), "{status}");
    // On trial again.
    hub.publish("probe.echo", json!(null)).await;
    hub.plugin_until("probe", |status| status["rejected"].is_object()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_faults_like_the_one_before_is_not_rolled_back() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry.attempts = 1").await;
    hub.publish("probe.trap", json!(null)).await;
    hub.events_of("plugin.dead_letter", 1).await;
    hub.put("probe.wasm", probe(2));
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.publish("probe.trap", json!(null)).await;
    hub.events_of("plugin.dead_letter", 2).await;
    hub.publish("probe.echo", json!(null)).await;
    assert_eq!(hub.events_of("probed.echo", 1).await[0]["data"]["version"], 2);
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&status["state"], &status["generation"]), (&json!("active"), &json!(2)), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_faults_in_a_minute_are_a_quarantine_that_the_status_shows_and_enable_ends() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry.attempts = 1").await;
    for _ in 0..4 {
        hub.publish("probe.trap", json!(null)).await;
    }
    let status = hub.plugin_until("probe", |status| status["faults"]["trap"] == 4).await;
    assert_eq!(status["state"], "active");
    hub.publish("probe.trap", json!(null)).await;
    // It ends by itself after a second, so it is caught by its event.
    hub.events_of("plugin.quarantined", 1).await;
    for _ in 0..10 {
        hub.publish("probe.trap", json!(null)).await;
    }
    let long = |status: &Value| status["state"] == "quarantined" && status["quarantined_until"].is_string();
    hub.plugin_until("probe", long).await;
    let (code, status) = hub.post("/v1/plugins/probe/enable", &json!({})).await;
    assert_eq!((code, &status["state"]), (200, &json!("active")));
    assert!(status.get("quarantined_until").is_none(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_counts_at_whichever_attempt_it_comes_and_once_for_an_event() {
    let hub = TestHub::start().await;
    let manifest = "retry.attempts = 3\nsubscriptions = [{ event_types = [\"probe.late-trap\"] }]";
    hub.install("probe", probe(1), manifest).await;
    for _ in 0..2 {
        hub.publish("probe.late-trap", json!(null)).await;
    }
    hub.events_of("plugin.dead_letter", 2).await;
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&status["faults"]["trap"], &status["state"]), (&json!(4), &json!("active")), "two events: {status}");
    for _ in 0..3 {
        hub.publish("probe.late-trap", json!(null)).await;
    }
    hub.plugin_until("probe", |status| status["state"] == "quarantined").await;
}
