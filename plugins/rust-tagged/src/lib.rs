//! Lets through the events that have a tag: `urgent`, or the one in its parameters.

use busway_plugin::{Event, Filter, FilterError};
use serde::Deserialize;

struct Tagged;

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
        Ok(event.has_tag(&params.tag))
    }
}

busway_plugin::filter!(Tagged);
