//! Properties of globs and filters, against the plainest definition that there is.

use busway::event::{Event, EventFilter, Glob, NewEvent};
use proptest::prelude::*;

/// The definition: `*` any run, `?` one, anything else itself.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => matches(&pattern[1..], text) || (!text.is_empty() && matches(pattern, &text[1..])),
        (Some('?'), Some(_)) => matches(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) => p == t && matches(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn event(event_type: &str, source: Option<&str>, tags: &[&str]) -> Event {
    let mut event = NewEvent::new(event_type);
    if let Some(source) = source {
        event = event.source(source);
    }
    tags.iter().fold(event, |event, tag| event.tag(*tag)).admit().unwrap()
}

proptest! {
    #[test]
    fn a_glob_matches_what_its_definition_says(pattern in "[ab.é*?]{1,8}", text in "[ab.é]{0,10}") {
        let glob: Glob = pattern.parse().unwrap();
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(glob.matches(&text), matches(&chars(&pattern), &chars(&text)));
    }

    #[test]
    fn a_literal_matches_itself_only(text in "[a-z.]{1,20}", other in "[a-z.]{1,20}") {
        let glob: Glob = text.parse().unwrap();
        prop_assert!(glob.matches(&text));
        prop_assert_eq!(glob.matches(&other), text == other);
    }

    #[test]
    fn no_glob_takes_long(stars in 1usize..120) {
        let glob: Glob = format!("{}b", "*a".repeat(stars)).parse().unwrap();
        prop_assert!(!glob.matches(&"a".repeat(255)));
    }

    #[test]
    fn criteria_are_anded(
        types in prop::option::of(prop::collection::vec("[ab]\\*?", 0..3)),
        sources in prop::option::of(prop::collection::vec("[ab]\\*?", 0..3)),
        required in prop::collection::vec("[xyz]", 0..3),
        excluded in prop::collection::vec("[xyz]", 0..3),
        event_type in "[ab]{1,2}",
        source in prop::option::of("[ab]{1,2}"),
        tags in prop::collection::vec("[xyz]", 0..4),
    ) {
        let globs = |list: &Option<Vec<String>>| list.as_ref().map(|list| list.iter().map(|glob| glob.parse().unwrap()).collect());
        let filter = EventFilter {
            event_types: globs(&types),
            source_patterns: globs(&sources),
            required_tags: required.clone(),
            excluded_tags: excluded.clone(),
        };
        let event = event(&event_type, source.as_deref(), &tags.iter().map(String::as_str).collect::<Vec<_>>());
        let any = |globs: &[String], text: &str| globs.iter().any(|glob| glob.parse::<Glob>().unwrap().matches(text));
        let expected = types.is_none_or(|types| any(&types, &event_type))
            && sources.is_none_or(|sources| source.is_some_and(|source| any(&sources, &source)))
            && required.iter().all(|tag| tags.contains(tag))
            && !excluded.iter().any(|tag| tags.contains(tag));
        prop_assert_eq!(filter.matches(&event), expected);
        // One order and no repeats change nothing.
        prop_assert_eq!(filter.normalised().unwrap().matches(&event), expected);
    }
}

#[test]
fn the_truth_table_of_the_event_filter() {
    let e = event("task.created", Some("executor-1"), &["urgent", "eu"]);
    let anonymous = event("task.created", None, &[]);
    let parse = |text: &str| serde_json::from_str::<EventFilter>(text).unwrap();
    for (filter, expected, expected_anonymous) in [
        ("{}", true, true),
        (r#"{"event_types":["task.created"]}"#, true, true),
        (r#"{"event_types":["task.*","agent.*"]}"#, true, true),
        (r#"{"event_types":["task.started"]}"#, false, false),
        (r#"{"event_types":[]}"#, false, false),
        (r#"{"event_types":null}"#, true, true),
        (r#"{"source_patterns":["executor-?"]}"#, true, false),
        (r#"{"source_patterns":["*"]}"#, true, false),
        (r#"{"source_patterns":["planner"]}"#, false, false),
        (r#"{"required_tags":["urgent"]}"#, true, false),
        (r#"{"required_tags":["urgent","us"]}"#, false, false),
        (r#"{"required_tags":[]}"#, true, true),
        (r#"{"excluded_tags":["us"]}"#, true, true),
        (r#"{"excluded_tags":["us","eu"]}"#, false, true),
        (
            r#"{"event_types":["task.*"],"source_patterns":["executor-*"],"required_tags":["eu"],"excluded_tags":["us"]}"#,
            true,
            false,
        ),
        (r#"{"event_types":["task.*"],"excluded_tags":["urgent"]}"#, false, true),
    ] {
        let filter = parse(filter);
        assert_eq!((filter.matches(&e), filter.matches(&anonymous)), (expected, expected_anonymous), "{filter:?}");
    }
}
