//! The bus as a library.

use crate::hub::{TestHub, until, within};
use busway::{
    bus::{PublishError, RequestError},
    event::{EventFilter, NewEvent},
    log::AppendError,
};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_get_seqs_in_a_row_and_are_seen_in_that_order_by_everyone() {
    let hub = TestHub::start().await;
    let seen: [Arc<Mutex<Vec<u64>>>; 3] = Default::default();
    let subscriptions = seen.clone().map(|seen| {
        hub.bus().subscribe_sync(EventFilter::types(["n"]), move |event| seen.lock().unwrap().push(event.seq))
    });
    let publishers = (0..8).map(|_| {
        let bus = hub.bus().clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                bus.publish(NewEvent::new("n")).await.unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    let expected: Vec<u64> = (1..=800).collect();
    for seen in &seen {
        until(|| seen.lock().unwrap().len() == 800).await;
        assert_eq!(*seen.lock().unwrap(), expected);
    }
    drop(subscriptions);
}

#[tokio::test]
async fn several_events_are_published_all_or_nothing() {
    let hub = TestHub::start().await;
    let bad = vec![NewEvent::new("a"), NewEvent::new(""), NewEvent::new("c")];
    let error = hub.bus().publish_all(bad).await.unwrap_err();
    assert!(matches!(&error, PublishError::Invalid { index: 1, .. }), "{error}");
    let good = hub.bus().publish_all((0..500).map(|_| NewEvent::new("a")).collect()).await.unwrap();
    assert!(good.iter().zip(1..).all(|(receipt, seq)| receipt.seq == seq));
}

#[tokio::test]
async fn publishing_to_a_stopped_bus_is_an_error_that_the_caller_sees() {
    let hub = TestHub::start().await;
    let bus = hub.bus().clone();
    assert!(hub.stop().await);
    assert_eq!(bus.publish(NewEvent::new("a")).await, Err(PublishError::Append(AppendError::Stopped)));
    assert_eq!(bus.try_publish(NewEvent::new("a")), Err(PublishError::Append(AppendError::Stopped)));
    assert!(!bus.stats().running);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_handlers_finish_what_was_published() {
    let hub = TestHub::start().await;
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    hub.bus()
        .subscribe(EventFilter::all(), move |_| {
            let counted = counted.clone();
            async move {
                tokio::task::yield_now().await;
                counted.fetch_add(1, SeqCst);
            }
        })
        .detach();
    for _ in 0..1_000 {
        hub.bus().try_publish(NewEvent::new("a")).unwrap();
    }
    assert!(hub.stop().await, "it drains in time");
    assert_eq!(done.load(SeqCst), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_counted_and_ends_nothing() {
    let hub = TestHub::start().await;
    let after = Arc::new(AtomicUsize::new(0));
    let counted = after.clone();
    let _subscription = hub.bus().subscribe(EventFilter::types(["a"]), move |event| {
        let counted = counted.clone();
        async move {
            assert!(event.seq != 1, "the first one panics");
            counted.fetch_add(1, SeqCst);
            if event.seq == 2 { Err("the second one fails") } else { Ok(()) }
        }
    });
    let _early = hub.bus().subscribe_sync(EventFilter::types(["a"]), |_| -> () { panic!("each time") });
    for _ in 0..3 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
    }
    until(|| hub.bus().stats().events_processed == 6).await;
    assert_eq!(after.load(SeqCst), 2);
    let stats = hub.bus().stats();
    assert_eq!((stats.handler_errors, hub.bus().metrics().handler_panics.get()), (5, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_when_it_is_dropped() {
    let hub = TestHub::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let subscription = hub.bus().subscribe_sync(EventFilter::all(), move |_| {
        counted.fetch_add(1, SeqCst);
    });
    hub.bus().publish(NewEvent::new("a")).await.unwrap();
    until(|| calls.load(SeqCst) == 1).await;
    within(subscription.end()).await;
    hub.bus().publish(NewEvent::new("a")).await.unwrap();
    until(|| hub.bus().stats().subscribers == 0).await;
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_handlers_are_at_work_than_allowed() {
    let hub = TestHub::with(|config| config.bus.max_concurrent_handlers = 2.try_into().unwrap()).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..10 {
        let (now, most) = (now.clone(), most.clone());
        hub.bus()
            .subscribe_all(move |_| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, SeqCst);
                }
            })
            .detach();
    }
    for _ in 0..50 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
    }
    until(|| hub.bus().stats().events_processed == 500).await;
    assert_eq!(most.load(SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_by_the_first_later_event_of_the_type_with_its_correlation_id() {
    let hub = TestHub::start().await;
    let bus = hub.bus().clone();
    // An earlier event with the same id, and later ones of another type or another id, are no replies.
    bus.publish(NewEvent::new("pong").correlation_id("c").data("early").unwrap()).await.unwrap();
    let answering = bus.clone();
    let _subscription = hub.bus().subscribe(EventFilter::types(["ping"]), move |event| {
        let bus = answering.clone();
        async move {
            let id = event.metadata.correlation_id.clone().unwrap();
            for (event_type, id) in [("pang", &*id), ("pong", "other"), ("pong", &*id), ("pong", &*id)] {
                bus.publish(NewEvent::new(event_type).correlation_id(id).data(event.seq).unwrap()).await.unwrap();
            }
        }
    });
    let ping = NewEvent::new("ping").correlation_id("c");
    let reply = within(bus.request(ping, &"pong".parse().unwrap(), Duration::from_secs(20))).await.unwrap();
    assert_eq!((reply.request.seq, reply.reply.seq, reply.reply.data.get()), (2, 5, "2"));

    // A hundred at once, each with an id that it was given.
    let requests = (0..100).map(|_| {
        let bus = bus.clone();
        tokio::spawn(async move {
            bus.request(NewEvent::new("ping"), &"p?ng".parse().unwrap(), Duration::from_secs(20)).await
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let reply = within(request).await.unwrap().unwrap();
        assert_eq!(reply.reply.data.get(), reply.request.seq.to_string());
    }
}

#[tokio::test]
async fn a_request_without_an_answer_times_out() {
    let hub = TestHub::start().await;
    let timeout = Duration::from_millis(30);
    let error = within(hub.bus().request(NewEvent::new("ping"), &"pong".parse().unwrap(), timeout)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
    assert_eq!(hub.bus().metrics().request_timeouts.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_data_takes_an_event_apart_and_together() {
    let hub = TestHub::start().await;
    hub.bus().publish_data("a", json!({"x": 1}), Some("s"), Some("c"), &["t", "u"]).await.unwrap();
    let event = &hub.events().await[0];
    assert_eq!((&event["data"], &event["metadata"]["source"]), (&json!({"x": 1}), &json!("s")));
    assert_eq!((&event["metadata"]["correlation_id"], &event["metadata"]["tags"]), (&json!("c"), &json!(["t", "u"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fell_behind_misses_what_is_counted_and_goes_on() {
    let hub = TestHub::with(|config| config.log.buffer_size = 8.try_into().unwrap()).await;
    let (gate, go) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (held, open, noted) = (gate.clone(), go.clone(), seen.clone());
    let _subscription = hub.bus().subscribe_all(move |event| {
        let (held, open, noted) = (held.clone(), open.clone(), noted.clone());
        async move {
            if !held.swap(true, SeqCst) {
                open.notified().await;
            }
            noted.lock().unwrap().push(event.seq);
        }
    });
    hub.bus().publish(NewEvent::new("a")).await.unwrap();
    until(|| gate.load(SeqCst)).await;
    for _ in 0..99 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
    }
    go.notify_one();
    until(|| seen.lock().unwrap().last() == Some(&100)).await;
    let seen = seen.lock().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    // The hub's own cursors may have missed some as well.
    let missed = 100 - seen.len() as u64;
    assert!(missed > 0 && hub.bus().stats().events_missed >= missed);
}
