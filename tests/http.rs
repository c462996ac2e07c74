//! HTTP: what docs/api.md says of it.

use crate::hub::{TestHub, until, within};
use busway::http::NotReady;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_one_by_one_or_as_an_array() {
    let hub = TestHub::start().await;
    let (status, one) = hub.post("/v1/events", &json!({"type": "a", "data": {"x": 1}})).await;
    assert_eq!((status, &one["events"][0]["seq"]), (200, &json!(1)));
    let (status, many) =
        hub.post("/v1/events", &json!([{"type": "a"}, {"type": "b", "metadata": {"event_id": "mine"}}])).await;
    assert_eq!((status, &many["events"][1]), (200, &json!({"seq": 3, "event_id": "mine"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_problem_with_a_stable_code_that_names_what_was_expected_and_found() {
    let hub = TestHub::start().await;
    let deep = format!(r#"{{"type":"a","data":{}}}"#, "[".repeat(1000) + &"]".repeat(1000));
    for (body, status, code) in [
        ("", 400, "event.json"),
        ("{", 400, "event.json"),
        ("[", 400, "body.json"),
        ("[]", 400, "publish.empty"),
        ("3", 400, "event.json"),
        (r#"[[null,"a",1,{}]]"#, 400, "event.json"),
        (r#"{"data":1}"#, 400, "event.json"),
        (r#"{"type":"a","colour":1}"#, 400, "event.json"),
        (r#"{"type":""}"#, 400, "event.type"),
        (r#"{"type":"a","metadata":{"tags":[""]}}"#, 400, "event.tags"),
        (r#"{"type":"a","metadata":{"source":"busway"}}"#, 400, "event.source.reserved"),
        (r#"{"type":"a","metadata":{"timestamp":"yesterday"}}"#, 400, "event.timestamp"),
        (deep.as_str(), 400, "event.data"),
    ] {
        let (got, problem) = hub.post_text("/v1/events", body.to_owned()).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{body:.60}: {problem}");
        assert_eq!(problem["type"], json!(format!("urn:busway:problem:{code}")));
        assert!(
            problem["expected"].is_string() && problem["found"].is_string() && problem["field"].is_string(),
            "{problem}"
        );
    }
    let (_, problem) = hub.post_text("/v1/events", r#"[{"type":"a"},{"type":"b","x":1}]"#).await;
    assert_eq!((&problem["code"], &problem["index"]), (&json!("event.json"), &json!(1)));
    assert_eq!(hub.bus().log().head(), 0, "nothing of all this was published");
    let stats = hub.bus().stats();
    assert_eq!(stats.events_sent, stats.events_rejected.invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_limit_and_a_type() {
    let hub = TestHub::start().await;
    let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(1 << 20));
    let (status, problem) = hub.post_text("/v1/events", long).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body.too-large")));
    let response = hub.http.post(hub.url("/v1/events")).body(r#"{"type":"a"}"#).send().await.unwrap();
    assert_eq!(response.status(), 415);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_may_not_talk_to_the_hub_unless_it_is_on_the_list() {
    let hub =
        TestHub::with(|config| config.http.allowed_origins = vec!["https://*.good.example".parse().unwrap()]).await;
    for (origin, status) in [("https://evil.example", 403), ("https://app.good.example", 200), ("null", 403)] {
        let response = hub.http.get(hub.url("/v1/stats")).header("origin", origin).send().await.unwrap();
        assert_eq!(response.status(), status, "{origin}");
    }
    let origin = ("origin", "https://app.good.example");
    let preflight = hub
        .http
        .request(reqwest::Method::OPTIONS, hub.url("/v1/events"))
        .header(origin.0, origin.1)
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], origin.1);
    let own = format!("http://{}", hub.addr());
    assert_eq!(hub.http.get(hub.url("/v1/stats")).header("origin", own).send().await.unwrap().status(), 200);
}

/// A page whose own name was made to point to the hub's address passes for one of the hub's own, but for its host.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_that_is_not_the_hubs_is_refused() {
    let hub = TestHub::with(|config| config.http.allowed_hosts = vec!["hub.good.example".parse().unwrap()]).await;
    for (host, status) in [("evil.example", 421), ("hub.good.example", 200), ("localhost:8787", 200), ("[::1]", 200)] {
        let response = hub.http.get(hub.url("/v1/stats")).header("host", host).send().await.unwrap();
        assert_eq!(response.status(), status, "{host}");
    }
}

/// A publisher that has gone away before its answer has published all the same, and is counted.
#[tokio::test(flavor = "multi_thread")]
async fn sent_is_accepted_and_rejected_together_though_publishers_hang_up() {
    let hub = TestHub::start().await;
    for _ in 0..200 {
        let mut stream = TcpStream::connect(hub.addr()).await.unwrap();
        let body = r#"{"type":"a"}"#;
        let head = "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ";
        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        drop(stream);
    }
    // Accepted in the order in which they came: when this one has its answer, none of the others is still to come.
    let mut last = TcpStream::connect(hub.addr()).await.unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await.unwrap();
    last.read_to_end(&mut Vec::new()).await.unwrap();
    until(|| hub.bus().metrics().http_connections.get() == 0).await;
    assert!(hub.bus().stats().events_sent > 0);
    // What the last of them handed in may still be on its way into the log.
    let settled = || {
        let stats = hub.bus().stats();
        stats.events_sent == stats.events_published
    };
    until(settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_methods_and_parameters_are_refused() {
    let hub = TestHub::start().await;
    for (path, status, code) in [
        ("/v1/nothing", 404, "route.unknown"),
        ("/v1/request", 405, "route.method"),
        ("/v1/events?limit=0", 400, "query.number"),
        ("/v1/events?limit=1001", 400, "query.number"),
        ("/v1/events?colour=1", 400, "query.unknown"),
        ("/v1/events/stream?limit=1", 400, "query.unknown"),
        ("/v1/events?filter=nobody", 400, "filter.unknown"),
        ("/v1/events?from=2", 409, "from.ahead"),
        ("/v1/plugins/nobody", 404, "plugin.unknown"),
    ] {
        let (got, problem) = hub.get(path).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_page_by_page_and_says_what_is_gone() {
    let hub = TestHub::with(|config| config.log.buffer_size = 64.try_into().unwrap()).await;
    for index in 1..=100 {
        hub.publish(if index % 2 == 0 { "even" } else { "odd" }, json!(index)).await;
    }
    let (_, page) = hub.get("/v1/events?from=1&limit=10&types=even").await;
    let oldest = page["oldest"].as_u64().unwrap();
    assert_eq!(page["missed"], json!({"from": 1, "to": oldest - 1}));
    let mut seen: Vec<u64> = Vec::new();
    let mut next = 1;
    while next <= 100 {
        let (_, page) = hub.get(&format!("/v1/events?from={next}&limit=10&types=even")).await;
        seen.extend(page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        next = page["next"].as_u64().unwrap();
    }
    let expected: Vec<u64> = (oldest..=100).filter(|seq| seq % 2 == 0).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_the_last_event_id_without_a_gap() {
    let hub = TestHub::start().await;
    for index in 1..=10 {
        hub.publish("a", json!(index)).await;
    }
    let follow = async |header: Option<String>, count: usize| {
        let mut request = hub.http.get(hub.url("/v1/events/stream?from=1&types=a"));
        if let Some(id) = header {
            request = request.header("last-event-id", id);
        }
        let mut response = request.send().await.unwrap();
        let mut text = String::new();
        while text.matches("\ndata: ").count() < count || !text.ends_with("\n\n") {
            text += std::str::from_utf8(&within(response.chunk()).await.unwrap().unwrap()).unwrap();
        }
        let records = text.split("\n\n").filter(|record| !record.contains("event: position"));
        records
            .filter_map(|record| record.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let ids = follow(None, 10).await;
    assert_eq!(ids.len(), 10);
    let epoch = hub.bus().log().epoch();
    assert_eq!(ids[3], format!("{epoch}:4"));
    assert_eq!(follow(Some(ids[6].clone()), 3).await, ids[7..]);
    assert_eq!(follow(Some("7".into()), 3).await, ids[7..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_http_gets_its_reply_or_504() {
    let hub = TestHub::start().await;
    let bus = hub.bus().clone();
    let _answering = hub.bus().subscribe(busway::event::EventFilter::types(["ask"]), move |event| {
        let (bus, id) = (bus.clone(), event.metadata.correlation_id.clone().unwrap());
        async move { bus.publish(busway::event::NewEvent::new("answer").correlation_id(id)).await.map(|_| ()) }
    });
    let (status, answer) = hub.post("/v1/request", &json!({"event": {"type": "ask"}, "reply_type": "ans*"})).await;
    assert_eq!((status, &answer["reply"]["type"]), (200, &json!("answer")));
    let (status, problem) =
        hub.post("/v1/request", &json!({"event": {"type": "ask"}, "reply_type": "x", "timeout_ms": 10})).await;
    assert_eq!((status, &problem["code"]), (504, &json!("request.timeout")));
    let (status, problem) = hub.post("/v1/request", &json!({"event": {"type": "ask"}})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("body.json")));
}

/// The publisher got no answer, so it asks again with the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_finds_its_reply_in_the_tail_in_the_journal_or_when_it_comes() {
    use busway::event::NewEvent;
    let hub =
        TestHub::durable(tempfile::tempdir().unwrap(), |config| config.log.buffer_size = 64.try_into().unwrap()).await;
    let reply = async |correlation_id: &str, event_type: &str, data: u64| {
        let event = NewEvent::new(event_type).correlation_id(correlation_id).data(data).unwrap();
        hub.bus().publish(event).await.unwrap()
    };
    // With a correlation id of its own, and with one that the hub made.
    for (index, correlation_id) in [Some("c"), None].into_iter().enumerate() {
        let id = format!("r{index}");
        let ask = |reply_type: &str, timeout_ms: u64| {
            let metadata = json!({"event_id": id, "source": "s", "correlation_id": correlation_id});
            json!({"event": {"type": "ask", "metadata": metadata}, "reply_type": reply_type, "timeout_ms": timeout_ms})
        };
        // An event of before with the same correlation id is no reply.
        reply("c", "answer", 0).await;
        let (status, _) = hub.post("/v1/request", &ask("answer", 1)).await;
        assert_eq!(status, 504);
        let asked = hub.events_of("ask", index + 1).await.pop().unwrap();
        let made = asked["metadata"]["correlation_id"].as_str().unwrap();
        reply("another", "answer", 0).await;
        reply(made, "other", 0).await;
        reply(made, "answer", 1).await;
        reply(made, "answer", 2).await;
        for _ in 0..2 {
            let (status, answer) = hub.post("/v1/request", &ask("answer", 30_000)).await;
            assert_eq!((status, &answer["reply"]["data"]), (200, &json!(1)), "{answer}");
            assert_eq!(answer["request"], json!({"seq": asked["seq"], "event_id": id, "duplicate": true}));
            assert_eq!(answer["correlation_id"], json!(made));
            // The second time, only the journal has it.
            for _ in 0..200 {
                hub.publish("filler", json!(null)).await;
            }
        }
        // One that is still to come.
        let requests = hub.bus().metrics().requests.get();
        let body = ask("later", 30_000);
        let waiting = hub.post("/v1/request", &body);
        let coming = async {
            until(|| hub.bus().metrics().requests.get() > requests).await;
            reply(made, "later", 3).await
        };
        let ((status, answer), _) = tokio::join!(waiting, coming);
        assert_eq!((status, &answer["reply"]["data"]), (200, &json!(3)), "{answer}");
    }
    assert_eq!(hub.events_of("ask", 2).await.len(), 2, "nothing was stored again");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text_and_agree_with_the_stats() {
    let hub = TestHub::start().await;
    for _ in 0..5 {
        hub.publish("a", json!(null)).await;
    }
    let text = hub.http.get(hub.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\nbusway_events_accepted_total 5\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("busway_") && value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_503_once_the_hub_is_stopping() {
    let hub = TestHub::start().await;
    assert_eq!(hub.get("/readyz").await, (200, json!({"ready": true})));
    assert_eq!(hub.get("/healthz").await.0, 200);
    let readiness = hub.readiness();
    assert!(hub.stop().await);
    assert_eq!(*readiness.borrow(), Err(NotReady::Stopping));
}

/// A head that never ends: sent byte by byte, it would keep its connection for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_loris_is_cut_off() {
    let hub = TestHub::with(|config| config.http.header_timeout_s = 1.try_into().unwrap()).await;
    let mut loris = TcpStream::connect(hub.addr()).await.unwrap();
    loris.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ").await.unwrap();
    let mut answer = Vec::new();
    let _ = within(loris.read_to_end(&mut answer)).await;
    until(|| hub.bus().metrics().http_connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let hub = TestHub::with(|config| config.http.body_timeout_s = 1.try_into().unwrap()).await;
    let mut slow = TcpStream::connect(hub.addr()).await.unwrap();
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    within(slow.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_get_503_at_once() {
    let hub = TestHub::with(|config| config.http.max_connections = 2).await;
    let first = TcpStream::connect(hub.addr()).await.unwrap();
    let second = TcpStream::connect(hub.addr()).await.unwrap();
    until(|| hub.bus().metrics().http_connections.get() == 2).await;
    let mut third = TcpStream::connect(hub.addr()).await.unwrap();
    let mut answer = String::new();
    let _ = within(third.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connections.full"), "{answer}");
    drop((first, second));
    until(|| hub.bus().metrics().http_connections.get() == 0).await;
    within(async { while hub.http.get(hub.url("/healthz")).timeout(Duration::from_secs(5)).send().await.is_err() {} })
        .await;
}
