//! Counters balance: what is sent at a door is accepted, a duplicate or rejected, and every cut,
//! refusal and drop moves a counter.

use crate::{
    client::Client,
    faults::random::Random,
    guests::guest,
    hub::{TestHub, until, within},
};
use busway::{
    bus::{Bus, PublishError},
    config::AdmissionConfig,
    event::NewEvent,
    metrics::{Door, DoorCounters, Reason},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a publisher knows of what it sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    sent: u64,
    accepted: u64,
    duplicate: u64,
    rejected: u64,
}

impl Tally {
    fn of(counters: &DoorCounters) -> Self {
        Self {
            sent: counters.sent.get(),
            accepted: counters.accepted.get(),
            duplicate: counters.duplicate.get(),
            rejected: Reason::ALL.into_iter().map(|reason| counters.rejected(reason).get()).sum(),
        }
    }

    fn took(&mut self, receipts: &Value) {
        for receipt in receipts.as_array().unwrap() {
            let is_duplicate = receipt["duplicate"] == true;
            self.sent += 1;
            self.duplicate += u64::from(is_duplicate);
            self.accepted += u64::from(!is_duplicate);
        }
    }

    fn accept(&mut self, events: u64) {
        (self.sent, self.accepted) = (self.sent + events, self.accepted + events);
    }

    fn reject(&mut self, events: u64) {
        (self.sent, self.rejected) = (self.sent + events, self.rejected + events);
    }
}

/// An event that may be good, or had before, or refused by the filter at the door, or none at all.
fn event(random: &mut Random) -> Value {
    match random.below(12) {
        0 => json!({"type": ""}),
        1 => json!({"type": "a", "colour": 1}),
        2 => json!({"type": "a", "metadata": {"timestamp": "+10000-01-01T00:00:00Z"}}),
        3 => json!({"type": "calm"}),
        4 | 5 => json!({"type": "a", "metadata": {"tags": ["urgent"], "event_id": format!("id-{}", random.below(4))}}),
        _ => json!({"type": "a", "metadata": {"tags": ["urgent"]}}),
    }
}

/// Events that are good more often than not, since one that is bad spoils all.
fn events(random: &mut Random) -> Vec<Value> {
    let good = random.below(3) > 0;
    let one = |random: &mut Random| {
        if good { json!({"type": "a", "metadata": {"tags": ["urgent"]}}) } else { event(random) }
    };
    (0..random.below(20)).map(|_| one(random)).collect()
}

async fn over_http(hub: &TestHub, random: &mut Random) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..40 {
        let (path, body, sent) = match random.below(10) {
            0 => ("/v1/events", ["", "{", "[", "[{}", "3", "\u{feff}{}"][random.below(6)].to_owned(), 1),
            1 => ("/v1/events?x=1", event(random).to_string(), 1),
            2 => ("/v1/events", format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(1 << 20)), 1),
            3 => ("/v1/request", json!({"event": event(random)}).to_string(), 1),
            4 => {
                let timeout = [0, 1, 300_001][random.below(3)];
                let ask = json!({"event": {"type": "a", "metadata": {"tags": ["urgent"]}}, "reply_type": "never", "timeout_ms": timeout});
                ("/v1/request", ask.to_string(), 1)
            }
            5 | 6 => ("/v1/events", event(random).to_string(), 1),
            _ => {
                let events = events(random);
                ("/v1/events", json!(events).to_string(), events.len() as u64)
            }
        };
        let kind = if random.below(20) == 0 { "text/plain" } else { "application/json" };
        let request = hub.http.post(hub.url(path)).header("content-type", kind).body(body);
        let response = within(request.send()).await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = within(response.json()).await.unwrap();
        match status {
            200 => tally.took(&answer["events"]),
            // The request itself is in the log.
            504 => tally.accept(1),
            // Of no events, none is refused: but what is no JSON request counts as one.
            _ if kind == "text/plain" => tally.reject(1),
            _ => tally.reject(sent),
        }
    }
    tally
}

