//! Real input: the 329 GitHub webhook payloads of the npm package `@octokit/webhooks-examples`, as `make webhooks` fetches them.

use crate::{
    client::Client,
    guests::guest,
    hub::{TestHub, until},
};
use serde_json::Value;

fn payloads() -> Vec<Value> {
    let file = concat!(env!("TARGET_DIR"), "/webhooks.jsonl");
    let text = std::fs::read_to_string(file).expect("`make webhooks` has fetched them");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_webhooks_arrive_all_in_order_with_their_text_intact_and_the_digests_are_right() {
    let events = payloads();
    assert_eq!(events.len(), 329);
    let hub = TestHub::start().await;
    let manifest = include_str!("../plugins/github-digest/plugin.toml");
    hub.install("github-digest", guest("github-digest"), &format!("order_by = \"seq\"\n{manifest}")).await;
    let mut client = Client::connect(&hub, "?types=github.*&exclude_tags=digest").await;
    for batch in events.chunks(20) {
        let (status, answer) = hub.post("/v1/events", &Value::from(batch.to_vec())).await;
        assert_eq!(status, 200, "{answer}");
    }
    for expected in &events {
        let got = client.next().await;
        assert_eq!((&got["type"], &got["data"]), (&expected["type"], &expected["data"]));
    }
    until(|| hub.bus().metrics().commits.get() == 329).await;
    let digests = hub.events_of("github.digest", 329).await;
    for (digest, event) in digests.iter().zip(&events) {
        let (digest, payload) = (&digest["data"], &event["data"]);
        assert_eq!(format!("github.{}", digest["event"].as_str().unwrap()), event["type"].as_str().unwrap());
        assert_eq!(digest["action"], payload["action"]);
        assert_eq!(digest["actor"], payload["sender"]["login"]);
        if payload["repository"]["full_name"].is_string() {
            assert_eq!(digest["repo"], payload["repository"]["full_name"]);
        }
        assert!(!digest["text"].as_str().unwrap().is_empty());
    }
    assert_eq!(hub.bus().stats().handler_errors, 0);
}
