//! Which events somebody wants: [`EventFilter`] and its [`Glob`]s. Pure; a WASM filter comes on top of it elsewhere.

use super::Event;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest glob and most entries of one criterion: what a client may make the hub compare for each event.
pub const MAX_GLOB_BYTES: usize = 255;
/// Most entries of one criterion.
pub const MAX_ENTRIES: usize = 256;

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
    /// On a glob longer than [`MAX_GLOB_BYTES`] or an empty one: meant for globs written in code.
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

    /// The same criteria in one order without repeats, so that equal questions are equal values and share a view.
    ///
    /// # Errors
    /// The name of a criterion that has more than [`MAX_ENTRIES`] entries, and how many.
    pub fn normalised(mut self) -> Result<Self, FilterError> {
        let lengths = [
            ("event_types", self.event_types.as_ref().map_or(0, Vec::len)),
            ("source_patterns", self.source_patterns.as_ref().map_or(0, Vec::len)),
            ("required_tags", self.required_tags.len()),
            ("excluded_tags", self.excluded_tags.len()),
        ];
        if let Some((field, found)) = lengths.into_iter().find(|(_, length)| *length > MAX_ENTRIES) {
            return Err(FilterError { field, found });
        }
        for globs in [&mut self.event_types, &mut self.source_patterns].into_iter().flatten() {
            globs.sort_unstable();
            globs.dedup();
        }
        for tags in [&mut self.required_tags, &mut self.excluded_tags] {
            tags.sort_unstable();
            tags.dedup();
        }
        Ok(self)
    }
}

/// A criterion with too many entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected at most {MAX_ENTRIES} entries, found {found}")]
pub struct FilterError {
    /// The criterion.
    pub field: &'static str,
    /// Its number of entries.
    pub found: usize,
}

fn any(globs: Option<&[Glob]>, value: Option<&str>) -> bool {
    match (globs, value) {
        (None, _) => true,
        (Some(globs), Some(value)) => globs.iter().any(|glob| glob.matches(value)),
        (Some(_), None) => false,
    }
}

/// A pattern: `*` is any run of characters, also none; `?` is one character; everything else is itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    pattern: Box<str>,
    shape: Shape,
}

/// The two shapes that most globs have are compared without looking at each character.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shape {
    Literal,
    /// A literal and one `*` at its end.
    Prefix,
    General,
}

/// A glob that is empty or longer than [`MAX_GLOB_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a pattern of 1 to {MAX_GLOB_BYTES} bytes, found {0} bytes")]
pub struct GlobError(usize);

impl Glob {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match self.shape {
            Shape::Literal => *self.pattern == *text,
            Shape::Prefix => text.starts_with(&self.pattern[..self.pattern.len() - 1]),
            Shape::General => general(&self.pattern, text, |_| true),
        }
    }

    /// Whether it matches every text that `other` matches, as far as the two patterns show: where they are written in unlike ways,
    /// it may say no though the answer is yes.
    pub fn covers(&self, other: &Self) -> bool {
        // A run in `other` may be of any length, so only a run here is sure to take it in.
        general(&self.pattern, &other.pattern, |c| c != '*')
    }
}

/// Two cursors and one place to go back to: the last `*` and where its run began. Going back only ever makes that run
/// longer, so the cost is at most the product of the lengths (255 × 255), whatever the pattern.
///
/// `one`: what `?` may stand for.
fn general(pattern: &str, text: &str, one: impl Fn(char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), here.clone()));
                text = here;
            }
            (Some('?'), Some(found)) if one(found) => {}
            (Some(expected), Some(found)) if expected == found => {}
            _ => {
                let Some((after, run)) = &mut star else { return false };
                if run.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), run.clone());
            }
        }
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() || pattern.len() > MAX_GLOB_BYTES {
            return Err(GlobError(pattern.len()));
        }
        let shape = match pattern.find(['*', '?']) {
            None => Shape::Literal,
            Some(at) if at + 1 == pattern.len() && pattern.ends_with('*') => Shape::Prefix,
            Some(_) => Shape::General,
        };
        Ok(Self { pattern: pattern.into(), shape })
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;

    fn try_from(pattern: String) -> Result<Self, GlobError> {
        pattern.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.pattern.into()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pattern, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_covers_those_that_match_nothing_else() {
        let covers = |wide: &str, narrow: &str| {
            let [wide, narrow] = [wide, narrow].map(|text| text.parse::<Glob>().unwrap());
            wide.covers(&narrow)
        };
        for (wide, narrow) in [
            ("*", "a.*"),
            ("a.*", "a.b.*"),
            ("a.*", "a.b"),
            ("a?", "ab"),
            ("a?", "a?"),
            ("a*", "a?b*"),
            ("*.x", "a.*.x"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (narrow, wide) in [("a.*", "*"), ("a.*", "a*"), ("a?", "a*"), ("ab", "a?"), ("a", "b"), ("*.x", "a.*")] {
            assert!(!covers(narrow, wide), "{narrow} {wide}");
        }
    }
}