async fn over_websocket(hub: &TestHub, random: &mut Random) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client::connect(hub, "?types=none").await;
    for id in 0..40 {
        let (message, sent) = match random.below(8) {
            0 => (json!({"op": "publish", "id": id, "event": event(random)}), 1),
            1 => (json!({"op": "publish", "id": id, "event": event(random), "colour": 1}), 1),
            2 => (json!({"op": "publish", "id": id, "events": 7}), 1),
            3 => (json!({"op": "request", "id": id, "event": event(random)}), 1),
            4 => {
                let timeout = [0, 1][random.below(2)];
                let event = json!({"type": "a", "metadata": {"tags": ["urgent"]}});
                (json!({"op": "request", "id": id, "event": event, "reply_type": "never", "timeout_ms": timeout}), 1)
            }
            5 => {
                let events = events(random);
                let sent = events.len() as u64;
                (json!({"op": "publish", "id": id, "events": events}), sent)
            }
            6 => (json!({"op": "subscribe", "id": id, "colour": 1}), 0),
            _ => {
                heard(&mut client, &mut tally).await;
                continue;
            }
        };
        client.say(message).await;
        let answer = answer_to(&mut client, &json!(id)).await;
        match (answer["op"].as_str().unwrap(), answer["code"].as_str()) {
            ("published", _) => tally.took(&answer["events"]),
            ("error", Some("request.timeout")) => tally.accept(1),
            ("error", _) => tally.reject(sent),
            other => panic!("{other:?}"),
        }
    }
    tally
}

/// A message that is no request of any kind is an event; that it was refused is said, that it was
/// taken is not. So one is sent behind it whose answer is behind that of the first.
async fn heard(client: &mut Client, tally: &mut Tally) {
    client.say_text("hello").await;
    client
        .say(json!({"op": "publish", "id": "behind", "events": [{"type": "a", "metadata": {"tags": ["urgent"]}}]}))
        .await;
    let mut refused = false;
    loop {
        let answer = client.next().await;
        if answer["id"] == "behind" {
            match answer["op"] == "published" {
                true => tally.took(&answer["events"]),
                false => tally.reject(1),
            }
            break;
        }
        assert_eq!((&answer["op"], &answer["id"]), (&json!("error"), &Value::Null), "{answer}");
        refused = true;
    }
    if refused { tally.reject(1) } else { tally.accept(1) }
}

async fn answer_to(client: &mut Client, id: &Value) -> Value {
    loop {
        let answer = client.next().await;
        if answer["id"] == *id {
            return answer;
        }
    }
}

