//! Lets through orders from a given total on.

use busway_plugin::serde::Deserialize;
use busway_plugin::{Event, Filter, FilterError};

struct Plugin;

/// The data of an `order.placed`.
#[derive(Deserialize)]
#[serde(crate = "busway_plugin::serde")]
struct Order {
    total: f64,
}

/// What the one who asks may give.
#[derive(Deserialize)]
#[serde(crate = "busway_plugin::serde")]
struct Params {
    #[serde(default = "hundred")]
    min: f64,
}

fn hundred() -> f64 {
    100.0
}

impl Filter for Plugin {
    type Params = Params;
    const PARAMS_SCHEMA: &'static str =
        r#"{"type": "object", "properties": {"min": {"type": "number", "default": 100}}}"#;

    fn matches(event: Event, params: Params) -> Result<bool, FilterError> {
        Ok(event.data().is_ok_and(|order: Order| order.total >= params.min))
    }
}

busway_plugin::filter!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::serde_json::json;
    use busway_plugin::testing::matches;

    #[test]
    fn large_orders_pass() {
        let order = Event::new("order.placed", json!({ "total": 99.5 }));
        assert_eq!(matches::<Plugin>(&order, json!({})), Ok(false));
        assert_eq!(matches::<Plugin>(&order, json!({ "min": 99.5 })), Ok(true));
    }
}
