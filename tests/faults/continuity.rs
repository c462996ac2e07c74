//! The log goes back: what belongs to it is removed, cut off, or replaced
//! by an older copy. Whatever was done, no seq is given twice in one epoch;
//! a client that has read no further than the log still goes goes on
//! without noticing, and one that has is told from where the log differs.

use super::program::{Place, Program, copy_files};
use crate::{client::Client, hub::until, streams::Stream};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

/// What is done to a data directory while no hub runs on it.
#[derive(Debug, Clone, Copy)]
enum Damage {
    RemoveLog,
    RemoveLogAndIndex,
    CutLog(u64),
    /// Only the database is put into a fresh directory.
    OnlyDatabase,
    /// An older copy of the directory is put in its place: copied,
    /// moved there, or written over the files that are there.
    CopyOfOlder,
    MoveOfOlder,
    OverwriteWithOlder,
    /// The same, but for the continuity record and the lock, which stay.
    OverwriteDatabaseWithOlder,
}

use Damage::*;

impl Damage {
    fn apply(self, data: &Path, older: &Path) {
        let log = data.join("busway.db-wal");
        let replace = |files: &[&str], from: &Path| {
            let kept: Vec<Vec<u8>> = files.iter().map(|name| fs::read(from.join(name)).unwrap()).collect();
            fs::remove_dir_all(data).unwrap();
            fs::create_dir(data).unwrap();
            for (name, bytes) in files.iter().zip(kept) {
                fs::write(data.join(name), bytes).unwrap();
            }
        };
        match self {
            RemoveLog => fs::remove_file(log).unwrap(),
            RemoveLogAndIndex => {
                fs::remove_file(log).unwrap();
                fs::remove_file(data.join("busway.db-shm")).unwrap();
            }
            CutLog(length) => fs::File::options().write(true).open(log).unwrap().set_len(length).unwrap(),
            OnlyDatabase => replace(&["busway.db"], data),
            CopyOfOlder => {
                fs::remove_dir_all(data).unwrap();
                copy_files(older, data);
            }
            MoveOfOlder => {
                fs::remove_dir_all(data).unwrap();
                fs::rename(older, data).unwrap();
            }
            OverwriteWithOlder => copy_files(older, data),
            OverwriteDatabaseWithOlder => {
                for name in ["busway.db", "busway.db-wal", "busway.db-shm"] {
                    fs::copy(older.join(name), data.join(name)).unwrap();
                }
            }
        }
    }
}

async fn journal(program: &Program) -> (String, u64) {
    let (_, journal) = program.get("/v1/journal").await;
    (journal["epoch"].as_str().unwrap().to_owned(), journal["epoch_first"].as_u64().unwrap())
}

/// Publishes until the log has got to `seq`, and notes what was acknowledged in which epoch.
async fn publish_to(program: &Program, seq: u64, given: &mut BTreeSet<(String, u64)>) {
    let (epoch, _) = journal(program).await;
    loop {
        let last = program.publish_one(json!(null)).await;
        assert!(given.insert((epoch.clone(), last)), "seq {last} was given twice in epoch {epoch}");
        if last >= seq {
            return;
        }
    }
}

async fn resume(program: &Program, from: u64, epoch: &str) -> (u16, Value) {
    program.get(&format!("/v1/events?from={from}&epoch={epoch}&limit=1")).await
}

/// How a client that goes on with `from` is answered at each door: the code of a refusal and where
/// it is told to go on, or the seq of the event that it gets.
#[derive(Debug, PartialEq)]
enum Answer {
    Event(u64),
    Refused { code: String, differs_from: Option<u64>, epoch: String },
}

impl Answer {
    fn of(value: &Value) -> Self {
        match value["code"].as_str() {
            None => Self::Event(value["seq"].as_u64().unwrap()),
            Some(code) => Self::Refused {
                code: code.to_owned(),
                differs_from: value["differs_from"].as_u64(),
                epoch: value["epoch"].as_str().unwrap().to_owned(),
            },
        }
    }

    fn diverged(differs_from: u64, epoch: &str) -> Self {
        Self::Refused { code: "epoch.mismatch".into(), differs_from: Some(differs_from), epoch: epoch.to_owned() }
    }
}

