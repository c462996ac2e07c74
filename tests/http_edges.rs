//! The edges of HTTP/1.1 (RFC 9110 and RFC 9112), byte by byte over raw sockets: what a request has
//! to be, what the hub answers to one that is not, and how a connection ends.

use crate::hub::{TestHub, until, within};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer with a known length, or one that lasts until the connection ends.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn code(&self) -> Value {
        serde_json::from_str::<Value>(&self.body).map_or(Value::Null, |problem| problem["code"].clone())
    }
}

struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    async fn connect(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), read: Vec::new() }
    }

    /// A server may have answered and closed before it has all of it.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = within(self.stream.write_all(bytes)).await;
    }

    async fn more(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.read)).await.expect("no reset") > 0
    }

    async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.more().await, "the connection ended in the head: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end + 4).take(end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: String::new() }
    }

    /// `method` says whether there is a body.
    async fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let length = if method == "HEAD" { 0 } else { length };
        while self.read.len() < length {
            assert!(self.more().await, "the connection ended in the body");
        }
        answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        answer
    }

    /// Whether the server takes another request on this connection.
    async fn is_usable(&mut self) -> bool {
        self.send(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        // Closed is closed, however it was.
        while self.read.is_empty() {
            match within(self.stream.read_buf(&mut self.read)).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        self.answer("GET").await.status == 200
    }
}

const JSON: &str = "content-type: application/json\r\n";
const EVENT: &str = r#"{"type":"a"}"#;

/// A request that publishes `body`, with these fields besides.
fn post(fields: &str, body: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\n{JSON}{fields}\r\n{body}")
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{fields}\r\n")
}

/// What becomes of the connection.
use After::{Closed, Open};
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum After {
    Open,
    Closed,
}

struct Row {
    name: &'static str,
    request: Vec<u8>,
    status: u16,
    /// Of the problem in the body; empty where hyper answers without one, or the answer is no
    /// problem.
    code: &'static str,
    headers: &'static [(&'static str, &'static str)],
    after: After,
}

fn row(name: &'static str, request: impl Into<Vec<u8>>, status: u16, code: &'static str, after: After) -> Row {
    Row { name, request: request.into(), status, code, headers: &[], after }
}

impl Row {
    fn with(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

async fn check(rows: Vec<Row>) {
    let hub = TestHub::with(|config| config.http.allowed_hosts = vec!["hub.example".parse().unwrap()]).await;
    for Row { name, request, status, code, headers, after } in rows {
        let mut raw = Raw::connect(hub.addr()).await;
        raw.send(&request).await;
        let method = if request.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        let answer = raw.answer(method).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if !code.is_empty() {
            assert_eq!(answer.code(), json!(code), "{name}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{name}: {answer:?}");
        }
        for (header, value) in headers {
            assert_eq!(answer.header(header), Some(*value), "{name}: {answer:?}");
        }
        let says_close = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let expected = after == Open;
        assert_eq!(raw.is_usable().await, expected, "{name}: {answer:?}");
        assert_eq!(
            says_close || answer.head.starts_with("HTTP/1.0"),
            !expected,
            "{name} says what it does: {answer:?}"
        );
        assert!(Raw::connect(hub.addr()).await.is_usable().await, "{name}: the hub still answers");
    }
    until(|| hub.bus().metrics().http_connections.get() == 0).await;
}

/// RFC 9112, section 3, and RFC 9110, section 9.
#[tokio::test(flavor = "multi_thread")]
async fn methods_and_targets_are_what_the_rfc_says() {
    let long = "a".repeat(70 << 10);
    let allow: &[(&str, &str)] = &[("allow", "POST, OPTIONS")];
    check(vec![
        row("get", get("/healthz", ""), 200, "", Open),
        row("an empty line before", format!("\r\n{}", get("/healthz", "")), 200, "", Open),
        row("head", "HEAD /v1/stats HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 200, "", Open),
        row("not allowed", get("/v1/request", ""), 405, "route.method", Open).with(allow),
        row("patch", "PATCH /v1/request HTTP/1.1\r\nhost: [::1]\r\n\r\n", 405, "route.method", Open).with(allow),
        row("trace", "TRACE /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 501, "method.unknown", Open),
        row("connect", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 501, "method.unknown", Open),
        row("another method", "BREW /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 501, "method.unknown", Open),
        row("lower case", "get /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 501, "method.unknown", Open),
        row("a long method", format!("{long} / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"), 501, "method.unknown", Closed),
        row("a method that is no token", "G@T / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 400, "", Closed),
        row("a long target", get(&format!("/{long}"), ""), 414, "target.too-long", Closed),
        row("large fields", get("/healthz", &format!("x: {long}{long}\r\n")), 431, "", Closed),
        row("many fields", get("/healthz", &"x: 1\r\n".repeat(1000)), 431, "", Closed),
        row("options of the hub", "OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 204, "", Open)
            .with(&[("allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS")]),
        row("options of a route", "OPTIONS /v1/request HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 204, "", Open).with(allow),
        row("options of nothing", "OPTIONS /x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 404, "route.unknown", Open),
        row("a star", get("*", ""), 400, "target.form", Open),
        row("no path", get("healthz", ""), 400, "target.form", Open),
        row("another scheme", get("ftp://127.0.0.1/healthz", ""), 400, "target.form", Open),
        row("user information", get("http://a:b@127.0.0.1/healthz", ""), 400, "target.form", Open),
        row("version 1.0", "GET /healthz HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n", 200, "", Closed),
        row("version 3.7", "GET /healthz HTTP/3.7\r\nhost: 127.0.0.1\r\n\r\n", 400, "", Closed),
        row("no handshake", get("/ws/events", ""), 426, "websocket.handshake", Open),
    ])
    .await;
}

/// RFC 9112, section 3.2.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_whom_it_is_for_once() {
    let host = |lines: &str| format!("GET /healthz HTTP/1.1\r\n{lines}\r\n");
    check(vec![
        row("missing", host(""), 400, "host.missing", Open),
        row("missing in 1.0", "GET /healthz HTTP/1.0\r\n\r\n", 200, "", Closed),
        row("doubled", host("host: 127.0.0.1\r\nhost: 127.0.0.1\r\n"), 400, "host.repeated", Open),
        row("empty", host("host:\r\n"), 400, "host.invalid", Open),
        row("no port", host("host: 127.0.0.1:x\r\n"), 400, "host.invalid", Open),
        row("not one host", host("host: 127.0.0.1, localhost\r\n"), 400, "host.invalid", Open),
        row("no address", host("host: [evil]\r\n"), 400, "host.invalid", Open),
        row("another's", host("host: evil.example\r\n"), 421, "host.denied", Open),
        row("allowed", host("host: hub.example\r\n"), 200, "", Open),
        row("absolute", "GET http://hub.example/healthz HTTP/1.1\r\nhost: evil.example\r\n\r\n", 200, "", Open),
        row(
            "absolute, another's",
            "GET http://evil.example/healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
            421,
            "host.denied",
            Open,
        ),
        row("absolute, no host", "GET http://hub.example/healthz HTTP/1.1\r\n\r\n", 400, "host.missing", Open),
    ])
    .await;
}

/// RFC 9112, sections 2.2, 5 and 6, and RFC 9110, section 5.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_ends_where_its_one_framing_says() {
    let length = |length: &str| post(&format!("content-length: {length}\r\n"), EVENT);
    let chunked = |body: &str| post("transfer-encoding: chunked\r\n", body);
    let chunk = format!("c\r\n{EVENT}\r\n0\r\n\r\n");
    let extension = format!("c;{}\r\n{EVENT}\r\n0\r\n\r\n", "x".repeat(20 << 10));
    check(vec![
        row("length", length("12"), 200, "", Open),
        row("the same twice", post("content-length: 12\r\ncontent-length: 12\r\n", EVENT), 200, "", Open),
        row("two lengths", post("content-length: 12\r\ncontent-length: 13\r\n", EVENT), 400, "", Closed),
        row("a list of lengths", length("12, 13"), 400, "", Closed),
        row("a sign", length("+12"), 400, "", Closed),
        row("a negative length", length("-12"), 400, "", Closed),
        row("no number", length("twelve"), 400, "", Closed),
        row("2^63", length("9223372036854775808"), 413, "body.too-large", Closed),
        row("2^64", length("18446744073709551616"), 400, "", Closed),
        row("no body", post("", ""), 400, "event.json", Open),
        row("chunked", chunked(&chunk), 200, "", Open),
        row("a trailer", chunked(&chunk.replace("0\r\n\r\n", "0\r\nx: 1\r\n\r\n")), 200, "", Open),
        row("length and chunked", post("content-length: 5\r\ntransfer-encoding: chunked\r\n", &chunk), 200, "", Closed),
        row("chunked and length", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunk), 200, "", Closed),
        row(
            "gzip under chunked",
            post("transfer-encoding: gzip, chunked\r\n", &chunk),
            501,
            "transfer-coding.unknown",
            Closed,
        ),
        row("chunked under gzip", post("transfer-encoding: chunked, gzip\r\n", &chunk), 400, "", Closed),
        row(
            "chunked twice",
            post("transfer-encoding: chunked, chunked\r\n", &chunk),
            400,
            "transfer-coding.repeated",
            Closed,
        ),
        row("chunked in 1.0", chunked(&chunk).replace("HTTP/1.1", "HTTP/1.0"), 400, "", Closed),
        row("no chunk size", chunked("x\r\n"), 400, "body.unreadable", Closed),
        row("a chunk of 2^64", chunked("10000000000000000\r\n"), 400, "body.unreadable", Closed),
        row("a flood of extensions", chunked(&extension), 400, "body.unreadable", Closed),
        row("a folded line", get("/healthz", "x: a\r\n b\r\n"), 400, "", Closed),
        row("a space before the colon", get("/healthz", "x : a\r\n"), 400, "", Closed),
        row("a bare CR", get("/healthz", "x: a\rb\r\n"), 400, "", Closed),
        row("a NUL", get("/healthz", "x: a\0b\r\n"), 400, "", Closed),
        row("no colon", get("/healthz", "x\r\n"), 400, "", Closed),
        row("the type twice", post(&format!("{JSON}content-length: 12\r\n"), EVENT), 400, "header.repeated", Open),
        row(
            "the origin twice",
            get("/healthz", "origin: http://127.0.0.1\r\norigin: http://127.0.0.1\r\n"),
            400,
            "header.repeated",
            Open,
        ),
        row("a body that nobody wants", format!("{}{EVENT}", get("/healthz", "content-length: 12\r\n")), 200, "", Open),
        row(
            "half a body that nobody wants",
            format!("{}{EVENT}", get("/healthz", "content-length: 13\r\n")),
            200,
            "",
            Closed,
        ),
    ])
    .await;
}

/// RFC 9110, sections 8.4, 10.1.1, 12.5.3 and 15.5.16.
#[tokio::test(flavor = "multi_thread")]
async fn codings_and_expectations_that_the_hub_does_not_know_are_refused() {
    let coded = |coding: &str| post(&format!("content-encoding: {coding}\r\ncontent-length: 12\r\n"), EVENT);
    let expects = |what: &str| post(&format!("expect: {what}\r\ncontent-length: 12\r\n"), EVENT);
    let identity: &[(&str, &str)] = &[("accept-encoding", "identity")];
    check(vec![
        row("gzip", coded("gzip"), 415, "body.content-encoding", Open).with(identity),
        row("identity", coded("identity"), 200, "", Open),
        row("identity, br", coded("identity, br"), 415, "body.content-encoding", Open).with(identity),
        row(
            "another type",
            post("content-length: 12\r\n", EVENT).replace("json", "xml"),
            415,
            "body.content-type",
            Open,
        ),
        row("an expectation", expects("pizza"), 417, "expect.unknown", Closed),
    ])
    .await;
}

/// RFC 9110, section 10.1.1: a client that waits to be asked is asked only for what will be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_to_be_asked_is_asked_for_its_body_or_gets_its_answer() {
    let hub = TestHub::start().await;
    let mut raw = Raw::connect(hub.addr()).await;
    raw.send(post("expect: 100-Continue\r\ncontent-length: 12\r\n", "").as_bytes()).await;
    assert_eq!(raw.head().await.status, 100);
    raw.send(EVENT.as_bytes()).await;
    assert_eq!(raw.answer("POST").await.status, 200);
    assert!(raw.is_usable().await);
    raw.send(post("expect: 100-continue\r\ncontent-length: 2000000\r\n", "").as_bytes()).await;
    let answer = raw.answer("POST").await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_answers_get_answers_head_without_a_body() {
    let hub = TestHub::start().await;
    for target in ["/v1/events", "/v1/stats", "/v1/plugins", "/metrics", "/healthz", "/readyz", "/v1/nothing"] {
        let mut raw = Raw::connect(hub.addr()).await;
        raw.send(get(target, "").as_bytes()).await;
        let status = raw.answer("GET").await.status;
        raw.send(get(target, "").replacen("GET", "HEAD", 1).as_bytes()).await;
        assert_eq!(raw.answer("HEAD").await.status, status, "{target}");
        assert!(raw.is_usable().await, "{target}");
    }
}

/// RFC 9112, section 9.6: a connection that is closed while its client is sending is reset, and the
/// answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_still_sending_can_read_why_it_was_refused() {
    let hub = TestHub::start().await;
    let body = vec![b'x'; 8 << 20];
    for round in 0..20 {
        let mut raw = Raw::connect(hub.addr()).await;
        raw.send(post(&format!("content-length: {}\r\n", body.len()), "").as_bytes()).await;
        // As a client that writes everything before it reads anything.
        within(raw.stream.write_all(&body)).await.unwrap_or_else(|error| panic!("{round}: {error}"));
        let answer = raw.answer("POST").await;
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{round}");
        assert!(!raw.more().await, "{round}: then it ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_above_the_limit_can_read_so_though_it_has_sent_its_request() {
    let hub = TestHub::with(|config| config.http.max_connections = 1).await;
    let first = TcpStream::connect(hub.addr()).await.unwrap();
    until(|| hub.bus().metrics().http_connections.get() == 1).await;
    for _ in 0..20 {
        let mut raw = Raw::connect(hub.addr()).await;
        raw.send(post("content-length: 1000000\r\n", &"x".repeat(1_000_000)).as_bytes()).await;
        let answer = raw.answer("POST").await;
        assert_eq!((answer.status, answer.code()), (503, json!("connections.full")));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    drop(first);
}

/// As `nc -N` does.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let hub = TestHub::start().await;
    let mut raw = Raw::connect(hub.addr()).await;
    let request = r#"{"event":{"type":"ask"},"reply_type":"answer"}"#;
    let head =
        format!("POST /v1/request HTTP/1.1\r\nhost: 127.0.0.1\r\n{JSON}content-length: {}\r\n\r\n", request.len());
    raw.send(format!("{head}{request}").as_bytes()).await;
    raw.stream.shutdown().await.unwrap();
    let asked = hub.events_of("ask", 1).await;
    let id = asked[0]["metadata"]["correlation_id"].as_str().unwrap().to_owned();
    hub.bus().publish(busway::event::NewEvent::new("answer").correlation_id(id)).await.unwrap();
    let answer = raw.answer("POST").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(r#""type":"answer""#), "{answer:?}");
    until(|| hub.bus().metrics().http_connections.get() <= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_stream_that_has_gone_is_noticed_without_an_event() {
    let hub = TestHub::start().await;
    let mut raw = Raw::connect(hub.addr()).await;
    raw.send(get("/v1/events/stream", "").as_bytes()).await;
    assert_eq!(raw.head().await.status, 200);
    let streams = || hub.bus().metrics().sse_connections.get();
    assert_eq!(streams(), 1);
    drop(raw);
    until(|| streams() == 0).await;
}

/// Load balancers keep connections for 60 s, so the hub keeps them for longer, which a head may not
/// take.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_waits_longer_for_a_request_than_for_the_rest_of_its_head() {
    let hub = TestHub::with(|config| {
        config.http.header_timeout_s = 1.try_into().unwrap();
        config.http.keep_alive_timeout_s = 3600.try_into().unwrap();
    })
    .await;
    let mut idle = Raw::connect(hub.addr()).await;
    assert!(idle.is_usable().await);
    let mut slow = Raw::connect(hub.addr()).await;
    assert!(slow.is_usable().await);
    slow.send(b"GET /healthz HTTP/1.1\r\n").await;
    let answer = slow.answer("GET").await;
    assert_eq!((answer.status, answer.code()), (408, json!("head.timeout")));
    assert!(!slow.more().await);
    // It has been idle for longer than a head may take: since before the other one began.
    assert!(idle.is_usable().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_no_request_begins_is_closed() {
    let hub = TestHub::with(|config| config.http.keep_alive_timeout_s = 1.try_into().unwrap()).await;
    let mut idle = Raw::connect(hub.addr()).await;
    assert!(idle.is_usable().await);
    assert!(!idle.more().await, "without a word");
}

/// Fetch standard, section 3.3: what a page of another origin may do is what the route can do.
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_allows_the_methods_and_fields_of_the_route_to_listed_origins() {
    let hub = TestHub::with(|config| config.http.allowed_origins = vec!["https://good.example".parse().unwrap()]).await;
    let ask = async |target: &str, origin: &str| {
        let mut raw = Raw::connect(hub.addr()).await;
        let fields = format!("origin: {origin}\r\naccess-control-request-method: PUT\r\n");
        raw.send(get(target, &fields).replacen("GET", "OPTIONS", 1).as_bytes()).await;
        raw.answer("OPTIONS").await
    };
    let good = "https://good.example";
    for (target, methods, fields) in [
        ("/v1/events", "POST, GET, HEAD, OPTIONS", Some("content-type")),
        ("/v1/plugins/x/limits", "PUT, DELETE, OPTIONS", Some("content-type")),
        ("/v1/dead-letters/1", "GET, HEAD, DELETE, OPTIONS", None),
        ("/v1/events/stream", "GET, HEAD, OPTIONS", Some("last-event-id")),
    ] {
        let answer = ask(target, good).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(good), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-methods"), Some(methods), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-headers"), fields, "{answer:?}");
        assert_eq!(answer.header("access-control-max-age"), Some("600"), "{answer:?}");
        assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
    }
    assert_eq!(ask("/v1/nothing", good).await.status, 404);
    let denied = ask("/v1/events", "https://evil.example").await;
    assert_eq!((denied.status, denied.code()), (403, json!("origin.denied")));
    assert_eq!(denied.header("access-control-allow-origin"), None);
}

/// RFC 6454, section 5: the scheme is part of an origin, and the hub's own is http.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_https_at_the_hubs_address_is_of_another_origin() {
    let hub = TestHub::start().await;
    for (scheme, status) in [("http", 200), ("https", 403)] {
        let origin = format!("{scheme}://{}", hub.addr());
        let response = hub.http.get(hub.url("/v1/stats")).header("origin", &origin).send().await.unwrap();
        assert_eq!(response.status(), status, "{origin}");
    }
}

/// A body that does not come holds what came of it, and a bound in all.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_under_way_have_one_bound_and_large_ones_do_not_keep_small_ones_out() {
    // The least that there can be: two bodies of the largest size.
    let hub = TestHub::with(|config| config.http.max_total_body_bytes = 0).await;
    let metrics = hub.bus().metrics();
    let length = 1 << 20;
    let head = post(&format!("content-length: {length}\r\n"), "");
    let mut promised = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect(hub.addr()).await;
        raw.send(head.as_bytes()).await;
        promised.push(raw);
    }
    assert_eq!(hub.post_text("/v1/events", EVENT).await.0, 200, "a promise holds nothing");
    let mut stalled = promised.swap_remove(0);
    stalled.send(&vec![b' '; length - 1]).await;
    until(|| metrics.http_body_bytes.get() == length as i64).await;
    let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(900_000));
    let refused = hub.http.post(hub.url("/v1/events")).header("content-type", "application/json").body(long.clone());
    let refused = within(refused.send()).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "bodies.full");
    assert_eq!(metrics.http_bodies_refused.get(), 1);
    assert_eq!(hub.post_text("/v1/events", EVENT).await.0, 200, "there is room for small ones");
    drop(stalled);
    until(|| metrics.http_body_bytes.get() == 0).await;
    assert_eq!(hub.post_text("/v1/events", long).await.0, 200);
}

/// The kernel's queue is as long as a burst: nobody waits for a repeated SYN, which takes a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_connections_is_taken_at_once() {
    // Nobody accepts, so that all of them are in the queue.
    let listener = busway::http::server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..400 {
        waiting.push(within(TcpStream::connect(addr)).await.unwrap());
    }
    assert_eq!(waiting.len(), 400);
}
