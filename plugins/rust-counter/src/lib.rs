//! Counts task events, and publishes each with its number.

use busway_plugin::serde_json::{Value, from_slice, from_str, json};
use busway_plugin::{
    Capability, Delivery, Description, Event, Failure, Handler, NewEvent, PublishCode, Result, config, kv, log, publish,
};
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

struct Counter;

/// Of this instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

impl Handler for Counter {
    fn describe(about: Description) -> Description {
        about.subscribe("task.*").emits("counter.counted").uses(Capability::Kv).uses(Capability::Config)
    }

    fn handle(event: Event, delivery: Delivery) -> Result {
        let (calls, attempt) = (CALLS.fetch_add(1, Relaxed) + 1, delivery.attempt);
        match event.event_type.as_str() {
            "task.boom" => return Err(Failure::retry("boom")),
            "task.later" => return Err(Failure::retry("later").after(Duration::from_millis(1500))),
            "task.never" => return Err(Failure::reject("never")),
            "task.trap" => panic!("trap"),
            "task.probe" => return probe(&event, attempt),
            _ => {}
        }
        log::info!("handling {} {}, attempt {attempt}, call {calls}", event.event_type, event.metadata.event_id);
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

/// Uses all that the hub offers, and publishes what it saw.
fn probe(event: &Event, attempt: u32) -> Result {
    log::trace!("probing {}", event.event_type);
    log::error!("probed {}", event.event_type);
    let published = publish(NewEvent::new("counter.counted").correlation_id("its own"))?;
    let refused = publish(NewEvent::new("counter.counted").text("no JSON"));

    for key in kv::keys("probe/")? {
        kv::delete(&key)?;
    }
    kv::set("probe/1", "")?;
    kv::set("probe/ü", event.text())?;
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();

    publish(NewEvent::new("counter.counted").data(&json!({
        "type": event.event_type,
        "seq": event.seq,
        "timestamp": event.metadata.timestamp,
        "correlation_id": event.metadata.correlation_id,
        "causation_id": event.metadata.causation_id,
        "source": event.metadata.source,
        "hops": event.metadata.hops,
        "attempt": attempt,
        "config": config::get("greeting"),
        "published": published,
        "invalid": refused.is_err_and(|why| why.code == PublishCode::Invalid),
        "kept": from_slice::<Value>(&kv::get("probe/ü")?.unwrap_or_default())?,
        "empty": kv::get("probe/1")?.map(text),
        "gone": kv::get("probe/old")?.map(text),
        "keys": kv::keys("probe/")?[1..],
    }))?)?;
    Ok(())
}

busway_plugin::handler!(Counter);
