//! Limits that an operator sets while a plugin works.

use crate::{
    cli::{run, stderr},
    guests::probe,
    hub::TestHub,
};
use serde_json::{Value, json};

const LIMITS: &str = "/v1/plugins/probe/limits";

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_set_over_the_api_holds_for_the_next_call_of_fresh_and_of_reused_instances() {
    for isolation in ["fresh", "reuse"] {
        let hub = TestHub::start().await;
        let manifest = format!("isolation = \"{isolation}\"\nretry.attempts = 1\n[limits]\nkv_keys = 7");
        hub.install("probe", probe(1), &manifest).await;
        hub.publish("probe.echo", json!(1)).await;
        hub.events_of("probed.echo", 1).await;
        let (status, plugin) = hub.put_json(LIMITS, &json!({"memory": "4MiB", "deadline": "1s"})).await;
        assert_eq!((status, &plugin["generation"]), (200, &json!(2)), "{plugin}");
        let limits = &plugin["limits"];
        assert_eq!((&limits["memory"], &limits["deadline_ms"]), (&json!(4 << 20), &json!(1_000)));
        assert_eq!(
            (&limits["kv_keys"], &limits["fuel"]),
            (&json!(7), &json!(50_000_000)),
            "as the sidecar and the hub say"
        );
        assert_eq!(plugin["limits_override"], json!({"memory": "4MiB", "deadline": "1s"}));
        hub.publish("probe.grow", json!(null)).await;
        let letter = &hub.events_of("plugin.dead_letter", 1).await[0]["data"];
        assert_eq!(letter["code"], "memory");
        assert!(letter["message"].as_str().unwrap().contains("beyond 4194304 bytes"), "{letter}");
        let (status, plugin) = hub.delete(LIMITS).await;
        assert_eq!((status, &plugin["limits"]["memory"]), (200, &json!(64 << 20)));
        assert!(plugin.get("limits_override").is_none(), "{plugin}");
        hub.publish("probe.echo", json!(3)).await;
        assert_eq!(hub.events_of("probed.echo", 2).await[1]["data"]["data"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_limit_can_be_is_refused_with_its_field_and_changes_nothing() {
    let hub = TestHub::start().await;
    let before = hub.install("probe", probe(1), "").await;
    for (limits, field, expected, found) in [
        (json!({"fuel": 1}), "fuel", "10000 to 1000000000000", "1"),
        (json!({"fuel": 20_000, "deadline": 5}), "deadline", "\"1ms\" to \"60s\"", "5"),
        (
            json!({"memory": "128MiB"}),
            "memory",
            "at most 67108864 bytes, the hub's plugins.max_memory",
            "134217728 bytes",
        ),
        (json!({"memories": 9}), "memories", "0 to 8", "9"),
        (json!({"stack": "1MiB"}), "stack", "one of deadline, fuel, memory", "stack"),
    ] {
        let (status, problem) = hub.put_json(LIMITS, &limits).await;
        assert_eq!((status, &problem["code"], &problem["field"]), (400, &json!("limits.invalid"), &json!(field)));
        assert!(problem["expected"].as_str().unwrap().starts_with(expected), "{problem}");
        assert_eq!(problem["found"], found);
    }
    let (status, problem) = hub.put_json(LIMITS, &json!([])).await;
    assert_eq!((status, &problem["code"]), (400, &json!("body.json")));
    // Nothing starts under these.
    for limits in [json!({"memory": "64KiB"}), json!({"instances": 1}), json!({"memories": 0})] {
        let (status, problem) = hub.put_json(LIMITS, &limits).await;
        assert_eq!((status, &problem["code"]), (422, &json!("load.describe")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("memory: "), "{problem}");
    }
    let (status, problem) = hub.put_json("/v1/plugins/nobody/limits", &json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("plugin.unknown")));
    let (_, after) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&after["generation"], &after["limits"]), (&before["generation"], &before["limits"]));
    assert!(after.get("limits_override").is_none(), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_set_over_the_api_outlive_reloads_sidecars_new_files_rollbacks_and_restarts() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.install("probe", probe(1), "").await;
    hub.put_json(LIMITS, &json!({"fuel": 77_000_000})).await;
    let set = |status: &Value| {
        status["limits"]["fuel"] == 77_000_000 && status["limits_override"] == json!({"fuel": 77_000_000})
    };
    let (_, status) = hub.post("/v1/plugins/probe/reload", &json!({})).await;
    assert!(set(&status), "{status}");
    hub.put("probe.toml", "[limits]\nfuel = 1_000_000\nkv_keys = 5");
    let status = hub.plugin_until("probe", |status| status["limits"]["kv_keys"] == 5).await;
    assert!(set(&status), "{status}");
    hub.put("probe.wasm", probe(2));
    let status = hub.plugin_until("probe", |status| status["previous"].is_object()).await;
    assert!(set(&status), "{status}");
    let (_, status) = hub.post("/v1/plugins/probe/rollback", &json!({})).await;
    assert!(set(&status), "{status}");
    let (_, status) = hub.post("/v1/plugins/probe/disable", &json!({})).await;
    assert!(set(&status), "{status}");
    let hub = hub.restart().await;
    let status = hub.plugin_until("probe", |status| status["state"] == "disabled").await;
    assert!(set(&status) && status["limits"]["kv_keys"] == 5, "{status}");
    // Of one that is not called, too; and it is the last word that counts.
    let (_, status) = hub.put_json(LIMITS, &json!({"kv_keys": 6})).await;
    assert_eq!((&status["limits"]["fuel"], &status["limits"]["kv_keys"]), (&json!(1_000_000), &json!(6)));
    assert_eq!(status["state"], "disabled");
    hub.delete(LIMITS).await;
    let hub = hub.restart().await;
    let status = hub.plugin_until("probe", |status| status["state"] == "disabled").await;
    assert!(status.get("limits_override").is_none() && status["limits"]["kv_keys"] == 5, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_limits_cannot_be_read_any_more_is_disabled_and_says_so() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.install("probe", probe(1), "").await;
    hub.put_json(LIMITS, &json!({"fuel": 77_000_000})).await;
    let dir = hub.end().await;
    let file = rusqlite::Connection::open(dir.path().join("data/busway.db")).unwrap();
    file.execute("UPDATE plugins SET limits = '{' WHERE name = 'probe'", []).unwrap();
    drop(file);
    let hub = TestHub::durable(dir, |_| ()).await;
    let status = hub.plugin_until("probe", |status| status["state"] == "disabled").await;
    assert_eq!(status["last_error"]["code"], "limits.unreadable", "{status}");
    // That is not forgotten once it has been said.
    let hub = hub.restart().await;
    hub.plugin_until("probe", |status| status["state"] == "disabled").await;
    let (_, status) = hub.post("/v1/plugins/probe/enable", &json!({})).await;
    assert_eq!(status["state"], "active", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_quota_below_what_is_there_refuses_writes_and_loses_nothing() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry.attempts = 1").await;
    hub.publish("probe.count", json!(null)).await;
    hub.events_of("probed.count", 1).await;
    hub.put_json(LIMITS, &json!({"kv_bytes": "1B"})).await;
    hub.publish("probe.count", json!(null)).await;
    let letter = &hub.events_of("plugin.dead_letter", 1).await[0];
    assert!(letter["data"]["message"].as_str().unwrap().contains("over the quota"), "{letter}");
    hub.publish("probe.kv", json!(null)).await;
    assert_eq!(hub.events_of("probed.kv", 1).await[0]["data"], 1, "it can be read");
    hub.delete(LIMITS).await;
    hub.publish("probe.count", json!(null)).await;
    assert_eq!(hub.events_of("probed.count", 2).await[1]["data"]["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_and_set_from_the_command_line() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let limits = async |args: &[&str]| {
        let output = run(&hub, &[&["plugin", "limits", "probe"], args].concat(), "").await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| stderr(&output).into())
    };
    assert_eq!(limits(&[]).await["limits"]["memory"], 64 << 20);
    assert_eq!(limits(&["memory=16MiB", "fuel=1_000_000"]).await["limits"]["memory"], 16 << 20);
    let both = limits(&["fuel=2000000"]).await;
    assert_eq!(both["limits_override"], json!({"memory": "16MiB", "fuel": 2_000_000}), "the others stay");
    assert_eq!(limits(&["--clear", "fuel=3000000"]).await["limits_override"], json!({"fuel": 3_000_000}));
    let refused = limits(&["fuel=much"]).await;
    assert!(refused.as_str().unwrap().contains("limits.invalid: fuel: expected 10000 to"), "{refused}");
    let cleared = limits(&["--clear"]).await;
    assert!(cleared.get("limits_override").is_none() && cleared["limits"]["fuel"] == 50_000_000, "{cleared}");
}
