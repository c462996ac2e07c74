//! Lenient nowhere: what the documentation says is refused is refused, at every door, with a code
//! that names it.

use crate::{
    client::Client,
    guests::guest,
    hub::{TestHub, within},
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_that_rfc_3339_cannot_write_is_refused_at_every_door() {
    let hub = TestHub::start().await;
    let mut client = Client::connect(&hub, "").await;
    for timestamp in [
        "+10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "+262142-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-11-22 07:35",
        "yesterday",
    ] {
        let event = json!({"type": "a", "metadata": {"timestamp": timestamp}});
        let (status, problem) = hub.post("/v1/events", &event).await;
        assert_eq!((status, &problem["code"]), (400, &json!("event.timestamp")), "{timestamp}: {problem}");
        assert_eq!(problem["field"], "metadata.timestamp");
        let (_, problem) = hub.post("/v1/events", &json!([{"type": "a"}, event])).await;
        assert_eq!((&problem["code"], &problem["index"]), (&json!("event.timestamp"), &json!(1)));
        let (_, problem) = hub.post("/v1/request", &json!({"event": event, "reply_type": "b"})).await;
        assert_eq!(problem["code"], "event.timestamp");
        let answer = client.ask(json!({"op": "publish", "event": event}), "error").await;
        assert_eq!(answer["code"], "event.timestamp", "{answer}");
    }
    for timestamp in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"] {
        let (status, _) = hub.post("/v1/events", &json!({"type": "edge", "metadata": {"timestamp": timestamp}})).await;
        assert_eq!(status, 200);
    }
    let edges = hub.events_of("edge", 2).await;
    assert_eq!(edges[0]["metadata"]["timestamp"], "0000-01-01T00:00:00.000000Z");
    assert_eq!(edges[1]["metadata"]["timestamp"], "9999-12-31T23:59:59.999999Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_parameters_that_it_does_not_have_and_texts_that_cannot_be_read() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.install("redact", guest("redact"), "").await;
    let routes = [
        ("GET", "/v1/events"),
        ("POST", "/v1/events"),
        ("GET", "/v1/events/stream"),
        ("POST", "/v1/request"),
        ("GET", "/v1/stats"),
        ("GET", "/v1/journal"),
        ("GET", "/v1/plugins"),
        ("GET", "/v1/plugins/redact"),
        ("POST", "/v1/plugins/redact/reload"),
        ("POST", "/v1/plugins/redact/enable"),
        ("POST", "/v1/plugins/redact/disable"),
        ("POST", "/v1/plugins/redact/rollback"),
        ("POST", "/v1/plugins/redact/promote"),
        ("GET", "/v1/plugins/redact/shadow"),
        ("GET", "/v1/plugins/redact/calls"),
        ("PUT", "/v1/plugins/redact/limits"),
        ("DELETE", "/v1/plugins/redact/limits"),
        ("GET", "/v1/dead-letters"),
        ("DELETE", "/v1/dead-letters"),
        ("POST", "/v1/dead-letters/replay"),
        ("GET", "/v1/dead-letters/1"),
        ("DELETE", "/v1/dead-letters/1"),
    ];
    for (method, route) in routes {
        for (query, code) in [
            ("x=1", "query.unknown"),
            ("types=%zz", "query.encoding"),
            ("%ff", "query.encoding"),
            ("a%00", "query.encoding"),
        ] {
            let (status, problem) = ask(&hub, method, &format!("{route}?{query}")).await;
            assert_eq!((status, &problem["code"]), (400, &json!(code)), "{method} {route}?{query}: {problem}");
        }
    }
    let status = hub.get("/v1/plugins/redact").await.1;
    assert_eq!(status["state"], "active", "nothing of all this was done");
    for (method, route) in
        [("GET", "/v1/plugins/%ff"), ("POST", "/v1/plugins/%ff/reload"), ("GET", "/v1/dead-letters/%c3%28")]
    {
        let (status, problem) = ask(&hub, method, route).await;
        assert_eq!((status, &problem["code"]), (400, &json!("path.encoding")), "{route}: {problem}");
    }
}

async fn ask(hub: &TestHub, method: &str, path: &str) -> (u16, Value) {
    let method: reqwest::Method = method.parse().unwrap();
    let request = hub.http.request(method, hub.url(path)).header("content-type", "application/json").body("{}");
    let response = within(request.send()).await.unwrap();
    (response.status().as_u16(), within(response.json()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_read_to_the_letter() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.publish("a", json!(1)).await;
    for (path, code) in [
        ("/v1/events?from=-1", "query.number"),
        ("/v1/events?from=0", "query.number"),
        ("/v1/events?from=%2B1", "query.number"),
        ("/v1/events?from=1.0", "query.number"),
        ("/v1/events?from=18446744073709551616", "query.number"),
        ("/v1/events?limit=1e3", "query.number"),
        ("/v1/events?limit=1001", "query.number"),
        ("/v1/events?limit=", "query.number"),
        ("/v1/events?limit=1&limit=1", "query.repeated"),
        ("/v1/events?limit=1&%6Cimit=1", "query.repeated"),
        ("/v1/events?types=a,,b", "query.list"),
        ("/v1/events?types=%ed%a0%80", "query.encoding"),
        ("/v1/events?filter=x&params={", "query.json"),
        ("/v1/events?filter=x&params={\"a\":1,\"a\":2}", "query.json"),
        ("/v1/events?filter=x&params=1e999", "query.json"),
        ("/v1/events?filter=x&params=\"%5Cud800\"", "query.json"),
        ("/v1/events?filter=x&params={}{}", "query.json"),
        ("/v1/dead-letters?since=2026-11-22", "query.time"),
        ("/v1/dead-letters?until=%2B10000-01-01T00:00:00Z", "query.time"),
        ("/v1/dead-letters?after=-1", "query.number"),
    ] {
        let (status, problem) = hub.get(path).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{path}: {problem}");
    }
    for id in ["+1", "-1", "1.0", "18446744073709551616", "9223372036854775808", "x"] {
        let (status, problem) = hub.get(&format!("/v1/dead-letters/{id}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("dead-letter.unknown")), "{id}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_to_the_letter() {
    let hub = TestHub::durable(tempfile::tempdir().unwrap(), |_| ()).await;
    hub.install("redact", guest("redact"), "").await;
    for (path, body, code) in [
        ("/v1/events", "\u{feff}{\"type\":\"a\"}", "event.json"),
        ("/v1/events", r#"{"type":"a"} x"#, "event.json"),
        ("/v1/events", r#"[{"type":"a"}]]"#, "body.json"),
        ("/v1/events", r#"{"type":"a","type":"a"}"#, "event.json"),
        ("/v1/events", r#"{"type":"a","metadata":{"extensions":{"x":1,"x":2}}}"#, "event.json"),
        ("/v1/events", r#"{"type":"\ud800"}"#, "event.json"),
        ("/v1/request", r#"{"event":{"type":"a"},"reply_type":"b","timeout_ms":1e3}"#, "body.json"),
        ("/v1/request", r#"{"event":{"type":"a"},"reply_type":"b","timeout_ms":1,"timeout_ms":2}"#, "body.json"),
        ("/v1/request", r#"{"event":{"type":"a"},"reply_type":"b","timeout":1}"#, "body.json"),
        ("/v1/dead-letters/replay", r#"{"ids":[1],"ids":[2]}"#, "body.json"),
        ("/v1/dead-letters/replay", r#"{"ids":[9223372036854775808]}"#, "body.json"),
        ("/v1/dead-letters/replay", r#"{"since":"2026-11-22"}"#, "body.json"),
        ("/v1/dead-letters/replay", r#"{"who":"x"}"#, "body.json"),
    ] {
        let (status, problem) = hub.post_text(path, body).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{path} {body}: {problem}");
    }
    for (body, code) in [
        (r#"{"fuel":1000000,"fuel":2000000}"#, "body.json"),
        (r#"{"fuel":1000000} {}"#, "body.json"),
        (r#"{"fuel":1e7}"#, "limits.invalid"),
        (r#"{"fuel":"+1000000"}"#, "limits.invalid"),
        (r#"{"deadline":"1e2ms"}"#, "limits.invalid"),
        (r#"{"deadline":"99999999999999999999ms"}"#, "limits.invalid"),
        (r#"{"memory":"16MB"}"#, "limits.invalid"),
        (r#"{"memroy":"16MiB"}"#, "limits.invalid"),
    ] {
        let request =
            hub.http.put(hub.url("/v1/plugins/redact/limits")).header("content-type", "application/json").body(body);
        let response = within(request.send()).await.unwrap();
        let (status, problem) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!(code)), "{body}: {problem}");
    }
    assert!(hub.events().await.iter().all(|event| event["metadata"]["source"] == "busway"), "nothing was published");
}

/// What numbers and strings in data mean is for those who read it.
#[tokio::test(flavor = "multi_thread")]
async fn data_is_passed_on_as_the_text_that_was_published() {
    let hub = TestHub::start().await;
    let data = r#"{"a":100.00,"a":1e999,"n":100000000000000000000000001,"z":-0,"s":"\ud800\u0000"}"#;
    let (status, _) = hub.post_text("/v1/events", format!(r#"{{"type":"a","data":{data}}}"#)).await;
    assert_eq!(status, 200);
    let page = within(async { hub.http.get(hub.url("/v1/events")).send().await.unwrap().text().await.unwrap() }).await;
    assert!(page.contains(data), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_pass_through_the_redacting_plugin_as_they_were_written() {
    let hub = TestHub::start().await;
    hub.install("redact", guest("redact"), "").await;
    let data = r#"{"wei":100000000000000000000000001,"price":100.00,"ratio":0.1234567890123456789,"exp":1E+2,"token":"secret","by":"ann@example.org"}"#;
    let (status, _) = hub.post_text("/v1/events", format!(r#"{{"type":"log.entry","data":{data}}}"#)).await;
    assert_eq!(status, 200);
    hub.events_of("log.entry.redacted", 1).await;
    let url = hub.url("/v1/events?types=*.redacted");
    let page = within(async { hub.http.get(url).send().await.unwrap().text().await.unwrap() }).await;
    let masked = data.replace("secret", "[redacted]").replace("ann@example.org", "[redacted]");
    assert!(page.contains(&masked), "{page}");
}