async fn over_library(bus: &Bus, random: &mut Random) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..40 {
        let new = |event: Value| serde_json::from_value::<NewEvent>(event).unwrap_or_else(|_| NewEvent::new(""));
        match random.below(4) {
            0 => match bus.try_publish(new(event(random))) {
                Ok(()) => {
                    // A duplicate cannot be told: whose ids are the publisher's is not published
                    // so.
                    tally.accept(1);
                }
                Err(_) => tally.reject(1),
            },
            1 => match bus.publish_data("a", json!(1), None, None, &["urgent"]).await {
                Ok(_) => tally.accept(1),
                Err(_) => tally.reject(1),
            },
            _ => {
                let events: Vec<NewEvent> = events(random).into_iter().map(new).collect();
                let sent = events.len() as u64;
                match bus.publish_all(events).await {
                    Ok(receipts) => tally.took(&serde_json::to_value(receipts).unwrap()),
                    Err(error) => {
                        assert!(!matches!(error, PublishError::MustWait));
                        tally.reject(sent);
                    }
                }
            }
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_door_sent_is_accepted_duplicate_and_rejected_and_as_many_as_publishers_know_of() {
    for seed in 0..6 {
        let guarded = seed % 2 == 0;
        let hub = TestHub::with(|config| {
            config.log.ingress_events = 12.try_into().unwrap();
            if guarded {
                config.admission = vec![AdmissionConfig { filter: "urgent-only".into(), params: None }];
            }
        })
        .await;
        if guarded {
            hub.install("urgent-only", guest("urgent-only"), "").await;
        }
        let mut randoms = [0, 1, 2].map(|door| Random::new(seed * 3 + door));
        let [http, websocket, library] = &mut randoms;
        let (http, websocket, library) =
            tokio::join!(over_http(&hub, http), over_websocket(&hub, websocket), over_library(hub.bus(), library));
        let metrics = hub.bus().metrics();
        for (door, known) in [(Door::Http, http), (Door::Websocket, websocket), (Door::Library, library)] {
            let counted = Tally::of(&metrics.doors[door]);
            assert_eq!(counted, known, "seed {seed}, {door:?}");
            assert_eq!(counted.sent, counted.accepted + counted.duplicate + counted.rejected, "seed {seed}, {door:?}");
        }
        // What is in the log came in somewhere.
        let balance = || {
            let accepted: u64 = Door::ALL.into_iter().map(|door| metrics.doors[door].accepted.get()).sum();
            let logged = metrics.events_logged.get();
            logged == accepted + metrics.events_emitted.get() + metrics.events_internal.get()
                && logged == hub.bus().log().head()
        };
        until(balance).await;
        // The same numbers everywhere.
        let (_, stats) = hub.get("/v1/stats").await;
        assert_eq!(stats["doors"]["http"]["sent"], json!(http.sent));
        assert_eq!(stats["events_sent"], json!(http.sent + websocket.sent + library.sent));
        assert_eq!(hub.metric(r#"busway_events_sent_total{door="http"}"#).await, http.sent);
        assert_eq!(hub.metric(r#"busway_events_duplicate_total{door="websocket"}"#).await, websocket.duplicate);
    }
}

/// Sends bytes as they are and reads what comes until the end.
async fn raw(hub: &TestHub, bytes: &str) -> String {
    let mut stream = TcpStream::connect(hub.addr()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_is_refused_is_counted_by_its_code_and_its_events_by_the_reason() {
    let hub = TestHub::with(|config| config.http.body_timeout_s = 1.try_into().unwrap()).await;
    let metrics = hub.bus().metrics();
    let rejected = |reason| metrics.doors[Door::Http].rejected(reason).get();
    let post = |path: &str, body: &str| {
        hub.http.post(hub.url(path)).header("content-type", "application/json").body(body.to_owned())
    };
    let large = "x".repeat((1 << 20) + 1);
    for (request, code, reason, events) in [
        (post("/v1/events", "{"), "event.json", Some(Reason::Invalid), 1),
        (post("/v1/events", r#"[{"type":"a"},{"type":""},{"type":"a"}]"#), "event.type", Some(Reason::Invalid), 3),
        (post("/v1/events", r#"[{"type":"a"},{},{"type":"a"}]"#), "event.json", Some(Reason::Invalid), 3),
        (post("/v1/events", "[]"), "publish.empty", Some(Reason::Invalid), 0),
        (post("/v1/events", "[{},"), "body.json", Some(Reason::Invalid), 1),
        (post("/v1/events", &large), "body.too-large", Some(Reason::TooLarge), 1),
        (post("/v1/request", &large), "body.too-large", Some(Reason::TooLarge), 1),
        (post("/v1/request", "{}"), "body.json", Some(Reason::Invalid), 1),
        (post("/v1/events?x=1", "{}"), "query.unknown", Some(Reason::Invalid), 1),
        (hub.http.post(hub.url("/v1/events")).body("{}"), "body.content-type", Some(Reason::Unsupported), 1),
        (hub.http.get(hub.url("/v1/events?limit=0")), "query.number", None, 0),
        (hub.http.get(hub.url("/nowhere")), "route.unknown", None, 0),
        (hub.http.patch(hub.url("/v1/events")), "route.method", None, 0),
        (hub.http.get(hub.url("/v1/stats")).header("origin", "https://evil.example"), "origin.denied", None, 0),
    ] {
        let before = (metrics.problems.get(code), reason.map_or(0, rejected), metrics.doors.sent());
        let response = within(request.send()).await.unwrap();
        let problem: Value = within(response.json()).await.unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(metrics.problems.get(code), before.0 + 1, "{code}");
        assert_eq!(reason.map_or(0, rejected), before.1 + events, "{code}");
        assert_eq!(metrics.doors.sent(), before.2 + events, "{code}");
    }
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let answer = raw(&hub, head).await;
    assert!(answer.contains("body.timeout"), "{answer}");
    assert_eq!((rejected(Reason::Timeout), metrics.problems.get("body.timeout")), (1, 1));
    assert_eq!(hub.metric(r#"busway_http_problems_total{code="body.timeout"}"#).await, 1);
    // Answered by the connection and not by a route. They hand in no event.
    let sent = metrics.doors.sent();
    for (head, code) in [
        ("GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), "host.missing"),
        ("POST /v1/events HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(), "host.denied"),
        ("no http\r\n\r\n".to_owned(), "head.malformed"),
        (format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000)), "head.too-large"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)), "target.too-long"),
    ] {
        raw(&hub, &head).await;
        until(|| metrics.problems.get(code) == 1).await;
    }
    assert_eq!((metrics.doors.sent(), metrics.http_broken.get()), (sent, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_refused_or_cut_are_counted() {
    let hub = TestHub::with(|config| {
        config.http.header_timeout_s = 1.try_into().unwrap();
        config.http.write_timeout_s = 1.try_into().unwrap();
        config.websocket.max_connections = 1;
    })
    .await;
    let metrics = hub.bus().metrics();
    // Silent: half of a head.
    raw(&hub, "GET /healthz HTTP/1.1\r\n").await;
    until(|| metrics.http_silent.get() == 1).await;
    until(|| metrics.problems.get("head.timeout") == 1).await;
    // One more than there may be.
    let mut only = Client::connect(&hub, "?types=none").await;
    let Err((status, _)) = Client::try_connect(&hub, "").await else { panic!("it should be refused") };
    assert_eq!((status, metrics.websocket_refused.get(), metrics.problems.get("connections.full")), (503, 1, 1));
    // Answered with an error.
    only.ask(json!({"op": "ping", "colour": 1}), "error").await;
    assert_eq!(metrics.websocket_errors.get(), 1);
    // A client of server-sent events that does not read.
    let mut stuck = TcpStream::connect(hub.addr()).await.unwrap();
    stuck.write_all(b"GET /v1/events/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
    until(|| metrics.sse_connections.get() == 1).await;
    let data = "x".repeat(100_000);
    within(async {
        while metrics.http_slow.get() == 0 {
            hub.publish("large", json!(data)).await;
        }
    })
    .await;
    until(|| metrics.sse_connections.get() == 0).await;
    assert_eq!(metrics.http_slow.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_stream_is_not_counted_as_a_connection_that_broke() {
    let hub = TestHub::start().await;
    let metrics = hub.bus().metrics();
    let ask = async |head: &str, body: &str| {
        let mut stream = TcpStream::connect(hub.addr()).await.unwrap();
        stream.write_all(format!("{head} HTTP/1.1\r\nhost: 127.0.0.1\r\n{body}").as_bytes()).await.unwrap();
        stream
    };
    for left in 1..=2 {
        let mut stream = ask("GET /v1/events/stream", "\r\n").await;
        within(stream.read_exact(&mut [0; 16])).await.unwrap();
        if left == 2 {
            // It has more to read when it leaves, so the system resets the connection.
            hub.publish("a", json!("x".repeat(100_000))).await;
            within(stream.readable()).await.unwrap();
        }
        drop(stream);
        until(|| {
            // Noticed when something is written.
            let _ = hub.bus().try_publish(NewEvent::new("a"));
            metrics.sse_left.get() == left
        })
        .await;
    }
    assert_eq!((metrics.http_broken.get(), metrics.http_slow.get()), (0, 0));
    let body = json!({"event": {"type": "ask"}, "reply_type": "never", "timeout_ms": 300_000}).to_string();
    let head = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let waiting = ask("POST /v1/request", &(head + &body)).await;
    hub.events_of("ask", 1).await;
    // Closed, the connection is reset.
    waiting.set_zero_linger().unwrap();
    drop(waiting);
    until(|| metrics.http_broken.get() == 1).await;
    assert_eq!(metrics.sse_left.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_above_the_limit_is_counted_and_so_is_a_gap_that_a_stream_is_told_of() {
    let hub = TestHub::with(|config| {
        config.http.max_connections = 1;
        config.log.buffer_size = 2.try_into().unwrap();
        config.journal.memory = true;
    })
    .await;
    let metrics = hub.bus().metrics();
    for index in 0..10 {
        hub.publish("a", json!(index)).await;
    }
    let mut stream = TcpStream::connect(hub.addr()).await.unwrap();
    stream.write_all(b"GET /v1/events/stream?from=1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
    until(|| metrics.sse_lagged.get() == 1).await;
    raw(&hub, "").await;
    until(|| metrics.http_refused.get() == 1).await;
    assert_eq!(metrics.problems.get("connections.full"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_events_of_handlers_are_counted_apart() {
    let hub = TestHub::start().await;
    hub.install("probe", crate::guests::probe(1), "[retry]\nattempts = 3\n").await;
    hub.publish("probe.retry", json!(9)).await;
    let metrics = hub.bus().metrics();
    until(|| metrics.dead_letters.get() == 1).await;
    until(|| metrics.handler_calls.get() >= 3).await;
    assert_eq!((metrics.handler_retries.get(), metrics.handler_errors.get()), (2, 3));
    assert_eq!(metrics.events_processed.get() + metrics.handler_retries.get(), metrics.handler_calls.get());
}
