//! The filter that the operator put before a handler.

use super::{call::pause_before, worker::Lane};
use crate::{
    event::Event,
    log::{Chunk, selection::Selection, view::Question},
    plugin::{Kind, OnError, Version},
    question::{STARVED, Wanted},
};
use std::sync::Arc;
use tokio::time::Instant;

impl Lane {
    /// Whether the filter that the operator put before this handler can be asked, or lets everything through where it cannot.
    /// Until then the lane reads nothing: what it reads without an answer would be passed over for ever.
    pub(super) fn may_read(&self, version: &Version) -> bool {
        let Some(name) = &version.manifest().filter else { return true };
        let Some(filter) = self.plugins.get(name.as_str()) else { return false };
        let is_filter = |version: &Arc<Version>| version.kind() == Kind::Filter;
        filter.active().is_some_and(|version| is_filter(&version))
            || filter.current().is_some_and(|version| is_filter(&version) && version.on_error() == OnError::Open)
    }

    /// Which version of that filter is in service.
    pub(super) fn front_generation(&self, version: &Version) -> Option<u64> {
        let filter = self.plugins.get(version.manifest().filter.as_ref()?.as_str())?;
        filter.active().map(|version| version.generation())
    }

    /// The filter that the operator put before this handler.
    pub(super) fn front(&self, version: &Version) -> Option<Question> {
        let manifest = version.manifest();
        let plugin = Some(manifest.filter.as_ref()?.to_string());
        // A filter that is not there yet lets nothing through, so this cannot fail for want of it.
        self.questions
            .resolve_later(Wanted { plugin, params: manifest.filter_params.clone(), ..Wanted::default() })
            .ok()
    }

    /// The events that the filter lets through. One for which it was starved is not kept back:
    /// after a pause that one and what comes after it are read again.
    pub(super) fn prefiltered(&mut self, selection: Selection) -> Vec<Arc<Event>> {
        let metrics = self.bus.metrics();
        let Selection { events, mut failures } = selection;
        // The selection ends with it; see `Questions::resolve_later`.
        let starved = failures.pop_if(|failure| failure.code == STARVED && !failure.passed);
        metrics.handler_filter_errors.add(failures.iter().map(|failure| failure.count).sum());
        let Some(failure) = starved else {
            self.starved = None;
            return events;
        };
        metrics.handler_filter_waits.inc();
        let seq = failure.from;
        let times = self.starved.filter(|(at, _)| *at == seq).map_or(1, |(_, times)| times.saturating_add(1));
        let pause = pause_before(times.saturating_add(1));
        self.starved = Some((seq, times));
        self.cursor = self.bus.log().cursor(seq);
        self.read_at = Some(Instant::now() + pause);
        tracing::warn!(
            plugin = &*self.name,
            filter = &*failure.plugin,
            seq,
            pause_ms = pause.as_millis(),
            "the handler waits: the filter before it was asked while others had the cores"
        );
        events
    }

    /// Reads the chunk again.
    pub(super) fn go_back(&mut self, chunk: &Chunk) {
        let first = chunk.events().first().map_or(chunk.last(), |event| event.seq);
        self.cursor = self.bus.log().cursor(first);
    }
}
