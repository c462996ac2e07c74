//! From a schema's text to the rules that values are checked by. Bounds are looked at while this
//! goes along: the text, how deep schemas stand within schemas, and how many there are with every
//! `$ref` written out. Only keywords that are known are taken; annotations pass, and keywords whose
//! cost nothing bounds are refused by name.

mod operand;

use super::{Measure, Node, NodeId, Rule, Test, pattern::Pattern, shown};
use serde_json::{Map, Value};
use std::{cmp::Ordering, collections::HashMap, sync::Arc};

/// Most schemas within one, with every `$ref` written out.
pub(super) const MAX_SCHEMAS: usize = 4_096;
/// Deepest nesting of schemas within schemas; following a `$ref` is one level more.
pub(super) const MAX_DEPTH: usize = 64;
/// Most regular expressions.
const MAX_PATTERNS: usize = 64;

/// In the order in which they are checked: what costs least goes first.
const KEYWORDS: &[&str] = &[
    "type",
    "const",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "dependentRequired",
    "pattern",
    "uniqueItems",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "prefixItems",
    "items",
    "additionalItems",
    "contains",
    "dependencies",
    "dependentSchemas",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "$ref",
];

/// With what to write instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "unevaluatedProperties",
        "list all members under `properties` of one schema, with `additionalProperties` beside it",
    ),
    ("unevaluatedItems", "list all items under `prefixItems` of one schema, with `items` beside it"),
];
const REFERENCES: &str = "refer with `$ref` and a pointer into the schema, `#/$defs/…`";

/// The vocabularies that are understood, without `#` at the end, and whether members beside a
/// `$ref` are ignored in it.
const DIALECTS: &[(&str, bool)] = &[
    ("https://json-schema.org/draft/2020-12/schema", false),
    ("https://json-schema.org/draft/2019-09/schema", false),
    ("http://json-schema.org/draft-07/schema", true),
    ("http://json-schema.org/draft-06/schema", true),
];

/// The rules of a schema; the whole is the last of them.
///
/// # Errors
/// Where it is wrong, what was expected and what was found.
pub(super) fn compile(source: &Value) -> Result<Vec<Node>, String> {
    let ref_stands_alone = dialect(source)?;
    let mut compiler = Compiler {
        root: source,
        ref_stands_alone,
        nodes: Vec::new(),
        known: HashMap::new(),
        patterns: HashMap::new(),
        path: Vec::new(),
    };
    compiler.schema(source, 1)?;
    Ok(compiler.nodes)
}

fn dialect(source: &Value) -> Result<bool, String> {
    let Some(named) = source.get("$schema") else { return Ok(false) };
    let uri = named.as_str().map(|uri| uri.strip_suffix('#').unwrap_or(uri));
    let known = DIALECTS.iter().find(|(known, _)| Some(*known) == uri);
    known.map(|(_, alone)| *alone).ok_or_else(|| {
        let known: Vec<_> = DIALECTS.iter().map(|(known, _)| *known).collect();
        format!("/$schema: expected one of {}, found {}", known.join(", "), shown(named))
    })
}

struct Compiler<'a> {
    root: &'a Value,
    ref_stands_alone: bool,
    nodes: Vec<Node>,
    /// By the address of the value; none while it is being compiled: coming back to it means going
    /// in a circle.
    known: HashMap<*const Value, Option<NodeId>>,
    patterns: HashMap<&'a str, Arc<Pattern>>,
    /// Where in the schema, as the members of a JSON Pointer.
    path: Vec<String>,
}

/// What has been seen of one schema.
struct Frame {
    depth: usize,
    measure: Measure,
}

impl<'a> Compiler<'a> {
    fn schema(&mut self, value: &'a Value, depth: usize) -> Result<NodeId, String> {
        self.depth(depth)?;
        let address = std::ptr::from_ref(value);
        match self.known.get(&address) {
            Some(Some(id)) => {
                let id = *id;
                self.depth(depth - 1 + self.nodes[id].measure.depth)?;
                return Ok(id);
            }
            Some(None) => return Err(self.problem("it leads back to itself")),
            None => {}
        }
        self.known.insert(address, None);
        let mut frame = Frame { depth, measure: Measure { schemas: 1, depth: 1 } };
        let rules = match value {
            Value::Bool(true) => Some(Vec::new()),
            Value::Bool(false) => None,
            Value::Object(object) => Some(self.rules(object, &mut frame)?),
            other => {
                return Err(self.problem(&format!("expected a schema, an object or a boolean, found {}", shown(other))));
            }
        };
        self.nodes.push(Node { rules, measure: frame.measure });
        let id = self.nodes.len() - 1;
        self.known.insert(address, Some(id));
        if self.nodes.len() > MAX_SCHEMAS {
            return Err(too_many());
        }
        Ok(id)
    }

