//! What a journal keeps and waits for where events are large, where dead letters are many, and
//! where the wall clock was wrong.

use busway::{
    event::{Event, NewEvent},
    journal::{self, Change, DeadLetter, FILE, Found, JournalConfig, Opened},
};
use rusqlite::Connection;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use tempfile::{TempDir, tempdir};

const MIB: usize = 1 << 20;
const DAY_MS: i64 = 86_400_000;

fn event(seq: u64, bytes: usize) -> Arc<Event> {
    Arc::new(Event { seq, ..NewEvent::new("n").data("x".repeat(bytes)).unwrap().admit().unwrap() })
}

fn letter(plugin: &str, seq: u64, bytes: usize) -> Change {
    let (plugin, event) = (plugin.into(), format!("\"{}\"", "x".repeat(bytes)));
    let message = "no".to_owned();
    Change::Dead(Box::new(DeadLetter { plugin, seq, code: "reject", message, attempts: 1, version: None, event }))
}

fn open(dir: &Path, change: impl FnOnce(&mut JournalConfig)) -> Opened {
    let mut config = JournalConfig { dir: dir.to_owned(), past_handlers: true, ..JournalConfig::default() };
    change(&mut config);
    journal::open(&config, (Duration::from_secs(120), 1_000), Arc::default()).unwrap().0
}

/// A journal of `count` small events that was closed, and what `sql` made of it since.
fn altered(count: u64, sql: &str) -> TempDir {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path(), |_| ());
    let pause = Duration::from_secs(3);
    let retry = Change::Retry { plugin: "p".into(), seq: 1, attempt: 2, pause, code: "retry" };
    let events: Vec<_> = (1..=count).map(|seq| event(seq, 1)).collect();
    opened.writer.commit(&events, &[Change::Opened { plugin: "p".into(), done: 0 }, retry]).unwrap();
    drop(opened);
    Connection::open(dir.path().join(FILE)).unwrap().execute_batch(sql).unwrap();
    dir
}

/// Whose dead letters there are, and of which events.
fn letters(dir: &Path) -> Vec<(String, u64)> {
    let connection = Connection::open(dir.join(FILE)).unwrap();
    let mut statement = connection.prepare("SELECT plugin, seq FROM dead_letters ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn with_large_events_what_stays_is_close_under_the_limit() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path(), |config| config.max_bytes = 20 * MIB as u64);
    for seq in 1..=40 {
        opened.writer.commit(&[event(seq, 1_000_000)], &[]).unwrap();
        let kept = seq + 1 - opened.journal.oldest();
        assert!(kept <= 20, "{kept} MB are left of 20 MiB");
        assert!(kept >= 17.min(seq), "{kept} MB are left of 20 MiB after {seq}");
    }
}

#[test]
fn dead_letters_have_a_budget_and_events_do_not_pay_for_them() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path(), |config| {
        (config.max_bytes, config.max_dead_letter_bytes) = (20 * MIB as u64, 10 * MIB as u64);
    });
    for seq in 1..=40 {
        opened.writer.commit(&[event(seq, 100)], &[letter("greedy", seq, MIB)]).unwrap();
    }
    opened.writer.commit(&[], &[letter("modest", 1, 100)]).unwrap();
    opened.writer.tidy();
    assert_eq!(opened.journal.oldest(), 1, "no event went");
    let kept: Vec<_> = (32..=40).map(|seq| ("greedy".to_owned(), seq)).chain([("modest".to_owned(), 1)]).collect();
    assert_eq!(letters(dir.path()), kept, "the newest of each");
}

#[test]
fn over_the_budget_of_all_the_largest_owner_pays_and_the_newest_letter_stays() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path(), |config| config.max_total_dead_letter_bytes = 3_000);
    opened.writer.commit(&[], &[letter("small", 1, 500)]).unwrap();
    for seq in 1..=5 {
        opened.writer.commit(&[], &[letter("large", seq, 1_000)]).unwrap();
    }
    let found = letters(dir.path());
    assert_eq!(found, [("small".to_owned(), 1), ("large".to_owned(), 5)]);
    opened.writer.commit(&[], &[letter("huge", 1, 9_000)]).unwrap();
    assert!(letters(dir.path()).contains(&("huge".to_owned(), 1)), "the newest stays, however large");
}

#[tokio::test]
async fn a_retry_waits_no_longer_than_was_asked_though_the_clock_went_back() {
    let dir = altered(2, "UPDATE retries SET due_ms = due_ms + 86400000");
    let opened = open(dir.path(), |_| ());
    let retries = opened.journal.retries("p".into(), BTreeSet::new()).await.unwrap().found;
    let pauses: Vec<_> = retries.iter().map(|(retry, _)| retry.pause).collect();
    assert_eq!(pauses, [Duration::from_secs(3)]);
}

#[test]
fn an_event_from_the_future_does_not_stop_retention_by_age() {
    let sql = format!(
        "UPDATE events SET received_ms = received_ms - {0} WHERE seq < 90;
         UPDATE events SET received_ms = received_ms + 365 * {DAY_MS} WHERE seq = 5",
        10 * DAY_MS
    );
    let dir = altered(100, &sql);
    let mut opened = open(dir.path(), |_| ());
    opened.writer.tidy();
    assert_eq!(opened.journal.oldest(), 90);
}

#[test]
fn a_clock_that_is_ten_days_ahead_at_the_start_removes_nothing() {
    let dir = altered(100, &format!("UPDATE events SET received_ms = received_ms - {}", 10 * DAY_MS));
    let mut opened = open(dir.path(), |_| ());
    opened.writer.tidy();
    assert_eq!((opened.journal.oldest(), opened.recent.len()), (1, 100), "and what was published is still known");
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_removes_nothing_that_came_before() {
    let dir = altered(100, &format!("UPDATE events SET received_ms = received_ms + 365 * {DAY_MS} WHERE seq > 50"));
    let mut opened = open(dir.path(), |_| ());
    opened.writer.tidy();
    assert_eq!(opened.journal.oldest(), 1);
    assert!(matches!(opened.journal.events(1, 100).await, Found::Events(events) if events.len() == 100));
}
