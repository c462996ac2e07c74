//! `busway:plugin/publisher`: events go into the call's outbox. Who, when, why and how far along a chain is written
//! here, so that a guest can forge none of it.

use super::transcript::Told;
use super::{Guest, HostFault};
use crate::event::{Event, EventError, NewEvent};
use crate::plugin::bindings::handler::busway::plugin::publisher::{self, PublishCode, PublishError};
use crate::plugin::bindings::handler::busway::plugin::types;
use crate::plugin::convert;
use crate::plugin::fault::{FaultCode, looped};
use crate::plugin::limits::MAX_HOPS;

impl publisher::Host for Guest {
    async fn publish(&mut self, event: types::NewEvent) -> wasmtime::Result<Result<String, PublishError>> {
        self.spend(convert::weight(&event)).await?;
        // Only for a trace: the event itself is used up on the way.
        let event_type = if self.call.is_traced() { event.type_.clone() } else { String::new() };
        let answer = self.take_in(event)?;
        self.call.trace("publish", || match &answer {
            Ok(id) => Told::new(&event_type, id),
            Err(error) => Told::new(&event_type, &error.message).denied(error.code == PublishCode::Denied),
        });
        Ok(answer)
    }
}

impl types::Host for Guest {}

impl Guest {
    fn take_in(&mut self, event: types::NewEvent) -> wasmtime::Result<Result<String, PublishError>> {
        if let Err(denied) = self.context.grants.publish(&event.type_) {
            return self.turn_down(PublishCode::Denied, denied.to_string());
        }
        let mut event = match convert::new_event(event).and_then(NewEvent::admit) {
            Ok(event) => event,
            Err(EventError { field, expected, found, .. }) => {
                let message = format!("{field}: expected {expected}, found {found}");
                return self.turn_down(PublishCode::Invalid, message);
            }
        };
        if !self.give_cause(&mut event)? {
            return self.turn_down(PublishCode::Denied, "denied: this call may not publish".into());
        }
        let limits = &self.context.limits;
        let bytes = self.call.outbox_bytes + event.weight();
        if self.call.outbox.len() >= limits.outbox_events || bytes > limits.outbox_bytes {
            let (most, room) = (limits.outbox_events, limits.outbox_bytes);
            let message = format!("the outbox is full: at most {most} events and {room} bytes in one call");
            return self.turn_down(PublishCode::Limit, message);
        }
        let id = event.metadata.event_id.clone();
        self.call.outbox_bytes = bytes;
        // Nearly always the only one: room for four is of a size that allocators are slower with.
        self.call.outbox.reserve_exact(usize::from(self.call.outbox.is_empty()));
        self.call.outbox.push(event);
        Ok(Ok(id))
    }

    fn turn_down(&mut self, code: PublishCode, message: String) -> wasmtime::Result<Result<String, PublishError>> {
        match code {
            PublishCode::Denied => self.refuse(FaultCode::Denied, &message)?,
            PublishCode::Limit => self.refuse(FaultCode::Outbox, &message)?,
            PublishCode::Invalid => self.refuse(FaultCode::Lift, &message)?,
        }
        Ok(Err(PublishError { code, message }))
    }

    /// False in a call without a cause, such as `describe`.
    fn give_cause(&self, event: &mut Event) -> wasmtime::Result<bool> {
        let Some(cause) = &self.call.cause else { return Ok(false) };
        let hops = cause.hops + 1;
        if hops > MAX_HOPS {
            let root = cause.chain.first().unwrap_or(&cause.seq);
            let what = format!(
                "would publish {:?} as the {hops}th of a chain of causes from event {root} on, at most {MAX_HOPS} are allowed",
                event.event_type
            );
            let message = looped(&what, &cause.chain, cause.seq);
            return Err(HostFault { code: FaultCode::Loop, message }.into());
        }
        let meta = &mut event.metadata;
        meta.hops = hops;
        meta.chain.reserve_exact(cause.chain.len() + 1);
        meta.chain.extend(cause.chain.iter().copied().chain([cause.seq]));
        meta.source = Some(["plugin/", self.context.name.as_str()].concat());
        meta.causation_id = Some(cause.event_id.clone());
        if meta.correlation_id.is_none() {
            meta.correlation_id.clone_from(&cause.correlation_id);
        }
        Ok(true)
    }
}
