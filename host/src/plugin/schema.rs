//! JSON Schemas that plugins bring: of a filter's parameters, of a handler's settings. They come from the same stranger
//! as the code, so a schema is measured before it is used: references may only point inside it, in no circle, and what
//! they stand for, written out, must stay small. Patterns are matched in linear time.

use super::limits::MAX_SCHEMA_BYTES;
use serde_json::Value;
use std::collections::HashMap;

/// Most values that a schema may have with every reference written out.
const MAX_SCHEMA_NODES: usize = 4_096;

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
        let nodes = Measure { root: &source, known: HashMap::new() }.nodes(&source)?;
        if nodes > MAX_SCHEMA_NODES {
            return Err(format!("expected at most {MAX_SCHEMA_NODES} values, references written out, found {nodes}"));
        }
        let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
        let validator = options.build(&source).map_err(|error| error.to_string())?;
        Ok(Self { source, validator })
    }

    pub(super) fn check(&self, value: &Value) -> Result<(), SchemaError> {
        self.validator.validate(value).map_err(|error| {
            let part = error.schema_path().as_str();
            let keyword = part.rsplit('/').next().unwrap_or_default();
            let expected = match self.source.pointer(part) {
                Some(rule) if !keyword.is_empty() => format!("{keyword:?}: {}", cut(rule)),
                _ => error.to_string(),
            };
            SchemaError { pointer: error.instance_path().as_str().to_owned(), expected, found: cut(error.instance()) }
        })
    }
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 120 { text } else { format!("{}…", &text[..text.floor_char_boundary(120)]) }
}

/// Counts the values of a schema with every reference written out.
struct Measure<'a> {
    root: &'a Value,
    /// None while it is being counted: coming back to it means going in a circle.
    known: HashMap<&'a str, Option<usize>>,
}

impl<'a> Measure<'a> {
    fn nodes(&mut self, value: &'a Value) -> Result<usize, String> {
        let mut nodes = 1usize;
        match value {
            Value::Array(values) => {
                for value in values {
                    nodes = nodes.saturating_add(self.nodes(value)?);
                }
            }
            Value::Object(members) => {
                for (key, value) in members {
                    nodes = nodes.saturating_add(match (key.as_str(), value) {
                        ("$ref", Value::String(target)) => self.target(target)?,
                        ("$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                            return Err(format!(
                                "`{key}` is not supported: refer with `$ref` and a pointer, `#/$defs/…`"
                            ));
                        }
                        _ => self.nodes(value)?,
                    });
                }
            }
            _ => {}
        }
        Ok(nodes)
    }

    fn target(&mut self, reference: &'a str) -> Result<usize, String> {
        match self.known.get(reference) {
            Some(Some(nodes)) => return Ok(*nodes),
            Some(None) => return Err(format!("`$ref` {reference:?} leads back to itself")),
            None => {}
        }
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let Some(target) = pointer.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(format!("`$ref` {reference:?} is not a pointer to something in this schema, `#/$defs/…`"));
        };
        self.known.insert(reference, None);
        let nodes = self.nodes(target)?;
        self.known.insert(reference, Some(nodes));
        Ok(nodes)
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
}
