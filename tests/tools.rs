//! `busway journal` and `busway dead-letters`: the operator's tools, as an operator runs them.

use crate::{
    cli::{busway, lines, run, stderr},
    guests::probe,
    hub::{TestHub, until, within},
};
use serde_json::{Value, json};
use std::{path::Path, process::Output, process::Stdio};
use tempfile::{TempDir, tempdir};
use tokio::io::AsyncWriteExt;

/// Runs `busway journal` on a data directory.
async fn journal(data: &Path, args: &[&str], input: &str) -> Output {
    let mut command = busway();
    let mut child = command.arg("journal").args(args).arg("--data").arg(data).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // A program that ends early does not read everything.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    within(async { tokio::join!(child.wait_with_output(), write) }).await.0.unwrap()
}

async fn durable() -> TestHub {
    TestHub::durable(tempdir().unwrap(), |_| ()).await
}

/// A data directory with 20 events, and what they were.
async fn twenty() -> (TempDir, Vec<Value>) {
    let hub = durable().await;
    for index in 1..=20 {
        let event = json!({"type": if index % 2 == 0 { "even" } else { "odd" }, "data": {"n": index, "t": "ü 1.10"},
            "metadata": {"event_id": format!("e{index}"), "correlation_id": "c", "timestamp": "2001-02-03T04:05:06.789012Z",
                         "tags": ["x"], "extensions": {"a": 1}}});
        assert_eq!(hub.post("/v1/events", &event).await.0, 200);
    }
    let events = hub.events().await;
    (hub.end().await, events)
}

