//! `busway journal backup`: a copy of one moment, which a hub that starts on it knows to be one.

use super::program::{Place, Program};
use crate::{
    cli::{busway, lines, stderr},
    hub::within,
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Output};

async fn backup(data: &Path, to: &Path) -> Output {
    within(busway().args(["journal", "backup"]).arg("--data").arg(data).arg(to).output()).await.unwrap()
}

async fn verify(data: &Path) -> Value {
    let output = within(busway().args(["journal", "verify", "--json", "--data"]).arg(data).output()).await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    lines(&output).remove(0)
}

async fn publish(program: &Program, count: usize) -> u64 {
    let mut last = 0;
    for index in 0..count {
        last = program.publish_one(json!({"n": index, "fill": "x".repeat(500)})).await;
    }
    last
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_events_come_in_is_whole_and_restored_it_begins_a_new_epoch() {
    let place = Place::new("");
    let program = place.start().await;
    let epoch = program.get("/v1/stats").await.1["epoch"].as_str().unwrap().to_owned();
    let before = publish(&program, 100).await;
    let parent = tempfile::tempdir().unwrap();
    let to = parent.path().join("backup");
    let data = place.data();
    let (output, last) = tokio::join!(backup(&data, &to), publish(&program, 60));
    assert!(output.status.success(), "{}", stderr(&output));
    let head = lines(&output)[0]["head"].as_u64().unwrap();
    assert!((before..=last).contains(&head), "{before} {head} {last}");
    assert_eq!((names(&to), &verify(&to).await["events"]), (vec!["busway.db".to_owned()], &json!(head)));
    // So that it lacks something for certain.
    let last = publish(&program, 5).await;
    let events = program.events().await;
    program.end().await;
    fs::remove_dir_all(place.data()).unwrap();
    fs::rename(&to, place.data()).unwrap();
    let program = place.start().await;
    assert_eq!(program.events().await, events[..head as usize]);
    let (status, page) = program.get(&format!("/v1/events?from={}&epoch={epoch}", head + 1)).await;
    assert_eq!((status, page.get("missed")), (200, None), "{page}");
    assert_ne!(page["epoch"], json!(epoch));
    while program.publish_one(json!(null)).await < last + 5 {}
    let (status, answer) = program.get(&format!("/v1/events?from={}&epoch={epoch}", last + 1)).await;
    assert_eq!((status, &answer["differs_from"]), (409, &json!(head + 1)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_hub_has_what_the_next_start_would_have() {
    for is_killed in [false, true] {
        let place = Place::new("");
        let program = place.start().await;
        let head = publish(&program, 20).await;
        match is_killed {
            true => program.kill().await,
            false => program.end().await,
        }
        let to = tempfile::tempdir().unwrap();
        let output = backup(&place.data(), to.path()).await;
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(verify(to.path()).await["events"], json!(head));
        // The source goes on as if nothing had been done.
        let program = place.start().await;
        assert_eq!(program.publish_one(json!(null)).await, head + 1);
        assert_eq!(program.get("/v1/journal").await.1["epoch_first"], json!(1), "killed: {is_killed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_only_into_an_empty_directory_and_leaves_nothing_where_it_fails() {
    let place = Place::new("");
    let program = place.start().await;
    publish(&program, 1).await;
    let to = tempfile::tempdir().unwrap();
    fs::write(to.path().join("precious"), "x").unwrap();
    let output = backup(&place.data(), to.path()).await;
    let said = stderr(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("backup.not-empty") && said.contains("precious"),
        "{said}"
    );
    assert_eq!(names(to.path()), ["precious"]);
    let none = to.path().join("none");
    let output = backup(&none, &to.path().join("target")).await;
    assert!(output.status.code() == Some(1) && stderr(&output).contains("no journal here"), "{}", stderr(&output));
    assert_eq!(names(to.path()), ["precious"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_journal_that_lost_events_says_so() {
    let place = Place::new("");
    let program = place.start().await;
    publish(&program, 20).await;
    program.kill().await;
    fs::remove_file(place.data().join("busway.db-wal")).unwrap();
    let to = tempfile::tempdir().unwrap();
    let output = backup(&place.data(), to.path()).await;
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains("busway.db-wal is missing or empty"), "{said}");
    assert!(to.path().join("busway.db").exists(), "what there is was saved");
}