    fn rules(&mut self, object: &'a Map<String, Value>, frame: &mut Frame) -> Result<Vec<Rule>, String> {
        for (keyword, value) in object {
            self.known_or_annotation(keyword, value, frame.depth)?;
        }
        let alone = self.ref_stands_alone && object.contains_key("$ref");
        let mut rules = Vec::new();
        for keyword in KEYWORDS {
            let Some(value) = object.get(*keyword) else { continue };
            if alone && *keyword != "$ref" {
                continue;
            }
            self.path.push((*keyword).to_owned());
            let test = self.test(keyword, value, object, frame)?;
            self.path.pop();
            rules.extend(test.map(|test| Rule { keyword, value: shown(value), test }));
        }
        Ok(rules)
    }

    /// Looks at what is none of [`KEYWORDS`].
    fn known_or_annotation(&mut self, keyword: &str, value: &'a Value, depth: usize) -> Result<(), String> {
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == keyword) {
            return Err(self.problem(&format!("`{keyword}` is not supported: {instead}")));
        }
        match keyword {
            "$defs" | "definitions" => {
                self.path.push(keyword.to_owned());
                for (member, schema) in self.object(value)? {
                    // It counts where it is referred to.
                    self.at(member, schema, &mut Frame { depth, measure: Measure::default() })?;
                }
                self.path.pop();
                Ok(())
            }
            "$schema" if self.path.is_empty() => Ok(()),
            "$ref" | "$comment" => Ok(()),
            _ if keyword.starts_with('$') => Err(self.problem(&format!("`{keyword}` is not supported: {REFERENCES}"))),
            _ => Ok(()),
        }
    }

    fn test(
        &mut self,
        keyword: &str,
        value: &'a Value,
        object: &'a Map<String, Value>,
        frame: &mut Frame,
    ) -> Result<Option<Test>, String> {
        use Ordering::{Equal, Greater, Less};
        Ok(Some(match keyword {
            "type" => Test::Type(self.kinds(value)?),
            "const" => Test::Enum(vec![value.clone()]),
            "enum" => Test::Enum(self.array(value)?.clone()),
            "minimum" => Test::Order(self.number(value)?, &[Greater, Equal]),
            "maximum" => Test::Order(self.number(value)?, &[Less, Equal]),
            "exclusiveMinimum" => Test::Order(self.number(value)?, &[Greater]),
            "exclusiveMaximum" => Test::Order(self.number(value)?, &[Less]),
            "multipleOf" => Test::MultipleOf(self.divisor(value)?),
            "minLength" => Test::Length(self.count(value)?..=u64::MAX),
            "maxLength" => Test::Length(0..=self.count(value)?),
            "minItems" => Test::Items(self.count(value)?..=u64::MAX),
            "maxItems" => Test::Items(0..=self.count(value)?),
            "minProperties" => Test::Members(self.count(value)?..=u64::MAX),
            "maxProperties" => Test::Members(0..=self.count(value)?),
            "required" => Test::Required(self.strings(value)?),
            "dependentRequired" => {
                let lists = self.object(value)?.iter();
                let lists = lists.map(|(member, names)| Ok((member.clone(), self.strings(names)?)));
                Test::DependentRequired(lists.collect::<Result<_, String>>()?)
            }
            "pattern" => Test::Pattern(self.pattern(self.string(value)?)?),
            "uniqueItems" => return Ok(self.boolean(value)?.then_some(Test::UniqueItems)),
            "properties" => Test::Properties(self.members(value, frame)?),
            "patternProperties" => {
                let patterns =
                    self.object(value)?.keys().map(|text| self.pattern(text)).collect::<Result<Vec<_>, _>>()?;
                let schemas = self.members(value, frame)?.into_iter().map(|(_, id)| id);
                Test::PatternProperties(patterns.into_iter().zip(schemas).collect())
            }
            "additionalProperties" => {
                let named = object.get("properties").and_then(Value::as_object);
                let mut named: Vec<_> = named.map_or_else(Vec::new, |members| members.keys().cloned().collect());
                named.sort_unstable();
                let patterns =
                    object.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
                let patterns = patterns.map(|text| self.pattern(text)).collect::<Result<_, _>>()?;
                Test::AdditionalProperties { named, patterns, schema: self.child(value, frame)? }
            }
            "propertyNames" => Test::PropertyNames(self.child(value, frame)?),
            "prefixItems" => Test::Prefix(self.list(value, frame)?),
            "items" if value.is_array() => Test::Prefix(self.list(value, frame)?),
            "items" => {
                let after = object.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                Test::Rest { after, schema: self.child(value, frame)? }
            }
            "additionalItems" => {
                let schema = self.child(value, frame)?;
                let Some(first) = object.get("items").and_then(Value::as_array) else { return Ok(None) };
                Test::Rest { after: first.len(), schema }
            }
            "contains" => {
                let count = |name| object.get(name).map(|count| self.count(count)).transpose();
                let (least, most) = (count("minContains")?.unwrap_or(1), count("maxContains")?.unwrap_or(u64::MAX));
                Test::Contains { schema: self.child(value, frame)?, count: least..=most }
            }
            "dependencies" => {
                let (mut lists, mut schemas) = (Vec::new(), Vec::new());
                for (member, needs) in self.object(value)? {
                    if needs.is_array() {
                        lists.push((member.clone(), self.strings(needs)?));
                    } else {
                        schemas.push((member.clone(), self.at(member, needs, frame)?));
                    }
                }
                Test::Dependencies(lists, schemas)
            }
            "dependentSchemas" => Test::Dependencies(Vec::new(), self.members(value, frame)?),
            "allOf" => Test::All(self.some(value, frame)?),
            "anyOf" => Test::Any(self.some(value, frame)?),
            "oneOf" => Test::One(self.some(value, frame)?),
            "not" => Test::Not(self.child(value, frame)?),
            "if" => {
                let mut beside =
                    |name: &str| object.get(name).map(|schema| self.beside(name, schema, frame)).transpose();
                let (then, otherwise) = (beside("then")?, beside("else")?);
                Test::If { condition: self.child(value, frame)?, then, otherwise }
            }
            "$ref" => Test::All(vec![self.target(value, frame)?]),
            other => return Err(self.problem(&format!("`{other}` is not supported"))),
        }))
    }
}

