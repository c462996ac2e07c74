//! A filter that lets through the events with a tag: `urgent`, or the one in its parameters, `{"tag": "…"}`.

use busway_plugin::{Event, Filter, FilterError};
use serde::Deserialize;

struct UrgentOnly;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "urgent")]
    tag: String,
}

fn urgent() -> String {
    "urgent".into()
}

impl Filter for UrgentOnly {
    type Params = Params;
    const PARAMS_SCHEMA: &'static str = r#"{
        "type": "object",
        "properties": { "tag": { "type": "string", "minLength": 1, "default": "urgent" } },
        "additionalProperties": false
    }"#;

    fn matches(event: Event, params: Params) -> Result<bool, FilterError> {
        Ok(event.has_tag(&params.tag))
    }
}

busway_plugin::filter!(UrgentOnly);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::serde_json::{Value, json};
    use busway_plugin::testing::matches;

    fn check(tags: &[&str], params: Value, expected: bool) {
        let mut event = Event::new("task.created", json!(null));
        event.metadata.tags = tags.iter().map(|&tag| tag.into()).collect();
        assert_eq!(matches::<UrgentOnly>(&event, params), Ok(expected));
    }

    #[test]
    fn an_event_with_the_tag_goes_through() {
        check(&["urgent"], json!({}), true);
        check(&["calm"], json!({}), false);
        check(&["calm"], json!({ "tag": "calm" }), true);
        check(&[], json!({ "tag": "calm" }), false);
    }

    #[test]
    fn bad_parameters_are_told_so() {
        for params in [json!({ "tag": null }), json!({ "tga": "x" }), json!("x")] {
            let error = matches::<UrgentOnly>(&Event::new("a", json!(null)), params).expect_err("bad parameters");
            assert!(error.starts_with("params: "), "{error}");
        }
    }

    #[test]
    fn the_schema_is_json() {
        busway_plugin::serde_json::from_str::<Value>(UrgentOnly::PARAMS_SCHEMA).expect("JSON");
    }
}
