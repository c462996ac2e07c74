//! Plugins that are within their own limits each, and together would be too much for the hub.

use super::{
    cases::POLL,
    guest::{Guest, OK, RET},
};
use crate::{guests::probe, hub::TestHub};
use serde_json::{Value, json};

const TOTAL: usize = 64 << 20;

async fn hub() -> TestHub {
    let hub = TestHub::with(|config| config.plugins.max_total_memory = TOTAL).await;
    hub.install("good", probe(2), "subscriptions = [{ event_types = [\"probe.echo\"] }]").await;
    hub
}

fn wasm(guest: &Guest) -> Vec<u8> {
    wat::parse_str(guest.wat()).unwrap()
}

async fn held(hub: &TestHub, name: &str) -> usize {
    hub.get(&format!("/v1/plugins/{name}")).await.1["memory_held"].as_u64().unwrap() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_for_the_hub_is_a_memory_fault_and_the_neighbour_loses_nothing() {
    const CALLS: usize = 4;
    const GREEDY: [&str; 3] = ["one", "two", "three"];
    let hub = hub().await;
    // Of 20 MiB each, two fit: a plugin's second is more than it would leave, and the third plugin's first too.
    let body = format!(
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 320))) (then unreachable))
         (i32.store (i32.const 512) (call $after (i64.const 3600000000000)))
         (call $wait (i32.const 512) (i32.const 1) {RET}) {OK}"
    );
    let wasm = wasm(&Guest { more: POLL, ..Guest::handler(body) });
    let manifest = "concurrency = 4\nretry.attempts = 1\nlimits.deadline = \"2s\"\n\
                    subscriptions = [{ event_types = [\"task.created\"] }]";
    for name in GREEDY {
        hub.install(name, &wasm, manifest).await;
    }
    for _ in 0..CALLS {
        hub.publish("task.created", json!(null)).await;
    }
    let is_refused = |event: &&Value| event["type"] == "plugin.dead_letter" && event["data"]["code"] == "memory";
    let refused = |events: &[Value]| events.iter().filter(is_refused).count();
    hub.events_until(|events| refused(events) >= GREEDY.len() * CALLS - 2).await;
    // What there is is taken, and stays so until the time of those who have it is over.
    for index in 0..50 {
        hub.publish("probe.echo", json!(index)).await;
    }
    hub.events_of("probed.echo", 50).await;
    let letters = hub.events_of("plugin.dead_letter", GREEDY.len() * CALLS).await;
    for letter in letters.iter().map(|letter| &letter["data"]) {
        let message = letter["message"].as_str().unwrap();
        match letter["code"].as_str().unwrap() {
            "deadline" => {}
            "memory" => assert!(message.contains("the hub's total of 67108864 bytes for all plugins"), "{message}"),
            code => panic!("{code}: {message}"),
        }
    }
    for name in GREEDY {
        hub.plugin_until(name, |status| status["memory_held"] == 0).await;
    }
    let (_, good) = hub.get("/v1/plugins/good").await;
    assert_eq!((&good["faults"], &good["ok"]), (&json!({}), &json!(50)), "{good}");
    assert!(hub.metric("busway_plugin_memory_refusals_total").await >= 10);
    assert_eq!(hub.metric("busway_plugin_memory_limit_bytes").await, TOTAL as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_wait_for_a_call_have_no_more_than_half_and_give_it_back() {
    const PLUGINS: [&str; 4] = ["one", "two", "three", "four"];
    let hub = hub().await;
    let guest = Guest {
        fields: "(global $grown (mut i32) (i32.const 0))",
        ..Guest::handler(format!(
            "(if (i32.eqz (global.get $grown)) (then
               (if (i32.eq (i32.const -1) (memory.grow (i32.const 192))) (then unreachable))
               (global.set $grown (i32.const 1)))) {OK}"
        ))
    };
    let manifest = "isolation = \"reuse\"\nlimits.deadline = \"10s\"\nretry.attempts = 1\nsubscriptions = [{ event_types = [\"task.created\"] }]";
    for name in PLUGINS {
        hub.install(name, wasm(&guest), manifest).await;
        // Those before it, too, one after the other.
        hub.publish("task.created", json!(null)).await;
        hub.plugin_until(name, |status| status["ok"] == 1).await;
    }
    let mut sum = 0;
    for (index, name) in PLUGINS.into_iter().enumerate() {
        let calls = (PLUGINS.len() - index) as u64;
        let status = hub.plugin_until(name, |status| status["calls"] == calls).await;
        assert_eq!((&status["faults"], &status["ok"]), (&json!({}), &json!(calls)), "{status}");
        sum += held(&hub, name).await;
    }
    assert!((12 << 20..=TOTAL / 2).contains(&sum), "{sum}");
    for name in PLUGINS {
        hub.post(&format!("/v1/plugins/{name}/disable"), &json!({})).await;
        hub.plugin_until(name, |status| status["memory_held"] == 0).await;
    }
}
