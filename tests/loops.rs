//! Loops between plugins end: chains of causes are short, little comes of one event, and nobody emits faster than allowed.

use crate::{
    guests::probe,
    hub::{TestHub, until, within},
};
use busway::{
    event::{Event, NewEvent},
    journal::{self, JournalConfig},
    log::{CommitError, Log, LogConfig, MAX_DESCENDANTS},
};
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tempfile::tempdir;

fn of(types: &str) -> String {
    format!("subscriptions = [{{ event_types = [{types}] }}]\n")
}

fn chain(event: &Value) -> Vec<u64> {
    event["metadata"]["chain"].as_array().into_iter().flatten().map(|seq| seq.as_u64().unwrap()).collect()
}

/// The event and its ancestors, as a message names them.
fn way(event: &Value) -> String {
    let seqs = chain(event).into_iter().chain(event["seq"].as_u64());
    seqs.map(|seq| seq.to_string()).collect::<Vec<_>>().join(" → ")
}

/// Each event's chain is its cause's and the cause, as long as it has gone through hops.
fn check_chains(events: &[Value]) {
    let by_id: HashMap<&Value, &Value> = events.iter().map(|event| (&event["metadata"]["event_id"], event)).collect();
    for event in events {
        let mut expected = Vec::new();
        if let Some(cause) = by_id.get(&event["metadata"]["causation_id"]) {
            expected = chain(cause);
            expected.push(cause["seq"].as_u64().unwrap());
        }
        assert_eq!((chain(event), event["metadata"].get("chain").is_some()), (expected.clone(), !expected.is_empty()));
        assert_eq!(event["metadata"]["hops"], json!(expected.len()), "{event}");
    }
}

