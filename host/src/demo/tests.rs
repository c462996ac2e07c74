//! What makes the traffic believable, as promises about many events of several seeds.

use super::Generator;
use crate::event::{NewEvent, types};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SEEDS: [u64; 4] = [0, 1, 7, u64::MAX];

/// Some 20,000 events and then the orderly end.
fn whole(seed: u64) -> Vec<(Duration, Value)> {
    let mut generator = Generator::new(seed);
    let mut events: Vec<_> = generator.by_ref().take(20_000).collect();
    generator.wind_down();
    events.extend(generator);
    events
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {event}"))
}

/// Each `id` (a pointer into the event) begins once and then ends once.
#[track_caller]
fn each_begins_and_ends(events: &[(Duration, Value)], id: &str, begin: &[&str], end: &[&str]) {
    let mut open = BTreeMap::new();
    let mut seen = 0;
    for (at, event) in events {
        let event_type = text(event, "/type");
        if begin.contains(&event_type) {
            assert!(open.insert(text(event, id), at).is_none(), "began twice: {event}");
            seen += 1;
        } else if end.contains(&event_type) {
            let began = open.remove(text(event, id)).unwrap_or_else(|| panic!("ended without a beginning: {event}"));
            if let Some(said) = event.pointer("/data/duration_ms").filter(|_| begin != [types::TASK_CREATED]) {
                assert!(said.as_u64().unwrap().abs_diff((*at - *began).as_millis() as u64) <= 1, "{event}");
            }
        }
    }
    assert!(seen > 0 && open.is_empty(), "of {seen}, never ended: {open:?}");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let take = |seed| Generator::new(seed).take(3_000).collect::<Vec<_>>();
    assert_eq!(take(7), take(7));
    assert_ne!(take(7), take(8));
}

#[test]
fn time_never_goes_back_and_several_workflows_run_at_once() {
    for seed in SEEDS {
        let mut last = Duration::ZERO;
        let mut open = BTreeSet::new();
        let mut most = 0;
        for (at, event) in whole(seed) {
            assert!(at >= last);
            last = at;
            match text(&event, "/type") {
                types::WORKFLOW_STARTED => open.insert(text(&event, "/data/workflow_id").to_string()),
                types::WORKFLOW_COMPLETED => open.remove(text(&event, "/data/workflow_id")),
                _ => false,
            };
            most = most.max(open.len());
        }
        assert!(most >= 3, "{most}");
    }
}

#[test]
fn everything_that_begins_ends() {
    for seed in SEEDS {
        let events = whole(seed);
        let ends = [types::TASK_COMPLETED, types::TASK_FAILED, types::TASK_CANCELLED];
        each_begins_and_ends(&events, "/data/task_id", &[types::TASK_CREATED], &ends);
        let called = [types::TOOL_COMPLETED, types::TOOL_FAILED];
        each_begins_and_ends(&events, "/data/call_id", &[types::TOOL_STARTING], &called);
        let done = [types::WORKFLOW_COMPLETED];
        each_begins_and_ends(&events, "/data/workflow_id", &[types::WORKFLOW_STARTED], &done);
        let command = (&[types::DSL_COMMAND_RECEIVED], &[types::DSL_COMMAND_COMPLETED]);
        each_begins_and_ends(&events, "/data/command_id", command.0, command.1);
        let request = (&[types::P2P_TOOL_REQUEST], &[types::P2P_TOOL_RESPONSE]);
        each_begins_and_ends(&events, "/data/request_id", request.0, request.1);
        let peer = (&[types::P2P_PEER_DISCOVERED], &[types::P2P_PEER_DISCONNECTED]);
        each_begins_and_ends(&events, "/data/peer_id", peer.0, peer.1);
        each_begins_and_ends(&events, "/data/agent_id", &[types::AGENT_STARTING], &[types::AGENT_STOPPED]);
    }
}

