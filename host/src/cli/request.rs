//! `busway request`: publishes an event and prints the reply to it.

use super::client::Client;
use super::event::{self, MetadataArgs};
use super::output::{Output, note};
use super::{TIMED_OUT, duration};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct RequestArgs {
    /// Type of the request.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// Data of the request; null without it.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, value_parser = event::json_flag)]
    data: Option<Box<RawValue>>,
    /// Types that are a reply; `*` is any run of characters, `?` one.
    #[arg(long, value_name = "GLOB")]
    reply_type: String,
    /// How long to wait for it, at most 5m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    metadata: MetadataArgs,
}

#[derive(Serialize)]
struct Request<'a> {
    event: &'a RawValue,
    reply_type: &'a str,
    timeout_ms: u64,
}

#[derive(Deserialize)]
struct Answer {
    reply: Box<RawValue>,
}

pub(super) async fn run(client: &Client, args: RequestArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.unwrap_or_else(|| RawValue::NULL.to_owned());
    let event = RawValue::from_string(event::around(&args.event_type, &data, &args.metadata)?)?;
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let body = serde_json::to_string(&Request { event: &event, reply_type: &args.reply_type, timeout_ms })?;
    let answer: Answer = match client.post_patiently(&["v1", "request"], body, args.timeout).await {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("request.timeout") => {
            note(&error);
            return Ok(ExitCode::from(TIMED_OUT));
        }
        Err(error) => return Err(error.into()),
    };
    let mut out = Output::stdout();
    if out.is_terminal() {
        let reply: Value = serde_json::from_str(answer.reply.get())?;
        out.line(serde_json::to_string_pretty(&reply)?)?;
    } else {
        out.line(&answer.reply)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
