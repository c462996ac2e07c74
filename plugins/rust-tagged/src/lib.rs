//! Lets through the events that have a tag: `urgent`, or the one in its parameters.

use busway_plugin::{Event, Filter, FilterError, log};
use serde::Deserialize;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

struct Tagged;

/// Of this instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

#[derive(Deserialize)]
struct Params {
    #[serde(default = "urgent")]
    tag: String,
}

fn urgent() -> String {
    "urgent".into()
}

impl Filter for Tagged {
    type Params = Params;
    const PARAMS_SCHEMA: &'static str = r#"{"type": "object", "properties": {"tag": {"default": "urgent"}}}"#;

    fn matches(event: Event, params: Params) -> Result<bool, FilterError> {
        log::debug!("asking about {}, call {}", event.event_type, CALLS.fetch_add(1, Relaxed) + 1);
        Ok(event.has_tag(&params.tag))
    }
}

busway_plugin::filter!(Tagged);
