//! With a journal nothing is lost: neither events nor what handlers made of them, across restarts.

use crate::{
    client::Client,
    guests::{guest, probe},
    hub::{TestHub, until, within},
};
use busway::{
    config::Config,
    event::{Event, NewEvent},
    hub::Hub,
    journal::{self, Change, JournalConfig, Select},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::tempdir;

async fn durable() -> TestHub {
    TestHub::durable(tempdir().unwrap(), |_| ()).await
}

#[tokio::test]
async fn after_a_restart_numbering_epoch_and_events_are_as_they_were() {
    let hub = durable().await;
    for index in 0..5 {
        hub.publish("a", json!(index)).await;
    }
    let (epoch, before) = (hub.bus().log().epoch(), hub.events().await);
    let hub = hub.restart().await;
    assert_eq!((hub.bus().log().epoch(), hub.events().await), (epoch, before));
    assert_eq!(hub.publish("a", json!(5)).await, 6);
    let hub = hub.restart().await;
    assert_eq!(hub.publish("a", json!(6)).await, 7);
}

#[tokio::test]
async fn every_part_of_an_event_comes_back_as_it_was() {
    let hub = durable().await;
    let event = r#"{"type":"task.créé","data":{"n":1.10,"t":"\u00e9\n"},"metadata":{"event_id":"x","timestamp":"1969-12-31T23:59:59.999999Z",
        "correlation_id":"c","source":"s","tags":["a","ü"],"causation_id":"p","extensions":{"traceparent":"00-1"}}}"#;
    assert_eq!(hub.post_text("/v1/events", event).await.0, 200);
    assert_eq!(hub.post_text("/v1/events", r#"{"type":"bare"}"#).await.0, 200);
    let before = hub.events().await;
    assert_eq!(before.len(), 2);
    assert_eq!(hub.restart().await.events().await, before);
}

#[tokio::test]
async fn a_client_resumes_across_a_restart_without_gap_or_seam() {
    let hub = durable().await;
    for index in 1..=3_000 {
        hub.bus().try_publish(NewEvent::new("n").data(index).unwrap()).unwrap();
    }
    let hub = hub.restart().await;
    let epoch = hub.bus().log().epoch();
    let mut client = Client::connect(&hub, &format!("?from=100&epoch={epoch}&types=n")).await;
    for index in 3_001..=4_000 {
        hub.bus().try_publish(NewEvent::new("n").data(index).unwrap()).unwrap();
    }
    for seq in 100..=4_000 {
        assert_eq!(client.next_of("n").await["data"], json!(seq));
    }
}

#[tokio::test]
async fn what_a_plugin_remembers_and_where_it_stands_survives_a_restart() {
    let hub = durable().await;
    hub.install("probe", probe(1), "[grants]\nkv = true\npublish = [\"probed.*\"]\n").await;
    for _ in 0..3 {
        hub.publish("probe.count", json!(null)).await;
    }
    hub.events_of("probed.count", 3).await;
    let hub = hub.restart().await;
    hub.publish("probe.count", json!(null)).await;
    let counts = hub.events_of("probed.count", 4).await;
    let counts: Vec<&Value> = counts.iter().map(|event| &event["data"]["count"]).collect();
    assert_eq!(counts, [1, 2, 3, 4]);
    let hub = hub.restart().await;
    assert_eq!(hub.events_of("probed.count", 4).await.len(), 4, "nothing is handled twice");
}

#[tokio::test]
async fn a_retry_goes_on_after_a_restart_where_it_was() {
    let hub = durable().await;
    hub.install("probe", probe(1), "[grants]\nkv = true\npublish = [\"probed.*\"]\n").await;
    hub.publish("probe.retry", json!(5)).await;
    hub.plugin_until("probe", |status| status["failures"]["retry"].as_u64() >= Some(2)).await;
    let hub = hub.restart().await;
    let handled = hub.events_of("probed.retry", 1).await;
    assert_eq!(handled[0]["data"], json!({ "attempt": 5 }));
}

#[tokio::test]
async fn what_an_operator_disabled_stays_disabled() {
    let hub = durable().await;
    hub.install("probe", probe(1), "").await;
    assert_eq!(hub.post("/v1/plugins/probe/disable", &json!({})).await.0, 200);
    let hub = hub.restart().await;
    assert_eq!(hub.get("/v1/plugins/probe").await.1["state"], "disabled");
    hub.publish("probe.count", json!(null)).await;
    assert_eq!(hub.post("/v1/plugins/probe/enable", &json!({})).await.0, 200);
    // It was published while the plugin was out of service, and waited for it.
    hub.events_of("probed.count", 1).await;
}

#[tokio::test]
async fn an_event_published_again_is_acknowledged_with_the_first_ones_seq_and_stored_once() {
    let hub = durable().await;
    let event = |id: &str| json!({"type": "a", "metadata": {"event_id": id, "source": "s"}});
    let batch = json!([event("1"), event("2"), event("1")]);
    let (_, first) = hub.post("/v1/events", &batch).await;
    let seqs = |answer: &Value| -> Vec<(Value, Value)> {
        let of = |receipt: &Value| (receipt["seq"].clone(), receipt["duplicate"].clone());
        answer["events"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(seqs(&first), [(json!(1), Value::Null), (json!(2), Value::Null), (json!(1), json!(true))]);
    let hub = hub.restart().await;
    let (_, again) = hub.post("/v1/events", &json!([event("2"), event("3")])).await;
    assert_eq!(seqs(&again), [(json!(2), json!(true)), (json!(3), Value::Null)]);
    let other_source = json!({"type": "a", "metadata": {"event_id": "1", "source": "t"}});
    assert_eq!(seqs(&hub.post("/v1/events", &other_source).await.1), [(json!(4), Value::Null)]);
    assert_eq!(hub.events().await.len(), 4);
}

#[tokio::test]
async fn a_second_hub_on_the_same_directory_is_refused_with_the_firsts_pid() {
    let hub = durable().await;
    let mut config = Config::default();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.plugins.dir = hub.dir.path().join("other-plugins");
    config.journal.dir = hub.dir.path().join("data");
    let error = within(Hub::start(config)).await.err().expect("two are not started").to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn retention_removes_the_oldest_and_says_what_is_left() {
    let hub = TestHub::durable(tempdir().unwrap(), |config| {
        config.journal.max_events = 100;
        config.log.buffer_size = 10.try_into().unwrap();
    })
    .await;
    for index in 1..=5_000 {
        hub.bus().publish(NewEvent::new("n").data(index).unwrap()).await.unwrap();
    }
    until(|| hub.bus().log().oldest() == 4_901).await;
    let (_, page) = hub.get("/v1/events?from=1&limit=1000").await;
    assert_eq!((&page["missed"], &page["oldest"]), (&json!({"from": 1, "to": 4_900}), &json!(4_901)));
    assert_eq!(page["events"].as_array().unwrap().len(), 100);
    let hub = hub.restart().await;
    assert_eq!((hub.bus().log().oldest(), hub.publish("n", json!(1)).await), (4_901, 5_001));
}

#[tokio::test]
async fn retention_waits_for_a_handler_that_is_behind() {
    let few = |config: &mut Config| config.journal.max_events = 10;
    let hub = TestHub::durable(tempdir().unwrap(), few).await;
    hub.install("probe", probe(1), "").await;
    hub.post("/v1/plugins/probe/disable", &json!({})).await;
    for _ in 0..200 {
        hub.bus().publish(NewEvent::new("probe.count")).await.unwrap();
    }
    let hub = TestHub::durable(hub.end().await, few).await;
    hub.publish("n", json!(1)).await;
    hub.post("/v1/plugins/probe/enable", &json!({})).await;
    // Each was counted once: none was missing, none came twice.
    let is_last = |event: &Value| event["data"]["count"] == json!(200);
    hub.events_until(|events| events.iter().any(is_last)).await;
    until(|| hub.bus().log().oldest() == hub.bus().log().head() - 9).await;
}

#[tokio::test]
async fn a_handler_that_falls_behind_reads_from_the_journal_and_misses_nothing() {
    let small = |config: &mut Config| config.log.buffer_size = 16.try_into().unwrap();
    let hub = TestHub::durable(tempdir().unwrap(), small).await;
    hub.install("probe", probe(1), "order_by = \"seq\"").await;
    hub.post("/v1/plugins/probe/disable", &json!({})).await;
    for _ in 0..50 {
        let events = vec![NewEvent::new("probe.count"); 60];
        hub.bus().publish_all(events).await.unwrap();
    }
    hub.post("/v1/plugins/probe/enable", &json!({})).await;
    let last =
        hub.events_until(|events| events.last().is_some_and(|event| event["data"]["count"] == json!(3_000))).await;
    let of: Vec<u64> = last.iter().filter_map(|event| event["data"]["of"].as_u64()).collect();
    assert!(of.len() == 3_000 && of.is_sorted(), "each once, in order");
    assert_eq!(hub.bus().stats().events_missed, 0);
}

#[tokio::test]
async fn what_fails_for_good_is_kept_as_a_dead_letter_and_holds_up_nobody() {
    let hub = durable().await;
    hub.install("probe", probe(1), "concurrency = 1\n[retry]\nattempts = 2\n").await;
    let poison = hub.publish("probe.trap", json!(null)).await;
    hub.publish("probe.count", json!(null)).await;
    hub.events_of("probed.count", 1).await;
    let told = &hub.events_of("plugin.dead_letter", 1).await[0]["data"];
    assert_eq!((&told["seq"], &told["code"], &told["attempts"]), (&json!(poison), &json!("trap"), &json!(2)));
    let hub = hub.restart().await;
    let select = Select { limit: 10, ..Select::default() };
    let letters = hub.bus().log().journal().unwrap().letters(select).await.unwrap();
    assert_eq!(letters.letters.len(), 1);
    let letter = serde_json::to_value(&letters.letters[0]).unwrap();
    assert_eq!((&letter["plugin"], &letter["event"]["type"]), (&json!("probe"), &json!("probe.trap")), "{letter}");
    assert_eq!(letter["sha256"], hub.get("/v1/plugins/probe").await.1["sha256"]);
}

/// The journal of a hub that was killed: far behind its events with its cursor, and one of them due again.
#[tokio::test]
async fn a_retry_far_ahead_of_the_cursor_is_handled_once() {
    let dir = tempdir().unwrap();
    let config = JournalConfig { dir: dir.path().join("data"), ..JournalConfig::default() };
    let (mut opened, _) = journal::open(&config, (Duration::from_secs(1), 0), Arc::default()).unwrap();
    let event = |seq| Arc::new(Event { seq, ..NewEvent::new("probe.count").admit().unwrap() });
    let events: Vec<Arc<Event>> = (1..=3_000).map(event).collect();
    let plugin: Arc<str> = "probe".into();
    let changes = [
        Change::Opened { plugin: plugin.clone(), done: 0 },
        Change::Retry { plugin, seq: 2_900, attempt: 2, pause: Duration::ZERO, code: "trap" },
    ];
    opened.writer.commit(&events, &changes).unwrap();
    drop(opened);
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/probe.wasm"), probe(1)).unwrap();
    let hub = TestHub::durable(dir, |_| ()).await;
    let handled = hub.events_of("probed.count", 3_000).await;
    until(|| hub.plugins().get("probe").and_then(|plugin| plugin.done()) >= Some(6_000)).await;
    let of: BTreeSet<u64> = handled.iter().map(|event| event["data"]["of"].as_u64().unwrap()).collect();
    assert_eq!((of.len(), hub.events_of("probed.count", 3_000).await.len()), (3_000, 3_000), "each once");
}

#[tokio::test]
async fn dead_letters_are_bounded_and_the_newest_stay() {
    let few = |config: &mut Config| config.journal.max_dead_letters = 3;
    let hub = TestHub::durable(tempdir().unwrap(), few).await;
    hub.install("probe", probe(1), "order_by = \"seq\"").await;
    for _ in 0..5 {
        hub.publish("probe.reject", json!(null)).await;
    }
    let told = hub.events_of("plugin.dead_letter", 5).await;
    let select = Select { limit: 10, ..Select::default() };
    let kept = hub.bus().log().journal().unwrap().letters(select).await.unwrap().letters;
    let seqs: Vec<Value> = kept.iter().map(|letter| json!(letter.seq)).collect();
    let newest: Vec<Value> = told[2..].iter().map(|event| event["data"]["seq"].clone()).collect();
    assert_eq!(seqs, newest);
    assert_eq!(hub.bus().metrics().dead_letters_retired.get(), 2);
}

#[tokio::test]
async fn retention_by_age_removes_what_is_older() {
    let hub = TestHub::durable(tempdir().unwrap(), |config| config.journal.max_age_s = 1).await;
    for index in 1..=100 {
        hub.publish("n", json!(index)).await;
    }
    // The last stays: it says where the numbering is.
    until(|| hub.bus().log().oldest() == 100).await;
    assert_eq!(hub.publish("n", json!(101)).await, 101);
}

#[tokio::test]
async fn retention_by_bytes_keeps_the_newest_that_fit() {
    let small = |config: &mut Config| config.journal.max_bytes = 1 << 20;
    let hub = TestHub::durable(tempdir().unwrap(), small).await;
    for _ in 0..50 {
        let events = vec![NewEvent::new("n").data("x".repeat(1_000)).unwrap(); 100];
        hub.bus().publish_all(events).await.unwrap();
    }
    until(|| hub.bus().log().oldest() > 4_000).await;
    let (oldest, head) = (hub.bus().log().oldest(), hub.bus().log().head());
    assert_eq!((hub.bus().metrics().journal_retired.get(), head), (oldest - 1, 5_000));
    assert!(head - oldest > 500, "a mebibyte holds hundreds of a kilobyte each, {} are left", head - oldest);
}

#[tokio::test]
async fn after_the_dedup_window_the_same_id_is_another_event() {
    for memory in [true, false] {
        let short = |config: &mut Config| {
            config.journal.memory = memory;
            config.log.dedup_window_s = 1.try_into().unwrap();
        };
        let hub = TestHub::in_dir(tempdir().unwrap(), short).await;
        let event = || NewEvent::new("a").event_id("1").source("s");
        let first = hub.bus().publish(event()).await.unwrap();
        let again = hub.bus().publish(event()).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (first.seq, true));
        within(async { while hub.bus().publish(event()).await.unwrap().duplicate {} }).await;
        let seqs: Vec<Value> = hub.events_of("a", 2).await.iter().map(|event| event["seq"].clone()).collect();
        assert_eq!(seqs.len(), 2);
    }
}

/// Nothing is forgotten by the way, since nothing is on its way.
#[tokio::test]
async fn the_dedup_window_passes_also_while_nobody_publishes() {
    for memory in [true, false] {
        let window = Duration::from_secs(1);
        let short = |config: &mut Config| {
            config.journal.memory = memory;
            config.log.dedup_window_s = 1.try_into().unwrap();
        };
        let hub = TestHub::in_dir(tempdir().unwrap(), short).await;
        let event = || NewEvent::new("a").event_id("1").source("s");
        let first = hub.bus().publish(event()).await.unwrap();
        let published = Instant::now();
        until(|| published.elapsed() >= window).await;
        let second = hub.bus().publish(event()).await.unwrap();
        assert_eq!((first.duplicate, second.duplicate), (false, false));
    }
}

#[tokio::test]
async fn what_comes_while_the_filter_before_a_handler_is_out_of_service_waits_for_it() {
    let hub = durable().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    hub.install("probe", probe(1), "filter = \"urgent-only\"").await;
    let urgent = || NewEvent::new("probe.count").tag("urgent");
    hub.bus().publish(urgent()).await.unwrap();
    hub.events_of("probed.count", 1).await;
    assert_eq!(hub.post("/v1/plugins/urgent-only/disable", &json!({})).await.0, 200);
    hub.bus().publish(urgent()).await.unwrap();
    assert_eq!(hub.post("/v1/plugins/urgent-only/enable", &json!({})).await.0, 200);
    hub.events_of("probed.count", 2).await;
}

#[tokio::test]
async fn gaps_that_adjoin_are_one_gap_of_a_page() {
    let hub = durable().await;
    for index in 1..=20 {
        hub.publish("n", json!(index)).await;
    }
    let dir = hub.end().await;
    let file = rusqlite::Connection::open(dir.path().join("data/busway.db")).unwrap();
    // Retention has taken five, and two after those are damaged.
    file.execute_batch("UPDATE meta SET value = 6 WHERE key = 'oldest'; DELETE FROM events WHERE seq <= 7").unwrap();
    file.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('oldest', 6)", []).unwrap();
    drop(file);
    let hub = TestHub::durable(dir, |_| ()).await;
    let (_, page) = hub.get("/v1/events?from=1").await;
    assert_eq!((&page["missed"], page["events"].as_array().unwrap().len()), (&json!({"from": 1, "to": 7}), 13));
}
