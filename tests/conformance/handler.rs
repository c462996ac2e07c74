//! What every `*-counter` does.

use super::guest::{Guest, as_json, event, failure, handle, lines};
use busway::{
    event::{Event, NewEvent},
    plugin::{CallError, FailureKind, Version},
};
use serde_json::{Value, json, value::to_raw_value};

const GRANTS: &str = "[grants]\npublish = [\"counter.counted\"]\nkv = true\n";
const CONFIG: &str = "config = [\"greeting\"]\n[config]\ngreeting = \"grüß dich 😀\"\nsecret = \"x\"\n";

/// What the text of a bug says, where the language knows errors that are neither a retry nor a reject.
const BUGS: [(&str, &str); 5] =
    [("js", "TypeError"), ("ts", "TypeError"), ("python", "TypeError"), ("zig", "Bug"), ("go", "a bug")];

pub async fn a_handler_keeps_the_contract(name: &str, bytes: Vec<u8>) {
    let guest = Guest::new(name, bytes);
    let fresh = guest.load(1, &format!("isolation = \"fresh\"\n{GRANTS}{CONFIG}")).await;
    let about = fresh.description();
    assert_eq!((about.version.as_str(), about.summary.as_str()), ("0.1.0", "Counts task events"));
    assert_eq!(fresh.subscriptions().len(), 1);
    let count = everything_that_is_said_and_given_arrives(&fresh).await;
    everything_that_is_offered_works(&fresh, json!("grüß dich 😀")).await;
    failures_have_their_kind_and_leave_no_trace(&fresh).await;
    // The same file under another word of the operator's, as after a reload.
    let kept = guest.load(2, &format!("isolation = \"reuse\"\n{GRANTS}")).await;
    for (call, expected) in (1..=300).zip(count + 1..) {
        let (effects, said) = count_one(&kept, expected).await;
        assert_eq!(as_json(&effects[0])["data"]["count"], expected, "{name}: memory outlives reloads and calls");
        assert_eq!(said, call, "{name}: one instance");
    }
    an_instance_does_not_grow(&kept).await;
    everything_that_is_offered_works(&kept, json!(null)).await;
    failures_have_their_kind_and_leave_no_trace(&kept).await;
    let denied = guest.load(3, "[grants]\npublish = []\nkv = true\n").await;
    let refused = failure(handle(&denied, &event("task.created", json!(null)).admit().unwrap(), 1).await);
    assert_eq!(refused.kind, FailureKind::Reject, "{name}: a publish that is denied is told so: {}", refused.message);
    let denied = guest.load(4, "[grants]\npublish = [\"*\"]\nkv = false\n").await;
    let refused = failure(handle(&denied, &event("task.created", json!(null)).admit().unwrap(), 1).await);
    assert_eq!(refused.kind, FailureKind::Retry, "{name}: a kv that is denied is told so: {}", refused.message);
}

/// What it published, and the how-manieth call this was of its instance.
async fn count_one(version: &Version, data: impl Into<Value>) -> (Vec<Event>, u32) {
    let (effects, said) = handle(version, &event("task.created", data.into()).admit().unwrap(), 1)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", version.name()));
    let call = lines(&said)[0].rsplit_once("call ").unwrap().1.parse().unwrap();
    (effects.outbox, call)
}

/// Returns how many it has counted.
async fn everything_that_is_said_and_given_arrives(version: &Version) -> u64 {
    let name = version.name().as_str();
    let many: Vec<String> = (0..63).map(|n| format!("tag-{n}-ü")).collect();
    let full = event("task.größe 😀", json!({"t": "ü 😀 \u{1} \" \\ \u{2028}", "n": [1, -2.5, null, true], "": {}}));
    let full = many.iter().fold(full, NewEvent::tag).correlation_id("c-ü").source("s").event_id("ursache-ü");
    let full =
        full.extension("traceparent", to_raw_value("00-ab").unwrap()).extension("n", to_raw_value(&[1]).unwrap());
    // With what the plugin puts around it, close to the 1 MiB that an event may have.
    let large = event("task.created", json!("ü".repeat((1 << 19) - 50)));
    let events = [full, event("task.updated", json!(null)), large];
    for (count, given) in (1..).zip(events) {
        let given = given.admit().unwrap();
        let (effects, said) = handle(version, &given, 1).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (given, counted) = (as_json(&given), as_json(&effects.outbox[0]));
        assert_eq!(effects.outbox.len(), 1);
        assert_eq!(counted["type"], "counter.counted");
        assert!(counted["data"] == json!({"from": 0, "count": count, "data": given["data"]}), "{name}: {}", count);
        let (was, is) = (&given["metadata"], &counted["metadata"]);
        let mut tags = was["tags"].as_array().unwrap().clone();
        tags.push(json!("derived"));
        assert_eq!(sorted(is["tags"].as_array().unwrap()), sorted(&tags), "{name}");
        assert_eq!(is["extensions"], was["extensions"], "{name}");
        let host = [&is["source"], &is["hops"], &is["causation_id"], &is["correlation_id"]];
        let own = json!(format!("plugin/{name}"));
        assert_eq!(host, [&own, &json!(1), &was["event_id"], &was["correlation_id"]], "{name}: written by the host");
        // Nothing is left of the call before.
        let (event_type, id) = (given["type"].as_str().unwrap(), was["event_id"].as_str().unwrap());
        assert_eq!(lines(&said), [format!("handling {event_type} {id}, attempt 1, call 1")], "{name}");
    }
    3
}

