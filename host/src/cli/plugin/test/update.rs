//! What happened, in place of what a test expects. The rest of the file stays as it was written. Pure.
//!
//! Where an expectation lists something, the same is listed afterwards; where it lists nothing, what matters as a rule is. What is
//! another in a second run (an id, a time, a random number) is left out, or left as it was.

use super::case::{Case, Expectation};
use super::check::Call;
use super::compare::{against, aligned, goes_without_saying};
use serde_json::{Map, Value};

/// Keys in the order in which they are written.
const KEYS: [&str; 7] = ["emitted", "verdict", "failure", "fault", "not_asked", "logs", "kv"];

/// What stands in the place of an answer.
const INSTEAD: [&str; 3] = ["failure", "fault", "not_asked"];

/// The file's new text, after two runs.
pub(super) fn rewrite(text: &str, case: &Case<'_>, calls: &[Call], again: &[Call]) -> String {
    let pairs = case.expect.iter().zip(calls).zip(again);
    let expect: Vec<String> = pairs.map(|((old, call), again)| written(&renewed(old, call, again))).collect();
    let expect = format!("[\n    {}\n  ]", expect.join(",\n    "));
    match case.expect_text {
        // Where nothing but blanks would change, nothing does.
        Some(old) if same(old, &expect) => text.to_owned(),
        Some(old) => {
            let at = (old.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            let (before, rest) = (text.get(..at), text.get(at + old.len()..));
            format!("{}{expect}{}", before.unwrap_or_default(), rest.unwrap_or_default())
        }
        None => {
            let body = text.trim_end().strip_suffix('}').unwrap_or(text).trim_end();
            format!("{body},\n  \"expect\": {expect}\n}}\n")
        }
    }
}

fn same(old: &str, new: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    value(old) == value(new)
}

/// With the two levels of indentation of the place where it stands.
fn written(expectation: &Expectation) -> String {
    let members = KEYS.iter().filter_map(|key| {
        let value = serde_json::to_string_pretty(expectation.get(*key)?).unwrap_or_default();
        Some(format!("      \"{key}\": {}", value.replace('\n', "\n      ")))
    });
    let members: Vec<String> = members.collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n    }}", members.join(",\n")) }
}

fn renewed(old: &Expectation, call: &Call, again: &Call) -> Expectation {
    if old.is_empty() {
        return first_time(call, again);
    }
    let (expected, found) = aligned(old, &call.found);
    let (_, second) = aligned(old, &again.found);
    let mut new = Expectation::new();
    for (key, old) in expected.as_object().into_iter().flatten() {
        let (found, second) = (&found[key.as_str()], &second[key.as_str()]);
        // `aligned` adds it, which the file need not do.
        let was_listed = !goes_without_saying(key, old);
        if goes_without_saying(key, found) && !was_listed {
            continue;
        }
        let value = stable(&against(old, found), &against(old, second));
        if let Some(value) = value.or_else(|| was_listed.then(|| old.clone())) {
            new.insert(key.clone(), as_written(key, old, value));
        }
    }
    new.retain(|key, value| !goes_without_saying(key, value));
    // What it says in place of a failure that is no longer there.
    let answer = if call.is_filter { "verdict" } else { "emitted" };
    if is_without_answer(old)
        && !is_without_answer(&new)
        && !new.contains_key(answer)
        && let Some(value) = stable(&call.found[answer], &again.found[answer])
    {
        new.insert(answer.to_owned(), value);
    }
    new
}

fn is_without_answer(call: &Expectation) -> bool {
    INSTEAD.iter().any(|key| call.get(*key).is_some_and(|value| !goes_without_saying(key, value)))
}

/// Log lines as texts, where they were such.
fn as_written(key: &str, old: &Value, value: Value) -> Value {
    let plain = |line: &Value| line.as_object().is_some_and(|line| line.len() == 1 && line.contains_key("message"));
    match value {
        Value::Array(lines) if key == "logs" && old.as_array().is_some_and(|old| old.iter().all(plain)) => {
            lines.into_iter().map(|line| line.get("message").cloned().unwrap_or(line)).collect()
        }
        value => value,
    }
}

/// The answer, and what changed in the plugin's memory.
fn first_time(call: &Call, again: &Call) -> Expectation {
    let without_answer = is_without_answer(&call.found);
    let mut new = Expectation::new();
    for key in ["emitted", "verdict", "failure", "fault", "not_asked"] {
        let (Some(found), Some(second)) = (call.found.get(key), again.found.get(key)) else { continue };
        let is_needless = found.is_null() || goes_without_saying(key, found) || without_answer && key == "emitted";
        if let Some(value) = stable(found, second).filter(|_| !is_needless) {
            new.insert(key.to_owned(), value);
        }
    }
    let changed = stable(&call.changed.clone().into(), &again.changed.clone().into());
    if let Some(changed) = changed.filter(|_| !call.changed.is_empty()) {
        new.insert("kv".to_owned(), changed);
    }
    new
}

