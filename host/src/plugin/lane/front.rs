//! The filter that the operator put before a handler.

use super::worker::Lane;
use crate::{
    log::{Chunk, view::Question},
    plugin::{Kind, OnError, Version},
    question::Wanted,
};
use std::sync::Arc;

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

    /// Reads the chunk again.
    pub(super) fn go_back(&mut self, chunk: &Chunk) {
        let first = chunk.events().first().map_or(chunk.last(), |event| event.seq);
        self.cursor = self.bus.log().cursor(first);
    }
}
