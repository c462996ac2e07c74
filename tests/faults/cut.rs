//! The power is cut: what was acknowledged is there, or the epoch is another.

use super::{
    kept::Kept,
    program::{Place, Program},
    random::Random,
    trace::{Disk, Trace},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// What publishers sent, and what they were told.
#[derive(Default)]
struct Said {
    /// Data by the publisher's own id.
    sent: BTreeMap<String, Value>,
    /// Seq and id, and how long the trace was once the answer was there.
    acknowledged: Vec<(u64, String, usize)>,
}

/// Several at once, each with its own events, one alone or many together.
async fn publish(program: &Program, trace: PathBuf, said: &Arc<Mutex<Said>>, name: &str, requests: usize) {
    let publishers = (0..3).map(|publisher| {
        let (trace, said, name) = (trace.clone(), said.clone(), format!("{name}-{publisher}"));
        async move {
            let mut random = Random::new(publisher);
            for request in 0..requests {
                let many = [1, 1, 1, 7, 40][random.below(5)];
                let events: Vec<Value> = (0..many)
                    .map(|index| {
                        let size = [0, 10, 300, 20_000][random.below(4)];
                        let id = format!("{name}-{request}-{index}");
                        let data = json!({"id": id, "fill": "x".repeat(size)});
                        said.lock().unwrap().sent.insert(id.clone(), data.clone());
                        json!({"type": "n", "data": data, "metadata": {"event_id": id, "source": "test"}})
                    })
                    .collect();
                let body = if many == 1 { events[0].clone() } else { json!(events) };
                let (status, answer) = program.publish(&body).await;
                let length = fs::metadata(&trace).unwrap().len() as usize;
                assert_eq!(status, 200, "{answer}");
                let receipts = answer["events"].as_array().unwrap();
                assert_eq!(receipts.len(), many);
                let acknowledged = receipts.iter().zip(&events).map(|(receipt, event)| {
                    let id = event["metadata"]["event_id"].as_str().unwrap().to_owned();
                    (receipt["seq"].as_u64().unwrap(), id, length)
                });
                said.lock().unwrap().acknowledged.extend(acknowledged);
            }
        }
    });
    futures_util::future::join_all(publishers).await;
}

struct Recorded {
    _place: Place,
    trace: Trace,
    said: Said,
    epoch: String,
    /// No earlier cut: until then nothing was acknowledged.
    first: usize,
}

/// Three runs on one directory: killed, ended well, killed.
async fn record(journal: &str) -> Recorded {
    let place = Place::new(journal);
    let said = Arc::new(Mutex::new(Said::default()));
    let (mut epoch, mut first) = (String::new(), 0);
    for (run, requests) in ["a", "b", "c"].into_iter().zip([70, 25, 25]) {
        let program = place.start_traced().await;
        if run == "a" {
            epoch = program.get("/v1/stats").await.1["epoch"].as_str().unwrap().to_owned();
            first = fs::metadata(place.trace()).unwrap().len() as usize;
        }
        publish(&program, place.trace(), &said, run, requests).await;
        match run {
            "b" => program.end().await,
            // Nothing is under way, so the trace has everything that was done.
            _ => program.kill().await,
        }
    }
    let trace = Trace::read(&place.trace());
    let said = std::mem::take(&mut *said.lock().unwrap());
    Recorded { _place: place, trace, said, epoch, first }
}

/// Where cuts were made and what they took.
#[derive(Debug, Default)]
struct Cuts {
    cuts: usize,
    /// With events that were acknowledged and are gone.
    losing: usize,
    lost: usize,
    epochs: BTreeSet<String>,
}

async fn cut(recorded: &Recorded, cuts: usize, seed: u64) -> Cuts {
    let Recorded { trace, said, .. } = recorded;
    let mut random = Random::new(seed);
    let from = trace.records.iter().position(|record| record.end > recorded.first).unwrap();
    let mut places: Vec<usize> = (0..cuts).map(|_| from + random.below(trace.records.len() - from) + 1).collect();
    places.sort_unstable();
    let mut disk = Disk::new(trace);
    let mut result = Cuts { cuts, ..Cuts::default() };
    for place in places {
        disk.advance(place);
        let dir = tempfile::tempdir().unwrap();
        disk.cut(&mut random, dir.path());
        let kept = Kept::in_dir(dir.path()).await.unwrap_or_else(|error| panic!("cut after record {place}: {error}"));
        assert!(kept.damaged.is_empty(), "cut after record {place}: {:?}", kept.damaged);
        assert_eq!(kept.next, Ok(kept.head + 1));
        let mut seen = BTreeSet::new();
        for event in kept.events.values().filter(|event| event.event_type == "n") {
            let id = &event.metadata.event_id;
            assert!(seen.insert(id.clone()), "{id} is there twice");
            let data: Value = serde_json::from_str(event.data.get()).unwrap();
            assert_eq!(said.sent.get(&**id), Some(&data), "what was sent");
        }
        let end = trace.records[place - 1].end;
        let before = said.acknowledged.iter().filter(|(.., length)| *length <= end);
        let lost = before
            .filter(|(seq, id, _)| {
                *seq >= kept.oldest && kept.events.get(seq).is_none_or(|event| *event.metadata.event_id != **id)
            })
            .count();
        assert!(lost == 0 || kept.epoch != recorded.epoch, "cut after record {place}: {lost} lost in the same epoch");
        result.lost += lost;
        result.losing += usize::from(lost > 0);
        result.epochs.insert(kept.epoch);
    }
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let recorded = record("sync = \"full\"").await;
    assert!(recorded.trace.syncs("busway.db") > 3, "the file was copied into, not only the log beside it");
    let cuts = cut(&recorded, 80, 1).await;
    assert_eq!((cuts.cuts, cuts.lost), (80, 0));
    assert_eq!(cuts.epochs, BTreeSet::from([recorded.epoch]), "torn transactions are no reason for another epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_while_retention_removes_and_makes_room() {
    let recorded = record("sync = \"full\"\nmax_events = 100").await;
    let cuts = cut(&recorded, 60, 2).await;
    assert_eq!((cuts.cuts, cuts.lost), (60, 0));
    assert_eq!(cuts.epochs, BTreeSet::from([recorded.epoch]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_after_a_sync_that_failed_and_a_restart() {
    let place = Place::new("sync = \"full\"");
    let said = Arc::new(Mutex::new(Said::default()));
    let program = place.start_traced().await;
    let epoch = program.get("/v1/stats").await.1["epoch"].as_str().unwrap().to_owned();
    let first = fs::metadata(place.trace()).unwrap().len() as usize;
    publish(&program, place.trace(), &said, "a", 5).await;
    // The system has this event and the disk does not. After the restart it is there, and others come after it.
    said.lock().unwrap().sent.insert("unsynced".into(), json!(null));
    place.fail("fsync");
    let unsynced = json!({"type": "n", "metadata": {"event_id": "unsynced", "source": "test"}});
    assert_eq!(program.publish(&unsynced).await.0, 503);
    place.heal("fsync");
    program.kill().await;
    let program = place.start_traced().await;
    assert!(program.events().await.iter().any(|event| event["metadata"]["event_id"] == "unsynced"));
    publish(&program, place.trace(), &said, "b", 10).await;
    program.kill().await;
    let said = std::mem::take(&mut *said.lock().unwrap());
    let recorded = Recorded { trace: Trace::read(&place.trace()), _place: place, said, epoch, first };
    let cuts = cut(&recorded, 60, 10).await;
    assert_eq!((cuts.cuts, cuts.lost), (60, 0));
    assert_eq!(cuts.epochs, BTreeSet::from([recorded.epoch]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_full_sync_a_power_cut_may_take_the_end_and_then_the_epoch_is_another() {
    let recorded = record("sync = \"normal\"").await;
    let cuts = cut(&recorded, 80, 3).await;
    assert!(cuts.losing > 10, "there is something to be proved: {cuts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_full_sync_the_sudden_end_of_the_hub_takes_nothing() {
    let place = Place::new("sync = \"normal\"");
    let said = Arc::new(Mutex::new(Said::default()));
    let mut epochs = BTreeSet::new();
    for run in ["a", "b", "c"] {
        let program = place.start_traced().await;
        epochs.insert(program.get("/v1/stats").await.1["epoch"].to_string());
        publish(&program, place.trace(), &said, run, 15).await;
        program.kill().await;
    }
    let program = place.start_traced().await;
    epochs.insert(program.get("/v1/stats").await.1["epoch"].to_string());
    assert_eq!(epochs.len(), 1, "one numbering");
    let events = program.events().await;
    let said = said.lock().unwrap();
    for (seq, id, _) in &said.acknowledged {
        let event = &events[*seq as usize - 1];
        assert_eq!((&event["metadata"]["event_id"], &event["data"]), (&json!(id), &said.sent[id]));
    }
    assert_eq!(said.acknowledged.len(), said.sent.len());
    assert_eq!(events.iter().filter(|event| event["type"] == "n").count(), said.sent.len());
}
