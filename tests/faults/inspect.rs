//! `busway journal verify`, `info` and `export` on what a hub left:
//! they find what the next start would find, and change nothing.

use super::program::{Place, copy};
use crate::{
    cli::{busway, lines, stderr},
    hub::within,
};
use serde_json::json;
use std::{collections::BTreeMap, fs, path::Path, process::Output};

async fn journal(data: &Path, args: &[&str]) -> Output {
    within(busway().arg("journal").args(args).arg("--data").arg(data).output()).await.unwrap()
}

/// Every file with its content and when it was last changed.
fn content(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    let read = |entry: fs::DirEntry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (fs::read(entry.path()).unwrap(), modified))
    };
    entries.map(read).collect()
}

/// Looks at a directory with all three, and gives what `verify`
/// said: whether it is whole, its exit code, and the text.
async fn inspect(data: &Path) -> (Option<i32>, serde_json::Value) {
    let before = content(data);
    let output = journal(data, &["verify", "--json"]).await;
    let said = lines(&output).pop().unwrap_or_else(|| json!(stderr(&output)));
    for args in [&["info"][..], &["export"]] {
        journal(data, args).await;
    }
    assert!(content(data) == before, "nothing was written or made: {said}");
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_is_inspected_without_writing_and_damage_is_found_before_and_after() {
    let place = Place::new("");
    let program = place.start().await;
    let epoch = program.get("/v1/stats").await.1["epoch"].clone();
    for index in 1..=30 {
        program.publish_one(json!({"n": index, "fill": "x".repeat(2_000)})).await;
    }
    let (code, said) = (journal(&place.data(), &["verify", "--json"]).await, "a hub runs");
    assert!(code.status.success() && lines(&code)[0]["events"] == json!(30), "{said}: {}", stderr(&code));
    program.kill().await;
    let (code, said) = inspect(&place.data()).await;
    assert_eq!((code, &said["events"], said.get("continuity")), (Some(0), &json!(30), None), "{said}");
    // Without the index of the log as well, as after a power cut.
    let without_index = tempfile::tempdir().unwrap();
    copy(&place.data(), without_index.path());
    fs::remove_file(without_index.path().join("busway.db-shm")).unwrap();
    let (code, said) = inspect(without_index.path()).await;
    assert_eq!((code, &said["events"]), (Some(0), &json!(30)), "{said}");
    // A bit in the middle of the log.
    let log = place.data().join("busway.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&log, bytes).unwrap();
    let (code, said) = inspect(&place.data()).await;
    assert_eq!((code, &said["continuity"]["is_loss"]), (Some(1), &json!(true)), "{said}");
    let program = place.start().await;
    assert_ne!(program.get("/v1/stats").await.1["epoch"], epoch, "the hub finds it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_missing_or_short_is_found_from_the_database_alone() {
    let place = Place::new("");
    let program = place.start().await;
    program.publish_many(30).await;
    program.kill().await;
    for length in [None, Some(0), Some(32), Some(33)] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(place.data().join("busway.db"), dir.path().join("busway.db")).unwrap();
        if let Some(length) = length {
            let log = fs::read(place.data().join("busway.db-wal")).unwrap();
            fs::write(dir.path().join("busway.db-wal"), &log[..length]).unwrap();
        }
        let (code, said) = inspect(dir.path()).await;
        let reason = said["continuity"]["reason"].as_str().unwrap_or_default();
        assert!(code == Some(1) && reason.contains("busway.db-wal is missing or empty"), "{length:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_journal_is_inspected_without_writing_and_a_copy_of_it_is_whole() {
    let place = Place::new("");
    let program = place.start().await;
    program.publish_many(30).await;
    program.end().await;
    let (code, said) = inspect(&place.data()).await;
    assert_eq!((code, said.get("continuity")), (Some(0), None), "{said}");
    let copied = tempfile::tempdir().unwrap();
    super::program::copy_files(&place.data(), copied.path());
    let (code, said) = inspect(copied.path()).await;
    assert_eq!((code, &said["continuity"]["is_loss"]), (Some(0), &json!(false)), "a copy is no loss: {said}");
}