/// A read, a WebSocket, an event stream with `from`, and one with the id of the event before it.
async fn answers(program: &Program, from: u64, epoch: &str) -> [Answer; 4] {
    let (_, page) = resume(program, from, epoch).await;
    let read = Answer::of(page.pointer("/events/0").unwrap_or(&page));
    let query = format!("?from={from}&epoch={epoch}");
    let websocket = Client::try_connect_to(&program.address, &query).await.unwrap().next().await;
    let url = format!("http://{}/v1/events/stream", program.address);
    let mut stream = Stream::open_url(&program.http, &format!("{url}{query}"), None).await;
    let stream = stream.next_said().await.json();
    let id = format!("{epoch}:{}", from - 1);
    let mut resumed = Stream::open_url(&program.http, &url, Some(&id)).await;
    let resumed = resumed.next_said().await.json();
    [read, Answer::of(&websocket), Answer::of(&stream), Answer::of(&resumed)]
}

async fn check(how: Damage, is_killed: bool) {
    let what = format!("{how:?} after {}", if is_killed { "a kill" } else { "a clean end" });
    let place = Place::new("");
    let older = tempfile::tempdir().unwrap();
    let older = older.path().join("older");
    let mut given = BTreeSet::new();
    let program = place.start().await;
    let (epoch, _) = journal(&program).await;
    publish_to(&program, 20, &mut given).await;
    copy_files(&place.data(), &older);
    let record = |data: &Path| fs::metadata(data.join("continuity")).unwrap().ino();
    let before = record(&place.data());
    publish_to(&program, 40, &mut given).await;
    // What is put back is older than the last record, which is replaced every `flush_s`.
    until(|| record(&place.data()) != before).await;
    match is_killed {
        true => program.kill().await,
        false => program.end().await,
    }
    how.apply(&place.data(), &older);
    let program = place.start().await;
    let (new_epoch, first) = journal(&program).await;
    assert_ne!(new_epoch, epoch, "{what}");
    // Also once the log has grown past what clients have seen.
    for up_to in [first, 45] {
        publish_to(&program, up_to, &mut given).await;
        let goes_on = [first; 4].map(Answer::Event);
        assert_eq!(answers(&program, first, &epoch).await, goes_on, "{what}: read up to where the log differs");
        if first <= 40 {
            let told = [(); 4].map(|()| Answer::diverged(first, &new_epoch));
            assert_eq!(answers(&program, 41, &epoch).await, told, "{what}: read further than that");
        }
    }
    let (status, page) = resume(&program, 46, &new_epoch).await;
    assert_eq!(status, 200, "{what}: in the new epoch: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_missing_or_short_after_a_kill_begins_a_new_epoch() {
    for how in
        [RemoveLog, RemoveLogAndIndex, CutLog(0), CutLog(32), CutLog(33), CutLog(32 + 5 * (24 + 8_192)), OnlyDatabase]
    {
        check(how, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_directory_begins_a_new_epoch() {
    for how in [CopyOfOlder, MoveOfOlder, OverwriteWithOlder, OverwriteDatabaseWithOlder, OnlyDatabase] {
        check(how, false).await;
    }
    for how in [CopyOfOlder, MoveOfOlder, OverwriteWithOlder, OverwriteDatabaseWithOlder] {
        check(how, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_goes_on_after_a_kill_and_after_the_directory_was_moved() {
    let mut place = Place::new("");
    let mut given = BTreeSet::new();
    let mut epochs = BTreeSet::new();
    for run in 1..=6 {
        let program = place.start().await;
        epochs.insert(journal(&program).await.0);
        publish_to(&program, run * 10, &mut given).await;
        match run % 3 {
            0 => program.end().await,
            _ => program.kill().await,
        }
        if run > 3 {
            place.move_data();
        }
    }
    let program = place.start().await;
    epochs.insert(journal(&program).await.0);
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert_eq!(program.publish_one(json!(null)).await, 61);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_removes_the_record_gets_a_new_epoch() {
    let place = Place::new("");
    let program = place.start().await;
    let (epoch, _) = journal(&program).await;
    let mut given = BTreeSet::new();
    publish_to(&program, 10, &mut given).await;
    program.end().await;
    fs::remove_file(place.data().join("continuity")).unwrap();
    let program = place.start().await;
    let (new_epoch, first) = journal(&program).await;
    assert_ne!(new_epoch, epoch);
    assert_eq!(first, 11);
    publish_to(&program, 11, &mut given).await;
    assert_eq!(answers(&program, 11, &epoch).await, [11; 4].map(Answer::Event));
}
