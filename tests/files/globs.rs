//! Plugins and clients that ask for as much comparing as they
//! may: others are served as before, and what is more is refused.

use super::Beside;
use crate::{
    client::Client,
    hostile::guest::{Guest, OK},
    hub::TestHub,
};
use serde_json::{Value, json};

/// Each needs four words, the most that a glob can, and
/// matches no event of the test before its last character.
fn dear(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("*{}{n:04}", "?".repeat(250))).collect()
}

fn handler(globs: usize) -> Vec<u8> {
    let globs: Vec<&'static str> = dear(globs).into_iter().map(|glob| &*glob.leak()).collect();
    wat::parse_str(Guest { event_types: globs.leak(), ..Guest::handler(OK) }.wat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_and_clients_with_as_many_and_as_dear_globs_as_they_may_have_leave_the_others_served() {
    const EVENTS: usize = 300;
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    for name in ["dear-1", "dear-2"] {
        hub.install(name, handler(64), "").await;
    }
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&hub, "?types=none").await;
        let filter = json!({"event_types": dear(64), "source_patterns": dear(64)});
        client.ask(json!({"op": "subscribe", "filter": filter}), "subscribed").await;
        clients.push(client);
    }
    let long: Vec<Value> =
        (0..EVENTS).map(|_| json!({"type": "x".repeat(255), "metadata": {"source": "y".repeat(255)}})).collect();
    for events in long.chunks(50) {
        let (status, answer) = hub.post("/v1/events", &json!(events)).await;
        assert_eq!(status, 200, "{answer}");
        beside.publish(&hub).await;
        assert_eq!(hub.get("/healthz").await.0, 200);
    }
    beside.lost_nothing(&hub).await;
    for name in ["dear-1", "dear-2"] {
        let head = hub.bus().log().head();
        // It has compared every event, and was called with none.
        let status = hub.plugin_until(name, |status| status["done"].as_u64() >= Some(head)).await;
        assert_eq!((&status["state"], &status["calls"]), (&json!("active"), &json!(0)), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_that_is_an_error_of_the_file_the_sidecar_or_the_client() {
    let hub = TestHub::start().await;
    let error_of = async |name: &str| {
        let status = hub.plugin_until(name, |status| status["last_error"].is_object()).await;
        status["last_error"]["code"].clone()
    };
    hub.put("file.wasm", handler(65));
    assert_eq!(error_of("file").await, "load.describe");
    let list = dear(65).iter().map(|glob| format!("\"{glob}\", ")).collect::<String>();
    for (name, sidecar) in [
        ("subscribing", format!("[[subscriptions]]\nevent_types = [{list}]\n")),
        ("publishing", format!("[grants]\npublish = [{list}]\n")),
        ("configured", format!("[grants]\nconfig = [{list}]\n")),
    ] {
        hub.put(&format!("{name}.toml"), sidecar);
        hub.put(&format!("{name}.wasm"), handler(1));
        assert_eq!(error_of(name).await, "load.manifest", "{name}");
    }
    let mut client = Client::connect(&hub, "?types=none").await;
    let refused = client.ask(json!({"op": "subscribe", "filter": {"event_types": dear(65)}}), "error").await;
    assert_eq!(refused["code"], "filter.work", "{refused}");
}
