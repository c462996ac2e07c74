//! The data directory, or a file in it, is removed or moved while
//! the hub runs: nothing is acknowledged then that a restart would
//! not find, and no second hub works on what the first one has open.

use super::program::{Place, Program};
use crate::hub::within;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// What somebody does to a data directory on which a hub runs.
type Removal = fn(&Path);

async fn read_only(program: &Program, what: &str) {
    let ready = program.until("/readyz", |status, _| status == 503).await;
    assert_eq!(ready["code"], "journal.read-only", "{what}: {ready}");
    assert!(ready["reason"].as_str().unwrap().contains("data"), "{what}: it names the file: {ready}");
    let (status, answer) = program.publish(&json!({"type": "n"})).await;
    assert_eq!((status, &answer["code"]), (503, &json!("journal.read-only")), "{what}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_after_the_data_directory_is_gone_is_not_acknowledged() {
    let remove: &[(&str, Removal)] = &[
        ("the directory is removed", |data| fs::remove_dir_all(data).unwrap()),
        ("the directory is moved away", |data| fs::rename(data, data.with_extension("old")).unwrap()),
        ("the database is removed", |data| fs::remove_file(data.join("busway.db")).unwrap()),
        ("the log is removed", |data| fs::remove_file(data.join("busway.db-wal")).unwrap()),
        ("the database is replaced", |data| {
            fs::copy(data.join("busway.db"), data.join("copy")).unwrap();
            fs::rename(data.join("copy"), data.join("busway.db")).unwrap();
        }),
    ];
    for (what, remove) in remove {
        let place = Place::new("");
        let program = place.start().await;
        let before = program.publish_one(json!("before")).await;
        remove(&place.data());
        // The very next one: nobody has had time to look.
        let (status, answer) = program.publish(&json!({"type": "n"})).await;
        assert_eq!((status, &answer["code"]), (503, &json!("journal.read-only")), "{what}: {answer}");
        read_only(&program, what).await;
        // What is there can still be read.
        let (status, page) = program.get("/v1/events?from=1").await;
        assert_eq!((status, &page["events"][0]["seq"]), (200, &json!(before)), "{what}: {page}");
        program.end().await;
        let program = place.start().await;
        program.until("/readyz", |status, _| status == 200).await;
        program.publish_one(json!("after")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_lock_or_index_is_noticed_within_a_flush() {
    for name in ["lock", "busway.db-shm"] {
        let place = Place::new("");
        let program = place.start().await;
        program.publish_one(json!(1)).await;
        fs::remove_file(place.data().join(name)).unwrap();
        read_only(&program, name).await;
        // The directory is locked too.
        let said = place.refused().await;
        assert!(said.contains("in use by"), "{said}");
        program.end().await;
        let program = place.start().await;
        assert_eq!(program.publish_one(json!(2)).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_a_new_directory_of_the_same_name_is_left_alone_by_the_first() {
    let place = Place::new("");
    let first = place.start().await;
    first.publish_one(json!(1)).await;
    fs::rename(place.data(), place.data().with_extension("old")).unwrap();
    let second = place.start().await;
    for seq in 1..=5 {
        assert_eq!(second.publish_one(json!(seq)).await, seq);
    }
    read_only(&first, "another directory is there").await;
    // It reads from what it has open, not from what is at the path.
    let page: Value = first.get("/v1/events?from=1").await.1;
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
    within(first.end()).await;
    second.end().await;
    let second = place.start().await;
    assert_eq!(second.events().await.len(), 5);
}
