//! Counts the orders of each customer, and publishes the count.

use busway_plugin::serde::Deserialize;
use busway_plugin::serde_json::json;
use busway_plugin::{Capability, Delivery, Description, Event, Handler, NewEvent, Result, kv, log, publish};

struct Plugin;

/// The data of an `order.placed`.
#[derive(Deserialize)]
#[serde(crate = "busway_plugin::serde")]
struct Order {
    customer: String,
}

impl Handler for Plugin {
    fn describe(about: Description) -> Description {
        about.subscribe("order.placed").emits("order.counted").uses(Capability::Kv)
    }

    /// All or nothing: what it published and wrote counts only if it returns `Ok`.
    fn handle(event: Event, _: Delivery) -> Result {
        let Order { customer } = event.data()?;
        let orders = kv::increment(&format!("orders/{customer}"), 1)?;
        log::info!("order {orders} of {customer}");
        publish(NewEvent::new("order.counted").data(&json!({ "customer": customer, "orders": orders }))?)?;
        Ok(())
    }
}

busway_plugin::handler!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::testing::TestHost;

    #[test]
    fn orders_are_counted() {
        let mut host = TestHost::new();
        let order = Event::new("order.placed", json!({ "customer": "Zoë", "total": 12.5 }));
        host.handle::<Plugin>(order.clone()).expect("handled");
        let published = host.handle::<Plugin>(order).expect("handled");
        assert_eq!(published[0].json().expect("JSON"), json!({ "customer": "Zoë", "orders": 2 }));
    }
}
