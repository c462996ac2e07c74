//! `busway plugin`: shows and steers the plugins of a running hub; `new` and `build` make one, `dev` builds it whenever its sources change,
//! and `check`, `call`, `bench`, `test` and `shadow` try it out, without a hub.

mod bench;
mod build;
mod call;
mod calls;
mod check;
mod dev;
mod limits;
mod new;
mod packed;
mod project;
mod shadow;
mod test;
mod try_out;

use super::client::Client;
use super::output::Output;
use super::render;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum PluginCommand {
    /// List the plugins.
    List(ShowArgs),
    /// Show all that is known of one plugin.
    Show(NameArgs),
    /// Load the plugin's file again.
    Reload(NameArgs),
    /// Let a disabled or quarantined plugin work again.
    Enable(NameArgs),
    /// Let the plugin rest until it is enabled.
    Disable(NameArgs),
    /// Go back to the version before.
    Rollback(NameArgs),
    /// Put a plugin's shadow in the place of its active version.
    Promote(NameArgs),
    /// Follow a plugin's calls: what each came to, what it said, fuel and time.
    Calls(calls::CallsArgs),
    /// Show a plugin's limits, or set some of them for its next call on, in place of its sidecar's.
    Limits(limits::LimitsArgs),
    /// Make a new plugin's project.
    New(new::NewArgs),
    /// Build a project into a plugin file.
    Build(build::BuildArgs),
    /// Check a plugin file: what it is, what it asks for, whether it would load.
    Check(CheckArgs),
    /// Call a plugin file with one event and show what it does.
    Call(call::CallArgs),
    /// Measure a plugin file: calls per second, time, fuel and memory, with fresh and with reused instances.
    Bench(bench::BenchArgs),
    /// Run a plugin's tests: what it makes of events, against what its `tests/*.json` expect.
    Test(test::TestArgs),
    /// Compare a plugin file with the version that it is to replace, on recorded events: what would be different. Or show what a running
    /// hub has found about a plugin and its shadow.
    Shadow(shadow::ShadowArgs),
    /// Build a project whenever its sources change, load it into a hub, and show its calls.
    Dev(dev::DevArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct NameArgs {
    /// The plugin's name.
    name: String,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The .wasm file; the .toml beside it is read as well.
    pub(super) file: PathBuf,
    /// Another .wasm file, such as the version that runs now: say what this one asks for and that one does not.
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(format!("expected KEY=VALUE, found {text:?}")),
    }
}

#[derive(Deserialize)]
struct List {
    plugins: Vec<Value>,
    /// Files that are no plugins, with the reason.
    #[serde(default)]
    refused: BTreeMap<String, String>,
}

impl List {
    fn table(&self) -> String {
        let mut lines = vec![render::plugins(&self.plugins)];
        let refused = self.refused.iter();
        lines.extend(refused.map(|(file, why)| render::harmless(&format!("not a plugin: {file}: {why}"))));
        lines.join("\n")
    }
}

/// `client` is made only for the commands that need a hub.
pub(super) async fn run(
    client: impl FnOnce() -> anyhow::Result<Client>,
    command: PluginCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::List(args) => {
            let body: Box<RawValue> = client()?.get(&["v1", "plugins"], &[]).await?;
            show(&body, &args, |body| Ok(serde_json::from_str::<List>(body.get())?.table()))
        }
        PluginCommand::Show(args) => {
            let body: Box<RawValue> = client()?.get(&["v1", "plugins", &args.name], &[]).await?;
            show(&body, &args.show, |body| Ok(render::facts(&serde_json::from_str(body.get())?)))
        }
        PluginCommand::Reload(args) => steer(&client()?, "reload", args).await,
        PluginCommand::Enable(args) => steer(&client()?, "enable", args).await,
        PluginCommand::Disable(args) => steer(&client()?, "disable", args).await,
        PluginCommand::Rollback(args) => steer(&client()?, "rollback", args).await,
        PluginCommand::Promote(args) => steer(&client()?, "promote", args).await,
        PluginCommand::Calls(args) => calls::run(client()?, args).await,
        PluginCommand::Limits(args) => limits::run(&client()?, args).await,
        PluginCommand::New(args) => new::run(args),
        PluginCommand::Build(args) => build::run(args).await,
        PluginCommand::Check(args) => check::run(args).await,
        PluginCommand::Call(args) => call::run(args).await,
        PluginCommand::Bench(args) => bench::run(args).await,
        PluginCommand::Test(args) => test::run(args).await,
        PluginCommand::Shadow(args) => shadow::run(client, args).await,
        PluginCommand::Dev(args) => dev::run(client, args).await,
    }
}

async fn steer(client: &Client, action: &str, args: NameArgs) -> anyhow::Result<ExitCode> {
    let path = ["v1", "plugins", &args.name, action];
    let body: Box<RawValue> = client.post(&path, String::new()).await?;
    show(&body, &args.show, |body| Ok(render::plugins(&[serde_json::from_str(body.get())?])))
}

fn show(
    body: &RawValue,
    args: &ShowArgs,
    table: impl FnOnce(&RawValue) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        out.line(table(body)?)?;
    } else {
        out.line(body)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_value_may_hold_equals_signs_and_be_empty() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("a").is_err() && key_value("=a").is_err());
    }
}
