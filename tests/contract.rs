//! The contract stays: components that were built for it once, and are kept here as they were built, load and answer. Their source
//! text is beside them; they are never built again.

use crate::{
    cli::busway,
    hub::{TestHub, until, within},
};
use serde_json::{Value, json};
use std::{fs, path::Path};

fn built(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/contract-0.1").join(name);
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_built_for_contract_0_1_is_loaded_and_handles_events() {
    let hub = TestHub::start().await;
    let status = hub.install("handler", built("handler.wasm"), "[config]\ngreeting = \"hi\"\n").await;
    assert_eq!((&status["version"], &status["kind"]), (&json!("1.2.3"), &json!("handler")), "{status}");
    let event = json!({"type": "fixture.a", "data": {"x": 1.10}, "metadata": {"event_id": "e", "correlation_id": "other",
        "source": "s", "tags": ["t"], "timestamp": "1970-01-01T00:00:01Z", "extensions": {"a": 1}}});
    assert_eq!(hub.post("/v1/events", &event).await.0, 200);
    let seen = hub.events_of("seen.all", 1).await.remove(0);
    let data = &seen["data"];
    assert_eq!((&data["last"], &data["count"], &data["keys"]), (&json!({"x": 1.1}), &json!(2), &json!(2)), "{data}");
    assert_eq!((&data["config"], &data["id"], &data["attempt"]), (&json!("hi"), &json!("e"), &json!(1)), "{data}");
    assert_eq!(
        (&data["time"], &data["tags"], &data["extensions"]),
        (&json!(1_000_000), &json!(1), &json!(1)),
        "{data}"
    );
    assert_eq!(
        (&data["correlation"], &data["causation"], &data["source"]),
        (&json!(true), &json!(false), &json!(true))
    );
    let meta = &seen["metadata"];
    assert_eq!((&meta["correlation_id"], &meta["causation_id"], &meta["hops"]), (&json!("c"), &json!("e"), &json!(1)));
    assert_eq!((&meta["tags"], &meta["extensions"]), (&json!(["seen"]), &json!({"subject": "s"})));
    let codes = hub.events_of("seen.codes", 1).await.remove(0)["data"].clone();
    assert_eq!(codes, json!({"id": 36, "codes": ["denied", "invalid", "limit"]}));
    hub.publish("fixture.reject", json!(null)).await;
    until(|| hub.bus().metrics().dead_letters.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_built_for_contract_0_1_is_loaded_and_answers() {
    let hub = TestHub::start().await;
    let status = hub.install("filter", built("filter.wasm"), "").await;
    assert_eq!((&status["version"], &status["kind"]), (&json!("1.2.3"), &json!("filter")), "{status}");
    let (file, event) = (hub.dir.path().join("plugins/filter.wasm"), hub.dir.path().join("event.json"));
    fs::write(&event, r#"{"type":"fixture.a"}"#).unwrap();
    for (params, answer) in [("\"fixture.a\"", json!(true)), ("\"b\"", json!(false)), ("\"error\"", json!(null))] {
        let mut command = busway();
        command.args(["plugin", "call"]).arg(&file).arg("--event").arg(&event).args(["--params", params]);
        let output = within(command.output()).await.unwrap();
        let called: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&called["verdict"], output.status.success()), (&answer, answer.is_boolean()), "{called}");
        assert_eq!(called["said"]["lines"][0]["message"], format!("asked for {params}"), "{called}");
    }
}
