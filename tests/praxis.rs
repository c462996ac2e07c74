//! What the predecessor did not keep: a test for each defect that shows Busway free of it, in the order of the list.

use crate::{
    client::Client,
    hub::{TestHub, until},
};
use busway::event::{EventFilter, NewEvent};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn defect_1_asynchronous_handlers_are_called() {
    let hub = TestHub::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let _subscription = hub.bus().subscribe(EventFilter::types(["a"]), move |_| {
        let counted = counted.clone();
        async move {
            tokio::task::yield_now().await;
            counted.fetch_add(1, SeqCst);
        }
    });
    hub.bus().publish(NewEvent::new("a")).await.unwrap();
    until(|| calls.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn defect_2_the_buffer_size_bounds_the_buffer() {
    let hub = TestHub::with(|config| {
        config.log.buffer_size = 2.try_into().unwrap();
        config.log.ingress_events = 2.try_into().unwrap();
    })
    .await;
    let accepted = (0..2_000).filter(|_| hub.bus().try_publish(NewEvent::new("a")).is_ok()).count();
    assert_eq!(accepted, 2, "nothing can be taken out of the queue meanwhile");
    until(|| hub.bus().log().head() == 2).await;
    for _ in 0..100 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
        assert!(hub.bus().log().head() + 1 - hub.bus().log().oldest() <= 2);
    }
}

/// A client that never reads, beside one that does.
#[tokio::test(flavor = "multi_thread")]
async fn defect_3_a_client_that_does_not_read_wedges_nothing() {
    let hub = TestHub::start().await;
    let mut stuck = TcpStream::connect(hub.addr()).await.unwrap();
    let handshake = "GET /ws/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stuck.write_all(handshake.as_bytes()).await.unwrap();
    until(|| hub.bus().stats().websocket_connections == 1).await;
    let mut healthy = Client::connect(&hub, "?types=a").await;
    let processed = Arc::new(AtomicUsize::new(0));
    let counted = processed.clone();
    let _subscription = hub.bus().subscribe_sync(EventFilter::types(["a"]), move |_| {
        counted.fetch_add(1, SeqCst);
    });
    let data = "x".repeat(4_000);
    for _ in 0..2_000 {
        hub.bus().publish(NewEvent::new("a").data(&data).unwrap()).await.unwrap();
    }
    for _ in 0..2_000 {
        healthy.next_of("a").await;
    }
    until(|| processed.load(SeqCst) == 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_4_a_connection_that_closes_during_a_broadcast_is_an_error_for_nobody() {
    let hub = TestHub::start().await;
    let mut healthy = Client::connect(&hub, "?types=a").await;
    for index in 0..200 {
        let leaving = Client::connect(&hub, "").await;
        hub.publish("a", json!(index)).await;
        drop(leaving);
    }
    for index in 0..200 {
        assert_eq!(healthy.next_of("a").await["data"], json!(index));
    }
    until(|| hub.bus().stats().websocket_connections == 1).await;
    assert_eq!(hub.bus().stats().handler_errors, 0);
}

struct Subscriber(AtomicUsize);

#[tokio::test(flavor = "multi_thread")]
async fn defect_5_a_weak_subscription_lives_as_long_as_its_subscriber() {
    let hub = TestHub::start().await;
    let subscriber = Arc::new(Subscriber(AtomicUsize::new(0)));
    hub.bus().subscribe_weak(EventFilter::all(), &subscriber, |subscriber, _| async move {
        subscriber.0.fetch_add(1, SeqCst);
    });
    for _ in 0..3 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
    }
    until(|| subscriber.0.load(SeqCst) == 3).await;
    until(|| hub.bus().stats().active_handlers == 0).await;
    drop(subscriber);
    hub.bus().publish(NewEvent::new("a")).await.unwrap();
    until(|| hub.bus().stats().subscribers == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_6_active_handlers_comes_down_again_and_subscriptions_can_end() {
    let hub = TestHub::start().await;
    let subscription = hub.bus().subscribe_sync(EventFilter::all(), |_| ());
    for _ in 0..10 {
        hub.bus().publish(NewEvent::new("a")).await.unwrap();
    }
    until(|| hub.bus().stats().events_processed == 10).await;
    until(|| hub.bus().stats().active_handlers == 0).await;
    subscription.end().await;
    assert_eq!(hub.bus().stats().subscribers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_7_publish_and_wait_for_the_reply_exists() {
    let hub = TestHub::start().await;
    let bus = hub.bus().clone();
    let _subscription = hub.bus().subscribe(EventFilter::types(["ask"]), move |event| {
        let bus = bus.clone();
        async move {
            let id = event.metadata.correlation_id.clone().unwrap();
            bus.publish(NewEvent::new("answer").correlation_id(id)).await.map(|_| ())
        }
    });
    let reply_type = "answer".parse().unwrap();
    let request = hub.bus().request(NewEvent::new("ask"), &reply_type, Duration::from_secs(20));
    assert_eq!(request.await.unwrap().reply.event_type, "answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_8_the_four_ws_events_are_published() {
    let hub = TestHub::with(|config| config.websocket.announce_sent = true).await;
    let mut client = Client::connect(&hub, "").await;
    client.say_text("hello").await;
    client.ask(json!({"op": "ping"}), "pong").await;
    let id = client.welcome["connection_id"].clone();
    drop(client);
    let events = hub.events_until(|events| events.iter().any(|event| event["type"] == "ws.client_disconnected")).await;
    let of = |event_type: &str| events.iter().find(|event| event["type"] == event_type).unwrap()["data"].clone();
    assert_eq!(of("ws.client_connected")["connection_id"], id);
    assert_eq!(of("ws.message_received"), json!({"connection_id": id, "message": "hello"}));
    assert_eq!(of("ws.message_sent"), json!({"connection_id": id, "op": "pong"}));
    assert_eq!(of("ws.client_disconnected")["connection_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_9_unsubscribing_from_everything_delivers_nothing() {
    let hub = TestHub::start().await;
    for message in [json!({"op": "unsubscribe"}), json!({"op": "subscribe", "filter": {"event_types": []}})] {
        let mut client = Client::connect(&hub, "").await;
        client.ask(message, "subscribed").await;
        hub.publish("a", json!(null)).await;
        // Had the event been sent, it would come before the answer.
        client.say(json!({"op": "ping"})).await;
        assert_eq!(client.next().await["op"], "pong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_10_there_is_one_json_form_of_an_event() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=a").await;
    let event = json!({"type": "a", "data": {"x": [1, "ü"]}, "metadata": {"source": "s", "correlation_id": "c", "tags": ["t"],
                       "causation_id": "p", "extensions": {"traceparent": "00"}}});
    let (status, _) = hub.post("/v1/events", &event).await;
    assert_eq!(status, 200);
    let over_websocket = client.next_of("a").await;
    let seq = over_websocket["seq"].as_u64().unwrap();
    let (_, page) = hub.get(&format!("/v1/events?from={seq}&limit=1")).await;
    let mut stream = hub.http.get(hub.url(&format!("/v1/events/stream?from={seq}"))).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("data: ") || !text.ends_with("\n\n") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    let data = text.split_once("data: ").unwrap().1.lines().next().unwrap();
    let over_sse: Value = serde_json::from_str(data).unwrap();
    assert_eq!(over_websocket, page["events"][0]);
    assert_eq!(over_websocket, over_sse);
    for (key, value) in event["metadata"].as_object().unwrap() {
        assert_eq!(over_websocket["metadata"][key], *value);
    }
}
