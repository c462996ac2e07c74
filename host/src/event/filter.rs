//! Which events somebody wants: [`EventFilter`]. Pure; a WASM filter comes on top of it elsewhere.

use super::{Event, Glob};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Most entries of one criterion.
pub const MAX_ENTRIES: usize = 256;
/// Most words of state of all globs of one criterion: see [`Glob::words`]. Allows 256 globs of up
/// to 63 characters each, or 64 of up to 255. Literals, `prefix*` and `*suffix` need none.
pub const MAX_GLOB_WORDS: usize = 256;

/// Most subscriptions of one handler.
pub const MAX_SUBSCRIPTIONS: usize = 256;
/// Most entries of the criteria of all subscriptions of one handler.
pub const MAX_CRITERIA: usize = 2_048;

/// Criteria that an event must meet, ANDed. An absent criterion is no constraint.
///
/// `event_types` and `source_patterns` ask for *any* of their globs, so an empty list, unlike an absent one, matches
/// nothing: a client that unsubscribes from its last type receives nothing. `required_tags` asks for all of its tags,
/// `excluded_tags` for none of them. An event without a source does not match a source criterion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventFilter {
    /// Any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_types: Option<Vec<Glob>>,
    /// Any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_patterns: Option<Vec<Glob>>,
    /// All of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_tags: Vec<String>,
    /// None of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded_tags: Vec<String>,
}

impl EventFilter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// No event.
    pub fn nothing() -> Self {
        Self { event_types: Some(Vec::new()), ..Self::default() }
    }

    /// Events whose type matches any of `globs`.
    ///
    /// # Panics
    /// On a glob longer than [`MAX_GLOB_BYTES`](super::glob::MAX_GLOB_BYTES) or an empty one: meant
    /// for globs written in code.
    pub fn types<'a>(globs: impl IntoIterator<Item = &'a str>) -> Self {
        let globs = globs.into_iter().map(|glob| glob.parse().expect("a glob of 1 to 255 bytes"));
        Self { event_types: Some(globs.collect()), ..Self::default() }
    }

    /// Whether `event` meets every criterion.
    pub fn matches(&self, event: &Event) -> bool {
        let tags = &event.metadata.tags;
        any(self.event_types.as_deref(), Some(&event.event_type))
            && any(self.source_patterns.as_deref(), event.metadata.source.as_deref())
            && self.required_tags.iter().all(|tag| tags.contains(tag))
            && !self.excluded_tags.iter().any(|tag| tags.contains(tag))
    }

    /// Most units of work that [`EventFilter::matches`] takes for `event`. A unit is one comparison
    /// or one word update of a glob's automaton, a few nanoseconds. Bounded by the limits that
    /// [`EventFilter::normalised`] checks.
    pub fn work(&self, event: &Event) -> usize {
        let globs = |globs: &Option<Vec<Glob>>, text: &str| -> usize {
            globs.iter().flatten().map(|glob| glob.work(text)).sum()
        };
        let tags = event.metadata.tags.len().max(1) * (self.required_tags.len() + self.excluded_tags.len());
        let source = event.metadata.source.as_deref().unwrap_or_default();
        1 + globs(&self.event_types, &event.event_type) + globs(&self.source_patterns, source) + tags
    }

    /// Entries of all criteria, and words of state of all globs.
    pub fn size(&self) -> (usize, usize) {
        let globs = || self.event_types.iter().chain(&self.source_patterns);
        let entries = globs().map(Vec::len).sum::<usize>() + self.required_tags.len() + self.excluded_tags.len();
        (entries, globs().map(|globs| words(globs)).sum())
    }

    /// The same criteria in one order without repeats, so that equal questions are equal values and share a view.
    ///
    /// # Errors
    /// The name of a criterion that has more than [`MAX_ENTRIES`] entries, or globs that need more
    /// than [`MAX_GLOB_WORDS`] words, and how many.
    pub fn normalised(mut self) -> Result<Self, FilterError> {
        let lengths = [
            ("event_types", self.event_types.as_ref().map_or(0, Vec::len)),
            ("source_patterns", self.source_patterns.as_ref().map_or(0, Vec::len)),
            ("required_tags", self.required_tags.len()),
            ("excluded_tags", self.excluded_tags.len()),
        ];
        if let Some((field, found)) = lengths.into_iter().find(|(_, length)| *length > MAX_ENTRIES) {
            return Err(FilterError::Entries { field, found });
        }
        for globs in [&mut self.event_types, &mut self.source_patterns].into_iter().flatten() {
            globs.sort_unstable();
            globs.dedup();
        }
        for (field, globs) in [("event_types", &self.event_types), ("source_patterns", &self.source_patterns)] {
            let found = globs.as_deref().map_or(0, words);
            if found > MAX_GLOB_WORDS {
                return Err(FilterError::Work { field, found });
            }
        }
        for tags in [&mut self.required_tags, &mut self.excluded_tags] {
            tags.sort_unstable();
            tags.dedup();
        }
        Ok(self)
    }
}

