//! Calls of handlers give up their place before their commit is on disk: what they did is true
//! once, in order, whatever becomes of the round that it was in.

use crate::{
    faults::program::Place,
    guests::probe,
    hub::{TestHub, until, within},
};
use serde_json::{Value, json};
use std::fs;

/// One at a time, and many at once that all write the same key.
const MANIFESTS: [&str; 2] = ["order_by = \"seq\"", "concurrency = 8"];

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// What the counting handler published: the count, and the seq of the event that was counted.
fn counted(events: &[Value]) -> Vec<(u64, u64)> {
    let counts = events.iter().filter(|event| event["type"] == "probed.count");
    counts.map(|event| (number(&event["data"]["count"]), number(&event["data"]["of"]))).collect()
}

#[track_caller]
fn assert_each_once_and_in_order(counts: &[(u64, u64)], published: usize, is_ordered: bool, what: &str) {
    let numbers: Vec<u64> = counts.iter().map(|(count, _)| *count).collect();
    assert_eq!(
        numbers,
        (1..=published as u64).collect::<Vec<_>>(),
        "{what}: counts without gap or repetition, in order"
    );
    let mut of: Vec<u64> = counts.iter().map(|(_, of)| *of).collect();
    assert!(!is_ordered || of.is_sorted(), "{what}: the events in order");
    of.sort_unstable();
    of.dedup();
    assert_eq!(of.len(), published, "{what}: each event once");
}

async fn publish(hub: &TestHub, count: usize) {
    let events = vec![json!({"type": "probe.count"}); count];
    let (status, answer) = hub.post("/v1/events", &json!(events)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_fails_takes_all_calls_with_it_that_rest_on_it_and_each_is_handled_once() {
    for manifest in MANIFESTS {
        let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
        hub.install("probe", probe(1), manifest).await;
        let file = rusqlite::Connection::open(hub.dir.path().join("data/busway.db")).unwrap();
        let trigger = "CREATE TRIGGER no BEFORE INSERT ON kv WHEN CAST(NEW.value AS INTEGER) >= 100
                       BEGIN SELECT RAISE(ABORT, 'no'); END";
        file.execute_batch(trigger).unwrap();
        publish(&hub, 600).await;
        let metrics = hub.bus().metrics().clone();
        until(|| metrics.handler_rolled_back.get() > 0).await;
        // Nobody has seen anything of it.
        assert!(counted(&hub.events().await).iter().all(|(count, _)| *count < 100), "{manifest}");
        file.execute_batch("DROP TRIGGER no").unwrap();
        let counts = counted(&hub.events_of("probed.count", 600).await);
        assert_each_once_and_in_order(&counts, 600, manifest == MANIFESTS[0], manifest);
        until(|| metrics.handler_uncommitted.get() == 0).await;
        assert_eq!(metrics.handler_uncommitted_bytes.get(), 0, "{manifest}");
        let (_, status) = hub.get("/v1/plugins/probe").await;
        assert_eq!(status["faults"], json!({}), "{manifest}: {status}");
        assert_eq!(metrics.dead_letters.get(), 0, "{manifest}");
        assert_eq!(metrics.events_processed.get(), 600, "{manifest}");
    }
}

/// More than may come of one event: that call's event is dead,
/// and those that rest on it are handled as if it had never been.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_refused_alone_takes_with_it_what_rests_on_it() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.install("probe", probe(1), "order_by = \"seq\"").await;
    let mut events = vec![json!({"type": "probe.count"}); 50];
    // Each of them brings about 40 more, up to 1,000; each call counts as well.
    events.push(json!({"type": "probe.fan", "data": 40}));
    events.extend(vec![json!({"type": "probe.count"}); 50]);
    let (status, answer) = hub.post("/v1/events", &json!(events)).await;
    assert_eq!(status, 200, "{answer}");
    let metrics = hub.bus().metrics().clone();
    hub.events_of("probed.count", 100).await;
    until(|| metrics.dead_letters.get() > 0).await;
    // All of the fan that there may be has been handled, and what would have been more is dead.
    let handled = || metrics.events_processed.get();
    within(async {
        while handled() < 101 + metrics.events_emitted.get() - 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    hub.publish("probe.count", json!(null)).await;
    let all = hub.events_of("probed.count", 101).await;
    let fans = hub.events().await.iter().filter(|event| event["type"] == "probe.fan").count() as u64;
    let counts = counted(&all);
    let done = fans - metrics.dead_letters.get();
    assert!(counts.iter().map(|(count, _)| *count).is_sorted(), "{counts:?}");
    assert_eq!(
        counts.last().map(|(count, _)| *count),
        Some(101 + done),
        "calls that were refused have counted nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_handler_does_not_wait_for_the_disk_between_events() {
    let place = Place::new("");
    fs::write(place.plugins().join("probe.wasm"), probe(1)).unwrap();
    fs::write(place.plugins().join("probe.toml"), MANIFESTS[0]).unwrap();
    let program = place.start().await;
    program.until("/v1/plugins/probe", |_, status| status["state"] == "active").await;
    let transactions = async || {
        let (_, metrics) = program.get("/metrics").await;
        let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with("busway_journal_commits_total "));
        line.unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    place.fail("slow");
    let before = transactions().await;
    let (status, answer) = program.publish(&json!(vec![json!({"type": "probe.count"}); 500])).await;
    assert_eq!(status, 200, "{answer}");
    within(async { while counted(&program.events().await).len() < 500 {} }).await;
    let made = transactions().await - before;
    place.heal("slow");
    // One for each call is what it would take otherwise.
    assert!(made < 250, "{made} transactions for 500 calls");
    let counts = counted(&program.events().await);
    assert_each_once_and_in_order(&counts, 500, true, "a slow disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_of_deep_pipelines_lose_nothing_and_do_nothing_twice() {
    for manifest in MANIFESTS {
        let place = Place::new("");
        fs::write(place.plugins().join("probe.wasm"), probe(1)).unwrap();
        fs::write(place.plugins().join("probe.toml"), format!("{manifest}\nstart = \"earliest\"")).unwrap();
        // So that many calls are finished and not on disk at any time.
        place.fail("slow");
        let mut published = 0;
        for _ in 0..5 {
            let program = place.start().await;
            program.until("/v1/plugins/probe", |_, status| status["state"] == "active").await;
            let before = counted(&program.events().await).len();
            let (status, answer) = program.publish(&json!(vec![json!({"type": "probe.count"}); 300])).await;
            assert_eq!(status, 200, "{answer}");
            published += 300;
            // Some of it is there, and most is on its way.
            within(async { while counted(&program.events().await).len() <= before {} }).await;
            program.kill().await;
        }
        place.heal("slow");
        let program = place.start().await;
        within(async { while counted(&program.events().await).len() < published {} }).await;
        let counts = counted(&program.events().await);
        assert_each_once_and_in_order(&counts, published, manifest == MANIFESTS[0], manifest);
        program.end().await;
    }
}
