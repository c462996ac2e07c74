//! Plugins in a running hub: what they are given, what they may do, and what becomes of one that misbehaves.

use crate::{
    client::Client,
    guests::{CANNOT_DESCRIBE, TRAPS, guest, probe},
    hub::{TestHub, until, within},
};
use busway::{config::AdmissionConfig, event::NewEvent};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_dropped_into_the_directory_handles_events() {
    let hub = TestHub::start().await;
    let status = hub.install("probe", probe(1), "").await;
    assert_eq!((&status["kind"], &status["generation"]), (&json!("handler"), &json!(1)));
    let seq = hub.publish("probe.echo", json!({"ü": [1, null]})).await;
    let echo = &hub.events_of("probed.echo", 1).await[0];
    assert_eq!(echo["data"], json!({"of": seq, "version": 1, "data": {"ü": [1, null]}, "attempt": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_emitted_events_is_written_by_the_host() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let event = NewEvent::new("probe.echo").correlation_id("c").event_id("cause").tag("t");
    hub.bus().publish(event).await.unwrap();
    let meta = hub.events_of("probed.echo", 1).await[0]["metadata"].clone();
    assert_eq!((&meta["correlation_id"], &meta["causation_id"]), (&json!("c"), &json!("cause")));
    assert_eq!((&meta["source"], &meta["hops"], &meta["tags"]), (&json!("plugin/probe"), &json!(1), &json!([])));
    assert_eq!(meta["event_id"].as_str().unwrap().len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_a_request_by_emitting() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let request = json!({"event": {"type": "probe.echo", "data": 7}, "reply_type": "probed.*"});
    let (status, answer) = hub.post("/v1/request", &request).await;
    assert_eq!((status, &answer["reply"]["data"]["data"]), (200, &json!(7)));
}

/// I8: a call is a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_call_that_fails_or_traps_leaves_no_trace() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.retry", json!(3)).await;
    hub.publish("probe.trap", json!(null)).await;
    hub.publish("probe.reject", json!(null)).await;
    let retried = hub.events_of("probed.retry", 1).await;
    assert_eq!(retried[0]["data"], json!({"attempt": 3}), "what the two failed attempts published is gone");
    let letters = hub.events_of("plugin.dead_letter", 2).await;
    assert_eq!(letters[0]["data"]["code"], "reject");
    assert_eq!((&letters[1]["data"]["code"], &letters[1]["data"]["attempts"]), (&json!("trap"), &json!(5)));
    assert!(letters[1]["data"]["message"].as_str().unwrap().contains("told to trap"), "{}", letters[1]);
    assert!(hub.events().await.iter().all(|event| event["type"] != "probed.trap"));
    assert_eq!(hub.events_of("probed.retry", 1).await.len(), 1);
}

/// I8: calls at once that touch the same key are as if one came after the other.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_plugin_that_counts_in_kv_counts_each_event_exactly_once() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "concurrency = 8").await;
    for _ in 0..500 {
        hub.publish("probe.count", json!(null)).await;
    }
    let mut counts: Vec<u64> =
        hub.events_of("probed.count", 500).await.iter().map(|event| event["data"]["count"].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=500).collect::<Vec<_>>());
}

/// I6: a bad file changes nothing but the plugin's last error.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_bad_file_changes_nothing_but_the_last_error() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let good = probe(2);
    for (bytes, code) in [
        (b"".to_vec(), "load.not-wasm"),
        (b"hello".to_vec(), "load.not-wasm"),
        (b"\x7fELF\x02\x01\x01\0".to_vec(), "load.precompiled"),
        (wat::parse_str("(module)").unwrap(), "load.core-module"),
        (good[..good.len() / 2].to_vec(), "load.compile"),
        (wat::parse_str("(component)").unwrap(), "load.exports"),
        (probe(CANNOT_DESCRIBE), "load.describe"),
    ] {
        hub.put("probe.wasm", &bytes);
        let status = hub.plugin_until("probe", |status| status["last_error"]["code"] == code).await;
        assert_eq!((&status["state"], &status["generation"]), (&json!("active"), &json!(1)), "{code}");
        hub.publish("probe.echo", json!(code)).await;
        let echo = hub.events_until(|events| events.iter().any(|event| event["data"]["data"] == code)).await;
        assert_eq!(
            echo.iter().rev().find(|event| event["type"] == "probed.echo").unwrap()["data"]["version"],
            json!(1)
        );
    }
    // A bad sidecar as well.
    hub.put("probe.toml", "colour = 1");
    hub.plugin_until("probe", |status| status["last_error"]["code"] == "load.manifest").await;
    hub.remove("probe.toml");
    hub.put("probe.wasm", good);
    hub.plugin_until("probe", |status| status["state"] == "active" && status["generation"] != 1).await;
}

