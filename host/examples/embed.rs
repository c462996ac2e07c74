//! The hub inside another program: publish, subscribe, request and reply, no plugin needed.
//!
//! `cargo run --example embed`

use busway::{
    bus::{Bus, BusConfig},
    event::{EventFilter, NewEvent},
    log::{Log, LogConfig},
};
use serde_json::json;
use std::{io::Write, sync::Arc, time::Duration};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let bus = Bus::start(&BusConfig::default(), Log::in_memory(&LogConfig::default(), Arc::default()), None);

    // A subscriber is called with each event in order; it ends when the subscription is dropped.
    let urgent = EventFilter { required_tags: vec!["urgent".into()], ..EventFilter::types(["task.*"]) };
    let _printing = bus.subscribe_sync(urgent, |event| writeln!(std::io::stdout(), "urgent: {}", event.to_json()));

    // Whoever answers a request publishes an event with its correlation id.
    let answering = bus.clone();
    let _answering = bus.subscribe(EventFilter::types(["sum.asked"]), move |event| {
        let bus = answering.clone();
        async move {
            let numbers: Vec<i64> = serde_json::from_str(event.data.get())?;
            let mut answer = NewEvent::new("sum.answered").data(numbers.iter().sum::<i64>())?;
            if let Some(id) = &event.metadata.correlation_id {
                answer = answer.correlation_id(id.clone());
            }
            bus.publish(answer).await?;
            anyhow::Ok(())
        }
    });

    bus.publish(NewEvent::new("task.created").data(json!({"task_id": "t1"}))?.tag("urgent").source("planner")).await?;
    let asked = NewEvent::new("sum.asked").data([1, 2, 3])?;
    let reply = bus.request(asked, &"sum.answered".parse()?, Duration::from_secs(5)).await?;
    writeln!(std::io::stdout(), "1 + 2 + 3 = {}", reply.reply.data.get())?;

    bus.stop(Duration::from_secs(5)).await;
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&bus.stats())?)?;
    Ok(())
}
