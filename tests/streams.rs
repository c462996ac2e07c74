//! Server-sent events: what docs/api.md says of `/v1/events/stream`.

use crate::{
    cli::busway,
    guests::guest,
    hub::{TestHub, within},
};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::fs;
use tokio::io::{AsyncBufReadExt, BufReader};

/// A stream, read record by record as the HTML standard has it.
pub struct Stream {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug, Default, PartialEq)]
pub struct Record {
    pub event: String,
    pub id: String,
    pub data: String,
}

impl Record {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Stream {
    pub async fn open(hub: &TestHub, path: &str, last_event_id: Option<&str>) -> Self {
        Self::open_url(&hub.http, &hub.url(path), last_event_id).await
    }

    pub async fn open_url(http: &reqwest::Client, url: &str, last_event_id: Option<&str>) -> Self {
        let mut request = http.get(url);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
        }
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), 200, "{url} {last_event_id:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next record with data; none once the stream has ended in order.
    pub async fn next(&mut self) -> Option<Record> {
        loop {
            if let Some((record, rest)) = self.text.split_once("\n\n") {
                let fields: Vec<(String, String)> = record.lines().filter_map(field).collect();
                let value = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
                let is_event = value("data").is_some();
                let [event, id, data] = ["event", "id", "data"].map(|name| value(name).unwrap_or_default());
                self.text = rest.to_owned();
                if is_event {
                    return Some(Record { event, id, data });
                }
                continue;
            }
            self.text += std::str::from_utf8(&within(self.response.chunk()).await.unwrap()?).unwrap();
        }
    }

    /// The next one, past those that only say where the stream is.
    pub async fn next_said(&mut self) -> Record {
        loop {
            let record = self.next().await.unwrap();
            if record.event != "position" {
                return record;
            }
        }
    }

    /// The seqs of the next `count` events.
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let record = self.next_said().await;
            assert_eq!(record.event, "", "{record:?}");
            seqs.push(record.json()["seq"].as_u64().unwrap());
        }
        seqs
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()))
}

const STREAM: &str = "/v1/events/stream";
const OTHER: &str = "0192f3a1-aaaa-7bbb-8ccc-1234567890ab";

async fn with_events(count: u64) -> TestHub {
    let hub = TestHub::start().await;
    for index in 1..=count {
        assert_eq!(hub.publish("a", json!(index)).await, index);
    }
    hub
}

