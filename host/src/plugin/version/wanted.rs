//! Which events a version is called with, and whether what came of that is its own doing.

use super::Version;
use crate::event::Event;
use crate::plugin::fault::{CallError, FAULT_EVENT, FaultCode};
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

    /// Most units of work that [`Version::wants`] takes for the event: see
    /// [`crate::event::EventFilter::work`].
    pub fn work(&self, event: &Event) -> usize {
        self.subscriptions().iter().map(|filter| filter.work(event)).sum()
    }

    /// Whether a call was over before it had half of its time to itself: that says more of the machine's load than of the plugin.
    pub fn is_starved(&self, error: &CallError) -> bool {
        matches!(error, CallError::Fault(fault)
            if fault.code == FaultCode::Deadline && fault.starved > self.limits.deadline / 2)
    }

    fn is_its_fault(&self, event: &Event) -> bool {
        event.event_type == FAULT_EVENT
            && event.is_of_plugins()
            && serde_json::from_str(event.data.get()).is_ok_and(|About { plugin }| plugin == self.name.as_str())
    }
}