fn sorted(tags: &[Value]) -> Vec<String> {
    let mut tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    tags.sort();
    tags
}

/// An event as large as its numbers can be for all languages, with texts that have to be quoted; and one that has only what it must.
async fn everything_that_is_offered_works(version: &Version, greeting: Value) {
    let full = event("task.probe", json!({"a": [1, "ü 😀"]})).correlation_id("c-\"ü\"").source("s-\\😀\n".trim_end());
    let mut full = full.admit().unwrap();
    full.seq = (1 << 53) - 1;
    full.metadata.hops = 7;
    full.metadata.causation_id = Some("warum-ü".into());
    sees(version, &full, u32::MAX, &greeting).await;
    sees(version, &event("task.probe", json!(null)).admit().unwrap(), 1, &greeting).await;
}

async fn sees(version: &Version, given: &Event, attempt: u32, greeting: &Value) {
    let name = version.name().as_str();
    let mut writes = version.namespace().begin();
    writes.set("probe/old", b"to be deleted").unwrap();
    writes.commit().unwrap();
    let (effects, said) = handle(version, given, attempt).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let [first, second] = [0, 1].map(|place| as_json(&effects.outbox[place]));
    assert_eq!(effects.outbox.len(), 2, "{name}: what is refused is not published");
    let meta = &given.metadata;
    let expected = json!({
        "type": given.event_type,
        "seq": given.seq,
        "timestamp": meta.timestamp.timestamp_micros(),
        "correlation_id": meta.correlation_id,
        "causation_id": meta.causation_id,
        "source": meta.source,
        "hops": meta.hops,
        "attempt": attempt,
        "config": greeting,
        "published": first["metadata"]["event_id"],
        "invalid": true,
        "kept": as_json(given)["data"],
        "empty": "",
        "gone": null,
        "keys": ["probe/ü"],
    });
    assert_eq!(second["data"], expected, "{name}");
    assert_eq!((&first["data"], &first["metadata"]["correlation_id"]), (&json!(null), &json!("its own")), "{name}");
    assert_eq!(second["metadata"]["correlation_id"], as_json(given)["metadata"]["correlation_id"], "{name}");
    let expected = json!([
        {"level": "trace", "message": "probing task.probe"},
        {"level": "error", "message": "probed task.probe"},
    ]);
    assert_eq!(serde_json::to_value(&said.lines).unwrap(), expected, "{name}");
}

/// What a call was given is given back. But componentize-py 0.25.1 keeps a copy of what Python gives `kv.set`, and StarlingMonkey is in
/// no hurry: there, the hub takes a new instance when half of the memory is used.
async fn an_instance_does_not_grow(version: &Version) {
    let name = version.name().as_str();
    let keeps = name == "python-counter" || cfg!(feature = "starling");
    let large = event("task.probe", json!("x".repeat(100_000))).admit().unwrap();
    let mut memory = Vec::new();
    for _ in 0..120 {
        let (_, said) = handle(version, &large, 1).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        memory.push(said.usage.memory);
    }
    // After half of them, collectors of garbage know how much there is.
    assert!(keeps || memory[119] <= memory[59] + (1 << 20), "{name}: {memory:?}");
}

async fn failures_have_their_kind_and_leave_no_trace(version: &Version) {
    let name = version.name().as_str();
    let call =
        async |event_type: &str, data: Value| handle(version, &event(event_type, data).admit().unwrap(), 1).await;
    let (before, _) = count_one(version, 1).await;
    for (event_type, kind, message, pause) in [
        ("task.boom", FailureKind::Retry, "boom", None),
        ("task.later", FailureKind::Retry, "later", Some(1500)),
        ("task.never", FailureKind::Reject, "never", None),
        ("task.boom", FailureKind::Retry, "boom", None),
    ] {
        let found = failure(call(event_type, json!(null)).await);
        assert_eq!((found.kind, found.message.as_str(), found.retry_after_ms), (kind, message, pause), "{name}");
    }
    if let Some((_, text)) = BUGS.iter().find(|(language, _)| name.split('-').next() == Some(language)) {
        let bug = failure(call("task.bug", json!({"bytes": 7})).await);
        assert!(bug.kind == FailureKind::Retry && bug.message.contains(text), "{name}: {}", bug.message);
    }
    // As much as there can be: the plugin reads all of it, and is told that what it makes of it is too much.
    let large = failure(call("task.created", json!("x".repeat((1 << 20) - 2))).await);
    assert!(large.kind == FailureKind::Reject && large.message.contains("1048576 bytes"), "{name}: {}", large.message);
    let Err(CallError::Fault(fault)) = call("task.trap", json!(null)).await else { panic!("{name}: no trap") };
    // QuickJS cannot be made to trap: its plugins run in circles.
    assert!(["trap", "fuel"].contains(&fault.code.as_str()), "{name}: {}", fault.message);
    let (after, again) = count_one(version, 1).await;
    assert_eq!(again, 1, "{name}: nothing is left of an instance that trapped");
    let count = |events: &[Event]| as_json(&events[0])["data"]["count"].as_u64().unwrap();
    assert_eq!(count(&after), count(&before) + 1, "{name}: what failed has counted nothing");
    call("task.never", json!(null)).await.err().unwrap();
    // As if it had never been, for the next round.
    let mut writes = version.namespace().begin();
    writes.increment("count", -2).unwrap();
    writes.commit().unwrap();
}