/// An `EventSource` ends for good at any status but 200, and its page cannot read the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_resumed_is_told_in_the_stream_which_goes_on_with_the_oldest_event() {
    let hub = with_events(3).await;
    let epoch = hub.bus().log().epoch().to_string();
    let (other, ahead) = (format!("{OTHER}:2"), format!("{epoch}:99"));
    for (query, header, code) in [
        (String::new(), Some(other.as_str()), "epoch.mismatch"),
        (format!("?lastEventId={OTHER}%3A2"), None, "epoch.mismatch"),
        (format!("?last_event_id={OTHER}:2"), None, "epoch.mismatch"),
        (format!("?from=2&epoch={OTHER}"), None, "epoch.mismatch"),
        (String::new(), Some(ahead.as_str()), "from.ahead"),
        ("?from=18446744073709551615".into(), None, "from.ahead"),
        ("?from=2".into(), Some("nonsense"), "query.last-event-id"),
        (String::new(), Some("ü"), "query.last-event-id"),
        ("?lastEventId=7:".into(), None, "query.last-event-id"),
    ] {
        let mut stream = Stream::open(&hub, &format!("{STREAM}{query}"), header).await;
        let told = stream.next().await.unwrap();
        let data = told.json();
        assert_eq!((told.event.as_str(), &data["code"]), ("epoch", &json!(code)), "{query} {header:?}: {told:?}");
        assert_eq!((&data["epoch"], &data["from"]), (&json!(epoch), &json!(1)), "{told:?}");
        assert_eq!(told.id, format!("{epoch}:0"));
        assert!(data["detail"].is_string());
        assert_eq!(stream.seqs(3).await, [1, 2, 3], "{query} {header:?}");
    }
    // Who asks for nothing that is past gets nothing that is past.
    let mut stream = Stream::open(&hub, &format!("{STREAM}?epoch={OTHER}"), None).await;
    assert_eq!(stream.next().await.unwrap().json()["from"], json!(4));
    hub.publish("a", json!(4)).await;
    assert_eq!(stream.seqs(1).await, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_goes_before_the_parameter_of_the_same_meaning_and_that_before_from() {
    let hub = with_events(10).await;
    for (query, header, first) in [
        ("?from=2&lastEventId=5", Some("8"), 9),
        ("?from=2&lastEventId=5", None, 6),
        ("?from=2&last_event_id=5", Some(""), 6),
        ("?from=2&lastEventId=", None, 2),
    ] {
        let mut stream = Stream::open(&hub, &format!("{STREAM}{query}"), header).await;
        assert_eq!(stream.seqs(1).await, [first], "{query} {header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_before_its_first_event_is_resumed_without_a_gap() {
    let hub = with_events(2).await;
    let epoch = hub.bus().log().epoch();
    let mut stream = Stream::open(&hub, STREAM, None).await;
    let position = stream.next().await.unwrap();
    assert_eq!(position, Record { event: "position".into(), id: format!("{epoch}:2"), data: String::new() });
    drop(stream);
    hub.publish("a", json!(3)).await;
    assert_eq!(Stream::open(&hub, STREAM, Some(&position.id)).await.seqs(1).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_with_the_id_after_it() {
    let hub = TestHub::with(|config| config.log.buffer_size = 10.try_into().unwrap()).await;
    for index in 1..=100 {
        hub.publish("a", json!(index)).await;
    }
    let mut stream = Stream::open(&hub, &format!("{STREAM}?from=5"), None).await;
    let lagged = stream.next_said().await;
    let (epoch, to) = (hub.bus().log().epoch(), lagged.json()["to"].as_u64().unwrap());
    assert_eq!((lagged.event.as_str(), lagged.id), ("lagged", format!("{epoch}:{to}")));
    assert_eq!(stream.seqs(1).await, [to + 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_programmer_got_wrong_is_refused_with_a_status() {
    let hub = TestHub::start().await;
    for (query, code) in [
        ("limit=1", "query.unknown"),
        ("last-event-id=1", "query.unknown"),
        ("lastEventId=1&lastEventId=2", "query.repeated"),
        ("from=x", "query.number"),
        ("epoch=x", "query.epoch"),
        ("types=", "query.list"),
        ("filter=nobody", "filter.unknown"),
    ] {
        let (status, problem) = hub.get(&format!("{STREAM}?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{query}: {problem}");
    }
}

/// After a restart, clients come back before the plugins are loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_through_a_filter_that_is_still_being_loaded_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    fs::write(dir.path().join("plugins/urgent-only.wasm"), guest("urgent-only")).unwrap();
    let hub = TestHub::starting(dir, |_| ()).await;
    let mut stream = Stream::open(&hub, &format!("{STREAM}?filter=urgent-only&from=1"), None).await;
    let urgent = busway::event::NewEvent::new("a").tag("urgent");
    let seq = hub.bus().publish(urgent).await.unwrap().seq;
    assert_eq!(stream.seqs(1).await, [seq]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_goes_on_over_a_new_epoch_and_says_so() {
    let hub = TestHub::start().await;
    let address = hub.addr();
    hub.publish("a", json!("before")).await;
    let args = ["--url", &hub.url(""), "tail", "--types", "a", "--from", "1", "--json"];
    let mut child = busway().args(args).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&within(out.next_line()).await.unwrap().unwrap()).unwrap();
    assert_eq!(first["data"], json!("before"));
    assert!(hub.stop().await);
    let hub = TestHub::with(|config| config.http.listen = address).await;
    hub.publish("a", json!("after")).await;
    let second: Value = serde_json::from_str(&within(out.next_line()).await.unwrap().unwrap()).unwrap();
    assert_eq!((&second["data"], &second["seq"]), (&json!("after"), &json!(1)));
    let told = async { while !said.next_line().await.unwrap().expect("it says so").contains("new numbering") {} };
    within(told).await;
}
