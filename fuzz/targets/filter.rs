//! Filters and globs: what one lets through is what its definition says, also after it was put in order and written down. The
//! input is a filter, a line break, and the words that the event is made of.

#![no_main]

use busway::event::{Event, EventFilter, Glob, NewEvent};
use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;

/// The definition: `*` any run, `?` one, anything else itself. `seen` is what was tried in vain, else it would take for ever.
fn defined(pattern: &[char], text: &[char], seen: &mut HashSet<(usize, usize)>) -> bool {
    if seen.contains(&(pattern.len(), text.len())) {
        return false;
    }
    let found = match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => {
            defined(&pattern[1..], text, seen) || (!text.is_empty() && defined(pattern, &text[1..], seen))
        }
        (Some('?'), Some(_)) => defined(&pattern[1..], &text[1..], seen),
        (Some(expected), Some(found)) => expected == found && defined(&pattern[1..], &text[1..], seen),
        _ => false,
    };
    if !found {
        seen.insert((pattern.len(), text.len()));
    }
    found
}

fn matches(glob: &Glob, text: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    defined(&chars(glob.as_str()), &chars(text), &mut HashSet::new())
}

fn any(globs: Option<&Vec<Glob>>, text: Option<&str>) -> bool {
    let Some(globs) = globs else { return true };
    text.is_some_and(|text| globs.iter().any(|glob| matches(glob, text)))
}

fn wanted(filter: &EventFilter, event: &Event) -> bool {
    let tags = &event.metadata.tags;
    any(filter.event_types.as_ref(), Some(&event.event_type))
        && any(filter.source_patterns.as_ref(), event.metadata.source.as_deref())
        && filter.required_tags.iter().all(|tag| tags.contains(tag))
        && filter.excluded_tags.iter().all(|tag| !tags.contains(tag))
}

fn event(words: &str) -> Option<Event> {
    let mut words = words.split(' ');
    let mut event = NewEvent::new(words.next()?);
    if let Some(source) = words.next() {
        event = event.source(source);
    }
    words.fold(event, |event, tag| event.tag(tag)).admit().ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some((filter, words)) = text.split_once('\n') else { return };
    if let Ok(glob) = filter.parse::<Glob>() {
        let words: String = words.chars().take(60).collect();
        if glob.as_str().len() < 60 {
            assert_eq!(glob.matches(&words), matches(&glob, &words), "{glob:?} {words:?}");
        }
    }
    let (Ok(filter), Some(event)) = (serde_json::from_str::<EventFilter>(filter), event(words)) else { return };
    let passes = filter.matches(&event);
    // The definition is slow.
    if text.len() < 200 {
        assert_eq!(passes, wanted(&filter, &event), "{filter:?} {event:?}");
    }
    let Ok(normal) = filter.normalised() else { return };
    assert_eq!(passes, normal.matches(&event), "{normal:?} {event:?}");
    let written = serde_json::to_string(&normal).expect("it has a JSON form");
    assert_eq!(serde_json::from_str::<EventFilter>(&written).expect("it was written here"), normal);
});