/// What is the same in two runs: members that are not are left out; an array of which an element is not, as a whole.
fn stable(one: &Value, other: &Value) -> Option<Value> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let members = one.iter().filter_map(|(key, value)| Some((key.clone(), stable(value, other.get(key)?)?)));
            Some(members.collect::<Map<_, _>>().into())
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).map(|(one, other)| stable(one, other)).collect::<Option<Vec<_>>>().map(Value::from)
        }
        (one, other) => (one == other).then(|| one.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(found: &Value) -> Call {
        Call::of_found(found.as_object().unwrap().clone())
    }

    fn rewritten(text: &str, first: &Value, second: &Value) -> String {
        rewrite(text, &Case::parse(text).unwrap(), &[call(first)], &[call(second)])
    }

    fn happened(id: &str) -> Value {
        json!({"emitted": [{"type": "a", "tags": [], "data": {"n": 1, "id": id}}], "verdict": null, "failure": null,
               "fault": null, "logs": [{"level": "info", "message": "x"}], "kv": {"k": "2", "id": id, "ids": [id]}})
    }

    #[test]
    fn what_is_listed_stays_listed_and_the_rest_of_the_file_stays_as_it_was() {
        let text = "{ \"events\": [{\"type\": \"e\"}],\n  \"expect\": [{\"emitted\": [{\"data\": {\"n\": 7}}], \"logs\": \
                    [\"y\"], \"kv\": {\"k\": 1}}], \"max_fuel\": 5}";
        let new = rewritten(text, &happened("1"), &happened("2"));
        assert!(
            new.starts_with("{ \"events\": [{\"type\": \"e\"}],\n  \"expect\": [\n    {\n      \"emitted\": [\n"),
            "{new}"
        );
        assert!(new.ends_with("\n  ], \"max_fuel\": 5}"), "{new}");
        let expect = serde_json::from_str::<Value>(&new).unwrap()["expect"].clone();
        assert_eq!(expect, json!([{"emitted": [{"data": {"n": 1}}], "logs": ["x"], "kv": {"k": 2}}]));
        assert_eq!(rewritten(&new, &happened("1"), &happened("2")), new);
    }

    #[test]
    fn what_varies_from_run_to_run_is_left_out_or_as_it_was() {
        let text = "{\"events\": [{\"type\": \"e\"}]}";
        let new = rewritten(text, &happened("1"), &happened("2"));
        let expect = serde_json::from_str::<Value>(&new).unwrap()["expect"].clone();
        assert_eq!(expect, json!([{"emitted": [{"type": "a", "tags": [], "data": {"n": 1}}]}]));
        let text = "{\"events\": [{\"type\": \"e\"}], \"expect\": [{\"kv\": {\"id\": \"0\", \"k\": \"0\"}}]}";
        let new = rewritten(text, &happened("1"), &happened("2"));
        assert_eq!(serde_json::from_str::<Value>(&new).unwrap()["expect"], json!([{"kv": {"k": "2"}}]));
    }

    #[test]
    fn a_failure_takes_the_place_of_an_answer_and_the_other_way_round() {
        let failed = json!({"emitted": [], "verdict": null, "failure": {"kind": "retry", "message": "later"}, "fault": null,
                            "logs": [], "kv": {}});
        let new = rewritten("{\"events\": [{\"type\": \"e\"}]}", &failed, &failed);
        let expect = &serde_json::from_str::<Value>(&new).unwrap()["expect"];
        assert_eq!(*expect, json!([{"failure": {"kind": "retry", "message": "later"}}]));
        let back = rewritten(&new, &happened("1"), &happened("1"));
        let expect = &serde_json::from_str::<Value>(&back).unwrap()["expect"];
        assert_eq!(*expect, json!([{"emitted": happened("1")["emitted"]}]));
    }

    #[test]
    fn that_an_event_was_not_asked_about_is_written_and_taken_away_again() {
        let unasked = json!({"emitted": [], "verdict": null, "failure": null, "fault": null, "not_asked": true, "logs": [],
                             "kv": {}});
        let new = rewritten("{\"events\": [{\"type\": \"e\"}]}", &unasked, &unasked);
        assert_eq!(serde_json::from_str::<Value>(&new).unwrap()["expect"], json!([{"not_asked": true}]));
        assert_eq!(rewritten(&new, &unasked, &unasked), new);
        let back = rewritten(&new, &happened("1"), &happened("1"));
        let expect = &serde_json::from_str::<Value>(&back).unwrap()["expect"];
        assert_eq!(*expect, json!([{"emitted": happened("1")["emitted"]}]));
    }
}
