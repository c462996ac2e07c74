//! What is expected against what was found: objects as subsets, arrays element by element, numbers by value. Pure.

use super::case::Expectation;
use serde_json::{Map, Value};

/// The first place where the two differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// JSON pointer (RFC 6901).
    pub(super) pointer: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Looks for one; `pointer` is where both stand.
pub(super) fn first(expected: &Value, found: &Value, pointer: &str) -> Option<Difference> {
    let differ =
        |found: String| Some(Difference { pointer: pointer.to_owned(), expected: expected.to_string(), found });
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().find_map(|(key, expected)| {
            let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            match found.get(key) {
                Some(found) => first(expected, found, &pointer),
                None => Some(Difference { pointer, expected: expected.to_string(), found: "nothing".into() }),
            }
        }),
        (Value::Array(all), Value::Array(found)) => {
            let pairs = all.iter().zip(found).enumerate();
            let inner = pairs.map(|(index, (expected, found))| first(expected, found, &format!("{pointer}/{index}")));
            inner.flatten().next().or_else(|| {
                let length = |length: usize| format!("{length} elements");
                (all.len() != found.len()).then(|| Difference {
                    pointer: pointer.to_owned(),
                    expected: length(all.len()),
                    found: length(found.len()),
                })
            })
        }
        (expected, found) if same(expected, found) => None,
        (_, found) => differ(found.to_string()),
    }
}

fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(expected), Value::Number(found)) => {
            expected == found || (expected.is_f64() || found.is_f64()) && expected.as_f64() == found.as_f64()
        }
        (expected, found) => expected == found,
    }
}

/// What of `found` stands against `expected`: without the members that are not listed.
pub(super) fn against(expected: &Value, found: &Value) -> Value {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let listed =
                expected.iter().filter_map(|(key, expected)| Some((key.clone(), against(expected, found.get(key)?))));
            listed.collect::<Map<_, _>>().into()
        }
        (Value::Array(expected), Value::Array(found)) => {
            let rest = found.iter().skip(expected.len()).cloned();
            let pairs = expected.iter().zip(found).map(|(expected, found)| against(expected, found));
            pairs.chain(rest).collect()
        }
        // As it was written, so that a line does not look different where nothing differs.
        (expected, found) if same(expected, found) => expected.clone(),
        (_, found) => found.clone(),
    }
}

/// Both in a form in which they can be compared: a log line that is expected as a text is its message; what is kept under a key is
/// text, or the JSON in it where that is what is expected; and where nothing else is expected, a call is made and does not fail.
pub(super) fn aligned(expected: &Expectation, found: &Expectation) -> (Value, Value) {
    let (mut expected, mut found) = (expected.clone(), found.clone());
    for line in expected.get_mut("logs").and_then(Value::as_array_mut).into_iter().flatten() {
        if line.is_string() {
            *line = Map::from_iter([("message".to_owned(), line.take())]).into();
        }
    }
    let kept = found.get("kv").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Object(keys)) = expected.get("kv") {
        let values = keys.iter().map(|(key, expected)| {
            let text = kept.get(key).cloned().unwrap_or_default();
            (key.clone(), if expected.is_string() { text } else { inside(text) })
        });
        found.insert("kv".into(), values.collect::<Map<_, _>>().into());
    }
    for (key, usual) in [("failure", Value::Null), ("fault", Value::Null), ("not_asked", Value::Bool(false))] {
        found.entry(key).or_insert_with(|| usual.clone());
        expected.entry(key).or_insert(usual);
    }
    (expected.into(), found.into())
}

/// What is so unless something else is expected: that the call is made, and does not fail.
pub(super) fn goes_without_saying(key: &str, value: &Value) -> bool {
    matches!((key, value), ("failure" | "fault", Value::Null) | ("not_asked", Value::Bool(false)))
}

/// The JSON in a text, if it is such.
pub(super) fn inside(text: Value) -> Value {
    text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(text)
}

/// A value as it is kept under a key: texts as they are, everything else as JSON.
pub(super) fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(expected: Value, found: Value, difference: Option<(&str, &str, &str)>) {
        let is = first(&expected, &found, "");
        let is = is.as_ref().map(|is| (is.pointer.as_str(), is.expected.as_str(), is.found.as_str()));
        assert_eq!(is, difference);
    }

    #[test]
    fn objects_match_as_subsets_and_arrays_element_by_element() {
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "d": 3}), None);
        check(json!([{"a": 1}, 2]), json!([{"a": 1, "b": 2}, 2]), None);
        check(json!({"a": [1, 2]}), json!({"a": [1]}), Some(("/a", "2 elements", "1 elements")));
        check(json!({"a": [1]}), json!({"a": [2, 3]}), Some(("/a/0", "1", "2")));
        check(json!({"a": null}), json!({}), Some(("/a", "null", "nothing")));
        check(json!({"x/y~": 1}), json!({"x/y~": "1"}), Some(("/x~1y~0", "1", "\"1\"")));
        check(json!([]), json!({}), Some(("", "[]", "{}")));
    }

    #[test]
    fn numbers_are_compared_by_value() {
        check(json!([1.0, 1, 1e2]), json!([1, 1.0, 100]), None);
        check(
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992_u64),
            Some(("", "9007199254740993", "9007199254740992")),
        );
    }

    #[test]
    fn what_is_shown_against_an_expectation_is_only_what_it_lists() {
        let found = json!({"a": {"b": 2, "c": 3}, "d": [{"e": 1, "f": 2}, 5]});
        assert_eq!(
            against(&json!({"a": {"b": 1}, "d": [{"e": 0}]}), &found),
            json!({"a": {"b": 2}, "d": [{"e": 1}, 5]})
        );
    }

    #[test]
    fn logs_may_be_texts_and_kept_values_json() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let found = object(json!({"logs": [{"level": "info", "message": "a"}], "failure": null, "fault": null,
                                  "kv": {"n": "7", "j": "{\"a\":[1]}", "t": "7"}}));
        let matches = |expected: Value| {
            let (expected, found) = aligned(&object(expected), &found);
            first(&expected, &found, "").is_none()
        };
        assert!(matches(json!({"logs": ["a"], "kv": {"n": 7, "j": {"a": [1]}, "t": "7", "gone": null}})));
        assert!(!matches(json!({"logs": ["b"]})) && !matches(json!({"kv": {"t": "8"}})));
        assert!(!matches(json!({"kv": {"n": null}})) && !matches(json!({"fault": "fuel"})));
        let trapped = object(json!({"failure": null, "fault": "trap"}));
        let (expected, found) = aligned(&Expectation::new(), &trapped);
        assert_eq!(first(&expected, &found, "").unwrap().pointer, "/fault", "nobody has to say that nothing may trap");
        let difference = aligned(&object(json!({"not_asked": true})), &object(json!({"not_asked": false})));
        assert_eq!(first(&difference.0, &difference.1, "").unwrap().pointer, "/not_asked");
    }
}
