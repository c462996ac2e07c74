//! Tests of views: one budget of bytes for all of them, and threads that are given back.

use super::*;
use crate::{event::NewEvent, log::LogConfig, metrics::Door};
use futures_util::FutureExt;
use std::time::Duration;

fn event(event_type: &str, bytes: usize) -> Arc<Event> {
    Arc::new(NewEvent::new(event_type).data("x".repeat(bytes)).unwrap().admit().unwrap())
}

fn question(tag: usize) -> Question {
    let filter = EventFilter { excluded_tags: vec![format!("tag{tag}")], ..EventFilter::default() };
    Question { filter, predicate: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_views_stay_within_one_budget_and_every_client_gets_every_event() {
    const VIEWS: usize = 50;
    const LIMIT: usize = 1 << 20;
    let config = LogConfig { view_bytes: LIMIT, ..LogConfig::default() };
    let log = Log::in_memory(&config, Arc::default());
    let views = Views::new(log.clone());
    let mut cursors: Vec<_> = (0..VIEWS).map(|tag| views.follow(question(tag), Some(1))).collect();
    for _ in 0..100 {
        let events = (0..10).map(|_| event("a", 2_000)).collect();
        log.append(Door::Library, events, false).unwrap().seqs().await.unwrap();
    }
    for cursor in &cursors {
        let mut covered = cursor.view.ring.covered.subscribe();
        covered.wait_for(|head| head.seq == 1_000).await.unwrap();
    }
    // The last to push has seen what all hold; each holds its share at most.
    for cursor in &cursors {
        cursor.view.ring.push(Selection::default(), 1_000);
    }
    let held = log.metrics().view_bytes.get();
    assert!(held <= LIMIT as i64, "{held}");
    for cursor in &mut cursors {
        let mut next = 1;
        while next <= 1_000 {
            let delivery = tokio::time::timeout(Duration::from_secs(60), cursor.next()).await.unwrap();
            let Some(Delivery::Events { entry, from }) = delivery else { panic!("{delivery:?}") };
            for event in entry.events().iter().filter(|event| event.seq >= from) {
                assert_eq!(event.seq, next);
                next += 1;
            }
        }
    }
    drop(cursors);
    assert_eq!(log.metrics().views.get(), 0);
}

#[tokio::test]
async fn comparing_many_events_with_many_globs_gives_the_thread_back() {
    let globs = (0..64).map(|index| format!("*{}{index:04}", "?".repeat(250)).parse().unwrap()).collect();
    let filter = EventFilter { event_types: Some(globs), ..EventFilter::default() }.normalised().unwrap();
    let question = Question { filter, predicate: None };
    let events: Vec<_> = (0..100).map(|_| event(&"x".repeat(255), 1)).collect();
    let mut select = Box::pin(question.select(&events));
    let mut yields = 0;
    let found = loop {
        match select.as_mut().now_or_never() {
            Some(found) => break found,
            None => yields += 1,
        }
    };
    assert!(found.is_empty());
    assert_eq!(yields, 99, "each event is a turn's work");
}
