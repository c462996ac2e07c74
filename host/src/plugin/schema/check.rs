//! A value against the rules of a schema. Every rule that is looked at, every value, and every byte
//! of text that is read is a step, and a check ends once it has taken as many as it may: whatever
//! schema and value are, it is over within a bounded time. The limit is on steps, not on the clock,
//! so the same value has the same answer on a machine that is busy.

use super::{Node, NodeId, Rule, Test, number, shown};
use serde_json::{Map, Value};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of text that are compared in one step.
const BYTES_PER_STEP: usize = 64;

/// Why a value is not allowed.
#[derive(Debug)]
pub(super) enum Refusal<'a> {
    /// It does not meet a rule.
    Mismatch(Box<Mismatch<'a>>),
    /// To look at all of it would take too many steps.
    Steps,
}

/// Where, and which rule.
#[derive(Debug)]
pub(super) struct Mismatch<'a> {
    /// Members and indexes to the value, innermost first.
    path: Vec<String>,
    /// None: of a schema that is `false`, before its keyword is known.
    pub(super) rule: Option<&'a Rule>,
    /// The value, cut.
    pub(super) found: String,
}

impl Mismatch<'_> {
    /// JSON Pointer (RFC 6901) to the value.
    pub(super) fn pointer(&self) -> String {
        let escaped = self.path.iter().rev().map(|member| member.replace('~', "~0").replace('/', "~1"));
        escaped.fold(String::new(), |pointer, member| pointer + "/" + &member)
    }
}

type Verdict<'a> = Result<(), Refusal<'a>>;

/// A check under way.
pub(super) struct Check<'a> {
    nodes: &'a [Node],
    left: u64,
    /// Within how many rules that only ask whether a value meets a schema: where and why not is of
    /// no interest there.
    asking: usize,
}

impl<'a> Check<'a> {
    /// At most so many steps.
    pub(super) fn new(nodes: &'a [Node], steps: u64) -> Self {
        Self { nodes, left: steps, asking: 0 }
    }

