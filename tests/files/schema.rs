//! The JSON Schemas that plugins bring, and what clients ask of them: neither stops the hub,
//! whatever they nest.

use super::Beside;
use crate::{
    cli::busway,
    hostile::guest::{Guest, OK, TRUE},
    hub::{TestHub, within},
};
use serde_json::json;
use std::fs;

/// Sixty arrays, a reference, sixty arrays and so on: 7,000 levels with every reference written
/// out.
const NESTED: &str = include_str!("../../host/src/plugin/schema/tests/nested-references.json");
/// `anyOf` and `unevaluatedProperties`, 40 deep: exponential even for `{}`.
const UNEVALUATED: &str = include_str!("../../host/src/plugin/schema/tests/unevaluated.json");

const NESTED_HINT: &[(&str, &str)] = &[("config-schema", NESTED)];
const UNEVALUATED_HINT: &[(&str, &str)] = &[("config-schema", UNEVALUATED)];

/// A name, the file, and a part of the error.
fn strangers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let filter = |schema| Guest { params_schema: Some(schema), ..Guest::filter(TRUE) };
    let handler = |hints| Guest { hints, ..Guest::handler(OK) };
    let nested = "expected a schema, an object or a boolean, found [[[";
    let unevaluated = "`unevaluatedProperties` is not supported";
    [
        ("nested-filter", filter(NESTED), nested),
        ("nested-handler", handler(NESTED_HINT), nested),
        ("unevaluated-filter", filter(UNEVALUATED), unevaluated),
        ("unevaluated-handler", handler(UNEVALUATED_HINT), unevaluated),
    ]
    .map(|(name, guest, problem)| (name, wat::parse_str(guest.wat()).unwrap(), problem))
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_a_bound_is_refused_at_every_start_and_the_plugin_beside_it_loses_nothing() {
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    for (name, file, problem) in strangers() {
        hub.put(&format!("{name}.wasm"), file);
        let error = hub.plugin_until(name, |status| status["last_error"].is_object()).await["last_error"].clone();
        assert_eq!(error["code"], "load.describe", "{error}");
        assert!(error["message"].as_str().unwrap().contains(problem), "{error}");
        beside.publish(&hub).await;
        assert_eq!(hub.get("/healthz").await.0, 200);
    }
    beside.lost_nothing(&hub).await;
    let dir = hub.end().await;
    let hub = TestHub::in_dir(dir, |_| ()).await;
    for (name, ..) in strangers() {
        hub.plugin_until(name, |status| status["last_error"]["code"] == "load.describe").await;
    }
    assert_eq!(hub.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_schema_has_no_bound_is_reported_by_plugin_check() {
    let dir = tempfile::tempdir().unwrap();
    for (name, file, problem) in strangers() {
        let path = dir.path().join(format!("{name}.wasm"));
        fs::write(&path, file).unwrap();
        let output = within(busway().args(["plugin", "check"]).arg(&path).output()).await.unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && words.contains("load.describe"), "{name}: {words}");
        assert!(words.contains(problem), "{name}: {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_would_take_too_many_steps_to_check_are_the_clients_error() {
    const SCHEMA: &str = r##"{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}],
        "$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"}]},
        "b":{"allOf":[{"$ref":"#/$defs/c"},{"$ref":"#/$defs/c"},{"$ref":"#/$defs/c"},{"$ref":"#/$defs/c"}]},
        "c":{"not":{"pattern":"(a|b|ab)*[ac]{0,30}x"}}}}"##;
    let hub = TestHub::start().await;
    let guest = Guest { params_schema: Some(SCHEMA), ..Guest::filter(TRUE) };
    hub.install("costly", wat::parse_str(guest.wat()).unwrap(), "").await;
    let ask = |text: String| format!("/v1/events?filter=costly&params=%22{text}%22");
    assert_eq!(hub.get(&ask("a".into())).await.0, 200);
    let (status, problem) = hub.get(&ask("a".repeat(6_000))).await;
    assert_eq!((status, &problem["code"]), (400, &json!("filter.params")), "{problem}");
    assert!(problem.to_string().contains("a value that the schema checks in 1048576 steps"), "{problem}");
}
