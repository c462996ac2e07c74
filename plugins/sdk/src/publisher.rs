//! Publishing from inside a handler.

use crate::{NewEvent, host::publisher as host};

pub use crate::bindings::handler::busway::plugin::publisher::{PublishCode, PublishError};

/// Puts an event into the call's outbox and returns the id that it will have. The outbox is published once the call has returned
/// `Ok`, and thrown away if it fails. It holds 64 events and 256 KiB.
///
/// ```no_run
/// use busway_plugin::{NewEvent, publish};
///
/// publish(NewEvent::new("task.timed").data(&1250)?)?;
/// # Ok::<(), busway_plugin::Failure>(())
/// ```
pub fn publish(event: NewEvent) -> Result<String, PublishError> {
    host::publish(&event.into())
}