/// A criterion that would take too much work for each event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A criterion has more than [`MAX_ENTRIES`] entries.
    #[error("{field}: expected at most {MAX_ENTRIES} entries, found {found}")]
    Entries {
        /// The name of the criterion, such as `event_types`.
        field: &'static str,
        /// Its number of entries.
        found: usize,
    },
    /// The globs of a criterion need more than [`MAX_GLOB_WORDS`] words of state. Literals,
    /// `prefix*` and `*suffix` need none.
    #[error("{field}: expected {}, found {found}", FilterError::EXPECTED_WORDS)]
    Work {
        /// The name of the criterion, `event_types` or `source_patterns`.
        field: &'static str,
        /// Words of state of all its globs.
        found: usize,
    },
}

impl FilterError {
    /// What is expected of a criterion's globs.
    pub const EXPECTED_WORDS: &'static str =
        "globs of at most 256 words of 64 characters (literals, `prefix*` and `*suffix` count none)";

    /// Returns the name of the criterion, the limit in words, and the number that was found.
    pub fn parts(&self) -> (&'static str, String, usize) {
        match self {
            Self::Entries { field, found } => (field, format!("at most {MAX_ENTRIES} entries"), *found),
            Self::Work { field, found } => (field, Self::EXPECTED_WORDS.to_owned(), *found),
        }
    }
}

/// Adds up the words of state that `globs` need: see [`Glob::words`].
pub fn words(globs: &[Glob]) -> usize {
    globs.iter().map(Glob::words).sum()
}

/// Checks the subscriptions of one handler: each event is compared
/// with all of them, whether the handler is called or not.
///
/// # Errors
/// A text that names what was expected and found, if all of them together exceed
/// [`MAX_SUBSCRIPTIONS`], [`MAX_CRITERIA`] or [`MAX_GLOB_WORDS`].
pub fn check_subscriptions(subscriptions: &[EventFilter]) -> Result<(), String> {
    if subscriptions.len() > MAX_SUBSCRIPTIONS {
        return Err(format!("expected at most {MAX_SUBSCRIPTIONS}, found {}", subscriptions.len()));
    }
    let sizes = subscriptions.iter().map(EventFilter::size);
    let (entries, words) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    if entries > MAX_CRITERIA {
        return Err(format!("expected at most {MAX_CRITERIA} entries in all, found {entries}"));
    }
    if words > MAX_GLOB_WORDS {
        return Err(format!("expected {} in all, found {words}", FilterError::EXPECTED_WORDS));
    }
    Ok(())
}

/// Reads a list of globs with the bounds of one criterion of a filter.
///
/// # Errors
/// A list of more than [`MAX_ENTRIES`] entries or [`MAX_GLOB_WORDS`] words.
pub fn read_globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Glob>, D::Error> {
    let globs = Vec::<Glob>::deserialize(deserializer)?;
    let found = words(&globs);
    match globs.len() {
        entries if entries > MAX_ENTRIES => {
            Err(D::Error::custom(format!("expected at most {MAX_ENTRIES} entries, found {entries}")))
        }
        _ if found > MAX_GLOB_WORDS => {
            Err(D::Error::custom(format!("expected {}, found {found}", FilterError::EXPECTED_WORDS)))
        }
        _ => Ok(globs),
    }
}

fn any(globs: Option<&[Glob]>, value: Option<&str>) -> bool {
    match (globs, value) {
        (None, _) => true,
        (Some(globs), Some(value)) => globs.iter().any(|glob| glob.matches(value)),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn filter(patterns: impl IntoIterator<Item = String>) -> EventFilter {
        let globs = patterns.into_iter().map(|pattern| pattern.parse().unwrap()).collect();
        EventFilter { event_types: Some(globs), ..EventFilter::default() }
    }

    #[test]
    fn the_work_of_a_filter_has_a_bound_and_256_entries_of_ordinary_length_are_within_it() {
        let longest = |count| filter((0..count).map(|index| format!("*{}{index:04}", "?".repeat(250))));
        assert!(matches!(longest(65).normalised(), Err(FilterError::Work { field: "event_types", found: 260 })));
        let most = longest(64).normalised().unwrap();
        let event = NewEvent::new("x".repeat(255)).admit().unwrap();
        assert!(most.work(&event) <= 1 + 64 + MAX_GLOB_WORDS * 255, "{}", most.work(&event));
        assert!(!most.matches(&event));
        assert!(filter((0..256).map(|index| format!("a.*.b{index}"))).normalised().is_ok());
        assert!(filter((0..256).map(|index| format!("{}{index:03}*", "a".repeat(251)))).normalised().is_ok());
    }
}
