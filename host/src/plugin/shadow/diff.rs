//! In what two JSON values differ, place by place.

use serde::Serialize;
use serde_json::{Number, Value};
use std::collections::BTreeSet;

/// Longest value that is shown; of longer ones, how long they are.
const SHOWN: usize = 1 << 10;

/// One place at which two values differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Where: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What the active version has there; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<Value>,
    /// What the shadow has there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Value>,
}

/// Adds the places at which they differ, up to `most` of them. Numbers are equal if their values are.
pub(super) fn diff(active: &Value, shadow: &Value, most: usize, found: &mut Vec<Difference>) {
    Walk { pointer: String::new(), most, found }.values(Some(active), Some(shadow));
}

struct Walk<'a> {
    pointer: String,
    most: usize,
    found: &'a mut Vec<Difference>,
}

impl Walk<'_> {
    // As deep as the values: events are nested at most 127 deep.
    fn values(&mut self, active: Option<&Value>, shadow: Option<&Value>) {
        match (active, shadow) {
            _ if self.found.len() >= self.most => {}
            (Some(Value::Object(one)), Some(Value::Object(other))) => {
                let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
                for name in names {
                    self.at(&name.replace('~', "~0").replace('/', "~1"), one.get(name), other.get(name));
                }
            }
            (Some(Value::Array(one)), Some(Value::Array(other))) => {
                for index in 0..one.len().max(other.len()) {
                    self.at(&index.to_string(), one.get(index), other.get(index));
                }
            }
            (Some(Value::Number(one)), Some(Value::Number(other))) if is_equal(one, other) => {}
            (one, other) if one == other => {}
            (one, other) => {
                let (active, shadow) = (one.map(shown), other.map(shown));
                self.found.push(Difference { pointer: self.pointer.clone(), active, shadow });
            }
        }
    }

    fn at(&mut self, token: &str, active: Option<&Value>, shadow: Option<&Value>) {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(token);
        self.values(active, shadow);
        self.pointer.truncate(length);
    }
}

fn is_equal(one: &Number, other: &Number) -> bool {
    one == other || ((one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64())
}

fn shown(value: &Value) -> Value {
    let bytes = value.to_string().len();
    if bytes <= SHOWN { value.clone() } else { Value::String(format!("({bytes} bytes)")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(active: &Value, shadow: &Value, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        diff(active, shadow, most, &mut found);
        found.into_iter().map(|difference| difference.pointer).collect()
    }

    #[test]
    fn each_place_is_named_once() {
        assert!(pointers(&json!({"a": [1, null]}), &json!({"a": [1.0, null]}), 9).is_empty());
        assert_eq!(pointers(&json!({"a": 1, "b": 2}), &json!({"b": 3, "c~/": 4}), 9), ["/a", "/b", "/c~0~1"]);
        assert_eq!(pointers(&json!([1, 2, 3]), &json!([1]), 9), ["/1", "/2"]);
        assert_eq!(pointers(&json!([1, 2, 3]), &json!([]), 2).len(), 2);
        assert_eq!(pointers(&json!(1), &json!("1"), 9), [""]);
    }

    #[test]
    fn long_values_are_told_by_their_length() {
        let mut found = Vec::new();
        diff(&json!("x".repeat(5_000)), &json!(null), 9, &mut found);
        assert_eq!(found[0].active, Some(json!("(5002 bytes)")));
    }
}