    /// How many steps it may still take.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn spend(&mut self, steps: u64) -> Verdict<'a> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Refusal::Steps)
    }

    fn spend_text(&mut self, text: &str) -> Verdict<'a> {
        self.spend(1 + (text.len() / BYTES_PER_STEP) as u64)
    }

    /// Checks `value` against one of the schemas.
    pub(super) fn schema(&mut self, id: NodeId, value: &Value) -> Verdict<'a> {
        self.spend(1)?;
        let nodes = self.nodes;
        let Some(rules) = &nodes[id].rules else { return Err(self.mismatch(None, value)) };
        rules.iter().try_for_each(|rule| self.rule(rule, value))
    }

    fn rule(&mut self, rule: &'a Rule, value: &Value) -> Verdict<'a> {
        self.spend(1)?;
        let result = match value {
            Value::Object(members) => self.object(rule, value, members),
            Value::Array(items) => self.array(rule, items),
            Value::String(text) => self.string(rule, text),
            Value::Number(number) => Ok(match &rule.test {
                Test::Order(bound, allowed) => allowed.contains(&number::compare(number, bound)),
                Test::MultipleOf(divisor) => {
                    // As many digits as a number may have.
                    self.spend(20)?;
                    number::is_multiple(number, divisor)
                }
                _ => true,
            }),
            Value::Null | Value::Bool(_) => Ok(true),
        };
        let result = result.and_then(|holds| Ok(holds && self.any_kind(rule, value)?));
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.mismatch(Some(rule), value)),
            Err(Refusal::Mismatch(mut mismatch)) => {
                mismatch.rule.get_or_insert(rule);
                Err(Refusal::Mismatch(mismatch))
            }
            Err(Refusal::Steps) => Err(Refusal::Steps),
        }
    }

    /// What holds for every kind of value.
    fn any_kind(&mut self, rule: &'a Rule, value: &Value) -> Result<bool, Refusal<'a>> {
        match &rule.test {
            Test::Type(kinds) => Ok(kinds.hold(value)),
            Test::Enum(values) => {
                for allowed in values {
                    if self.equal(allowed, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Test::All(schemas) => schemas.iter().try_for_each(|schema| self.schema(*schema, value)).map(|()| true),
            Test::Any(schemas) => Ok(self.count(schemas, value, 1)? == 1),
            Test::One(schemas) => Ok(self.count(schemas, value, 2)? == 1),
            Test::Not(schema) => Ok(!self.holds(*schema, value)?),
            Test::If { condition, then, otherwise } => {
                let next = if self.holds(*condition, value)? { then } else { otherwise };
                next.map_or(Ok(()), |next| self.schema(next, value)).map(|()| true)
            }
            _ => Ok(true),
        }
    }

    fn object(&mut self, rule: &'a Rule, value: &Value, members: &Map<String, Value>) -> Result<bool, Refusal<'a>> {
        match &rule.test {
            Test::Members(count) => Ok(count.contains(&(members.len() as u64))),
            Test::Required(names) => self.all_there(names, members),
            Test::DependentRequired(needs) => self.dependencies(needs, members),
            Test::Dependencies(needs, schemas) => {
                let holds = self.dependencies(needs, members)?;
                for (name, schema) in schemas {
                    self.spend_text(name)?;
                    if members.contains_key(name) {
                        self.schema(*schema, value)?;
                    }
                }
                Ok(holds)
            }
            Test::Properties(schemas) => {
                for (name, schema) in schemas {
                    self.spend_text(name)?;
                    if let Some(member) = members.get(name) {
                        self.within(*schema, member, name)?;
                    }
                }
                Ok(true)
            }
            Test::PatternProperties(schemas) => {
                for (pattern, schema) in schemas {
                    for (name, member) in members {
                        self.spend(pattern.steps(name.len()))?;
                        if pattern.is_match(name) {
                            self.within(*schema, member, name)?;
                        }
                    }
                }
                Ok(true)
            }
            Test::AdditionalProperties { named, patterns, schema } => {
                for (name, member) in members {
                    self.spend_text(name)?;
                    if named.binary_search(name).is_ok() {
                        continue;
                    }
                    let mut is_named = false;
                    for pattern in patterns {
                        self.spend(pattern.steps(name.len()))?;
                        is_named = is_named || pattern.is_match(name);
                    }
                    // `false` is said of the object: it has a member too many.
                    if !is_named && self.nodes[*schema].rules.is_none() {
                        return Ok(false);
                    }
                    if !is_named {
                        self.within(*schema, member, name)?;
                    }
                }
                Ok(true)
            }
            Test::PropertyNames(schema) => {
                for name in members.keys() {
                    self.spend_text(name)?;
                    self.schema(*schema, &Value::String(name.clone()))?;
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    fn array(&mut self, rule: &'a Rule, items: &[Value]) -> Result<bool, Refusal<'a>> {
        match &rule.test {
            Test::Items(count) => Ok(count.contains(&(items.len() as u64))),
            Test::UniqueItems => self.unique(items),
            Test::Prefix(schemas) => {
                for (index, (schema, item)) in schemas.iter().zip(items).enumerate() {
                    self.within(*schema, item, index)?;
                }
                Ok(true)
            }
            Test::Rest { after, schema } => {
                for (index, item) in items.iter().enumerate().skip(*after) {
                    self.within(*schema, item, index)?;
                }
                Ok(true)
            }
            Test::Contains { schema, count } => {
                let mut found = 0;
                for item in items {
                    found += u64::from(self.holds(*schema, item)?);
                }
                Ok(count.contains(&found))
            }
            _ => Ok(true),
        }
    }

    fn string(&mut self, rule: &'a Rule, text: &str) -> Result<bool, Refusal<'a>> {
        match &rule.test {
            Test::Length(count) => {
                self.spend_text(text)?;
                Ok(count.contains(&(text.chars().count() as u64)))
            }
            Test::Pattern(pattern) => {
                self.spend(pattern.steps(text.len()))?;
                Ok(pattern.is_match(text))
            }
            _ => Ok(true),
        }
    }

    fn all_there(&mut self, names: &[String], members: &Map<String, Value>) -> Result<bool, Refusal<'a>> {
        for name in names {
            self.spend_text(name)?;
            if !members.contains_key(name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn dependencies(
        &mut self,
        needs: &[(String, Vec<String>)],
        members: &Map<String, Value>,
    ) -> Result<bool, Refusal<'a>> {
        for (name, needed) in needs {
            self.spend_text(name)?;
            if members.contains_key(name) && !self.all_there(needed, members)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many of the schemas hold; no more are looked at than `most`.
    fn count(&mut self, schemas: &[NodeId], value: &Value, most: usize) -> Result<usize, Refusal<'a>> {
        let mut count = 0;
        for schema in schemas {
            count += usize::from(self.holds(*schema, value)?);
            if count == most {
                break;
            }
        }
        Ok(count)
    }

    fn holds(&mut self, schema: NodeId, value: &Value) -> Result<bool, Refusal<'a>> {
        self.asking += 1;
        let verdict = self.schema(schema, value);
        self.asking -= 1;
        match verdict {
            Ok(()) => Ok(true),
            Err(Refusal::Mismatch(_)) => Ok(false),
            Err(Refusal::Steps) => Err(Refusal::Steps),
        }
    }

    fn within(&mut self, schema: NodeId, value: &Value, member: impl ToString) -> Verdict<'a> {
        self.schema(schema, value).map_err(|mut refusal| {
            if let Refusal::Mismatch(mismatch) = &mut refusal
                && self.asking == 0
            {
                mismatch.path.push(member.to_string());
            }
            refusal
        })
    }

    fn mismatch(&self, rule: Option<&'a Rule>, value: &Value) -> Refusal<'a> {
        let found = if self.asking == 0 { shown(value) } else { String::new() };
        Refusal::Mismatch(Box::new(Mismatch { path: Vec::new(), rule, found }))
    }

    /// No two are equal. Those with the same hash are compared, and that is counted: who finds many
    /// that collide gains nothing.
    fn unique(&mut self, items: &[Value]) -> Result<bool, Refusal<'a>> {
        let mut hashes = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            self.hash(item, &mut hasher)?;
            hashes.push((hasher.finish(), index));
        }
        hashes.sort_unstable();
        for same in hashes.chunk_by(|(a, _), (b, _)| a == b) {
            for (n, (_, a)) in same.iter().enumerate() {
                for (_, b) in &same[n + 1..] {
                    if self.equal(&items[*a], &items[*b])? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn hash(&mut self, value: &Value, hasher: &mut DefaultHasher) -> Verdict<'a> {
        // To hash a value and to sort it in takes longer than to compare it.
        self.spend(3)?;
        std::mem::discriminant(value).hash(hasher);
        match value {
            Value::Null => {}
            Value::Bool(flag) => flag.hash(hasher),
            Value::Number(number) => number::hashable(number).hash(hasher),
            Value::String(text) => {
                self.spend_text(text)?;
                text.hash(hasher);
            }
            Value::Array(items) => {
                items.len().hash(hasher);
                items.iter().try_for_each(|item| self.hash(item, hasher))?;
            }
            Value::Object(members) => {
                members.len().hash(hasher);
                // In the order of their names.
                for (name, member) in members {
                    self.spend_text(name)?;
                    name.hash(hasher);
                    self.hash(member, hasher)?;
                }
            }
        }
        Ok(())
    }

    /// Equality of JSON Schema (Core, 4.2.2): numbers by value, members in any order.
    fn equal(&mut self, a: &Value, b: &Value) -> Result<bool, Refusal<'a>> {
        self.spend(1)?;
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => Ok(number::compare(a, b).is_eq()),
            (Value::String(a), Value::String(b)) => {
                self.spend_text(a)?;
                Ok(a == b)
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
                for (name, a) in a {
                    self.spend_text(name)?;
                    let Some(b) = b.get(name) else { return Ok(false) };
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Array(_) | Value::Object(_), _) => Ok(false),
            (a, b) => Ok(a == b),
        }
    }
}
