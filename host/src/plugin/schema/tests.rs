//! What schemas mean is held against the crate `jsonschema`, which is an oracle here and no part of
//! the hub; what they may cost is held against bounds that are known beforehand.

use super::{Schema, compile::MAX_DEPTH};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NEST: &str = include_str!("tests/nested-references.json");
const UNEVALUATED: &str = include_str!("tests/unevaluated.json");

#[track_caller]
fn compiled(schema: &Value) -> Schema {
    Schema::compile(&schema.to_string()).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

#[track_caller]
fn refused(schema: &str, text: &str) {
    let error = Schema::compile(schema).expect_err("should be refused");
    assert!(error.contains(text), "{error}");
}

#[test]
fn an_error_names_the_place_the_rule_and_the_value() {
    let schema = compiled(&json!({
        "type": "object", "properties": {"tag": {"$ref": "#/$defs/tag"}, "a/b~c": {"items": false}},
        "additionalProperties": false, "$defs": {"tag": {"type": "string"}},
    }));
    let check = |value| schema.check(&value).map_err(|error| error.to_string());
    assert_eq!(check(json!({"tag": "urgent", "a/b~c": []})), Ok(()));
    for (value, error) in [
        (json!({"tag": null}), r#"/tag: expected "type": "string", found null"#),
        (json!(["urgent"]), r#"the whole: expected "type": "object", found ["urgent"]"#),
        (json!({"a/b~c": [1]}), r#"/a~1b~0c/0: expected "items": false, found 1"#),
        (json!({"more": 1}), r#"the whole: expected "additionalProperties": false, found {"more":1}"#),
    ] {
        assert_eq!(check(value), Err(error.to_owned()));
    }
    let nothing = compiled(&json!(false)).check(&json!(1)).unwrap_err().to_string();
    assert_eq!(nothing, "the whole: expected nothing, as the schema is `false`, found 1");
    let long = schema.check(&json!("x".repeat(1_000))).unwrap_err().found;
    assert_eq!((long.chars().count(), long.ends_with('…')), (121, true));
}

#[test]
fn a_schema_that_is_wrong_is_refused_with_its_place() {
    refused("{", "expected JSON");
    refused(&format!("{}{}", "[".repeat(60_000), "]".repeat(60_000 - 1_000)), "at most 65536 bytes");
    refused(&"[".repeat(60_000), "recursion limit");
    refused("[]", "expected a schema, an object or a boolean, found []");
    refused(r#"{"properties":{"a":{"type":"strange"}}}"#, r#"/properties/a/type: expected null, boolean, integer"#);
    refused(r#"{"maxLength":-1}"#, "/maxLength: expected a whole number from 0, found -1");
    refused(r#"{"required":"a"}"#, "/required: expected an array, found \"a\"");
    refused(r#"{"multipleOf":0}"#, "/multipleOf: expected a number above 0, found 0");
    refused(r#"{"anyOf":[]}"#, "/anyOf: expected at least one schema");
    refused(r#"{"exclusiveMaximum":true}"#, "/exclusiveMaximum: expected a number");
    refused(r#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#, "/$schema: expected one of https://");
    refused(r#"{"pattern":"("}"#, "/pattern: expected a regular expression");
    refused(r#"{"pattern":"(?=a)"}"#, "look-around");
}

#[test]
fn references_stay_inside_and_never_go_in_a_circle() {
    for (schema, problem) in [
        (r##"{"$ref":"#"}"##, "not a pointer"),
        (r#"{"$ref":"https://example.com/x"}"#, "not a pointer"),
        (r##"{"$ref":"#/$defs/a"}"##, "not a pointer"),
        (r##"{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##, "leads back to itself"),
        (
            r##"{"$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
            "leads back to itself",
        ),
    ] {
        refused(schema, problem);
    }
}

#[test]
fn keywords_without_a_bound_are_refused_by_name_and_annotations_pass() {
    for keyword in
        ["unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "$anchor", "$id", "$new"]
    {
        refused(
            &json!({"properties": {"a": {(keyword): "#x"}}}).to_string(),
            &format!("`{keyword}` is not supported: "),
        );
    }
    let annotated = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": "c", "title": "t", "default": {"$ref": 1},
        "examples": [[]], "x-order": 1, "format": "email", "contentMediaType": "a/b", "deprecated": true,
    });
    compiled(&annotated).check(&json!("no address")).unwrap();
}

#[test]
fn the_size_of_a_schema_is_looked_at_while_it_is_measured() {
    // Sixty arrays, a reference, sixty arrays: 7,000 levels.
    refused(NEST, "/$defs/d0: expected a schema, an object or a boolean, found [[[");
    refused(UNEVALUATED, "`unevaluatedProperties` is not supported");
    let chain = |next: fn(String) -> Value, n: usize| {
        let defs = (0..n).map(|k| (format!("d{k}"), next(format!("#/$defs/d{}", k + 1))));
        let defs: Map<_, _> = defs.chain([(format!("d{n}"), json!({}))]).collect();
        json!({"$ref": "#/$defs/d0", "$defs": defs}).to_string()
    };
    // Thirty definitions, each two of the next: a thousand million schemas.
    refused(
        &chain(|next| json!({"anyOf": [{"$ref": next}, {"$ref": next}]}), 30),
        "at most 4096 schemas, references written out",
    );
    refused(&chain(|next| json!({"items": {"$ref": next}}), 1_000), "at most 64 schemas within one another");
    // The root, the first definition, and two for each of the others.
    let deepest = (MAX_DEPTH - 2) / 2;
    Schema::compile(&chain(|next| json!({"items": {"$ref": next}}), deepest)).unwrap();
    refused(&chain(|next| json!({"items": {"$ref": next}}), deepest + 1), "at most 64 schemas within one another");
}

#[test]
fn patterns_are_few_and_small() {
    compiled(&json!({"pattern": r"^[\w.-]{1,64}$"}));
    refused(r#"{"pattern":"(\\w{50}){50}"}"#, "at most 65536 bytes compiled");
    refused(r#"{"patternProperties":{"(\\w{50}){50}":{}}}"#, "at most 65536 bytes compiled");
    refused(&json!({"pattern": "x".repeat(1_025)}).to_string(), "expected at most 1024 bytes, found 1025");
    refused(&json!({"pattern": format!("{}{}", "(".repeat(40), ")".repeat(40))}).to_string(), "nest");
    let many: Map<_, _> = (0..65).map(|n| (format!("p{n}"), json!({"pattern": format!("x{n}")}))).collect();
    refused(&json!({"properties": many}).to_string(), "at most 64 regular expressions");
}

#[test]
fn a_check_that_would_take_too_many_steps_is_refused_whatever_the_keyword() {
    let all = |schema: Value| json!({"allOf": vec![json!({"$ref": "#/$defs/one"}); 1_000], "$defs": {"one": schema}});
    let (text, items) = (json!("a".repeat(70_000)), json!((0..20_000).collect::<Vec<_>>()));
    for (schema, value) in [
        (
            json!({"allOf": (0..60).map(|n| json!({"not": {"pattern": format!("(a|b|ab)*[ac]{{{n}}}x")}})).collect::<Vec<_>>()}),
            &text,
        ),
        (all(json!({"maxLength": 70_000})), &text),
        (all(json!({"items": {"not": {"const": -1}}})), &items),
        (all(json!({"uniqueItems": true})), &items),
        (all(json!({"contains": {"const": -1}, "minContains": 0})), &items),
        (json!({"items": {"enum": (0..9_000).collect::<Vec<_>>()}}), &items),
    ] {
        let (verdict, taken) = compiled(&schema).check_within(value, Schema::MAX_STEPS);
        let error = verdict.expect_err("should be too much");
        let steps = "the whole: expected a value that the schema checks in 1048576 steps, found one that takes more";
        assert_eq!((taken, error.to_string().as_str()), (Schema::MAX_STEPS, steps));
    }
}

/// Schemas of the keywords that are known, none of them large.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"])
            .prop_map(|kind| json!({"type": kind})),
        values().prop_map(|value| json!({"const": value})),
        prop::collection::vec(values(), 1..3).prop_map(|values| json!({"enum": values})),
        (0..4u32, prop::sample::select(vec!["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]))
            .prop_map(|(n, keyword)| json!({(keyword): n})),
        prop::sample::select(vec![json!(1), json!(0.5), json!(0.01), json!(3)]).prop_map(|n| json!({"multipleOf": n})),
        (
            0..3u32,
            prop::sample::select(vec![
                "minLength",
                "maxLength",
                "minItems",
                "maxItems",
                "minProperties",
                "maxProperties"
            ])
        )
            .prop_map(|(n, keyword)| json!({(keyword): n})),
        prop::collection::vec("[ab]", 0..2).prop_map(|names| json!({"required": names})),
        "[ab]".prop_map(|name| json!({"dependentRequired": {(name): ["a"]}})),
        prop::sample::select(vec!["^a", "b$", r"^\d+$", "a|b", r"\w{2}"]).prop_map(|text| json!({"pattern": text})),
        any::<bool>().prop_map(|unique| json!({"uniqueItems": unique})),
    ];
    leaf.prop_recursive(4, 40, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        let members = prop::collection::btree_map("[abc]", inner.clone(), 0..3);
        let one = (
            inner.clone(),
            prop::sample::select(vec!["additionalProperties", "propertyNames", "items", "not", "contains"]),
        );
        prop_oneof![
            one.prop_map(|(schema, keyword)| json!({(keyword): schema})),
            (list, prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]))
                .prop_map(|(schemas, keyword)| json!({(keyword): schemas})),
            (members.clone(), prop::sample::select(vec!["properties", "patternProperties", "dependentSchemas"]))
                .prop_map(|(schemas, keyword)| json!({(keyword): schemas})),
            (members, inner.clone(), inner.clone()).prop_map(|(schemas, pattern, rest)| json!({
                "properties": schemas, "patternProperties": {"^a": pattern}, "additionalProperties": rest,
            })),
            (inner.clone(), inner.clone()).prop_map(|(first, rest)| json!({"prefixItems": [first], "items": rest})),
            (inner.clone(), 0..3u32, 0..3u32).prop_map(
                |(schema, least, most)| json!({"contains": schema, "minContains": least, "maxContains": most})
            ),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            inner.prop_map(|schema| json!({"$ref": "#/$defs/x", "$defs": {"x": schema}})),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-2..5i64).prop_map(Value::from),
        prop::sample::select(vec![0.0, 1.0, 1.5, 0.07, -0.5, 12.0]).prop_map(Value::from),
        "[ab1é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abcd]{1,2}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

/// `$ref` is a pointer from the root: those that were made deeper inside find theirs there.
fn with_definitions_at_the_root(mut schema: Value) -> Value {
    fn lift(schema: &mut Value, lifted: &mut Map<String, Value>) {
        match schema {
            Value::Object(members) => {
                if let Some(mut definition) = members.remove("$defs").and_then(|defs| defs.get("x").cloned()) {
                    lift(&mut definition, lifted);
                    let name = format!("x{}", lifted.len());
                    members.insert("$ref".into(), format!("#/$defs/{name}").into());
                    lifted.insert(name, definition);
                }
                members.values_mut().for_each(|member| lift(member, lifted));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| lift(item, lifted)),
            _ => {}
        }
    }
    let mut lifted = Map::new();
    lift(&mut schema, &mut lifted);
    json!({"allOf": [schema], "$defs": lifted})
}

/// Values and names, and bytes of text.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, member)| 1 + name.len() as u64 + weight(member)).sum::<u64>()
        }
        Value::String(text) => 1 + text.len() as u64,
        _ => 1,
    }
}

proptest! {
    #[test]
    fn a_schema_means_what_the_oracle_says_and_steps_grow_with_schema_and_value_only(schema in schemas(), value in values()) {
        let schema = with_definitions_at_the_root(schema);
        let ours = compiled(&schema);
        let (verdict, taken) = ours.check_within(&value, Schema::MAX_STEPS);
        let oracle = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex()).build(&schema).unwrap();
        prop_assert_eq!(verdict.is_ok(), oracle.is_valid(&value), "{} {}: {:?}", schema, value, verdict);
        // Each schema, references written out, is asked about each value once: there is no
        // exponent.
        let schemas = ours.nodes[ours.nodes.len() - 1].measure.schemas as u64;
        let most = schemas * weight(&value) * 64;
        prop_assert!(taken <= most, "{} steps of at most {}: {} {}", taken, most, schema, value);
        // With fewer steps than it takes, it ends after as many as it had.
        let (short, spent) = ours.check_within(&value, taken - 1);
        prop_assert_eq!((short.unwrap_err().found, spent), ("one that takes more".to_owned(), taken - 1));
    }
}
