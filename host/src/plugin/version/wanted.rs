//! Which events a version is called with.

use super::Version;
use crate::event::Event;
use crate::plugin::fault::FAULT_EVENT;
use serde::Deserialize;

/// Of the data of such an event.
#[derive(Deserialize)]
struct About<'a> {
    plugin: &'a str,
}

impl Version {
    /// Whether it subscribed to the event. It is never told of its own faults: a plugin that faults over everything would be given
    /// the next one by each.
    pub fn wants(&self, event: &Event) -> bool {
        self.subscriptions().iter().any(|filter| filter.matches(event)) && !self.is_its_fault(event)
    }

    fn is_its_fault(&self, event: &Event) -> bool {
        event.event_type == FAULT_EVENT
            && event.is_of_plugins()
            && serde_json::from_str(event.data.get()).is_ok_and(|About { plugin }| plugin == self.name.as_str())
    }
}