fn damage(data: &Path, sql: &str) {
    rusqlite::Connection::open(data.join("busway.db")).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn info_says_what_a_journal_holds_also_while_a_hub_runs_on_it() {
    let hub = durable().await;
    hub.install("probe", probe(1), "[retry]\nattempts = 1\n").await;
    hub.publish("probe.reject", json!(null)).await;
    hub.publish("probe.count", json!(null)).await;
    hub.events_of("probed.count", 1).await;
    until(|| hub.bus().metrics().dead_letters.get() == 1).await;
    let info = async |data: &Path| {
        let output = journal(data, &["info"], "").await;
        assert!(output.status.success(), "{}", stderr(&output));
        lines(&output).remove(0)
    };
    let data = hub.dir.path().join("data");
    let running = info(&data).await;
    assert_eq!((&running["closed_cleanly"], &running["open_by"]), (&json!(false), &json!(std::process::id())));
    let (epoch, head) = (json!(hub.bus().log().epoch()), hub.bus().log().head());
    assert_eq!((&running["epoch"], &running["head"], &running["events"]), (&epoch, &json!(head), &json!(head)));
    let dir = hub.end().await;
    let ended = info(&data).await;
    assert_eq!((&ended["closed_cleanly"], ended.get("open_by"), &ended["oldest"]), (&json!(true), None, &json!(1)));
    let head = ended["head"].as_u64().unwrap();
    let handler =
        json!({"plugin": "probe", "done": head, "behind": 0, "removed": false, "retries": 0, "dead_letters": 1});
    assert_eq!((&ended["handlers"], &ended["dead_letters"]), (&json!([handler]), &json!(1)));
    assert_eq!((&ended["kv"][0]["plugin"], &ended["kv"][0]["keys"]), (&json!("probe"), &json!(1)));
    assert!(ended["schema"].as_u64() >= Some(1) && ended["bytes"].as_u64() > Some(8_192), "{ended}");
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_journal_is_named_and_nothing_is_made_there() {
    let dir = tempdir().unwrap();
    for command in ["info", "verify", "export"] {
        let output = journal(&dir.path().join("none"), &[command], "").await;
        assert!(output.status.code() == Some(1) && stderr(&output).contains("no journal here"), "{}", stderr(&output));
    }
    assert!(!dir.path().join("none").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_is_content_with_a_whole_journal_and_names_each_damaged_range_of_another() {
    let (dir, _) = twenty().await;
    let data = dir.path().join("data");
    let output = journal(&data, &["verify"], "").await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("20 events"), "{text}{}", stderr(&output));
    damage(
        &data,
        "UPDATE events SET data = '{}' WHERE seq = 5; DELETE FROM events WHERE seq IN (8, 9);
                   UPDATE events SET time_us = 1 WHERE seq IN (12, 13); DELETE FROM events WHERE seq = 14;",
    );
    let output = journal(&data, &["verify"], "").await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for range in ["5–5: not what was written", "8–9: missing", "12–14: 1 missing, 2 not what was written"] {
        assert!(text.contains(range), "{range} in {text}");
    }
    let verified = lines(&journal(&data, &["verify", "--json"], "").await).remove(0);
    assert_eq!((&verified["whole"], &verified["events"]), (&json!(false), &json!(14)));
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 3);
    damage(&data, "UPDATE events SET crc = 0 WHERE seq >= 19;");
    let text = String::from_utf8(journal(&data, &["verify"], "").await.stdout).unwrap();
    assert!(text.contains("19–20: not what was written"), "also at the end: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_cannot_be_read_are_named_and_what_is_around_them_is_saved() {
    let hub = durable().await;
    let text = "x".repeat(1_000);
    let events = (1..=2_000).map(|index| busway::event::NewEvent::new("n").data(json!([index, text])).unwrap());
    hub.bus().publish_all(events.collect()).await.unwrap();
    let dir = hub.end().await;
    let data = dir.path().join("data");
    let file = data.join("busway.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 8_192 * 8_192;
    bytes[middle..middle + 3 * 8_192].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let verified = lines(&journal(&data, &["verify", "--json"], "").await).remove(0);
    let damaged = verified["damaged"].as_array().unwrap();
    assert!(!verified["integrity"].as_array().unwrap().is_empty() && !damaged.is_empty(), "{verified}");
    let lost: u64 = damaged.iter().map(|one| one["to"].as_u64().unwrap() - one["from"].as_u64().unwrap() + 1).sum();
    assert!(lost < 100, "three pages hold fewer: {verified}");
    let output = journal(&data, &["export"], "").await;
    assert_eq!((output.status.code(), lines(&output).len() as u64), (Some(1), 2_000 - lost));
    assert!(stderr(&output).contains("damaged and passed over"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_and_imported_is_the_same_events_under_the_same_seqs_in_a_new_epoch() {
    let hub = durable().await;
    hub.install("probe", probe(1), "").await;
    hub.publish("probe.echo", json!({"t": "ü 1.10"})).await;
    hub.events_of("probed.echo", 1).await;
    let (events, epoch) = (hub.events().await, hub.bus().log().epoch());
    assert!(events.iter().any(|event| event["metadata"]["hops"] == 1 && event["metadata"]["causation_id"].is_string()));
    assert!(events.iter().any(|event| event["metadata"]["chain"].is_array()));
    let data = hub.dir.path().join("data");
    let exported = journal(&data, &["export"], "").await;
    assert!(exported.status.success(), "also from under a running hub: {}", stderr(&exported));
    assert_eq!(lines(&exported), events);
    // As if retention had taken the first.
    let text = String::from_utf8(exported.stdout).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    let copy = tempdir().unwrap();
    let output = journal(&copy.path().join("data"), &["import", "-"], rest).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let again = journal(&copy.path().join("data"), &["export"], "").await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), rest);
    let whole = journal(&copy.path().join("data"), &["verify"], "").await;
    assert!(whole.status.success(), "{whole:?}");
    let copied = TestHub::durable(copy, |_| ()).await;
    assert_eq!((copied.bus().log().oldest(), copied.events().await), (2, events[1..].to_vec()));
    assert_ne!(copied.bus().log().epoch(), epoch);
    assert_eq!(copied.publish("a", json!(null)).await, events.len() as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_can_be_a_part() {
    let (dir, events) = twenty().await;
    let output =
        journal(&dir.path().join("data"), &["export", "--from", "5", "--to", "12", "--types", "ev*,none"], "").await;
    let expected: Vec<Value> = events[4..12].iter().filter(|event| event["type"] == "even").cloned().collect();
    assert_eq!((output.status.code(), lines(&output)), (Some(0), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_only_where_there_are_no_events_and_no_hub() {
    let (dir, _) = twenty().await;
    let data = dir.path().join("data");
    let line = r#"{"seq":7,"type":"a"}"#;
    let output = journal(&data, &["import", "-"], line).await;
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains("import.not-empty") && said.contains("1 to 20"), "{said}");
    let hub = durable().await;
    let output = journal(&hub.dir.path().join("data"), &["import", "-"], line).await;
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains(&format!("process {}", std::process::id())), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_names_the_line_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    for (bad, code) in [
        (r#"{"seq":2,"type":"b"}"#, "import.seq"),
        (r#"{"seq":5,"type":"b","metadata":{"hops":1,"chain":[5]}}"#, "event.chain"),
        (r#"{"seq":5,"type":"b","metadata":{"hops":1,"chain":[1,2]}}"#, "event.chain"),
        (r#"{"type":"b"}"#, "event.json"),
        (r#"{"seq":3,"type":""}"#, "event.type"),
        ("nonsense", "event.json"),
    ] {
        let output = journal(dir.path(), &["import", "-"], &format!("{{\"seq\":2,\"type\":\"a\"}}\n\n{bad}\n")).await;
        let said = stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains("line 3") && said.contains(code), "{said}");
    }
    let good = "{\"seq\":2,\"type\":\"a\"}\n{\"seq\":5,\"type\":\"b\"}\n";
    let output = journal(dir.path(), &["import", "-"], good).await;
    assert!(output.status.success() && stderr(&output).contains("3–4 are missing"), "{}", stderr(&output));
    let exported = lines(&journal(dir.path(), &["export"], "").await);
    assert_eq!((&exported[0]["seq"], &exported[1]["seq"], exported.len()), (&json!(2), &json!(5), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_cut_off_is_taken_for_whole_by_nobody_and_can_be_done_again() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let mut child =
        busway().args(["journal", "import", "-", "--data"]).arg(&data).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line = |seq: u64| format!("{{\"seq\":{seq},\"type\":\"a\"}}\n");
    let many: String = (1..=25_000).map(line).collect();
    stdin.write_all(many.as_bytes()).await.unwrap();
    let head = || {
        let connection = rusqlite::Connection::open(data.join("busway.db")).unwrap();
        connection.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    until(|| data.join("busway.db").exists() && head() >= 20_000).await;
    child.kill().await.unwrap();
    let mut config = busway::config::Config::default();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.plugins.dir = dir.path().join("plugins");
    config.journal.dir = data.clone();
    let error = within(busway::hub::Hub::start(config)).await.err().expect("a part is not the whole").to_string();
    assert!(error.contains("import again"), "{error}");
    let output = journal(&data, &["import", "-"], &line(1)).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(lines(&journal(&data, &["export"], "").await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_replayed_and_purged_from_the_command_line() {
    let hub = durable().await;
    hub.install("probe", probe(1), "[retry]\nattempts = 1\n").await;
    for _ in 0..3 {
        hub.publish("probe.reject", json!(null)).await;
    }
    until(|| hub.bus().metrics().dead_letters.get() == 3).await;
    let output = run(&hub, &["dead-letters", "list", "--plugin", "probe", "--limit", "2"], "").await;
    let page = lines(&output).remove(0);
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 2);
    assert!(stderr(&output).contains("--after 2"), "{}", stderr(&output));
    let shown = lines(&run(&hub, &["dead-letters", "show", "2"], "").await).remove(0);
    assert_eq!(shown, page["dead_letters"][1]);
    let output = run(&hub, &["dead-letters", "replay", "1", "99"], "").await;
    assert_eq!(
        (output.status.code(), lines(&output)),
        (Some(1), vec![json!({"replayed": 1, "left": [], "unknown": 1})])
    );
    until(|| hub.bus().metrics().dead_letters.get() == 4).await;
    let output = run(&hub, &["dead-letters", "purge", "2", "99"], "").await;
    assert_eq!((output.status.code(), lines(&output)), (Some(1), vec![json!({"purged": 1})]));
    assert!(stderr(&output).contains("dead-letter.unknown"), "{}", stderr(&output));
    let output = run(&hub, &["dead-letters", "purge", "--since", "2001-01-01T00:00:00Z"], "").await;
    assert_eq!((output.status.code(), lines(&output)), (Some(0), vec![json!({"purged": 2})]));
    assert_eq!(run(&hub, &["dead-letters", "purge"], "").await.status.code(), Some(64));
}
