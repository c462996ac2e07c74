//! Dead letters: what a handler could not handle is kept, shown, handed to it again, or thrown away.

use crate::{
    guests::probe,
    hub::{TestHub, until},
};
use busway::event::NewEvent;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use tempfile::tempdir;

const ONE_TRY: &str = "[retry]\nattempts = 1\n";
const THREE_TRIES: &str = "[retry]\nattempts = 3\n";

/// A hub whose plugin `probe` gives up at once.
async fn strict(manifest: &str) -> TestHub {
    let hub = TestHub::durable(tempdir().unwrap(), |_| ()).await;
    hub.install("probe", probe(1), &format!("{manifest}{ONE_TRY}")).await;
    hub
}

impl TestHub {
    /// Replaces the plugin and waits until the new version is called.
    async fn upgrade(&self, manifest: &str) {
        self.put("probe.toml", manifest);
        self.put("probe.wasm", probe(2));
        assert_eq!(self.post("/v1/plugins/probe/reload", &json!({})).await.0, 200);
    }

    async fn letters(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.get(&format!("/v1/dead-letters{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["dead_letters"].as_array().unwrap().clone()
    }

    async fn letters_until(&self, count: usize) -> Vec<Value> {
        until(|| self.bus().metrics().dead_letters.get() >= count as u64).await;
        self.letters("?limit=1000").await
    }

    async fn replay(&self, which: Value) -> Value {
        let (status, answer) = self.post("/v1/dead-letters/replay", &which).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// What the journal still has for the plugin to try again.
    async fn retries(&self) -> usize {
        let journal = self.bus().log().journal().unwrap();
        journal.retries("probe".into(), BTreeSet::new()).await.unwrap().found.len()
    }
}

fn of<'a>(letters: &'a [Value], field: &str) -> Vec<&'a Value> {
    letters.iter().map(|letter| &letter[field]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_says_what_died_of_what_and_when() {
    let hub = strict("").await;
    let seq = hub.publish("probe.reject", json!({"n": 1.10})).await;
    let letter = hub.letters_until(1).await.remove(0);
    assert_eq!((&letter["plugin"], &letter["seq"], &letter["code"]), (&json!("probe"), &json!(seq), &json!("reject")));
    assert_eq!((&letter["attempts"], &letter["message"]), (&json!(1), &json!("never")));
    assert!(letter["sha256"].is_string() && letter["died_at"].as_str().unwrap().ends_with('Z'), "{letter}");
    let (_, page) = hub.get(&format!("/v1/events?from={seq}&limit=1")).await;
    assert_eq!(letter["event"], page["events"][0]);
    let (status, shown) = hub.get(&format!("/v1/dead-letters/{}", letter["id"])).await;
    assert_eq!((status, shown), (200, letter));
    for id in ["999", "x"] {
        let (status, problem) = hub.get(&format!("/v1/dead-letters/{id}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("dead-letter.unknown")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_chosen_by_plugin_code_and_time_and_read_page_by_page() {
    let hub = strict("").await;
    for _ in 0..5 {
        hub.publish("probe.reject", json!(null)).await;
    }
    hub.publish("probe.retry", json!(9)).await;
    let all = hub.letters_until(6).await;
    assert_eq!(hub.letters("?plugin=probe&code=retry").await.len(), 1);
    assert!(hub.letters("?plugin=other").await.is_empty());
    let (first, last) = (all[0]["died_at"].as_str().unwrap(), all[5]["died_at"].as_str().unwrap());
    assert_eq!(hub.letters(&format!("?since={first}")).await.len(), 6);
    assert!(hub.letters(&format!("?until={first}")).await.is_empty());
    assert!(!of(&hub.letters(&format!("?since={last}")).await, "id").is_empty());
    let (mut ids, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let (_, mut page) = hub.get(&format!("/v1/dead-letters?limit=2&after={after}")).await;
        ids.extend(of(page["dead_letters"].as_array().unwrap(), "id").into_iter().cloned());
        after = page["next"].take();
    }
    assert_eq!(ids, of(&all, "id").into_iter().cloned().collect::<Vec<_>>());
    for (query, code) in [
        ("since=yesterday", "query.time"),
        ("limit=1001", "query.number"),
        ("limit=0", "query.number"),
        ("colour=red", "query.unknown"),
    ] {
        let (status, problem) = hub.get(&format!("/v1/dead-letters?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_goes_through_todays_version_as_a_first_attempt_and_its_success_leaves_nothing() {
    let hub = strict("[grants]\npublish = [\"else.*\"]\n").await;
    let seq = hub.publish("probe.echo", json!("x")).await;
    let letter = hub.letters_until(1).await.remove(0);
    hub.upgrade(THREE_TRIES).await;
    assert_eq!(hub.replay(json!({"ids": [letter["id"], 77]})).await, json!({"replayed": 1, "left": [], "unknown": 1}));
    let handled = hub.events_of("probed.echo", 1).await;
    assert_eq!(handled[0]["data"], json!({"of": seq, "version": 2, "data": "x", "attempt": 1}));
    assert_eq!(handled[0]["metadata"]["causation_id"], letter["event"]["metadata"]["event_id"]);
    assert_eq!((hub.letters("").await.len(), hub.retries().await), (0, 0));
    let hub = hub.restart().await;
    hub.publish("probe.echo", json!("y")).await;
    assert_eq!(hub.events_of("probed.echo", 2).await.len(), 2, "nothing is handled twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_is_tried_as_often_as_any_event_and_its_failure_makes_a_new_one() {
    let hub = strict("").await;
    hub.publish("probe.retry", json!(3)).await;
    let seq = hub.publish("probe.retry", json!(99)).await;
    let old = hub.letters_until(2).await;
    hub.upgrade(THREE_TRIES).await;
    assert_eq!(hub.replay(json!({"all": true})).await, json!({"replayed": 2, "left": []}));
    assert_eq!(hub.events_of("probed.retry", 1).await[0]["data"], json!({"attempt": 3}));
    let new = hub.letters_until(3).await;
    assert_eq!((of(&new, "seq"), of(&new, "attempts")), (vec![&json!(seq)], vec![&json!(3)]));
    assert!(old.iter().all(|old| new[0]["id"].as_i64() > old["id"].as_i64()));
    assert!(old.iter().any(|old| new[0]["event"] == old["event"]));
    assert_eq!(hub.retries().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_a_restart_before_it_is_handled() {
    let hub = strict("").await;
    for data in [2, 2, 3] {
        hub.publish("probe.retry", json!(data)).await;
    }
    hub.letters_until(3).await;
    hub.upgrade(THREE_TRIES).await;
    hub.post("/v1/plugins/probe/disable", &json!({})).await;
    assert_eq!(hub.replay(json!({"plugin": "probe"})).await["replayed"], 3);
    assert_eq!((hub.letters("").await.len(), hub.retries().await), (0, 3));
    let hub = hub.restart().await;
    hub.post("/v1/plugins/probe/enable", &json!({})).await;
    assert_eq!(hub.events_of("probed.retry", 3).await.len(), 3);
    let hub = hub.restart().await;
    assert_eq!((hub.events_of("probed.retry", 3).await.len(), hub.retries().await), (3, 0), "and only once");
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_letters_keep_the_order_of_their_lane() {
    let hub = strict("order_by = \"source\"\n").await;
    let publish = async |hub: &TestHub, index: usize| {
        let event =
            json!({"type": "probe.retry", "data": 2, "metadata": {"source": "s", "event_id": index.to_string()}});
        hub.post("/v1/events", &event).await;
    };
    for index in 0..6 {
        publish(&hub, index).await;
    }
    hub.letters_until(6).await;
    hub.upgrade(&format!("order_by = \"source\"\nconcurrency = 4\n{THREE_TRIES}")).await;
    for restarted in [false, true] {
        hub.post("/v1/plugins/probe/disable", &json!({})).await;
        hub.replay(json!({"code": if restarted { "reject" } else { "retry" }})).await;
    }
    publish(&hub, 6).await;
    let hub = hub.restart().await;
    hub.post("/v1/plugins/probe/enable", &json!({})).await;
    let handled = hub.events_of("probed.retry", 7).await;
    let causes: Vec<&str> = handled.iter().map(|event| event["metadata"]["causation_id"].as_str().unwrap()).collect();
    assert_eq!(causes, ["0", "1", "2", "3", "4", "5", "6"]);
}

/// More keys fail than a lane holds at once: it waits for room, and nothing overtakes.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_lane_with_more_retries_than_it_holds_loses_and_reorders_nothing() {
    let hub = TestHub::durable(tempdir().unwrap(), |_| ()).await;
    let manifest = "order_by = \"source\"\nconcurrency = 4\n[retry]\nattempts = 3\n";
    hub.install("probe", probe(1), manifest).await;
    const KEYS: usize = 1_500;
    for event_type in ["probe.retry", "probe.echo"] {
        let of_key = |key: usize| {
            NewEvent::new(event_type).source(format!("s{key}")).event_id(format!("{event_type} {key}")).data(2).unwrap()
        };
        let events: Vec<NewEvent> = (0..KEYS).map(of_key).collect();
        for chunk in events.chunks(500) {
            hub.bus().publish_all(chunk.to_vec()).await.unwrap();
        }
    }
    until(|| hub.bus().metrics().handler_retries.get() >= 1_024).await;
    let hub = hub.restart().await;
    let echoes = hub.events_of("probed.echo", KEYS).await;
    let retried = hub.events_of("probed.retry", KEYS).await;
    assert_eq!((echoes.len(), retried.len()), (KEYS, KEYS));
    let by_cause = |events: &[Value]| -> HashMap<String, u64> {
        let of = |event: &Value| {
            (event["metadata"]["causation_id"].as_str().unwrap().into(), event["seq"].as_u64().unwrap())
        };
        events.iter().map(of).collect()
    };
    let (echoes, retried) = (by_cause(&echoes), by_cause(&retried));
    for key in 0..KEYS {
        let [first, second] = [retried[&format!("probe.retry {key}")], echoes[&format!("probe.echo {key}")]];
        assert!(first < second, "s{key}: the second was handled before the first");
    }
}

/// More than a lane holds at once.
#[tokio::test(flavor = "multi_thread")]
async fn every_letter_of_a_large_replay_is_handled_while_new_events_come_in() {
    let hub = strict("").await;
    let many = 2_500;
    for _ in 0..many {
        hub.bus().try_publish(NewEvent::new("probe.reject")).unwrap();
    }
    hub.letters_until(many).await;
    assert_eq!(hub.replay(json!({"all": true})).await["replayed"], many);
    for _ in 0..many {
        hub.bus().try_publish(NewEvent::new("probe.reject")).unwrap();
    }
    hub.letters_until(3 * many).await;
    assert_eq!(hub.retries().await, 0);
    assert_eq!(hub.delete("/v1/dead-letters?plugin=probe").await, (200, json!({"purged": 2 * many})));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_plugin_that_is_not_there_stay_and_are_reported() {
    let hub = strict("").await;
    hub.publish("probe.reject", json!(null)).await;
    let before = hub.letters_until(1).await;
    hub.remove("probe.wasm");
    until(|| hub.plugins().get("probe").is_none()).await;
    let left = json!({"replayed": 0, "left": [{"plugin": "probe", "dead_letters": 1}]});
    assert_eq!(hub.replay(json!({"all": true})).await, left);
    assert_eq!(hub.letters("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_thrown_away_one_by_one_or_by_what_they_are() {
    let hub = strict("").await;
    for _ in 0..3 {
        hub.publish("probe.reject", json!(null)).await;
    }
    // Calls run at once: which dies first is not said.
    hub.letters_until(3).await;
    hub.publish("probe.retry", json!(9)).await;
    let letters = hub.letters_until(4).await;
    let one = format!("/v1/dead-letters/{}", letters[0]["id"]);
    assert_eq!(hub.delete(&one).await, (200, json!({"purged": 1})));
    assert_eq!(hub.delete(&one).await.1["code"], "dead-letter.unknown");
    assert_eq!(hub.delete("/v1/dead-letters?code=reject").await, (200, json!({"purged": 2})));
    assert_eq!(of(&hub.letters("").await, "code"), ["retry"]);
    assert_eq!(hub.delete("/v1/dead-letters?all=true").await, (200, json!({"purged": 1})));
    assert!(hub.letters("").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_replays_or_throws_away_everything_by_saying_nothing() {
    let hub = strict("").await;
    for body in
        [json!({}), json!({"all": false}), json!({"all": true, "plugin": "probe"}), json!({"ids": [1], "all": true})]
    {
        let (status, problem) = hub.post("/v1/dead-letters/replay", &body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("body.criteria")), "{body}");
        assert!(problem["expected"].as_str().unwrap().contains("`ids`"), "{problem}");
    }
    assert_eq!(hub.post("/v1/dead-letters/replay", &json!({"id": 1})).await.1["code"], "body.json");
    for query in ["", "?all=false", "?all=true&code=x"] {
        let (status, problem) = hub.delete(&format!("/v1/dead-letters{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!("query.criteria")), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_memory_has_neither_journal_nor_dead_letters_and_says_so() {
    let hub = TestHub::with(|config| config.journal.memory = true).await;
    let answers = [
        hub.get("/v1/dead-letters").await,
        hub.get("/v1/dead-letters/1").await,
        hub.post("/v1/dead-letters/replay", &json!({"all": true})).await,
        hub.delete("/v1/dead-letters?all=true").await,
        hub.get("/v1/journal").await,
    ];
    for (status, problem) in answers {
        assert_eq!((status, &problem["code"]), (409, &json!("journal.memory")), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_says_where_it_is_and_what_it_holds() {
    let hub = TestHub::durable(tempdir().unwrap(), |config| config.journal.max_events = 7).await;
    hub.publish("a", json!(null)).await;
    let (status, journal) = hub.get("/v1/journal").await;
    assert_eq!((status, &journal["head"], &journal["oldest"]), (200, &json!(1), &json!(1)), "{journal}");
    assert_eq!((&journal["sync"], &journal["retention"]["max_events"]), (&json!("full"), &json!(7)));
    assert_eq!(journal["epoch"], json!(hub.bus().log().epoch()));
    assert_eq!(journal["dir"], json!(hub.dir.path().join("data")));
    assert!(journal["bytes"].as_u64().unwrap() > 8_192 && journal.get("trouble").is_none(), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_last_call_died_while_it_was_out_of_service_goes_on_when_it_is_back() {
    let hub = strict("limits.deadline = \"500ms\"\nlimits.fuel = 1_000_000_000_000\n").await;
    hub.publish("probe.spin", json!(null)).await;
    until(|| hub.bus().metrics().active_handlers.get() == 1).await;
    assert_eq!(hub.post("/v1/plugins/probe/disable", &json!({})).await.0, 200);
    hub.letters_until(1).await;
    assert_eq!(hub.post("/v1/plugins/probe/enable", &json!({})).await.0, 200);
    hub.publish("probe.echo", json!(null)).await;
    hub.events_until(|events| events.iter().any(|event| event["type"] == "probed.echo")).await;
}
