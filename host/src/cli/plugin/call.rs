//! `busway plugin call`: one event through a plugin file without a hub; prints the answer, and everything that the call did.

use super::{CallArgs, try_out::load};
use crate::{
    cli::output::print,
    event::NewEvent,
    plugin::{CallError, Kind, Transcript},
};
use anyhow::Context;
use serde_json::{Map, Value, json};
use std::{io::Read, path::Path, process::ExitCode};

pub(super) async fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    let version = load(&args.file, &args.config).await?;
    let event = NewEvent::from_json(&read(&args.event)?)?.admit()?;
    let params = args.params.map(|params| serde_json::from_str(params.get())).transpose()?;
    let mut transcript = Transcript::default();
    let mut shown = Map::new();
    let failed = match version.kind() {
        Kind::Filter => {
            let params = version.check_params(params).map_err(|error| anyhow::anyhow!("params{error}"))?;
            match version.matches_with(&event, &params, Some(&mut transcript)).await {
                Ok(verdict) => {
                    shown.insert("verdict".into(), json!(verdict));
                    None
                }
                Err(error) => Some(error),
            }
        }
        Kind::Handler => match version.handle_with(&event, 1, Some(&mut transcript)).await {
            Ok(effects) => {
                shown.insert("emitted".into(), serde_json::to_value(&effects.outbox)?);
                if let Some(writes) = effects.writes {
                    writes.commit().context("nobody else writes to a namespace of this process")?;
                    shown.insert("kv".into(), kv(&version)?);
                }
                None
            }
            Err(error) => Some(error),
        },
    };
    if let Some(error) = &failed {
        let (code, message) = match error {
            CallError::Failure(failure) => ("failure", failure.message.clone()),
            CallError::Fault(fault) => (fault.code.as_str(), fault.message.clone()),
        };
        shown.insert("error".into(), json!({"code": code, "message": message}));
    }
    shown.insert("said".into(), serde_json::to_value(&transcript)?);
    let counts = version.stats().counts();
    let used = json!({"fuel": counts.fuel.max, "time_us": counts.time_us.max, "memory": counts.memory_peak});
    shown.insert("used".into(), used);
    print(serde_json::to_string_pretty(&Value::Object(shown))?)?;
    Ok(if failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read the event from stdin")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}

/// What the plugin's memory holds after the call.
fn kv(version: &crate::plugin::Version) -> anyhow::Result<Value> {
    let mut transaction = version.namespace().begin();
    let mut all = Map::new();
    for key in transaction.keys("", None) {
        let value = transaction.get(&key)?.unwrap_or_default();
        all.insert(key, json!(String::from_utf8_lossy(&value)));
    }
    Ok(Value::Object(all))
}
