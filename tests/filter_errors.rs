//! A filter that gives no verdict: whoever asked it is told, and nothing is passed over in silence.
//! Starvation is made here, not waited for: see [`Hog`].

use crate::{
    cli::busway,
    client::Client,
    guests::probe,
    hostile::guest::{Guest, TRUE},
    hub::{TestHub, until, within},
    streams::Stream,
};
use busway::{
    bus::PublishError,
    config::AdmissionConfig,
    event::NewEvent,
    metrics::{Door, Metrics, Reason},
};
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinHandle,
};

/// The deadline of the filters in these tests.
const DEADLINE: Duration = Duration::from_millis(100);
/// Calls after which a filter is believed to be a short one, so
/// that it is asked on the hub's own threads, and some more.
const TRUSTED: u64 = 30;
/// How often a filter is asked about one event.
const TRIES: u64 = 5;

/// A filter that traps over events whose type has five characters.
fn picky() -> Vec<u8> {
    let body = format!("(if (i32.eq (i32.load offset=12 (local.get $event)) (i32.const 5)) (then unreachable)) {TRUE}");
    wat::parse_str(Guest::filter(body).wat()).unwrap()
}

/// A filter that says yes, and gives its thread back several times on the way.
fn yielding() -> Vec<u8> {
    let spin = "(local.set $i (i32.const 20000))
        (loop $again (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    wat::parse_str(Guest::filter(format!("{spin} {TRUE}")).wat()).unwrap()
}

fn sidecar() -> String {
    format!("[limits]\ndeadline = \"{}ms\"", DEADLINE.as_millis())
}

fn typed(event_type: &str) -> NewEvent {
    NewEvent::new(event_type)
}

/// Runs a test with its hub on one thread, on which every task
/// that was woken has its turn before any has a second one.
fn on_one_thread(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap().block_on(test);
}

/// Other work: between any two turns of a call it has the
/// thread for longer than the call's deadline, until `done`.
struct Hog(JoinHandle<()>);

impl Hog {
    fn until(done: impl Fn() -> bool + Send + 'static) -> Self {
        Self(tokio::spawn(poll_fn(move |context| {
            if done() {
                return Poll::Ready(());
            }
            let began = Instant::now();
            while began.elapsed() < DEADLINE * 3 / 2 {}
            context.waker().wake_by_ref();
            Poll::Pending
        })))
    }

    async fn ends(self) {
        within(self.0).await.unwrap();
    }
}

fn range(error: &Value) -> [u64; 3] {
    ["from", "to", "count"].map(|key| error[key].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_filter_is_told_to_every_client_of_its_view_in_the_order_of_events() {
    let hub = TestHub::start().await;
    hub.install("test", picky(), "").await;
    let query = "?types=good,fault&filter=test";
    let mut client = Client::connect(&hub, query).await;
    let mut stream = Stream::open(&hub, &format!("/v1/events/stream{query}"), None).await;
    let child = busway().args(["--url", &hub.url(""), "tail", "--types", "good,fault", "--filter", "test"]).spawn();
    let mut child = child.unwrap();
    until(|| hub.bus().metrics().sse_connections.get() == 2).await;
    let types = ["good", "fault", "other", "fault", "good"];
    let receipts = hub.bus().publish_all(types.into_iter().map(typed).collect()).await.unwrap();
    let seqs: Vec<u64> = receipts.iter().map(|receipt| receipt.seq).collect();

    assert_eq!(client.next_of("good").await["seq"], seqs[0]);
    let told = client.next().await;
    assert_eq!((&told["op"], &told["plugin"], &told["code"]), (&json!("filter_error"), &json!("test"), &json!("trap")));
    assert_eq!((range(&told), &told["passed"]), ([seqs[1], seqs[3], 2], &json!(false)));
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("unreachable")), "{told}");
    assert_eq!(client.next().await["seq"], seqs[4]);

    let mut records = Vec::new();
    while records.len() < 3 {
        let record = stream.next().await.unwrap();
        if record.event != "position" {
            records.push(record);
        }
    }
    let [first, failure, last] = &records[..] else { unreachable!() };
    let seq = |id: &str| id.rsplit_once(':').unwrap().1.parse::<u64>().unwrap();
    assert_eq!([first, failure, last].map(|record| seq(&record.id)), [seqs[0], seqs[3], seqs[4]]);
    assert_eq!(failure.event, "filter_error");
    let data: Value = serde_json::from_str(&failure.data).unwrap();
    assert_eq!(range(&data), [seqs[1], seqs[3], 2]);

    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = within(said.next_line()).await.unwrap().unwrap();
    assert!(line.contains("gave no verdict on 2 events") && line.contains("trap"), "{line}");

    let (_, page) = hub.get(&format!("/v1/events{query}&from={}&limit=1", seqs[0])).await;
    assert_eq!((&page["events"][0]["seq"], &page["next"]), (&json!(seqs[0]), &json!(seqs[4])), "{page}");
    let errors = page["filter_errors"].as_array().unwrap();
    assert_eq!((errors.len(), range(&errors[0]), &errors[0]["code"]), (1, [seqs[1], seqs[3], 2], &json!("trap")));

    assert_eq!(hub.metric("busway_websocket_filter_errors_total").await, 1);
    assert_eq!(hub.metric("busway_sse_filter_errors_total").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_passes_without_a_verdict_comes_right_after_its_failure() {
    let hub = TestHub::start().await;
    hub.install("test", picky(), "on_error = \"open\"").await;
    let mut client = Client::connect(&hub, "?types=fault&filter=test").await;
    hub.bus().publish_all(vec![typed("fault"), typed("fault")]).await.unwrap();
    for _ in 0..2 {
        let told = client.next_op("filter_error").await;
        assert_eq!((&told["count"], &told["passed"]), (&json!(1), &json!(true)));
        assert_eq!(client.next().await["seq"], told["from"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_that_their_filter_is_out_of_service() {
    let hub = TestHub::start().await;
    hub.install("test", picky(), "").await;
    let mut client = Client::connect(&hub, "?types=good&filter=test").await;
    hub.post("/v1/plugins/test/disable", &json!({})).await;
    let seq = hub.publish("good", json!(null)).await;
    let told = client.next_op("filter_error").await;
    assert_eq!((&told["code"], range(&told)), (&json!("filter.inactive"), [seq, seq, 1]));
    assert_eq!(told["detail"], "the plugin is disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_failures_in_a_row_are_one_record() {
    let hub = TestHub::start().await;
    hub.install("test", picky(), "").await;
    let mut client = Client::connect(&hub, "?types=many&filter=test").await;
    hub.post("/v1/plugins/test/disable", &json!({})).await;
    hub.bus().publish_all((0..3_000).map(|_| typed("many")).collect()).await.unwrap();
    let (mut messages, mut concerned) = (0, 0);
    while concerned < 3_000 {
        concerned += client.next_op("filter_error").await["count"].as_u64().unwrap();
        messages += 1;
    }
    assert_eq!(hub.bus().metrics().view_filter_errors.get(), 3_000);
    assert!(messages <= 12, "one for each batch that the view reads: {messages}");
}

#[test]
fn a_starved_filter_is_told_to_the_clients_of_its_view_and_judges_the_next_event() {
    on_one_thread(async {
        let hub = TestHub::start().await;
        hub.install("test", yielding(), &sidecar()).await;
        let mut client = Client::connect(&hub, "?types=x&filter=test").await;
        for _ in 0..TRUSTED {
            hub.publish("x", json!(null)).await;
        }
        for _ in 0..TRUSTED {
            client.next_of("x").await;
        }
        let metrics = hub.bus().metrics().clone();
        let bus = hub.bus().clone();
        let publishing = tokio::spawn(async move { bus.publish(typed("x")).await.unwrap().seq });
        let starved = metrics.clone();
        let hog = Hog::until(move || starved.filter_starved.get() > 0);
        hog.ends().await;
        let seq = within(publishing).await.unwrap();
        let told = client.next_op("filter_error").await;
        assert_eq!((&told["code"], range(&told)), (&json!("filter.starved"), [seq, seq, 1]));
        let next = hub.publish("x", json!(null)).await;
        assert_eq!(client.next_of("x").await["seq"], next);
        let (_, status) = hub.get("/v1/plugins/test").await;
        assert_eq!(status["state"], "active");
        assert_eq!(status["faults"]["deadline"], TRIES, "it was asked again: {status}");
        let (_, page) = hub.get(&format!("/v1/events?types=x&filter=test&from={seq}")).await;
        assert_eq!(page["events"].as_array().unwrap().len(), 2, "whoever asks again gets a verdict: {page}");
    });
}

/// How many events of each door were turned away because nobody judged them.
fn unanswered(metrics: &Metrics) -> [u64; 3] {
    Door::ALL.map(|door| metrics.doors[door].rejected(Reason::Unanswered).get())
}

#[test]
fn a_publisher_whose_admission_filter_was_starved_is_told_to_try_again_at_every_door() {
    on_one_thread(async {
        let hub = TestHub::with(|config| {
            config.admission = vec![AdmissionConfig { filter: "test".into(), params: None }];
        })
        .await;
        hub.install("test", yielding(), &sidecar()).await;
        let mut client = Client::connect(&hub, "?types=nothing").await;
        for _ in 0..TRUSTED {
            // A machine that is busy otherwise may starve it too.
            while hub.bus().publish(typed("x")).await.is_err() {}
        }
        let metrics = hub.bus().metrics().clone();
        let before = unanswered(&metrics);
        client.say(json!({"op": "publish", "id": 1, "events": [{"type": "x"}, {"type": "x"}]})).await;
        let request = hub.http.post(hub.url("/v1/events")).json(&json!({"type": "x"}));
        let http = tokio::spawn(request.send());
        let bus = hub.bus().clone();
        let library = tokio::spawn(async move { bus.publish(typed("x")).await });
        let starved = metrics.clone();
        let hog = Hog::until(move || unanswered(&starved).into_iter().zip(before).all(|(now, before)| now > before));
        hog.ends().await;

        let response = within(http).await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["index"]), (&json!("publish.unanswered"), &json!(0)));
        let error = within(library).await.unwrap().unwrap_err();
        assert_eq!(error, PublishError::Unanswered { index: 0, filter: "test".into() });
        assert_eq!(client.next_op("error").await["code"], "publish.unanswered");
        let refused: Vec<u64> = unanswered(&metrics).iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(refused, [1, 2, 1], "http, websocket, library");
        for door in Door::ALL {
            let counters = &metrics.doors[door];
            let rejected: u64 = Reason::ALL.into_iter().map(|reason| counters.rejected(reason).get()).sum();
            assert_eq!(counters.sent.get(), counters.accepted.get() + counters.duplicate.get() + rejected, "{door:?}");
        }
        let (_, stats) = hub.get("/v1/stats").await;
        assert_eq!(stats["events_rejected"]["unanswered"], unanswered(&metrics).iter().sum::<u64>());
        while hub.bus().publish(typed("x")).await.is_err() {}
    });
}

#[test]
fn a_handler_whose_filter_was_starved_waits_and_passes_no_event_over() {
    on_one_thread(async {
        let hub = TestHub::start().await;
        hub.install("test", yielding(), &sidecar()).await;
        hub.install("probe", probe(1), "filter = \"test\"").await;
        for _ in 0..TRUSTED {
            hub.publish("probe.echo", json!(null)).await;
        }
        hub.events_of("probed.echo", TRUSTED as usize).await;
        let metrics = hub.bus().metrics().clone();
        let bus = hub.bus().clone();
        let publishing = tokio::spawn(async move {
            bus.publish_all(vec![typed("probe.echo"), typed("probe.echo")]).await.unwrap();
        });
        let (waits, before) = (metrics.clone(), metrics.handler_filter_waits.get());
        let hog = Hog::until(move || waits.handler_filter_waits.get() > before);
        hog.ends().await;
        within(publishing).await.unwrap();
        hub.events_of("probed.echo", TRUSTED as usize + 2).await;
        assert_eq!(metrics.handler_filter_errors.get(), 0);
        assert!(hub.stop().await);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_filter_before_a_handler_means_what_its_operator_says_and_is_counted() {
    for (on_error, handled) in [("closed", 1), ("open", 2)] {
        let hub = TestHub::start().await;
        hub.install("test", picky(), &format!("on_error = \"{on_error}\"")).await;
        let manifest = "filter = \"test\"\nsubscriptions = [{ event_types = [\"fault\", \"probe.echo\"] }]";
        hub.install("probe", probe(1), manifest).await;
        hub.bus().publish_all(vec![typed("fault"), typed("probe.echo")]).await.unwrap();
        hub.events_of("probed.echo", 1).await;
        hub.plugin_until("probe", |status| status["calls"] == handled).await;
        assert_eq!(hub.metric("busway_handler_filter_errors_total").await, 1, "{on_error}");
    }
}
