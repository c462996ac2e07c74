//! What the benchmarks send: an event with 256 bytes of data, a source and the tag that `urgent-only` lets through; and the
//! statistics of what they measure.

use busway::event::NewEvent;
use serde_json::value::RawValue;

/// 256 bytes of JSON.
pub(crate) fn data() -> Box<RawValue> {
    let text = format!("{{\"task_id\":\"t-1\",\"text\":\"{}\"}}", "x".repeat(229));
    assert_eq!(text.len(), 256);
    RawValue::from_string(text).expect("it is JSON")
}

/// The event, as its publisher hands it in.
pub(crate) fn event(event_type: &str, data: &RawValue) -> NewEvent {
    NewEvent::new(event_type).raw_data(data.to_owned()).source("executor-1").tag("urgent")
}

/// The value that the share `q` of all values does not exceed.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
