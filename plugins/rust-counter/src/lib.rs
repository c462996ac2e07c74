//! Counts task events, and publishes each with its number.

use busway_plugin::serde_json::{Value, from_str};
use busway_plugin::{Capability, Delivery, Description, Event, Failure, Handler, NewEvent, Result, kv, log, publish};

struct Counter;

impl Handler for Counter {
    fn describe(about: Description) -> Description {
        about.subscribe("task.*").emits("counter.counted").uses(Capability::Kv)
    }

    fn handle(event: Event, delivery: Delivery) -> Result {
        match event.event_type.as_str() {
            "task.boom" => return Err(Failure::retry("boom")),
            "task.never" => return Err(Failure::reject("never")),
            "task.trap" => panic!("trap"),
            _ => {}
        }
        log::info!("handling {} attempt {}", event.metadata.event_id, delivery.attempt);
        let count = kv::increment("count", 1)?;
        // The data is JSON already: it is put in as it is, so that its numbers keep their digits.
        let data = format!(r#"{{"from":{},"count":{count},"data":{}}}"#, event.seq, event.text());
        let mut counted = NewEvent::new("counter.counted").text(data).tag("derived").tags(event.metadata.tags);
        for (name, value) in event.metadata.extensions {
            counted = counted.extension(name, &from_str::<Value>(&value)?)?;
        }
        publish(counted)?;
        Ok(())
    }
}

busway_plugin::handler!(Counter);
