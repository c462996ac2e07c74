//! `busway plugin limits`: shows the limits of a running hub's plugin, and sets those that go before its sidecar's. What may stand
//! there the hub knows: it says what is wrong.

use super::{ShowArgs, key_value, show};
use crate::cli::{client::Client, render};
use serde_json::{Map, Value, value::RawValue};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LimitsArgs {
    /// The plugin's name.
    name: String,
    /// A limit as in `[limits]` of a sidecar, such as memory=16MiB, deadline=250ms or fuel=1000000; the others stay as they are.
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    limits: Vec<(String, String)>,
    /// First take away what was set before, so that the sidecar's and the defaults hold again.
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    show: ShowArgs,
}

pub(super) async fn run(client: &Client, args: LimitsArgs) -> anyhow::Result<ExitCode> {
    let path = ["v1", "plugins", &args.name];
    let limits_path = ["v1", "plugins", &args.name, "limits"];
    let mut status: Map<String, Value> = match (args.clear, args.limits.is_empty()) {
        (true, true) => client.delete(&limits_path, &[]).await?,
        (_, true) => client.get(&path, &[]).await?,
        (clear, false) => {
            let mut wanted = Map::new();
            if !clear {
                let before: Value = client.get(&path, &[]).await?;
                wanted = before["limits_override"].as_object().cloned().unwrap_or_default();
            }
            wanted.extend(args.limits.iter().map(|(key, text)| (key.clone(), value(text))));
            client.put(&limits_path, Value::Object(wanted).to_string()).await?
        }
    };
    status.retain(|key, _| key == "limits" || key == "limits_override");
    let body: Box<RawValue> = serde_json::value::to_raw_value(&status)?;
    show(&body, &args.show, |body| Ok(render::facts(&serde_json::from_str(body.get())?)))
}

/// Counts are numbers, everything else is a text with its unit.
fn value(text: &str) -> Value {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_numbers_and_the_rest_is_text() {
        for (text, expected) in [("5", "5"), ("1_000_000", "1000000"), ("16MiB", "\"16MiB\""), ("-1", "\"-1\"")] {
            assert_eq!(value(text).to_string(), expected);
        }
    }
}