/// What stands under keywords.
impl<'a> Compiler<'a> {
    /// A schema within the one of `frame`.
    fn child(&mut self, value: &'a Value, frame: &mut Frame) -> Result<NodeId, String> {
        let id = self.schema(value, frame.depth + 1)?;
        let within = self.nodes[id].measure;
        frame.measure.schemas = frame.measure.schemas.saturating_add(within.schemas);
        frame.measure.depth = frame.measure.depth.max(1 + within.depth);
        if frame.measure.schemas > MAX_SCHEMAS { Err(too_many()) } else { Ok(id) }
    }

    /// As [`Compiler::child`], a member or an item of what stands under a keyword.
    fn at(&mut self, member: &str, value: &'a Value, frame: &mut Frame) -> Result<NodeId, String> {
        self.path.push(member.replace('~', "~0").replace('/', "~1"));
        let id = self.child(value, frame)?;
        self.path.pop();
        Ok(id)
    }

    /// As [`Compiler::child`], under another keyword of the same schema.
    fn beside(&mut self, keyword: &str, value: &'a Value, frame: &mut Frame) -> Result<NodeId, String> {
        let here = self.path.pop();
        let id = self.at(keyword, value, frame)?;
        self.path.extend(here);
        Ok(id)
    }

    fn target(&mut self, value: &'a Value, frame: &mut Frame) -> Result<NodeId, String> {
        let reference = self.string(value)?;
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let Some(target) = pointer.and_then(|pointer| self.root.pointer(pointer)) else {
            let found = shown(value);
            return Err(self.problem(&format!("{found} is not a pointer to something in this schema, `#/$defs/…`")));
        };
        let path = reference.split('/').skip(1).map(str::to_owned).collect();
        let path = std::mem::replace(&mut self.path, path);
        let id = self.child(target, frame)?;
        self.path = path;
        Ok(id)
    }

    fn members(&mut self, value: &'a Value, frame: &mut Frame) -> Result<Vec<(String, NodeId)>, String> {
        let members = self.object(value)?.iter();
        members.map(|(member, schema)| Ok((member.clone(), self.at(member, schema, frame)?))).collect()
    }

    fn list(&mut self, value: &'a Value, frame: &mut Frame) -> Result<Vec<NodeId>, String> {
        let schemas = self.array(value)?.iter().enumerate();
        schemas.map(|(index, schema)| self.at(&index.to_string(), schema, frame)).collect()
    }

    fn some(&mut self, value: &'a Value, frame: &mut Frame) -> Result<Vec<NodeId>, String> {
        let schemas = self.list(value, frame)?;
        if schemas.is_empty() { Err(self.expected("at least one schema", value)) } else { Ok(schemas) }
    }

    fn pattern(&mut self, text: &'a str) -> Result<Arc<Pattern>, String> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(pattern.clone());
        }
        if self.patterns.len() == MAX_PATTERNS {
            return Err(format!("expected at most {MAX_PATTERNS} regular expressions, found more"));
        }
        let pattern = Pattern::compile(text).map_err(|error| self.problem(&error))?;
        Ok(self.patterns.entry(text).or_insert(Arc::new(pattern)).clone())
    }

    fn depth(&self, depth: usize) -> Result<(), String> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(format!("expected at most {MAX_DEPTH} schemas within one another, references written out, found more"))
    }

    fn expected(&self, expected: &str, found: &Value) -> String {
        self.problem(&format!("expected {expected}, found {}", shown(found)))
    }

    /// With the place, cut: the path of a stranger's schema may be long.
    fn problem(&self, problem: &str) -> String {
        let place = self.path.iter().fold(String::new(), |place, member| place + "/" + member);
        let end = place.floor_char_boundary(200);
        if place.is_empty() { problem.to_owned() } else { format!("{}: {problem}", &place[..end]) }
    }
}

fn too_many() -> String {
    format!("expected at most {MAX_SCHEMAS} schemas, references written out, found more")
}
