//! The invariants of the design, each with a test of its name.

use crate::{
    client::Client,
    hub::{TestHub, until, within},
};
use busway::{
    bus::PublishError,
    event::{EventFilter, NewEvent},
    log::{AppendError, Step},
};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// One thread and no pause: the sequencer cannot run, so the queue must fill, and say so.
#[tokio::test]
async fn i1_publishing_never_waits_for_a_consumer_and_full_is_an_error_that_the_publisher_sees() {
    let hub = TestHub::with(|config| config.log.ingress_events = 10.try_into().unwrap()).await;
    hub.bus().subscribe_all(|_| std::future::pending::<()>()).detach();
    let results: Vec<_> = (0..25).map(|_| hub.bus().try_publish(NewEvent::new("a"))).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    assert_eq!(results[10], Err(PublishError::Append(AppendError::Full)));
    until(|| hub.bus().log().head() == 10).await;
    // The consumer is stuck on its first event; publishing goes on.
    for _ in 0..100 {
        within(hub.bus().publish(NewEvent::new("a"))).await.unwrap();
    }
    let stats = hub.bus().stats();
    assert_eq!((stats.events_sent, stats.events_published, stats.events_rejected.full), (125, 110, 15));
    let too_many = hub.bus().publish_all((0..11).map(|_| NewEvent::new("a")).collect()).await;
    assert!(matches!(too_many, Err(PublishError::Append(AppendError::TooLarge { events: 11, .. }))), "{too_many:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_nothing_disappears_silently_and_the_sums_balance() {
    let hub = TestHub::with(|config| {
        config.log.buffer_size = 64.try_into().unwrap();
        config.log.ingress_events = 16.try_into().unwrap();
    })
    .await;
    let seen = Arc::new(Mutex::new(0u64));
    let counted = seen.clone();
    let _subscription = hub.bus().subscribe_sync(EventFilter::types(["good"]), move |_| *counted.lock().unwrap() += 1);
    let publishers = (0..4).map(|_| {
        let bus = hub.bus().clone();
        tokio::spawn(async move {
            let (mut accepted, mut rejected) = (0u64, 0u64);
            for index in 0..2_000 {
                let event = NewEvent::new(if index % 10 == 0 { "" } else { "good" });
                match bus.try_publish(event) {
                    Ok(()) => accepted += 1,
                    Err(_) => rejected += 1,
                }
            }
            (accepted, rejected)
        })
    });
    let (mut accepted, mut rejected) = (0, 0);
    for publisher in publishers.collect::<Vec<_>>() {
        let (yes, no) = publisher.await.unwrap();
        (accepted, rejected) = (accepted + yes, rejected + no);
    }
    until(|| hub.bus().log().head() == accepted).await;
    let stats = hub.bus().stats();
    assert_eq!((stats.events_sent, stats.events_published), (8_000, accepted));
    assert_eq!(stats.events_rejected.invalid, 800);
    assert_eq!(stats.events_rejected.invalid + stats.events_rejected.full, rejected);
    // What the consumer got and what it was told it missed is everything.
    until(|| *seen.lock().unwrap() + hub.bus().stats().events_missed >= accepted).await;
    let metrics = hub.bus().metrics();
    assert_eq!(metrics.tail_evicted.get(), hub.bus().log().oldest() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_all_consumers_see_the_same_events_in_the_same_order() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(&hub, "?types=n").await);
    }
    let publishers = (0..4).map(|publisher| {
        let bus = hub.bus().clone();
        tokio::spawn(async move {
            for index in 0..250 {
                bus.publish(NewEvent::new("n").data(json!([publisher, index])).unwrap()).await.unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    let mut of_clients = Vec::new();
    for client in &mut clients {
        let mut events = Vec::new();
        for _ in 0..1_000 {
            events.push(client.next_of("n").await);
        }
        of_clients.push(events);
    }
    let in_log: Vec<_> = hub.events().await.into_iter().filter(|event| event["type"] == "n").collect();
    assert_eq!(in_log.len(), 1_000);
    assert!(of_clients.iter().all(|events| *events == in_log));
}

/// A cursor is a number: while it is stuck, what it has not read is not kept for it.
#[tokio::test]
async fn i4_no_consumer_holds_memory_for_another() {
    let hub = TestHub::with(|config| config.log.buffer_size = 4.try_into().unwrap()).await;
    let mut stuck = hub.bus().log().cursor_at_head();
    let first = hub.bus().subscribe_sync(EventFilter::all(), |_| ());
    hub.bus().publish(NewEvent::new("first")).await.unwrap();
    let weak = match hub.bus().log().cursor(1).read().await {
        Some(Step::Events(chunk)) => Arc::downgrade(&chunk.events()[0]),
        other => panic!("{other:?}"),
    };
    assert!(weak.upgrade().is_some());
    for _ in 0..10 {
        hub.bus().publish(NewEvent::new("later")).await.unwrap();
    }
    until(|| weak.upgrade().is_none()).await;
    let Some(Step::Gap(gap)) = stuck.next().await else { panic!("it is told what it missed") };
    assert_eq!((gap.from, gap.to), (1, 7));
    drop(first);
}

/// With the ingress queue full to the brim, what handlers commit still goes through: it has a queue of its own.
#[tokio::test]
async fn i5_a_commit_never_waits_on_the_ingress_queue() {
    let hub = TestHub::with(|config| config.log.ingress_events = 1.try_into().unwrap()).await;
    hub.bus().try_publish(NewEvent::new("a")).unwrap();
    assert_eq!(hub.bus().try_publish(NewEvent::new("b")), Err(PublishError::Append(AppendError::Full)));
    let event = Arc::new(NewEvent::new("emitted").admit().unwrap());
    let mut committer = hub.bus().log().committer();
    assert!(committer.commit(vec![event], Vec::new()));
    within(committer.result()).await.unwrap();
    assert_eq!(hub.bus().log().head(), 2);
}
