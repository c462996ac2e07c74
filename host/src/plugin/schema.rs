//! JSON Schemas that plugins bring: of a filter's parameters, of a handler's settings. They come from the same stranger
//! as the code, so a schema is measured before it is used: references may only point inside it, in no circle, and what
//! they stand for, written out, must stay small. Patterns are matched in linear time.

use super::limits::MAX_SCHEMA_BYTES;
use serde_json::Value;
use std::collections::HashMap;

/// Most values that a schema may have with every reference written out.
const MAX_SCHEMA_NODES: usize = 4_096;

/// Most patterns, counted likewise.
const MAX_PATTERNS: usize = 64;
/// Most bytes of a compiled pattern, and of the cache it is matched with.
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// A schema that is safe to check values with.
#[derive(Debug)]
pub(super) struct Schema {
    source: Value,
    validator: jsonschema::Validator,
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
    /// Compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it, for the plugin's author.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(format!("expected at most {MAX_SCHEMA_BYTES} bytes, found {}", text.len()));
        }
        let source: Value = serde_json::from_str(text).map_err(|error| format!("expected JSON, found {error}"))?;
        let Size { nodes, patterns } = Measure { root: &source, known: HashMap::new() }.size(&source)?;
        if nodes > MAX_SCHEMA_NODES {
            return Err(format!("expected at most {MAX_SCHEMA_NODES} values, references written out, found {nodes}"));
        }
        if patterns > MAX_PATTERNS {
            return Err(format!("expected at most {MAX_PATTERNS} patterns, references written out, found {patterns}"));
        }
        let patterns = jsonschema::PatternOptions::regex();
        let patterns = patterns.size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let options = jsonschema::options().with_pattern_options(patterns);
        let validator = options.build(&source).map_err(|error| error.to_string())?;
        Ok(Self { source, validator })
    }

    pub(super) fn check(&self, value: &Value) -> Result<(), SchemaError> {
        self.validator.validate(value).map_err(|error| {
            let part = error.schema_path().as_str();
            let keyword = part.rsplit('/').next().unwrap_or_default();
            let expected = match self.source.pointer(part) {
                Some(rule) if !keyword.is_empty() => format!("{keyword:?}: {}", cut(rule)),
                // As it would be told by itself, without the value: that is told only where it may be.
                _ => error.masked().to_string(),
            };
            SchemaError { pointer: error.instance_path().as_str().to_owned(), expected, found: cut(error.instance()) }
        })
    }
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 120 { text } else { format!("{}…", &text[..text.floor_char_boundary(120)]) }
}

/// How large a schema is with every reference written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    patterns: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.patterns = self.patterns.saturating_add(other.patterns);
    }
}

/// Counts the values of a schema with every reference written out.
struct Measure<'a> {
    root: &'a Value,
    /// None while it is being counted: coming back to it means going in a circle.
    known: HashMap<&'a str, Option<Size>>,
}

impl<'a> Measure<'a> {
    fn size(&mut self, value: &'a Value) -> Result<Size, String> {
        let mut size = Size { nodes: 1, patterns: 0 };
        match value {
            Value::Array(values) => {
                for value in values {
                    size.add(self.size(value)?);
                }
            }
            Value::Object(members) => {
                for (key, value) in members {
                    size.patterns += match (key.as_str(), value) {
                        ("pattern", _) => 1,
                        ("patternProperties", Value::Object(patterns)) => patterns.len(),
                        _ => 0,
                    };
                    size.add(match (key.as_str(), value) {
                        ("$ref", Value::String(target)) => self.target(target)?,
                        ("$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                            return Err(format!(
                                "`{key}` is not supported: refer with `$ref` and a pointer, `#/$defs/…`"
                            ));
                        }
                        _ => self.size(value)?,
                    });
                }
            }
            _ => {}
        }
        Ok(size)
    }

    fn target(&mut self, reference: &'a str) -> Result<Size, String> {
        match self.known.get(reference) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(format!("`$ref` {reference:?} leads back to itself")),
            None => {}
        }
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let Some(target) = pointer.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(format!("`$ref` {reference:?} is not a pointer to something in this schema, `#/$defs/…`"));
        };
        self.known.insert(reference, None);
        let size = self.size(target)?;
        self.known.insert(reference, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_the_place_the_rule_and_the_value() {
        let schema = Schema::compile(
            r##"{"type":"object","properties":{"tag":{"$ref":"#/$defs/tag"}},"$defs":{"tag":{"type":"string"}}}"##,
        )
        .unwrap();
        schema.check(&json!({"tag": "urgent"})).unwrap();
        let error = schema.check(&json!({"tag": null})).unwrap_err();
        assert_eq!(error.to_string(), r#"/tag: expected "type": "string", found null"#);
        let error = schema.check(&json!(["urgent"])).unwrap_err();
        assert_eq!(error.to_string(), r#"the whole: expected "type": "object", found ["urgent"]"#);
    }

    #[track_caller]
    fn refused(schema: &str, text: &str) {
        let error = Schema::compile(schema).expect_err("should be refused");
        assert!(error.contains(text), "{error}");
    }

    #[test]
    fn a_schema_that_never_ends_is_refused() {
        refused("{", "expected JSON");
        refused(r#"{"type": "strange"}"#, "strange");
        refused(r##"{"$ref":"#"}"##, "not a pointer");
        refused(r#"{"$ref":"https://example.com/x"}"#, "not a pointer");
        refused(r##"{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##, "leads back to itself");
        refused(r##"{"$id":"x","allOf":[{"$dynamicRef":"#x"}]}"##, "not supported");
        // Thirty definitions, each two of the next: a thousand million values.
        let next =
            |n: u32| format!(r##""d{n}":{{"anyOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}}"##, n + 1);
        let defs: Vec<_> = (0..30).map(next).chain([r#""d30":{}"#.to_owned()]).collect();
        refused(&format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, defs.join(",")), "references written out");
    }

    #[test]
    fn patterns_are_few_and_small() {
        Schema::compile(r#"{"pattern":"^[\\w.-]{1,64}$"}"#).unwrap_or_else(|error| panic!("{error}"));
        refused(r#"{"pattern":"(\\w{50}){50}"}"#, "regex");
        refused(r#"{"patternProperties":{"(\\w{50}){50}":{}}}"#, "");
        let many: Vec<_> = (0..65).map(|n| format!(r#""p{n}":{{"pattern":"x{n}"}}"#)).collect();
        refused(&format!(r#"{{"properties":{{{}}}}}"#, many.join(",")), "at most 64 patterns");
    }
}
