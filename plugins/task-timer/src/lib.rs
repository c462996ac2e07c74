//! A handler that says how long each task took: it keeps the start of a task in `kv` until the task ends, then publishes
//! `task.timed`. A task is known by `task_id` in its data, else by its correlation id.

use busway_plugin::serde_json::json;
use busway_plugin::{Capability, Delivery, Description, Event, Handler, NewEvent, OrderBy, Result, kv, log, publish};
use serde::Deserialize;

struct TaskTimer;

impl Handler for TaskTimer {
    fn describe(about: Description) -> Description {
        about
            .subscribe(["task.started", "task.completed", "task.failed", "task.cancelled"])
            .emits("task.timed")
            .uses(Capability::Kv)
            .order_by(OrderBy::Seq) // a start comes before its end
    }

    fn handle(event: Event, _: Delivery) -> Result {
        let Some(task_id) = task_id(&event) else { return Ok(()) };
        let (key, now) = (format!("started/{task_id}"), event.metadata.timestamp);
        if event.event_type == "task.started" {
            return Ok(kv::set_json(&key, &(now, event.time()))?);
        }
        let Some((start, started_at)) = kv::take_json::<(u64, String)>(&key)? else {
            log::debug!("{task_id} ended, but its start was not seen");
            return Ok(());
        };
        let timed = NewEvent::new("task.timed").data(&json!({
            "task_id": task_id,
            "status": event.event_type.trim_start_matches("task."),
            "started_at": started_at,
            "ended_at": event.time(),
            "duration_ms": now.saturating_sub(start) / 1_000,
        }))?;
        publish(timed)?;
        Ok(())
    }
}

fn task_id(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Task {
        task_id: String,
    }
    event.data().map(|task: Task| task.task_id).ok().or_else(|| event.correlation_id().map(Into::into))
}

busway_plugin::handler!(TaskTimer);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::serde_json::Value;
    use busway_plugin::testing::TestHost;

    fn event(event_type: &str, data: Value, correlation_id: Option<&str>, ms: u64) -> Event {
        let mut event = Event::new(event_type, data);
        event.metadata.correlation_id = correlation_id.map(Into::into);
        event.metadata.timestamp = ms * 1_000;
        event
    }

    fn data(events: &[NewEvent]) -> Vec<Value> {
        events.iter().map(|event| event.json().expect("JSON")).collect()
    }

    #[test]
    fn an_end_tells_the_time_since_the_start() {
        let mut host = TestHost::new();
        let id = json!({ "task_id": "t-1" });
        assert_eq!(host.handle::<TaskTimer>(event("task.started", id.clone(), None, 1_000)), Ok(vec![]));
        let out = host.handle::<TaskTimer>(event("task.failed", id, None, 3_500)).expect("handled");
        let expected = json!({
            "task_id": "t-1", "status": "failed", "duration_ms": 2_500,
            "started_at": "1970-01-01T00:00:01.000000Z", "ended_at": "1970-01-01T00:00:03.500000Z",
        });
        assert_eq!(data(&out), [expected]);
        assert_eq!(host.kv("started/t-1"), None);
    }

    #[test]
    fn the_correlation_id_stands_in_for_a_task_id() {
        let mut host = TestHost::new();
        host.handle::<TaskTimer>(event("task.started", json!(null), Some("c-1"), 0)).expect("handled");
        let out = host.handle::<TaskTimer>(event("task.completed", json!({}), Some("c-1"), 7)).expect("handled");
        assert_eq!((&data(&out)[0]["task_id"], &data(&out)[0]["duration_ms"]), (&json!("c-1"), &json!(7)));
    }

    #[test]
    fn an_end_without_a_start_and_a_task_without_an_id_are_passed_over() {
        let mut host = TestHost::new();
        assert_eq!(host.handle::<TaskTimer>(event("task.completed", json!({ "task_id": "t-2" }), None, 0)), Ok(vec![]));
        assert_eq!(host.handle::<TaskTimer>(event("task.started", json!({}), None, 0)), Ok(vec![]));
    }
}