#[test]
fn a_started_task_ends_once_and_says_how_long_it_took() {
    for seed in SEEDS {
        let mut started = BTreeMap::new();
        for (at, event) in whole(seed) {
            let event_type = text(&event, "/type").to_string();
            if !event_type.starts_with("task.") {
                continue;
            }
            let task = text(&event, "/data/task_id").to_string();
            match event_type.as_str() {
                types::TASK_STARTED => assert!(started.insert(task, at).is_none(), "{event}"),
                types::TASK_PROGRESS => assert!(started.contains_key(&task), "{event}"),
                types::TASK_COMPLETED | types::TASK_FAILED => {
                    let took = at - started.remove(&task).unwrap_or_else(|| panic!("never started: {event}"));
                    assert!(event["data"]["duration_ms"].as_u64().unwrap().abs_diff(took.as_millis() as u64) <= 1);
                }
                types::TASK_CANCELLED => drop(started.remove(&task)),
                _ => {}
            }
        }
        assert!(started.is_empty(), "{started:?}");
    }
}

#[test]
fn what_belongs_together_has_one_correlation_id() {
    for seed in SEEDS {
        let mut known: BTreeMap<(String, String), (String, bool)> = BTreeMap::new();
        for (_, event) in whole(seed) {
            let correlation = event.pointer("/metadata/correlation_id").and_then(Value::as_str);
            let urgent = event.pointer("/metadata/tags/0").is_some();
            for id in ["command_id", "workflow_id", "task_id", "call_id", "request_id"] {
                let Some(value) = event["data"][id].as_str() else { continue };
                let correlation = correlation.unwrap_or_else(|| panic!("no correlation id: {event}"));
                let this = (correlation.to_string(), urgent);
                let first = known.entry((id.into(), value.into())).or_insert_with(|| this.clone());
                assert_eq!(*first, this, "{event}");
            }
        }
        assert!(known.len() > 1_000);
    }
}

#[test]
fn the_hub_takes_every_event_and_knows_its_type() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        for (_, event) in whole(seed) {
            let event_type = text(&event, "/type");
            assert!(types::ALL.contains(&event_type), "{event_type}");
            seen.insert(event_type.to_string());
            NewEvent::from_json(&event.to_string()).unwrap().admit_from_outside().unwrap();
        }
    }
    // All but those that only a hub publishes, and the three that this traffic has no use for.
    let foreign = |name: &&str| name.starts_with("ws.") || name.starts_with("system.") || **name == *types::LOG_STREAM;
    let missing: Vec<_> = types::ALL.iter().filter(|name| !foreign(name) && !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn logs_hold_secrets_of_every_kind_for_redact_to_find() {
    let logs: Vec<String> = whole(1)
        .iter()
        .filter(|(_, event)| event["type"] == types::LOG_ENTRY)
        .map(|(_, event)| text(event, "/data/message").to_string())
        .collect();
    for secret in ["Bearer eyJ", "AKIA", "password=", "@example.com", "api_key=", "session_token="] {
        let share = logs.iter().filter(|message| message.contains(secret)).count() as f64 / logs.len() as f64;
        assert!((0.005..0.1).contains(&share), "{secret}: {share}");
    }
}

#[test]
fn the_traffic_is_lively_and_mostly_goes_well() {
    let events: Vec<_> = Generator::new(1).take(20_000).collect();
    let seconds = events.last().unwrap().0.as_secs_f64();
    let rate = events.len() as f64 / seconds;
    assert!((10.0..40.0).contains(&rate), "{rate} events a second");
    let count = |event_type: &str| events.iter().filter(|(_, event)| event["type"] == event_type).count() as f64;
    let (completed, failed) = (count(types::TASK_COMPLETED), count(types::TASK_FAILED));
    assert!((0.03..0.15).contains(&(failed / (completed + failed))), "{failed} of {completed}");
    let urgent = events.iter().filter(|(_, event)| event["metadata"]["tags"][0] == "urgent").count() as f64;
    assert!((0.05..0.3).contains(&(urgent / events.len() as f64)), "{urgent}");
}
