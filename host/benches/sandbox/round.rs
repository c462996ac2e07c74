//! A healthy plugin at a steady rate: how long each event takes from its publishing to what came of it, whatever goes on beside it.

use busway::{bus::Bus, event::NewEvent, log::Step};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Events a second of the healthy plugin.
const RATE: u32 = 1_000;

/// Milliseconds of each event in so long a time; the plugin `good` answers `probe.echo` with `probed.echo`. `harm` is published
/// `share` times for each of them.
pub(crate) async fn round(bus: &Bus, time: Duration, harm: Option<(&'static str, f64)>) -> Vec<f64> {
    let mut cursor = bus.log().cursor_at_head();
    // Events keep their ids apart from round to round.
    let first = bus.log().head();
    let count = (time.as_secs_f64() * f64::from(RATE)) as usize;
    let publisher = bus.clone();
    let publishing = tokio::spawn(async move {
        let mut tick = interval(Duration::from_secs(1) / RATE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut published, mut owed) = (HashMap::new(), 0.0);
        for index in 0..count {
            tick.tick().await;
            let id = format!("{first}-{index}");
            published.insert(id.clone(), Instant::now());
            let event = NewEvent::new("probe.echo").event_id(id).data(index).expect("JSON");
            publisher.publish(event).await.expect("there is room");
            let Some((event_type, share)) = harm else { continue };
            owed += share;
            while owed >= 1.0 {
                owed -= 1.0;
                publisher.publish(NewEvent::new(event_type)).await.expect("there is room");
            }
        }
        published
    });
    let mut answered = HashMap::new();
    while answered.len() < count {
        let Some(Step::Events(chunk)) = cursor.next().await else { panic!("the log has all of it") };
        let now = Instant::now();
        let answers = chunk.events().iter().filter(|event| event.event_type == "probed.echo");
        answered.extend(answers.filter_map(|event| Some((event.metadata.causation_id.clone()?, now))));
    }
    let published = publishing.await.expect("no panic");
    published.iter().map(|(id, at)| answered[&**id].duration_since(*at).as_secs_f64() * 1e3).collect()
}
