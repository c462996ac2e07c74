//! `busway stats`: the hub's numbers.

use super::client::Client;
use super::output::Output;
use super::render;
use serde_json::value::RawValue;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, args: StatsArgs) -> anyhow::Result<ExitCode> {
    let stats: Box<RawValue> = client.get(&["v1", "stats"], &[]).await?;
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        out.line(render::facts(&serde_json::from_str(stats.get())?))?;
    } else {
        out.line(&stats)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
