//! JSON Schemas of strangers, made at random from the words of the language: the same property as
//! in `fuzz/targets/schema.rs`, for whoever has no fuzzer. `PROPTEST_CASES` says how many.

use busway::plugin::Schema;
use proptest::prelude::*;

/// Keywords by what stands under them.
const SCHEMA: &[&str] = &["items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"];
const SCHEMAS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
const MEMBERS: &[&str] = &["properties", "patternProperties", "dependentSchemas", "dependencies", "$defs"];
const NUMBER: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const COUNT: &[&str] =
    &["minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties"];
/// Keywords that are refused, and names that are none.
const OTHER: &[&str] = &[
    "$schema",
    "$comment",
    "$id",
    "$anchor",
    "$dynamicRef",
    "unevaluatedItems",
    "additionalItems",
    "format",
    "",
    "(",
    "é",
];

const REFERENCES: &[&str] =
    &["#/$defs/a", "#/$defs/b", "#/$defs/c", "#/allOf/0", "#/$defs/%61", "#", "#/$defs/~1~0", "nowhere"];
const PATTERNS: &[&str] = &[
    "a",
    "^[ab]*$",
    "(a*)*b",
    "(?:[a-z]{0,30}){0,9}",
    "\\\\p{L}{1,40}",
    "^a",
    "b$",
    "(?=a)",
    "(",
    "[",
    "(a|b|ab)*[ac]{0,30}x",
];
/// Numbers as a schema may have them, among them some that no machine number holds.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "2",
    "3",
    "-1",
    "0.1",
    "0.01",
    "1.5",
    "1e300",
    "1e-300",
    "18446744073709551616",
    "123456789012345678901234567890.5",
];
const PLAIN: &[&str] =
    &["null", "true", "false", "\"\"", "\"a\"", "\"b\"", "\"é\\u0000\"", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""];
/// What is no JSON for whoever reads it as values.
const BAD: &[&str] = &["1e999", "\"\\ud800\"", "01", "nul"];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(texts).prop_map(str::to_owned)
}

fn list(items: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec(items, 1..4).prop_map(|items| format!("[{}]", items.join(",")))
}

fn members(names: &'static [&'static str], value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((prop::sample::select(names), value), 0..4).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![40 => one_of(PLAIN), 40 => one_of(NUMBERS), 1 => one_of(BAD)];
    leaf.prop_recursive(4, 24, 4, |inner| prop_oneof![list(inner.clone()), members(&["a", "b", "aa", "é"], inner)])
}

/// `"keyword":operand`, most of them as they should be.
fn keyword(operand: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = String> {
    let under = |names: &'static [&'static str], operand: BoxedStrategy<String>| {
        (prop::sample::select(names), operand).prop_map(|(name, operand)| format!("\"{name}\":{operand}"))
    };
    let quoted = |texts| one_of(texts).prop_map(|text| format!("\"{text}\"")).boxed();
    let texts = list(one_of(&["\"a\"", "\"b\""])).boxed();
    let kinds = one_of(&["\"object\"", "\"array\"", "\"string\"", "\"integer\"", "[\"number\",\"null\"]"]).boxed();
    let by_name = prop_oneof![members(&["a", "b", "c"], operand.clone()), members(PATTERNS, operand.clone())].boxed();
    prop_oneof![
        60 => under(SCHEMA, operand.clone().boxed()),
        60 => under(SCHEMAS, list(operand.clone()).boxed()),
        40 => under(MEMBERS, by_name),
        30 => under(NUMBER, one_of(NUMBERS).boxed()),
        30 => under(COUNT, one_of(&["0", "1", "2", "3.0", "18446744073709551616"]).boxed()),
        30 => under(&["const"], value().boxed()),
        30 => under(&["enum"], list(value()).boxed()),
        30 => under(&["type"], kinds),
        20 => under(&["required"], texts),
        20 => under(&["uniqueItems"], one_of(&["true", "false"]).boxed()),
        30 => under(&["$ref"], quoted(REFERENCES)),
        30 => under(&["pattern"], quoted(PATTERNS)),
        2 => under(OTHER, operand.boxed()),
        2 => under(NUMBER, value().boxed()),
    ]
}

fn schema() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![4 => one_of(&["true", "{}", "{\"$ref\":\"#/$defs/b\"}", "{\"type\":\"string\"}"]), 1 => Just("false".to_owned())];
    let nested = leaf.prop_recursive(5, 48, 3, |inner| {
        prop::collection::vec(keyword(inner), 1..4).prop_map(|keywords| format!("{{{}}}", keywords.join(",")))
    });
    // References from one definition to the next, and sometimes back.
    (nested.clone(), nested.clone(), nested)
        .prop_map(|(all, a, b)| format!(r#"{{"$defs":{{"a":{a},"b":{b},"c":{{}}}},"allOf":[{all}]}}"#))
}

/// The same text, sometimes with a part of it left out or there again.
fn mutated(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..16).prop_map(|(text, from, to, how)| {
        let (from, to) =
            (text.floor_char_boundary(from.index(text.len())), text.floor_char_boundary(to.index(text.len())));
        let (from, to) = (from.min(to), from.max(to));
        match how {
            0 => format!("{}{}", &text[..from], &text[to..]),
            1 => format!("{}{}", &text[..to], &text[from..]),
            _ => text,
        }
    })
}

#[test]
fn a_schema_is_compiled_or_refused_and_a_check_ends_within_its_steps() {
    let checked = std::cell::Cell::new(0);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = config.cases;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let property = |(schema, value): (String, String)| {
        let Ok(schema) = Schema::compile(&schema) else { return Ok(()) };
        let Ok(value) = serde_json::from_str(&value) else { return Ok(()) };
        checked.set(checked.get() + 1);
        let (verdict, taken) = schema.check_within(&value, Schema::MAX_STEPS);
        prop_assert!(taken <= Schema::MAX_STEPS);
        // With fewer steps than it takes, the value is refused,
        // whatever it is; with as many, the verdict is the same.
        let (less, _) = schema.check_within(&value, taken - 1);
        prop_assert!(less.is_err_and(|error| error.found == "one that takes more"), "{taken} steps");
        prop_assert_eq!(schema.check_within(&value, taken).0, verdict);
        Ok(())
    };
    runner.run(&(mutated(schema()), value()), property).unwrap();
    eprintln!("{} of {cases} were checked", checked.get());
    assert!(checked.get() >= cases / 20, "{} of {cases} were schemas that the hub takes", checked.get());
}