/// I7: every call runs under limits, and what exceeds them has its own code.
#[tokio::test(flavor = "multi_thread")]
async fn i7_every_call_runs_under_limits_and_the_hub_does_not_notice() {
    let hub = TestHub::start().await;
    // One attempt each, and no rollback or quarantine between: each misdeed is its own plugin.
    let codes = [
        ("spin", "probe.spin", "fuel", "deadline = \"10s\""),
        ("slow", "probe.spin", "deadline", "fuel = 1000000000000\ndeadline = \"50ms\""),
        ("grow", "probe.grow", "memory", "deadline = \"10s\"\nfuel = 1000000000000"),
        ("deep", "probe.deep", "stack", "deadline = \"10s\"\nfuel = 1000000000000"),
        ("trap", "probe.trap", "trap", ""),
    ];
    for (name, event_type, _, limits) in codes {
        let manifest = format!(
            "retry = {{ attempts = 1 }}\nsubscriptions = [{{ event_types = [\"{event_type}\"], required_tags = [\"{name}\"] }}]\n[limits]\n{limits}"
        );
        hub.install(name, probe(1), &manifest).await;
    }
    hub.install("good", probe(2), "subscriptions = [{ event_types = [\"probe.echo\"] }]").await;
    for (name, event_type, ..) in codes {
        hub.bus().publish(NewEvent::new(event_type).tag(name)).await.unwrap();
        hub.publish("probe.echo", json!(name)).await;
    }
    let letters = hub.events_of("plugin.dead_letter", codes.len()).await;
    let got: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| (letter["data"]["plugin"].as_str().unwrap(), letter["data"]["code"].as_str().unwrap()))
        .collect();
    let expected: BTreeMap<_, _> = codes.iter().map(|(name, _, code, _)| (*name, *code)).collect();
    assert_eq!(got, expected);
    assert_eq!(hub.events_of("probed.echo", codes.len()).await.len(), codes.len(), "the neighbour has lost nothing");
    let (_, status) = hub.get("/v1/plugins/spin").await;
    assert_eq!((&status["faults"], &status["last_error"]["code"]), (&json!({"fuel": 1}), &json!("fuel")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_denied_with_an_error_that_the_guest_sees() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "[grants]\npublish = [\"probed.echo\"]").await;
    hub.publish("probe.kv", json!(null)).await;
    hub.publish("probe.emit", json!(1)).await;
    hub.publish("probe.other-type", json!(null)).await;
    let letters = hub.events_of("plugin.dead_letter", 2).await;
    assert!(letters.iter().all(|letter| letter["data"]["message"].as_str().unwrap().contains("denied")), "{letters:?}");
    hub.publish("probe.echo", json!(null)).await;
    hub.events_of("probed.echo", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_has_a_limit() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.emit", json!(64)).await;
    hub.publish("probe.emit", json!(65)).await;
    let letter = &hub.events_of("plugin.dead_letter", 1).await[0];
    assert!(letter["data"]["message"].as_str().unwrap().contains("64"), "{letter}");
    assert_eq!(hub.events_of("probed.emit", 64).await.len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_emissions_ends_at_its_limit_with_code_loop() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.again", json!(null)).await;
    let letter = &hub.events_of("plugin.dead_letter", 1).await[0];
    assert_eq!(letter["data"]["code"], "loop");
    let hops: Vec<u64> = hub
        .events_of("probe.again", 17)
        .await
        .iter()
        .map(|event| event["metadata"]["hops"].as_u64().unwrap())
        .collect();
    assert_eq!(hops, (0..=16).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_instance_remembers_nothing_and_a_reused_one_may() {
    let hub = TestHub::start().await;
    hub.install("fresh", probe(1), "concurrency = 1").await;
    for _ in 0..3 {
        hub.publish("probe.remember", json!(null)).await;
    }
    let remembered = hub.events_of("probed.remember", 3).await;
    assert!(remembered.iter().all(|event| event["data"]["before"] == 0), "{remembered:?}");
    hub.remove("fresh.wasm");
    hub.plugin_until("fresh", |status| status["code"] == "plugin.unknown").await;
    hub.install("reused", probe(1), "isolation = \"reuse\"\nconcurrency = 1").await;
    for _ in 0..3 {
        hub.publish("probe.remember", json!(null)).await;
    }
    let remembered = hub.events_of("probed.remember", 6).await;
    assert!(remembered[5]["data"]["before"].as_u64().unwrap() > 0, "{remembered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_values_reach_the_plugin_and_a_changed_sidecar_takes_effect() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "[config]\ngreeting = \"hello\"").await;
    hub.publish("probe.config", json!(null)).await;
    assert_eq!(hub.events_of("probed.config", 1).await[0]["data"], json!({"greeting": "hello"}));
    hub.put("probe.toml", "[config]\ngreeting = \"goodbye\"");
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.publish("probe.config", json!(null)).await;
    assert_eq!(hub.events_of("probed.config", 2).await[1]["data"], json!({"greeting": "goodbye"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_faults_in_its_first_calls_is_rolled_back_by_itself_and_no_event_is_lost() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.echo", json!("first")).await;
    hub.events_of("probed.echo", 1).await;
    hub.put("probe.wasm", probe(TRAPS));
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.publish("probe.echo", json!("second")).await;
    let echo = hub.events_of("probed.echo", 2).await[1].clone();
    assert_eq!((&echo["data"]["version"], &echo["data"]["attempt"]), (&json!(1), &json!(2)));
    let rolled_back = &hub.events_of("plugin.rolled_back", 1).await[0];
    assert_eq!(rolled_back["data"], json!({"plugin": "probe", "generation": 1, "automatic": true}));
    // The file is still there, and is not loaded again by itself; it is if somebody asks.
    let (status, plugin) = hub.post("/v1/plugins/probe/reload", &json!({})).await;
    assert_eq!((status, &plugin["generation"]), (200, &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_keeps_faulting_is_put_in_quarantine_and_tried_again() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry = { attempts = 1 }").await;
    for _ in 0..5 {
        hub.publish("probe.trap", json!(null)).await;
    }
    let quarantined = &hub.events_of("plugin.quarantined", 1).await[0];
    assert_eq!(quarantined["data"], json!({"plugin": "probe", "for_ms": 1000}));
    let seq = hub.publish("probe.echo", json!("meanwhile")).await;
    // It waits for the plugin, and is handled once that is tried again.
    let echo = &hub.events_of("probed.echo", 1).await[0];
    assert_eq!(echo["data"]["of"], json!(seq));
    // On parole, one fault is enough, and the time doubles.
    hub.publish("probe.trap", json!(null)).await;
    let again = &hub.events_of("plugin.quarantined", 2).await[1];
    assert_eq!(again["data"]["for_ms"], 2000);
    let (status, plugin) = hub.post("/v1/plugins/probe/enable", &json!({})).await;
    assert_eq!((status, &plugin["state"]), (200, &json!("active")));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_disable_enable_and_roll_back() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let (_, plugin) = hub.post("/v1/plugins/probe/disable", &json!({})).await;
    assert_eq!(plugin["state"], "disabled");
    hub.publish("probe.echo", json!("while disabled")).await;
    let (status, problem) = hub.post("/v1/plugins/probe/rollback", &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("plugin.state")));
    assert!(hub.events().await.iter().all(|event| event["type"] != "probed.echo"));
    hub.post("/v1/plugins/probe/enable", &json!({})).await;
    hub.events_of("probed.echo", 1).await;
    hub.put("probe.wasm", probe(2));
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    let (_, plugin) = hub.post("/v1/plugins/probe/rollback", &json!({})).await;
    assert_eq!((&plugin["generation"], &plugin["state"]), (&json!(1), &json!("active")));
    hub.publish("probe.echo", json!(null)).await;
    assert_eq!(hub.events_of("probed.echo", 2).await[1]["data"]["version"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_plugin_chooses_what_a_client_gets_and_its_params_are_checked() {
    let hub = TestHub::start().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    for (params, field) in [(r#"{"tag":1}"#, "params/tag"), (r#"{"tga":"x"}"#, "params"), ("[]", "params")] {
        let url = format!(
            "/v1/events?filter=urgent-only&params={}",
            params.replace('"', "%22").replace('{', "%7B").replace('}', "%7D")
        );
        let (status, problem) = hub.get(&url).await;
        assert_eq!(
            (status, &problem["code"], &problem["field"]),
            (400, &json!("filter.params"), &json!(field)),
            "{problem}"
        );
    }
    let mut urgent = Client::connect(&hub, "?filter=urgent-only&types=a").await;
    let mut calm = Client::connect(&hub, "?filter=urgent-only&types=a&params=%7B%22tag%22%3A%22calm%22%7D").await;
    for (index, tag) in ["urgent", "calm", "other", "urgent"].into_iter().enumerate() {
        hub.bus().publish(NewEvent::new("a").tag(tag).data(index).unwrap()).await.unwrap();
    }
    assert_eq!([urgent.next().await["data"].clone(), urgent.next().await["data"].clone()], [json!(0), json!(3)]);
    assert_eq!(calm.next().await["data"], json!(1));
}

/// However many clients ask the same question, the filter is asked once for each event.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_runs_once_for_each_event_and_question_not_for_each_client() {
    let hub = TestHub::start().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    let mut clients = Vec::new();
    for index in 0..20 {
        let params = if index % 2 == 0 { "" } else { "&params=%7B%22tag%22%3A%22x%22%7D" };
        clients.push(Client::connect(&hub, &format!("?types=a&filter=urgent-only{params}")).await);
    }
    until(|| hub.bus().stats().views == 2).await;
    for index in 0..50 {
        hub.bus().publish(NewEvent::new("a").tag("urgent").tag("x").data(index).unwrap()).await.unwrap();
    }
    for client in &mut clients {
        for index in 0..50 {
            assert_eq!(client.next_of("a").await["data"], json!(index));
        }
    }
    let (_, status) = hub.get("/v1/plugins/urgent-only").await;
    assert_eq!(status["calls"], json!(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_filter_guards_the_door() {
    let hub = TestHub::with(|config| {
        config.admission = vec![AdmissionConfig { filter: "urgent-only".into(), params: None }];
    })
    .await;
    let (status, problem) = hub.post("/v1/events", &json!({"type": "a", "metadata": {"tags": ["urgent"]}})).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("publish.rejected")),
        "nothing passes while the filter is not there"
    );
    hub.install("urgent-only", guest("urgent-only"), "").await;
    let (status, _) = hub.post("/v1/events", &json!({"type": "a", "metadata": {"tags": ["urgent"]}})).await;
    assert_eq!(status, 200);
    let both = json!([{"type": "a", "metadata": {"tags": ["urgent"]}}, {"type": "b"}]);
    let (status, problem) = hub.post("/v1/events", &both).await;
    assert_eq!((status, &problem["code"], &problem["index"]), (422, &json!("publish.rejected"), &json!(1)));
    let stats = hub.bus().stats();
    assert_eq!((stats.events_sent, stats.events_rejected.admission), (4, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_named_in_a_sidecar_stands_before_the_handler() {
    let hub = TestHub::start().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    hub.install("probe", probe(1), "filter = \"urgent-only\"\nfilter_params = { tag = \"now\" }").await;
    for tag in ["later", "now"] {
        hub.bus().publish(NewEvent::new("probe.echo").tag(tag).data(tag).unwrap()).await.unwrap();
    }
    assert_eq!(hub.events_of("probed.echo", 1).await[0]["data"]["data"], json!("now"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_links_and_things_that_are_no_files_are_refused_without_hanging() {
    let hub = TestHub::start().await;
    let plugins = hub.dir.path().join("plugins");
    std::fs::write(plugins.join("Not A Name.wasm"), b"x").unwrap();
    std::fs::create_dir(plugins.join("folder.wasm")).unwrap();
    std::fs::write(hub.dir.path().join("outside.wasm"), probe(1)).unwrap();
    std::os::unix::fs::symlink(hub.dir.path().join("outside.wasm"), plugins.join("link.wasm")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(plugins.join("pipe.wasm")).status().unwrap();
    assert!(made.success());
    for name in ["folder", "link", "pipe"] {
        let status = hub.plugin_until(name, |status| status["state"] == "failed").await;
        assert_eq!(status["last_error"]["code"], "load.io", "{status}");
    }
    let (_, list) = hub.get("/v1/plugins").await;
    assert!(list["refused"]["Not A Name.wasm"].is_string(), "{list}");
    // A link within the directory is how some deployments swap files.
    std::fs::create_dir(plugins.join("v1")).unwrap();
    std::fs::write(plugins.join("v1/inside"), probe(1)).unwrap();
    std::os::unix::fs::symlink("v1/inside", plugins.join("inside.wasm")).unwrap();
    hub.plugin_until("inside", |status| status["state"] == "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_may_be_removed_and_made_again() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let plugins = hub.dir.path().join("plugins");
    std::fs::remove_dir_all(&plugins).unwrap();
    hub.plugin_until("probe", |status| status["code"] == "plugin.unknown").await;
    std::fs::create_dir(&plugins).unwrap();
    hub.install("probe", probe(2), "").await;
    hub.publish("probe.echo", json!(null)).await;
    assert_eq!(hub.events_of("probed.echo", 1).await[0]["data"]["version"], json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_survives_a_reload() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.count", json!(null)).await;
    hub.events_of("probed.count", 1).await;
    hub.put("probe.wasm", probe(2));
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.publish("probe.count", json!(null)).await;
    let second = &hub.events_of("probed.count", 2).await[1];
    assert_eq!((&second["data"]["count"], &second["data"]["version"]), (&json!(2), &json!(2)));
}

/// 20,000 events while the plugin is replaced 50 times, good and bad versions in turn.
#[tokio::test(flavor = "multi_thread")]
async fn reloading_under_load_loses_nothing_doubles_nothing_and_keeps_the_order() {
    const EVENTS: u64 = 20_000;
    let hub = TestHub::with(|config| config.log.buffer_size = 65_536.try_into().unwrap()).await;
    hub.install("probe", probe(1), "order_by = \"seq\"\nisolation = \"reuse\"").await;
    let bus = hub.bus().clone();
    let publisher = tokio::spawn(async move {
        for index in 0..EVENTS {
            bus.publish(NewEvent::new("probe.echo").data(index).unwrap()).await.unwrap();
        }
    });
    for round in 0..50u32 {
        let good = round % 2 == 0;
        let (_, before) = hub.get("/v1/plugins/probe").await;
        hub.put("probe.wasm", if good { probe(round + 2) } else { b"broken".to_vec() });
        let changed = if good { "sha256" } else { "last_error" };
        hub.plugin_until("probe", |status| status[changed] != before[changed]).await;
    }
    within(publisher).await.unwrap();
    until(|| hub.bus().metrics().commits.get() == EVENTS).await;
    let handled = hub.events_of("probed.echo", EVENTS as usize).await;
    let data: Vec<u64> = handled.iter().map(|event| event["data"]["data"].as_u64().unwrap()).collect();
    assert_eq!(data, (0..EVENTS).collect::<Vec<_>>(), "each once, in order of seq");
    let versions: Vec<u64> = handled.iter().map(|event| event["data"]["version"].as_u64().unwrap()).collect();
    assert!(versions.windows(2).all(|pair| pair[0] <= pair[1]), "one version after the other");
    assert!(versions.last().unwrap() > versions.first().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_plugin_finishes_what_it_began() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    for index in 0..20 {
        hub.publish("probe.echo", json!(index)).await;
    }
    until(|| hub.bus().metrics().commits.get() > 0).await;
    hub.remove("probe.wasm");
    hub.events_of("plugin.removed", 1).await;
    until(|| hub.bus().stats().active_handlers == 0).await;
    let committed = hub.bus().metrics().commits.get();
    assert_eq!(hub.events_of("probed.echo", committed as usize).await.len() as u64, committed);
    assert!(hub.stop().await, "nobody waits for a plugin that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_does_not_come_back_with_a_fault_or_a_rollback() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry = { attempts = 1 }").await;
    hub.put("probe.wasm", probe(2));
    hub.plugin_until("probe", |status| status["generation"] == 2).await;
    hub.put("probe.toml", "retry = { attempts = 1 }\n[grants]\nkv = false");
    let status = hub.plugin_until("probe", |status| status["generation"] == 3).await;
    assert_eq!(status["granted"], json!(["log"]));
    hub.publish("probe.trap", json!(null)).await;
    hub.events_of("plugin.dead_letter", 1).await;
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&status["generation"], &status["granted"]), (&json!(3), &json!(["log"])), "the sidecar is on no trial");
    let (_, status) = hub.post("/v1/plugins/probe/rollback", &json!({})).await;
    assert_eq!((&status["generation"], &status["granted"]), (&json!(4), &json!(["log"])), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_hand_stands_whatever_faults_or_changes_in_the_sidecar() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.put("probe.wasm", probe(2));
    let second = hub.plugin_until("probe", |status| status["generation"] == 2).await;
    let (_, first) = hub.post("/v1/plugins/probe/rollback", &json!({})).await;
    assert_ne!(first["sha256"], second["sha256"]);
    hub.publish("probe.trap", json!(null)).await;
    hub.events_of("plugin.dead_letter", 1).await;
    hub.put("probe.toml", "concurrency = 2");
    let status = hub.plugin_until("probe", |status| status["concurrency"] == 2).await;
    assert_eq!((&status["sha256"], &status["state"]), (&first["sha256"], &json!("active")));
    let (_, status) = hub.post("/v1/plugins/probe/reload", &json!({})).await;
    assert_eq!(status["sha256"], second["sha256"], "asked for, it is loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_faults_each_time_it_is_tried_puts_nothing_in_quarantine() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.trap", json!(null)).await;
    assert_eq!(hub.events_of("plugin.dead_letter", 1).await[0]["data"]["attempts"], json!(5));
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&status["state"], &status["faults"]), (&json!("active"), &json!({"trap": 5})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_open_on_error_is_open_while_it_is_disabled() {
    let hub = TestHub::with(|config| {
        config.admission = vec![AdmissionConfig { filter: "urgent-only".into(), params: None }];
    })
    .await;
    hub.install("urgent-only", guest("urgent-only"), "on_error = \"open\"").await;
    assert_eq!(hub.post("/v1/events", &json!({"type": "a"})).await.0, 422);
    hub.post("/v1/plugins/urgent-only/disable", &json!({})).await;
    assert_eq!(hub.post("/v1/events", &json!({"type": "a"})).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_filter_is_away_waits_for_it_and_holds_nobody_up() {
    let hub = TestHub::start().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    hub.install("probe", probe(1), "filter = \"urgent-only\"").await;
    hub.post("/v1/plugins/urgent-only/disable", &json!({})).await;
    hub.bus().publish(NewEvent::new("probe.echo").tag("urgent")).await.unwrap();
    hub.post("/v1/plugins/urgent-only/enable", &json!({})).await;
    hub.events_of("probed.echo", 1).await;
    hub.post("/v1/plugins/urgent-only/disable", &json!({})).await;
    hub.bus().publish(NewEvent::new("probe.echo").tag("urgent")).await.unwrap();
    assert!(hub.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_another_try_does_not_hold_up_the_end() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "retry = { attempts = 100 }").await;
    hub.publish("probe.retry", json!(1_000)).await;
    until(|| hub.bus().metrics().handler_retries.get() >= 5).await;
    let metrics = hub.bus().metrics().clone();
    let began = std::time::Instant::now();
    assert!(hub.stop().await);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(metrics.handler_abandoned.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_removed_and_written_anew_is_replaced_not_removed() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "[grants]").await;
    hub.remove("probe.wasm");
    hub.remove("probe.toml");
    hub.get("/v1/plugins").await;
    hub.put("probe.toml", "[grants]\nkv = true");
    hub.put("probe.wasm", probe(2));
    let status = hub.plugin_until("probe", |status| status["granted"] == json!(["kv", "log"])).await;
    assert_eq!(status["state"], "active");
    assert!(hub.events().await.iter().all(|event| event["type"] != "plugin.removed"));
    hub.remove("probe.toml");
    std::os::unix::fs::symlink("nowhere", hub.dir.path().join("plugins/probe.toml")).unwrap();
    let status = hub.plugin_until("probe", |status| status["last_error"]["code"] == "load.io").await;
    assert_eq!(status["granted"], json!(["kv", "log"]), "a link to nothing is not the same as no sidecar");
}

/// I10: a sidecar that is missing, empty or unreadable grants nothing that the last one did not.
#[tokio::test(flavor = "multi_thread")]
async fn i10_the_last_good_sidecar_stays_in_force_while_there_is_no_other() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "[grants]").await;
    let file = hub.dir.path().join("plugins/probe.toml");
    let said = async |text: &str| {
        let holds = |status: &Value| status["last_error"]["message"].as_str().is_some_and(|said| said.contains(text));
        let status = hub.plugin_until("probe", holds).await;
        assert_eq!((&status["state"], &status["granted"]), (&json!("active"), &json!(["log"])), "{text}");
    };
    // As a shell does it for `generate > probe.toml`.
    std::fs::File::create(&file).unwrap();
    said("found an empty file").await;
    hub.put("probe.toml", b"\xff");
    said("not UTF-8").await;
    hub.remove("probe.toml");
    std::fs::create_dir(&file).unwrap();
    said("something else").await;
    std::fs::remove_dir(&file).unwrap();
    said("no sidecar, though there was one").await;
    // Nor does another file under it.
    hub.put("probe.wasm", probe(2));
    said("no sidecar, though there was one").await;
    hub.post("/v1/plugins/probe/reload", &json!(null)).await;
    let asked = hub.plugin_until("probe", |status| status["granted"] != json!(["log"])).await;
    assert_eq!(asked["state"], "active", "an operator asked for the defaults");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_first_sidecar_is_empty_is_not_loaded() {
    let hub = TestHub::start().await;
    hub.put("probe.toml", "\n");
    hub.put("probe.wasm", probe(1));
    let status = hub.plugin_until("probe", |status| status["state"] == "failed").await;
    assert_eq!(status["last_error"]["code"], "load.manifest");
}
