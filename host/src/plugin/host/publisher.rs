//! `busway:plugin/publisher`: events go into the call's outbox. Who, why and how far along a chain is written when they are taken out of it,
//! so that a guest can forge none of it.

use super::text::{InvalidText, Texts};
use super::transcript::Told;
use super::{Context, Guest, HostFault, interface};
use crate::event::{Event, EventError, NewEvent};
use crate::kv::Transaction;
use crate::plugin::bindings::handler::busway::plugin::publisher::{PublishCode, PublishError};
use crate::plugin::bindings::handler::busway::plugin::types;
use crate::plugin::convert;
use crate::plugin::fault::FaultCode;
use crate::plugin::limits::MAX_HOPS;
use std::sync::Arc;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};

/// [`types::NewEvent`] with texts that are not decoded yet.
#[derive(ComponentType, Lift)]
#[component(record)]
struct HandedOver {
    #[component(name = "type")]
    event_type: WasmStr,
    data: WasmStr,
    tags: Vec<WasmStr>,
    #[component(name = "correlation-id")]
    correlation_id: Option<WasmStr>,
    extensions: Vec<(WasmStr, WasmStr)>,
}

impl HandedOver {
    fn read(&self, texts: &mut Texts<'_, '_>) -> Result<types::NewEvent, InvalidText> {
        let mut event = types::NewEvent {
            type_: texts.read("type", &self.event_type)?,
            data: texts.read("data", &self.data)?,
            tags: Vec::with_capacity(self.tags.len()),
            correlation_id: None,
            extensions: Vec::with_capacity(self.extensions.len()),
        };
        for tag in &self.tags {
            event.tags.push(texts.read("tags", tag)?);
        }
        if let Some(id) = &self.correlation_id {
            event.correlation_id = Some(texts.read("correlation-id", id)?);
        }
        for (name, value) in &self.extensions {
            event.extensions.push((texts.read("extensions", name)?, texts.read("extensions", value)?));
        }
        Ok(event)
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(&interface("publisher"))?.func_wrap("publish", |mut store, (event,): (HandedOver,)| {
        let event = event.read(&mut Texts::of(&store));
        store.data_mut().publish(event).map(|answer| (answer,))
    })
}

impl Guest {
    fn publish(
        &mut self,
        event: Result<types::NewEvent, InvalidText>,
    ) -> wasmtime::Result<Result<String, PublishError>> {
        self.spend(event.as_ref().map_or_else(|error| error.bytes, convert::weight))?;
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let message = error.to_string();
                self.call.trace("publish", || Told::new("", &message));
                return self.turn_down(PublishCode::Invalid, message);
            }
        };
        // Only for a trace: the event itself is used up on the way.
        let event_type = if self.call.is_traced() { event.type_.clone() } else { String::new() };
        let answer = self.take_in(event)?;
        self.call.trace("publish", || match &answer {
            Ok(id) => Told::new(&event_type, id),
            Err(error) => Told::new(&event_type, &error.message).denied(error.code == PublishCode::Denied),
        });
        Ok(answer)
    }

    fn take_in(&mut self, event: types::NewEvent) -> wasmtime::Result<Result<String, PublishError>> {
        if let Err(denied) = self.context.grants.publish(&event.type_) {
            return self.turn_down(PublishCode::Denied, denied.to_string());
        }
        let event = match convert::new_event(event).and_then(NewEvent::admit) {
            Ok(event) => event,
            Err(EventError { field, expected, found, .. }) => {
                let message = format!("{field}: expected {expected}, found {found}");
                return self.turn_down(PublishCode::Invalid, message);
            }
        };
        let Some(cause) = self.call.cause else {
            return self.turn_down(PublishCode::Denied, "denied: this call may not publish".into());
        };
        let hops = cause.hops + 1;
        if hops > MAX_HOPS {
            let (event_type, root) = (&event.event_type, cause.root);
            let message = format!(
                "would publish {event_type:?} as the {hops}th of a chain of causes from event {root} on, at most {MAX_HOPS} are allowed"
            );
            return Err(HostFault { code: FaultCode::Loop, message }.into());
        }
        let Context { limits, source, .. } = &*self.context;
        let correlation_id = if event.metadata.correlation_id.is_none() { cause.correlation_id } else { 0 };
        let taken_over = source.len() + cause.id + correlation_id;
        let bytes = self.call.outbox_bytes + event.weight() + taken_over;
        if self.call.outbox.len() >= limits.outbox_events || bytes > limits.outbox_bytes {
            let (most, room) = (limits.outbox_events, limits.outbox_bytes);
            let message = format!("the outbox is full: at most {most} events and {room} bytes in one call");
            return self.turn_down(PublishCode::Limit, message);
        }
        let id = event.metadata.event_id.to_string();
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

    /// What the call would publish and write, because of `cause`.
    pub(in crate::plugin) fn take_effects(&mut self, cause: &Event) -> (Vec<Event>, Option<Box<Transaction>>) {
        let mut outbox = std::mem::take(&mut self.call.outbox);
        for event in &mut outbox {
            event.metadata.source = Some(Arc::clone(&self.context.source));
            event.give_cause(cause);
        }
        (outbox, self.call.transaction.take())
    }
}
