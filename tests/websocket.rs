//! WebSocket: what docs/api.md says of it.

use crate::{
    client::Client,
    guests::guest,
    hub::{TestHub, until, within},
};
use busway::{config::AdmissionConfig, event::NewEvent};
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::Semaphore,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn the_welcome_names_connection_epoch_and_seq() {
    let hub = TestHub::start().await;
    hub.publish("a", json!(null)).await;
    let client = Client::connect(&hub, "?types=a").await;
    let stats = hub.bus().stats();
    assert_eq!(client.welcome["epoch"], json!(stats.epoch));
    assert!(client.welcome["seq"].as_u64().unwrap() >= 1);
    assert!(client.welcome["connection_id"].as_str().unwrap().len() == 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_choose_the_events() {
    let hub = TestHub::start().await;
    let publish = async |event_type: &str, source: &str, tag: &str| {
        let event = NewEvent::new(event_type).source(source).tag(tag);
        hub.bus().publish(event).await.unwrap().seq
    };
    for (query, matching) in [
        ("?types=task.*,agent.started", vec![0, 1, 3]),
        ("?sources=exec*", vec![0, 3]),
        ("?tags=urgent", vec![0, 2]),
        ("?exclude_tags=urgent&types=t*", vec![1, 2, 3].into_iter().filter(|n| *n != 2).collect()),
        ("?types=nothing", vec![]),
    ] {
        let mut client = Client::connect(&hub, query).await;
        let seqs = [
            publish("task.a", "executor", "urgent").await,
            publish("task.b", "planner", "calm").await,
            publish("tool.a", "planner", "urgent").await,
            publish("agent.started", "executor", "calm").await,
        ];
        let expected: Vec<u64> =
            matching.into_iter().filter(|n: &usize| !query.contains("exclude") || *n != 3).map(|n| seqs[n]).collect();
        client.say(json!({"op": "ping"})).await;
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let message = client.next().await;
            if message["op"] != "pong" {
                seen.push(message["seq"].as_u64().unwrap());
            }
        }
        assert_eq!(seen, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribe_changes_the_filter_without_a_gap() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=a").await;
    hub.publish("a", json!(1)).await;
    assert_eq!(client.next().await["data"], json!(1));
    let answer = client.ask(json!({"op": "subscribe", "id": 7, "filter": {"event_types": ["b"]}}), "subscribed").await;
    assert_eq!(answer["id"], json!(7));
    hub.publish("a", json!(2)).await;
    hub.publish("b", json!(3)).await;
    assert_eq!(client.next().await["data"], json!(3));
    // Back to everything, from the start.
    client.ask(json!({"op": "subscribe", "from": 1, "filter": {"event_types": ["a", "b"]}}), "subscribed").await;
    for expected in [1, 2, 3] {
        assert_eq!(client.next().await["data"], json!(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_publishes_and_requests_over_its_connection() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=none").await;
    let published =
        client.ask(json!({"op": "publish", "id": "x", "event": {"type": "a", "data": 1}}), "published").await;
    assert_eq!((&published["id"], published["events"].as_array().unwrap().len()), (&json!("x"), 1));
    let many = client.ask(json!({"op": "publish", "events": [{"type": "a"}, {"type": "b"}]}), "published").await;
    assert_eq!(many["events"][1]["seq"].as_u64().unwrap(), many["events"][0]["seq"].as_u64().unwrap() + 1);

    let bus = hub.bus().clone();
    let _answering = hub.bus().subscribe(busway::event::EventFilter::types(["ask"]), move |event| {
        let (bus, id) = (bus.clone(), event.metadata.correlation_id.clone().unwrap());
        async move { bus.publish(NewEvent::new("answer").correlation_id(id)).await.map(|_| ()) }
    });
    let ask = json!({"op": "request", "id": 1, "event": {"type": "ask"}, "reply_type": "answer"});
    let reply = client.ask(ask, "reply").await;
    assert_eq!(reply["event"]["type"], "answer");
    assert_eq!(reply["event"]["metadata"]["correlation_id"], reply["correlation_id"]);

    let late = json!({"op": "request", "id": 2, "event": {"type": "ask"}, "reply_type": "never", "timeout_ms": 20});
    let error = client.ask(late, "error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(2), &json!("request.timeout")));
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_else_becomes_an_event_and_is_broadcast_in_its_turn() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=ws.message_received").await;
    for (text, message) in [
        ("plain text", json!("plain text")),
        (r#"{"hello": [1, 2]}"#, json!({"hello": [1, 2]})),
        (r#"{"op":"unknown"}"#, json!({"op": "unknown"})),
    ] {
        client.say_text(text).await;
        let event = client.next_of("ws.message_received").await;
        assert_eq!(event["data"], json!({"connection_id": client.welcome["connection_id"], "message": message}));
        assert_eq!(event["metadata"]["source"], "busway");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_is_answered_with_an_error_and_the_connection_stays() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=none").await;
    for (message, code) in [
        (json!({"op": "subscribe", "filter": {"colour": 1}}), "message.json"),
        (json!({"op": "subscribe", "plugin": "nobody"}), "filter.unknown"),
        (json!({"op": "publish", "event": {"type": ""}}), "event.type"),
        (json!({"op": "publish"}), "publish.empty"),
        (json!({"op": "publish", "events": []}), "publish.empty"),
        (json!({"op": "publish", "event": {"type": "a", "metadata": {"source": "plugin/x"}}}), "event.source.reserved"),
        (json!({"op": "request", "event": {"type": "a"}, "reply_type": "b", "timeout_ms": 0}), "request.timeout-ms"),
    ] {
        let mut with_id = message.clone();
        with_id["id"] = json!(code);
        let error = client.ask(with_id, "error").await;
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!(code)), "{message} → {error}");
    }
    client.ask(json!({"op": "ping"}), "pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_query_parameters_are_refused_before_the_connection() {
    let hub = TestHub::start().await;
    for (query, status, code) in [
        ("?colour=red", 400, "query.unknown"),
        ("?types=", 400, "query.list"),
        ("?from=x", 400, "query.number"),
        ("?filter=nobody", 400, "filter.unknown"),
        ("?params=%7B%7D", 400, "filter.params"),
        ("?epoch=x", 400, "query.epoch"),
    ] {
        let refused = Client::try_connect(&hub, query).await.err().unwrap();
        assert_eq!((refused.0, &refused.1["code"]), (status, &json!(code)), "{query}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_whole_have_a_bound_in_common() {
    let hub = TestHub::with(|config| {
        config.http.max_total_body_bytes = 0;
        config.websocket.max_message_bytes = 1 << 20;
    })
    .await;
    let metrics = hub.bus().metrics().clone();
    let begin = async |client: &mut Client| {
        let payload = vec![b' '; 900 << 10];
        let frame = Frame::message(payload, OpCode::Data(Data::Text), false);
        client.socket.send(Message::Frame(frame)).await.unwrap();
    };
    let mut first = Client::connect(&hub, "?types=none").await;
    begin(&mut first).await;
    until(|| metrics.http_body_bytes.get() >= 900 << 10).await;
    // A ping between the fragments takes nothing of it away.
    first.socket.send(Message::Ping("x".into())).await.unwrap();
    let mut second = Client::connect(&hub, "?types=none").await;
    begin(&mut second).await;
    let close = second.closed().await.unwrap();
    assert_eq!(u16::from(close.code), 1013, "{close:?}");
    assert!(close.reason.contains(r#""code":"bodies.full""#), "{close:?}");
    assert!(metrics.http_body_bytes.get() >= 900 << 10);
    // Small ones have a part of their own.
    let mut third = Client::connect(&hub, "?types=none").await;
    third.ask(json!({"op": "ping"}), "pong").await;
    first.socket.send(Message::Frame(Frame::message("7", OpCode::Data(Data::Continue), true))).await.unwrap();
    until(|| metrics.http_body_bytes.get() == 0).await;
}

/// A browser cannot read why a handshake was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_resumed_is_told_in_the_connection_which_goes_on_with_the_oldest_event() {
    const OTHER: &str = "0192f3a1-aaaa-7bbb-8ccc-1234567890ab";
    let hub = TestHub::start().await;
    let epoch = hub.bus().log().epoch().to_string();
    for (query, code) in
        [("?types=a&from=9".to_owned(), "from.ahead"), (format!("?types=a&from=1&epoch={OTHER}"), "epoch.mismatch")]
    {
        let first = hub.bus().log().oldest();
        let mut client = Client::connect(&hub, &query).await;
        let told = client.next().await;
        assert_eq!((&told["op"], &told["code"]), (&json!("epoch"), &json!(code)), "{query}: {told}");
        assert_eq!((&told["epoch"], &told["from"]), (&json!(epoch), &json!(first)), "{query}: {told}");
    }
    // Who asks for nothing that is past gets nothing that is past.
    let head = hub.publish("a", json!(1)).await;
    let mut client = Client::connect(&hub, &format!("?types=a&epoch={OTHER}")).await;
    let told = client.next_op("epoch").await;
    assert!(told["from"].as_u64().unwrap() > head, "{told}");
    hub.publish("a", json!(2)).await;
    assert_eq!(client.next_of("a").await["data"], json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_refused_and_places_come_free() {
    let hub = TestHub::with(|config| config.websocket.max_connections = 2).await;
    let first = Client::connect(&hub, "").await;
    let _second = Client::connect(&hub, "").await;
    let refused = Client::try_connect(&hub, "").await.err().unwrap();
    assert_eq!((refused.0, &refused.1["code"]), (503, &json!("connections.full")));
    drop(first);
    until(|| hub.bus().stats().websocket_connections == 1).await;
    Client::connect(&hub, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_goes_back_and_lagged_says_what_is_gone() {
    let hub = TestHub::with(|config| config.log.buffer_size = 10.try_into().unwrap()).await;
    for index in 1..=100 {
        hub.publish("a", json!(index)).await;
    }
    let mut client = Client::connect(&hub, "?types=a&from=5").await;
    let lagged = client.next().await;
    let to = lagged["to"].as_u64().unwrap();
    assert_eq!((&lagged["op"], &lagged["from"], &lagged["missed"]), (&json!("lagged"), &json!(5), &json!(to - 4)));
    for index in to + 1..=100 {
        assert_eq!(client.next().await["data"], json!(index));
    }
    hub.publish("a", json!(101)).await;
    assert_eq!(client.next().await["data"], json!(101), "and then live, without a seam");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_and_binary_ones_close_the_connection_with_the_code_that_says_why() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=none").await;
    client.socket.send(Message::text("x".repeat(65 << 10))).await.unwrap();
    assert_eq!(u16::from(client.closed().await.unwrap().code), 1009);
    let mut client = Client::connect(&hub, "?types=none").await;
    client.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(u16::from(client.closed().await.unwrap().code), 1003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_hub_closes_clients_with_1001_and_the_seq_to_resume_from() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=a").await;
    for index in 0..50 {
        hub.publish("a", json!(index)).await;
    }
    let stopping = tokio::spawn(hub.stop());
    for index in 0..50 {
        assert_eq!(client.next_of("a").await["data"], json!(index));
    }
    let close = client.closed().await.unwrap();
    let reason: Value = serde_json::from_str(close.reason.as_str()).unwrap();
    assert_eq!((u16::from(close.code), &reason["code"]), (1001, &json!("going-away")));
    assert!(reason["resume"].as_u64().unwrap() > 50);
    assert!(stopping.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asks_and_publishes_keeps_its_order() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=none").await;
    for index in 0..10 {
        client
            .say(
                json!({"op": "request", "event": {"type": "asked", "data": index}, "reply_type": "x", "timeout_ms": 1}),
            )
            .await;
        client.say(json!({"op": "publish", "event": {"type": "told", "data": index}})).await;
    }
    let events = hub.events_of("told", 10).await;
    let asked = hub.events_of("asked", 10).await;
    let seqs = |events: &[Value]| events.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(seqs(&asked).iter().zip(seqs(&events)).all(|(asked, told)| asked + 1 == told), "{asked:?} {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_of_ours_has_to_pass_the_door_too() {
    let admission = AdmissionConfig { filter: "nobody".into(), params: None };
    let hub = TestHub::with(|config| config.admission = vec![admission]).await;
    let mut client = Client::connect(&hub, "").await;
    client.say_text("smuggled").await;
    assert_eq!(client.next_op("error").await["code"], "publish.rejected");
    assert!(hub.events().await.iter().all(|event| event["type"] != "ws.message_received"));
    // Nor does it vanish where it is out of bounds.
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "").await;
    client.say_text(&format!("{}{}", "[".repeat(200), "]".repeat(200))).await;
    assert_eq!(client.next_op("error").await["code"], "event.data");
}

/// Asking a slow filter about history is interrupted by whatever the client says meanwhile, and still comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_talking_still_catches_up_through_a_filter() {
    let hub = TestHub::start().await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    for index in 0..1_000 {
        hub.bus().publish(NewEvent::new("a").tag("urgent").data(index).unwrap()).await.unwrap();
    }
    let mut client = Client::connect(&hub, "?types=a&filter=urgent-only&from=1").await;
    let mut expected = 0;
    while expected < 1_000 {
        client.say(json!({"op": "ping"})).await;
        loop {
            let message = client.next().await;
            if message["op"] == "pong" {
                break;
            }
            assert_eq!(message["data"], json!(expected));
            expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_when_the_hub_stops_is_told_so() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "?types=none").await;
    client.say(json!({"op": "request", "event": {"type": "ask"}, "reply_type": "never"})).await;
    hub.events_of("ask", 1).await;
    assert!(hub.stop().await, "nobody has to wait for it");
    assert!(client.closed().await.is_some());
}

/// A client that does not answer pings: a bare socket that reads and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_dropped() {
    let hub = TestHub::with(|config| {
        config.websocket.ping_s = 1.try_into().unwrap();
        config.websocket.pong_timeout_s = 1.try_into().unwrap();
    })
    .await;
    let mut silent = raw_client(&hub, None).await;
    // A client that answers stays.
    let mut healthy = Client::connect(&hub, "?types=ws.client_disconnected").await;
    let gone = healthy.next_of("ws.client_disconnected").await;
    assert_eq!((&gone["data"]["code"], &gone["data"]["reason"]), (&json!(4002), &json!("no-pong")));
    let mut read = Vec::new();
    within(silent.read_to_end(&mut read)).await.unwrap();
    let text = String::from_utf8_lossy(&read);
    assert!(text.contains(r#"{"code":"no-pong","resume":"#), "{text}");
    healthy.ask(json!({"op": "ping"}), "pong").await;
}

/// Something can be written to it at any time: that is no pong.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_everything_and_answers_no_ping_is_dropped_too() {
    let hub = TestHub::with(|config| {
        config.websocket.ping_s = 1.try_into().unwrap();
        config.websocket.pong_timeout_s = 1.try_into().unwrap();
    })
    .await;
    let mut silent = raw_client(&hub, None).await;
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        silent.read_to_end(&mut read).await.unwrap();
        String::from_utf8_lossy(&read).into_owned()
    });
    // It answers pings, since its library does while it waits for events.
    let mut healthy = Client::connect(&hub, "?types=ws.client_disconnected").await;
    let gone = async {
        loop {
            tokio::select! {
                gone = healthy.next_of("ws.client_disconnected") => return gone,
                _ = hub.publish("a", json!(null)) => {}
            }
        }
    };
    let gone = within(gone).await;
    assert_eq!((&gone["data"]["code"], &gone["data"]["reason"]), (&json!(4002), &json!("no-pong")));
    assert!(gone["data"]["delivered"].as_u64() > Some(0));
    let text = within(reading).await.unwrap();
    assert!(text.contains(r#"{"code":"no-pong","resume":"#));
    assert_eq!(hub.bus().metrics().websocket_dead.get(), 1);
}

/// What it publishes is in the log before its pong is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_publishes_without_a_pause_and_answers_pings_stays() {
    let hub = TestHub::with(|config| {
        config.websocket.ping_s = 1.try_into().unwrap();
        config.websocket.pong_timeout_s = 1.try_into().unwrap();
    })
    .await;
    // A client that goes by the same clock, and is given up: so the busy one could have been as
    // well.
    let _silent = raw_client(&hub, None).await;
    let mut busy = Client::connect(&hub, "?types=ws.client_disconnected").await;
    let gone = loop {
        busy.say(json!({"op": "publish", "event": {"type": "b"}})).await;
        let message = busy.next().await;
        if message["type"] == "ws.client_disconnected" {
            break message;
        }
    };
    assert_eq!(gone["data"]["reason"], "no-pong");
    busy.ask(json!({"op": "ping"}), "pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_over_another_connection_finds_the_reply_that_is_there() {
    let hub = TestHub::start().await;
    let ask = json!({"op": "request", "event": {"type": "ask", "metadata": {"event_id": "r1", "source": "s"}},
                     "reply_type": "answer"});
    let mut first = Client::connect(&hub, "?types=none").await;
    first.say(ask.clone()).await;
    let asked = hub.events_of("ask", 1).await.remove(0);
    drop(first);
    let id = asked["metadata"]["correlation_id"].as_str().unwrap();
    hub.bus().publish(NewEvent::new("answer").correlation_id(id).data(42).unwrap()).await.unwrap();
    let mut second = Client::connect(&hub, "?types=none").await;
    let reply = second.ask(ask, "reply").await;
    assert_eq!((&reply["event"]["data"], &reply["correlation_id"]), (&json!(42), &json!(id)));
    assert_eq!(reply["request"], json!({"seq": asked["seq"], "event_id": "r1", "duplicate": true}));
}

/// A hundred clients that read beside one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn one_stuck_client_beside_a_hundred_healthy_ones_harms_nobody_and_is_closed_with_its_resume_seq() {
    let hub = TestHub::with(|config| config.websocket.slow_timeout_s = 1.try_into().unwrap()).await;
    let mut stuck = raw_client(&hub, Some(64 << 10)).await;
    let metrics = hub.bus().metrics().clone();
    // It begins to read once it has been given up.
    let stuck = tokio::spawn(async move {
        until(|| metrics.websocket_slow.get() == 1).await;
        let mut read = Vec::new();
        within(stuck.read_to_end(&mut read)).await.unwrap();
        read
    });
    let mut healthy = Vec::new();
    for _ in 0..100 {
        healthy.push(Client::connect(&hub, "?types=a").await);
    }
    // More in sum than the system buffers for a socket, at the pace of the healthy ones.
    let data = "x".repeat(8_000);
    let read = Arc::new(Semaphore::new(0));
    let readers = healthy.into_iter().map(|mut client| {
        let read = read.clone();
        tokio::spawn(async move {
            for expected in 0..1_000u64 {
                let event = client.next_of("a").await;
                assert_eq!(event["data"][0], json!(expected), "nothing lost, nothing out of order");
                if expected % 20 == 19 {
                    read.add_permits(1);
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for index in 0..1_000 {
        hub.publish("a", json!([index, data])).await;
        if index % 20 == 19 {
            within(read.acquire_many(100)).await.unwrap().forget();
        }
    }
    for reader in readers {
        within(reader).await.unwrap();
    }
    // The others have gone as well by now, of their own accord.
    let is_slow = |event: &Value| event["type"] == "ws.client_disconnected" && event["data"]["reason"] == "slow";
    let events = hub.events_until(|events| events.iter().any(is_slow)).await;
    let gone = events.into_iter().find(is_slow).unwrap();
    assert_eq!(gone["data"]["code"], json!(4001));

    // It finds whole frames, and then a close frame that says where to go on.
    let read = within(stuck).await.unwrap();
    let text = String::from_utf8_lossy(&read);
    let last: u64 = text.rsplit_once(r#"{"seq":"#).unwrap().1.split(',').next().unwrap().parse().unwrap();
    let digits = text.rsplit_once(r#""resume":"#).unwrap().1.split(',').next().unwrap();
    let resume: u64 = digits.parse().unwrap();
    assert_eq!(gone["data"]["resume"], json!(resume));
    assert_eq!(resume, last + 1, "nothing twice, nothing missed");
}

/// A connection that has been upgraded and reads nothing.
async fn raw_client(hub: &TestHub, receive_buffer: Option<u32>) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let mut stream = socket.connect(hub.addr()).await.unwrap();
    let before = hub.bus().metrics().websocket_accepted.get();
    let handshake = "GET /ws/events?types=a HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.unwrap();
    until(|| hub.bus().metrics().websocket_accepted.get() > before).await;
    stream
}
