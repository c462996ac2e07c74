//! What a running hub has found about a plugin and its live shadow.

use crate::cli::{
    client::Client,
    output::Output,
    render::{facts, harmless},
};
use anyhow::bail;
use serde_json::{Value, value::RawValue};
use std::{path::Path, process::ExitCode};

/// Members that are said in words of their own.
const TOLD: [&str; 3] = ["active", "shadow", "examples"];

/// 0: they do the same so far; 1: they do not, or the file is no candidate.
pub(super) async fn run(client: &Client, name: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(name) = name.to_str().filter(|name| !name.contains(['/', '.'])) else {
        bail!("expected --against FILE beside a file, or the name of a plugin alone, found {}", name.display());
    };
    let body: Box<RawValue> = client.get(&["v1", "plugins", name, "shadow"], &[]).await?;
    let report: Value = serde_json::from_str(body.get())?;
    let mut out = Output::stdout();
    if out.is_terminal() && !json {
        out.line(picture(&report))?;
    } else {
        out.line(&body)?;
    }
    out.flush()?;
    let same = report["differing"] == 0 && report["error"].is_null();
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn picture(report: &Value) -> String {
    let mut about = report.clone();
    if let Some(about) = about.as_object_mut() {
        about.retain(|key, _| !TOLD.contains(&key.as_str()));
    }
    let mut lines = vec![facts(&about)];
    for side in ["active", "shadow"] {
        let side_of = &report[side];
        let ended = side_of["ended"].as_object().into_iter().flatten();
        let ended = ended.map(|(how, many)| format!("{} {many}", harmless(how))).collect::<Vec<_>>().join(", ");
        let (fuel, time) = (&side_of["fuel"], &side_of["time_us"]);
        lines.push(format!(
            "{side:<8} {ended}; {} emitted; fuel p50 {} p99 {}; µs p50 {} p99 {}",
            side_of["emitted"], fuel["p50"], fuel["p99"], time["p50"], time["p99"]
        ));
    }
    for example in report["examples"].as_array().into_iter().flatten() {
        let text = |key: &str| harmless(example[key].as_str().unwrap_or_default());
        lines.push(format!("seq {} {} {}", example["seq"], text("type"), text("event_id")));
        for difference in example["differences"].as_array().into_iter().flatten() {
            let shown = |key: &str| match &difference[key] {
                Value::Null => "nothing".to_owned(),
                value => harmless(&value.to_string()),
            };
            let place = harmless(difference["pointer"].as_str().unwrap_or_default());
            lines.push(format!("    {place}: {} → {}", shown("active"), shown("shadow")));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_shown_with_its_differences() {
        let side = json!({"ended": {"ok": 2}, "emitted": 1, "fuel": {"p50": 5.0, "p99": 9.0}, "time_us": {"p50": 1.0, "p99": 2.0}});
        let report = json!({
            "file": "x-next.wasm", "missed": 0, "compared": 2, "differing": 1, "percent": 50.0, "active": side, "shadow": side,
            "examples": [{"seq": 7, "event_id": "e", "type": "a.b\u{1b}", "differences": [
                {"pointer": "/emitted/0", "active": {"n": 1}, "shadow": null}]}]
        });
        let shown = picture(&report);
        for part in [
            "x-next.wasm",
            "active   ok 2; 1 emitted; fuel p50 5.0",
            "seq 7 a.b\\u001b e",
            "/emitted/0: {\"n\":1} → nothing",
        ] {
            assert!(shown.contains(part), "{part:?} in {shown}");
        }
    }
}
