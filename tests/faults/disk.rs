//! A disk without room, and a disk that does not say any more what it holds.

use super::{
    kept::Kept,
    program::{Place, Program},
};
use crate::{guests::probe, hub::within};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

async fn stats(program: &Program) -> Value {
    program.get("/v1/stats").await.1
}

fn count(stats: &Value, key: &str) -> u64 {
    stats[key].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_reading_goes_on() {
    let place = Place::new("");
    let program = place.start().await;
    program.publish_many(5).await;
    let url = format!("ws://{}/ws/events?types=n&from=1", program.address);
    let (mut socket, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
    place.fail("full");
    let request = program.http.post(program.url("/v1/events")).json(&json!({"type": "n"}));
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.status(), 507);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "journal.full");
    let ready = program.until("/readyz", |status, _| status == 503).await;
    assert_eq!(ready["code"], "journal.full");
    // What is there can be had in every way.
    assert_eq!(program.events().await.iter().filter(|event| event["type"] == "n").count(), 5);
    let metrics = program.get("/metrics").await;
    assert!(
        metrics.0 == 200
            && metrics
                .1
                .as_str()
                .unwrap()
                .contains("\nbusway_events_rejected_total{door=\"http\",reason=\"journal\"} ")
    );
    let mut seen = 0;
    while seen < 5 {
        let text = within(socket.next()).await.unwrap().unwrap().into_text().unwrap();
        seen += usize::from(text.contains(r#""type":"n""#));
    }
    let stream = program.http.get(program.url("/v1/events/stream?types=n&from=1"));
    let mut stream = within(stream.send()).await.unwrap();
    assert_eq!(stream.status(), 200);
    let mut text = String::new();
    while text.matches("\"type\":\"n\"").count() < 5 {
        text += &String::from_utf8_lossy(&within(stream.chunk()).await.unwrap().unwrap());
    }
    // Nobody has to publish for it to be found out that there is room again.
    place.heal("full");
    program.until("/readyz", |status, _| status == 200).await;
    let last = program.publish_one(json!(6)).await;
    // The hub's own events of connections are among them.
    let seqs: Vec<u64> = program.events().await.iter().map(|event| count(event, "seq")).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "in a row");
    assert!(seqs.contains(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_full_disk_every_event_is_accounted_for_and_was_handled_once() {
    let place = Place::new("");
    fs::write(place.plugins().join("probe.wasm"), probe(1)).unwrap();
    fs::write(place.plugins().join("probe.toml"), "[grants]\nkv = true\npublish = [\"probed.*\"]\n").unwrap();
    let program = place.start().await;
    program.until("/v1/plugins/probe", |_, status| status["state"] == "active").await;
    let (mut sent, mut accepted, mut refused, mut duplicates) = (0, Vec::new(), 0, 0);
    for round in 0..60 {
        // Full while handlers are at work, and again while they try again.
        match round % 20 {
            7 => place.fail("full-all"),
            15 => place.heal("full-all"),
            _ => {}
        }
        let id = |index: i32| format!("{}-{index}", round / 2);
        // Every other request is the one before again: whether that was refused or not.
        let events: Vec<Value> = (0..3)
            .map(|index| json!({"type": "probe.count", "metadata": {"event_id": id(index), "source": "test"}}))
            .collect();
        let (status, answer) = program.publish(&json!(events)).await;
        sent += 3;
        if status == 507 {
            refused += 3;
            continue;
        }
        assert_eq!(status, 200, "{answer}");
        for receipt in answer["events"].as_array().unwrap() {
            match receipt["duplicate"] == json!(true) {
                true => duplicates += 1,
                false => accepted.push(receipt["seq"].as_u64().unwrap()),
            }
        }
    }
    assert!(refused > 0 && duplicates > 0 && accepted.len() > 30, "{refused} {duplicates} {}", accepted.len());
    assert_eq!(accepted.len() + refused + duplicates, sent);
    let after = stats(&program).await;
    assert_eq!((count(&after, "events_sent"), count(&after, "events_duplicate")), (sent as u64, duplicates as u64));
    assert_eq!(count(&after["events_rejected"], "journal"), refused as u64);
    // One count for each event that was accepted, whatever happened to its first attempt.
    let events = within(async {
        loop {
            let events = program.events().await;
            if events.iter().filter(|event| event["type"] == "probed.count").count() >= accepted.len() {
                return events;
            }
        }
    })
    .await;
    let of: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event["type"] == "probed.count")
        .map(|event| (count(&event["data"], "count"), count(&event["data"], "of")))
        .collect();
    assert_eq!(of.iter().map(|(count, _)| *count).collect::<Vec<_>>(), (1..=accepted.len() as u64).collect::<Vec<_>>());
    assert_eq!(of.iter().map(|(_, of)| *of).collect::<BTreeSet<_>>(), accepted.iter().copied().collect());
    let seqs: Vec<u64> = events.iter().map(|event| count(event, "seq")).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "in a row");
    let after = stats(&program).await;
    let made = count(&after, "events_emitted") + count(&after, "events_internal");
    assert_eq!(count(&after, "events_published"), accepted.len() as u64 + made);
    // As it was, also after a restart.
    program.end().await;
    let program = place.start().await;
    program.until("/v1/plugins/probe", |_, status| status["state"] == "active").await;
    assert_eq!(program.events().await[..events.len()], events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_finds_no_room_to_start_says_so_and_starts_once_there_is() {
    let place = Place::new("sync = \"normal\"");
    let program = place.start().await;
    program.publish_one(json!(1)).await;
    let epoch = stats(&program).await["epoch"].clone();
    program.kill().await;
    for how in ["full", "full-all"] {
        place.fail(how);
        let said = place.refused().await;
        assert!(said.contains("there is no room on the disk"), "{said}");
        place.heal(how);
    }
    let program = place.start().await;
    assert_eq!((program.events().await.len(), &stats(&program).await["epoch"]), (1, &epoch));
    assert_eq!(program.publish_one(json!(2)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sync_that_failed_nothing_is_acknowledged_until_a_restart() {
    for how in ["fsync-once", "fsync"] {
        let place = Place::new("");
        let program = place.start().await;
        let before: Vec<u64> = [program.publish_one(json!(1)).await, program.publish_one(json!(2)).await].into();
        place.fail(how);
        let (status, answer) = program.publish(&json!({"type": "n", "data": "lost"})).await;
        assert_eq!((status, &answer["code"]), (503, &json!("journal.read-only")), "{answer}");
        if how == "fsync" {
            place.heal(how);
        }
        for _ in 0..5 {
            let (status, answer) = program.publish(&json!({"type": "n"})).await;
            assert_eq!((status, &answer["code"]), (503, &json!("journal.read-only")), "{answer}");
        }
        let (status, ready) = program.get("/readyz").await;
        assert_eq!((status, &ready["code"]), (503, &json!("journal.read-only")));
        assert!(ready["reason"].as_str().unwrap().contains("fault"), "{ready}");
        let read = program.events().await;
        assert_eq!(read.iter().map(|event| count(event, "seq")).collect::<Vec<_>>(), before);
        match how {
            "fsync" => program.kill().await,
            _ => program.end().await,
        }
        let program = place.start().await;
        program.until("/readyz", |status, _| status == 200).await;
        let after = program.events().await;
        assert_eq!(after[..read.len()], read);
        // What was not acknowledged may be there: it was never said that it is not.
        let next = program.publish_one(json!(3)).await;
        assert_eq!(next, after.len() as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_sync_left_is_not_built_upon_before_it_is_on_disk() {
    // The system holds for written what the disk does not have: the next start must write it anew, not only read it.
    let place = Place::new("");
    let program = place.start().await;
    program.publish_one(json!(1)).await;
    place.fail("fsync");
    assert_eq!(program.publish(&json!({"type": "n"})).await.0, 503);
    place.heal("fsync");
    program.kill().await;
    let program = place.start().await;
    assert_eq!(program.events().await.len(), 2);
    // Everything was copied into the file before anything is acknowledged.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(place.data().join("busway.db"), copy.path().join("busway.db")).unwrap();
    assert_eq!(Kept::in_dir(copy.path()).await.unwrap().head, 2);
    assert_eq!(program.publish_one(json!(3)).await, 3);
}