/// How many events plugins have made of one.
fn descendants(events: &[Value], root: u64) -> usize {
    let emitted = |event: &&Value| event["metadata"]["source"].as_str().is_some_and(|by| by.starts_with("plugin/"));
    events.iter().filter(emitted).filter(|event| chain(event).first() == Some(&root)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_that_trigger_each_other_end_with_a_dead_letter_that_shows_the_way_around() {
    let hub = TestHub::durable(tempdir().unwrap(), |_| ()).await;
    hub.install("ping", probe(1), &of("\"probe.ping\"")).await;
    hub.install("pong", probe(1), &of("\"probe.pong\"")).await;
    let root = hub.publish("probe.ping", json!(null)).await;
    hub.events_of("plugin.dead_letter", 1).await;
    let events = hub.events().await;
    check_chains(&events);
    assert_eq!(descendants(&events, root), 16);
    let letters = async |hub: &TestHub| hub.get("/v1/dead-letters").await.1["dead_letters"].as_array().unwrap().clone();
    let before = letters(&hub).await.remove(0);
    assert_eq!(
        (&before["plugin"], &before["code"], chain(&before["event"]).len()),
        (&json!("ping"), &json!("loop"), 16)
    );
    let message = before["message"].as_str().unwrap();
    assert!(message.contains(&format!("from event {root} on")), "{message}");
    assert!(message.ends_with(&format!("the chain: {}", way(&before["event"]))), "{message}");
    // The chain stays what it was, in the log and in the letter, also across a restart and a replay.
    let hub = hub.restart().await;
    assert_eq!(hub.events().await[..events.len()], events[..]);
    hub.post("/v1/dead-letters/replay", &json!({"all": true})).await;
    until(|| hub.bus().metrics().dead_letters.get() == 1).await;
    let after = letters(&hub).await.remove(0);
    assert_eq!((&after["event"], &after["message"]), (&before["event"], &before["message"]));
    assert_ne!(after["id"], before["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fans_out_stops_at_a_thousand_descendants_and_its_neighbour_loses_nothing() {
    for memory in [true, false] {
        let hub = TestHub::in_dir(tempdir().unwrap(), |config| config.journal.memory = memory).await;
        hub.install("fan", probe(1), &of("\"probe.fan\", \"probe.kv\"")).await;
        hub.install("near", probe(1), &of("\"probe.echo\"")).await;
        let root = hub.publish("probe.fan", json!(10)).await;
        for _ in 0..200 {
            hub.publish("probe.echo", json!(null)).await;
        }
        // A hundred calls made ten each; the others were refused.
        until(|| hub.bus().metrics().dead_letters.get() == 901).await;
        hub.publish("probe.kv", json!(null)).await;
        let remembered = hub.events_of("probed.kv", 1).await;
        assert_eq!(remembered[0]["data"], json!(100), "what a refused call wrote is not there");
        assert_eq!(hub.events_of("probed.echo", 200).await.len(), 200);
        let events = hub.events().await;
        check_chains(&events);
        assert_eq!((MAX_DESCENDANTS, descendants(&events, root)), (1_000, 1_000));
        let told = hub.events_of("plugin.dead_letter", 901).await;
        let dead: HashMap<&Value, &Value> = events.iter().map(|event| (&event["seq"], event)).collect();
        for letter in &told {
            let (data, event) = (&letter["data"], dead[&letter["data"]["seq"]]);
            let message = data["message"].as_str().unwrap();
            assert_eq!((&data["plugin"], &data["code"], &data["attempts"]), (&json!("fan"), &json!("loop"), &json!(1)));
            assert!(message.starts_with(&format!("event {root} would have 1010 descendants")), "{message}");
            assert!(message.ends_with(&format!("the chain: {}", way(event))), "{message}");
        }
        let (_, status) = hub.get("/v1/plugins/fan").await;
        assert_eq!((&status["state"], &status["faults"]), (&json!("active"), &json!({"loop": 901})), "{status}");
        assert_eq!((&status["last_error"]["code"], &status["calls"]), (&json!("loop"), &status["ok"]), "{status}");
        assert_eq!(hub.get("/v1/plugins/near").await.1["faults"], json!({}));
        assert_eq!(hub.bus().metrics().commit_loops.get(), 901);
        if !memory {
            let (_, page) = hub.get("/v1/dead-letters?code=loop&limit=1000").await;
            assert_eq!(page["dead_letters"].as_array().unwrap().len(), 901);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_root_has_a_budget_of_its_own() {
    let hub = TestHub::start().await;
    hub.install("fan", probe(1), "").await;
    for round in 1..=2 {
        let root = hub.publish("probe.fan", json!(40)).await;
        // 25 calls made forty each.
        until(|| hub.bus().metrics().dead_letters.get() == round * 976).await;
        assert_eq!(descendants(&hub.events().await, root), 1_000);
    }
    hub.publish("probe.echo", json!(null)).await;
    hub.events_of("probed.echo", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_a_chain() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let forged = json!({"type": "probe.echo", "data": {"chain": [1]},
        "metadata": {"hops": 3, "chain": [1, 2, 3], "extensions": {"chain": [4]}}});
    let (status, answer) = hub.post("/v1/events", &forged).await;
    assert_eq!(status, 200, "{answer}");
    let seq = answer["events"][0]["seq"].as_u64().unwrap();
    let echo = hub.events_of("probed.echo", 1).await.remove(0);
    assert_eq!((chain(&echo), &echo["metadata"]["hops"]), (vec![seq], &json!(1)));
    check_chains(&hub.events().await);
}

/// What was not written was not brought about.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_did_not_take_does_not_count() {
    let dir = tempdir().unwrap();
    let config = JournalConfig { dir: dir.path().to_owned(), ..JournalConfig::default() };
    let (opened, _) = journal::open(&config, (Duration::from_secs(1), 0), Arc::default()).unwrap();
    let log = Log::on_journal(&LogConfig::default(), Arc::default(), opened).unwrap();
    let commit = async |root: u64, count: usize| {
        let event = || {
            let mut event = NewEvent::new("a").admit().unwrap();
            (event.metadata.hops, event.metadata.chain) = (1, vec![root]);
            Arc::<Event>::new(event)
        };
        let events = std::iter::repeat_with(event).take(count).collect();
        let mut committer = log.committer();
        assert!(committer.commit(events, Vec::new()));
        within(committer.result()).await
    };
    assert_eq!(commit(1, 400).await, Ok(()));
    let disk = rusqlite::Connection::open(dir.path().join(journal::FILE)).unwrap();
    disk.execute_batch("CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    for _ in 0..3 {
        let refused = commit(1, 600).await;
        assert!(matches!(refused, Err(CommitError::Journal(_))), "{refused:?}");
    }
    disk.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(commit(1, 600).await, Ok(()));
    assert_eq!(commit(1, 1).await, Err(CommitError::Loop { root: 1, descendants: 1_001 }));
    assert_eq!((commit(2, 1_000).await, log.head()), (Ok(()), 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_over_its_rate_waits_and_loses_nothing_and_nobody_else_waits() {
    let hub = TestHub::start().await;
    let manifest = of("\"probe.emit\"") + "concurrency = 1\n[limits]\nemit_rate = 20\n";
    let status = hub.install("slow", probe(1), &manifest).await;
    assert_eq!(status["limits"]["emit_rate"], 20);
    let status = hub.install("near", probe(1), &of("\"probe.echo\"")).await;
    assert_eq!((&status["limits"]["emit_rate"], &status["limits"]["deadline_ms"]), (&json!(10_000), &json!(100)));
    let events = vec![NewEvent::new("probe.emit").data(30).unwrap(); 3];
    hub.bus().publish_all(events).await.unwrap();
    hub.plugin_until("slow", |status| status["emit_waits"] == 1).await;
    hub.publish("probe.echo", json!(null)).await;
    hub.events_of("probed.echo", 1).await;
    assert_eq!(hub.events_of("probed.emit", 90).await.len(), 90);
    // Before the second call and before the third.
    let (_, slow) = hub.get("/v1/plugins/slow").await;
    assert_eq!((&slow["emit_waits"], &slow["ok"], &slow["faults"]), (&json!(2), &json!(3), &json!({})), "{slow}");
    assert_eq!(hub.get("/v1/plugins/near").await.1["emit_waits"], 0);
    let (_, metrics) = hub.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("busway_plugin_emit_waits_total{plugin=\"slow\"} 2\n"), "{metrics}");
    assert_eq!(hub.bus().metrics().dead_letters.get(), 0);
}

/// It would take minutes at its rate.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_does_not_wait_for_a_plugin_over_its_rate_and_loses_nothing() {
    let hub = TestHub::with(|config| config.journal.memory = true).await;
    hub.install("slow", probe(1), "concurrency = 1\n[limits]\nemit_rate = 1\n").await;
    let events = vec![NewEvent::new("probe.emit").data(60).unwrap(); 4];
    hub.bus().publish_all(events).await.unwrap();
    hub.plugin_until("slow", |status| status["emit_waits"] == 1).await;
    let bus = hub.bus().clone();
    assert!(hub.stop().await);
    assert_eq!((bus.metrics().events_emitted.get(), bus.metrics().handler_abandoned.get()), (240, 0));
}
