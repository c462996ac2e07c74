//! JSON Schemas that plugins bring: of a filter's parameters, of a handler's settings. They come
//! from the same stranger as the code, so what a schema may cost is bounded when it is compiled
//! ([`compile`]: size, depth, known keywords only), and what a check of a value costs is counted
//! while it runs ([`check`]). Knows nothing of where values come from.

mod check;
mod compile;
mod number;
mod pattern;
#[cfg(test)]
mod tests;

use super::limits::MAX_SCHEMA_BYTES;
use check::{Check, Refusal};
use pattern::Pattern;
use serde_json::{Number, Value};
use std::{cmp::Ordering, fmt::Write, ops::RangeInclusive, sync::Arc};

/// Most bytes of a value or a rule that an error shows.
const MAX_SHOWN: usize = 120;

/// A schema that is safe to check values with.
#[derive(Debug)]
pub struct Schema {
    /// The whole is the last.
    nodes: Vec<Node>,
}

/// Where one of [`Schema::nodes`] is.
type NodeId = usize;

/// A schema, or one within a schema.
#[derive(Debug)]
struct Node {
    /// All of them must hold; none: the schema `false`, which nothing meets.
    rules: Option<Vec<Rule>>,
    measure: Measure,
}

/// How large a schema is with every `$ref` written out.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    schemas: usize,
    depth: usize,
}

/// One keyword with its value.
#[derive(Debug)]
struct Rule {
    keyword: &'static str,
    /// The value, cut.
    value: String,
    test: Test,
}

/// What a rule asks. What is about another kind of value holds.
#[derive(Debug)]
enum Test {
    Type(Kinds),
    Enum(Vec<Value>),
    /// How the value may compare with the number.
    Order(Number, &'static [Ordering]),
    MultipleOf(Number),
    /// In characters.
    Length(RangeInclusive<u64>),
    Items(RangeInclusive<u64>),
    Members(RangeInclusive<u64>),
    Required(Vec<String>),
    /// With the first, the others must be there.
    DependentRequired(Vec<(String, Vec<String>)>),
    /// As [`Test::DependentRequired`], and with the first, the schema must hold.
    Dependencies(Vec<(String, Vec<String>)>, Vec<(String, NodeId)>),
    Pattern(Arc<Pattern>),
    UniqueItems,
    Properties(Vec<(String, NodeId)>),
    PatternProperties(Vec<(Arc<Pattern>, NodeId)>),
    /// `named` is sorted.
    AdditionalProperties {
        named: Vec<String>,
        patterns: Vec<Arc<Pattern>>,
        schema: NodeId,
    },
    PropertyNames(NodeId),
    /// The first items, one each.
    Prefix(Vec<NodeId>),
    /// The items after the first so many.
    Rest {
        after: usize,
        schema: NodeId,
    },
    /// So many items.
    Contains {
        schema: NodeId,
        count: RangeInclusive<u64>,
    },
    All(Vec<NodeId>),
    Any(Vec<NodeId>),
    One(Vec<NodeId>),
    Not(NodeId),
    If {
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
    },
}

/// A set of the kinds of JSON values.
#[derive(Debug, Clone, Copy)]
struct Kinds(u8);

impl Kinds {
    const NONE: Self = Self(0);
    const INTEGER: Self = Self(1 << 5);

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::of(&Value::Null),
            "boolean" => Self::of(&Value::Bool(true)),
            "number" => Self::of(&Value::from(0)),
            "string" => Self::of(&Value::from("")),
            "array" => Self::of(&Value::Array(Vec::new())),
            "object" => Self::of(&Value::Object(serde_json::Map::new())),
            "integer" => Self::INTEGER,
            _ => return None,
        })
    }

    fn of(value: &Value) -> Self {
        Self(match value {
            Value::Null => 1,
            Value::Bool(_) => 1 << 1,
            Value::Number(_) => 1 << 2,
            Value::String(_) => 1 << 3,
            Value::Array(_) => 1 << 4,
            Value::Object(_) => 1 << 6,
        })
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn hold(self, value: &Value) -> bool {
        let is_integer = || value.as_number().is_some_and(number::is_integer);
        self.0 & Self::of(value).0 != 0 || (self.0 & Self::INTEGER.0 != 0 && is_integer())
    }
}

/// Where a value does not meet its schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}", if pointer.is_empty() { "the whole" } else { pointer })]
pub struct SchemaError {
    /// JSON Pointer (RFC 6901) to the value; empty for the whole.
    pub pointer: String,
    /// The part of the schema that it does not meet.
    pub expected: String,
    /// The value, cut.
    pub found: String,
}

impl Schema {
    /// Most steps of one check. A step takes some 20 ns at most, so that a check is over within
    /// about 20 ms on a machine of today.
    pub const MAX_STEPS: u64 = 1 << 20;

    /// Compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it, for the plugin's author.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(format!("expected at most {MAX_SCHEMA_BYTES} bytes, found {}", text.len()));
        }
        // No deeper than 128, or it is an error.
        let source: Value = serde_json::from_str(text).map_err(|error| format!("expected JSON, found {error}"))?;
        Ok(Self { nodes: compile::compile(&source)? })
    }

    /// Checks a value, in at most [`Schema::MAX_STEPS`] steps. That may take some 20 ms, so it
    /// belongs on no thread that serves others.
    ///
    /// # Errors
    /// Where it does not meet the schema, or that it would take more steps.
    pub fn check(&self, value: &Value) -> Result<(), SchemaError> {
        self.check_within(value, Self::MAX_STEPS).0
    }

    /// As [`Schema::check`], in at most so many steps, and how many were taken.
    pub fn check_within(&self, value: &Value, steps: u64) -> (Result<(), SchemaError>, u64) {
        let mut check = Check::new(&self.nodes, steps);
        let verdict = check.schema(self.nodes.len() - 1, value);
        (verdict.map_err(|refusal| SchemaError::new(&refusal, steps)), steps - check.left())
    }
}

impl SchemaError {
    /// Of parameters that nobody asked for.
    pub(super) fn no_schema(found: &Value) -> Self {
        let expected = "no parameters: this filter takes none".to_owned();
        Self { pointer: String::new(), expected, found: shown(found) }
    }

    /// The check itself did not end well.
    pub(super) fn failed(error: &dyn std::fmt::Display) -> Self {
        Self { pointer: String::new(), expected: "a schema that can be used".into(), found: error.to_string() }
    }

    fn new(refusal: &Refusal<'_>, steps: u64) -> Self {
        match refusal {
            Refusal::Mismatch(mismatch) => {
                let expected = mismatch.rule.map(|rule| format!("{:?}: {}", rule.keyword, rule.value));
                let expected = expected.unwrap_or_else(|| "nothing, as the schema is `false`".into());
                Self { pointer: mismatch.pointer(), expected, found: mismatch.found.clone() }
            }
            Refusal::Steps => {
                let expected = format!("a value that the schema checks in {steps} steps");
                Self { pointer: String::new(), expected, found: "one that takes more".into() }
            }
        }
    }
}

/// A value as JSON, cut. No more of it is written than is shown.
fn shown(value: &Value) -> String {
    struct Limited(String);
    impl Write for Limited {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let left = MAX_SHOWN - self.0.len();
            if text.len() <= left {
                self.0.push_str(text);
                return Ok(());
            }
            self.0.push_str(&text[..text.floor_char_boundary(left)]);
            Err(std::fmt::Error)
        }
    }
    let mut text = Limited(String::new());
    match write!(text, "{value}") {
        Ok(()) => text.0,
        Err(_) => text.0 + "…",
    }
}
