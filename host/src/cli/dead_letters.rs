//! `busway dead-letters`: what the handlers of a running hub could not handle.

use super::FAILED;
use super::client::Client;
use super::output::{Output, note};
use super::render;
use crate::event::time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::process::ExitCode;

/// What a list shows of each letter.
const COLUMNS: &[&str] = &["id", "died_at", "plugin", "code", "attempts", "seq", "type", "message"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum DeadLettersCommand {
    /// List them, the oldest first.
    List(ListArgs),
    /// Show all that is known of one.
    Show(IdArgs),
    /// Hand them to their plugins again, as first attempts.
    Replay(SomeArgs),
    /// Throw them away for good.
    Purge(SomeArgs),
}

#[derive(Debug, Default, clap::Args, Serialize)]
pub(super) struct Criteria {
    /// Of this plugin.
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    /// That died of this: `reject`, `retry`, or a fault's code.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// That died then or later, such as 2026-11-22T07:35:00Z.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// That died before.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    criteria: Criteria,
    /// At most so many.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// After this one: where the list before ended.
    #[arg(long, value_name = "ID", default_value = "0")]
    after: u64,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct IdArgs {
    /// Its id.
    id: u64,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "plugin", "code", "since", "until", "all"])))]
pub(super) struct SomeArgs {
    /// Their ids.
    #[arg(value_name = "ID", conflicts_with_all = ["plugin", "code", "since", "until", "all"])]
    ids: Vec<u64>,
    #[command(flatten)]
    criteria: Criteria,
    /// All of them.
    #[arg(long, conflicts_with_all = ["plugin", "code", "since", "until"])]
    all: bool,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

/// Checked here, and handed on as it was written.
fn time_flag(text: &str) -> Result<String, String> {
    match time::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("expected {}, found {text:?}", time::EXPECTED)),
    }
}

impl Criteria {
    fn query(&self) -> Vec<(&'static str, String)> {
        let all = [("plugin", &self.plugin), ("code", &self.code), ("since", &self.since), ("until", &self.until)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

pub(super) async fn run(client: &Client, command: DeadLettersCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadLettersCommand::List(args) => list(client, args).await,
        DeadLettersCommand::Show(args) => {
            let body: Box<RawValue> = client.get(&["v1", "dead-letters", &args.id.to_string()], &[]).await?;
            show(&body, args.json, |body| Ok(render::facts(&serde_json::from_str(body.get())?)))?;
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersCommand::Replay(args) => replay(client, args).await,
        DeadLettersCommand::Purge(args) => purge(client, args).await,
    }
}

fn show(body: &RawValue, json: bool, table: impl FnOnce(&RawValue) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let mut out = Output::stdout();
    if out.is_terminal() && !json {
        out.line(table(body)?)?;
    } else {
        out.line(body)?;
    }
    out.flush()
}

#[derive(Deserialize)]
struct Page {
    dead_letters: Vec<Value>,
    next: Option<i64>,
}

impl Page {
    fn table(mut self) -> String {
        if self.dead_letters.is_empty() {
            return "no dead letters".into();
        }
        for letter in &mut self.dead_letters {
            // To be written in a command, so without commas.
            for name in ["id", "seq"] {
                letter[name] = letter[name].to_string().into();
            }
            letter["type"] = letter["event"]["type"].take();
        }
        render::table(COLUMNS, &self.dead_letters)
    }
}

async fn list(client: &Client, args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut query = args.criteria.query();
    query.extend([("limit", args.limit.to_string()), ("after", args.after.to_string())]);
    let body: Box<RawValue> = client.get(&["v1", "dead-letters"], &query).await?;
    let page: Page = serde_json::from_str(body.get())?;
    let next = page.next;
    show(&body, args.json, |_| Ok(page.table()))?;
    if let Some(next) = next {
        note(format_args!("there may be more: --after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Replay<'a> {
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    ids: &'a [u64],
    #[serde(flatten)]
    criteria: &'a Criteria,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

#[derive(Deserialize)]
struct Replayed {
    replayed: u64,
    left: Vec<Left>,
    #[serde(default)]
    unknown: u64,
}

#[derive(Deserialize)]
struct Left {
    plugin: String,
    dead_letters: u64,
}

impl Replayed {
    fn text(&self) -> String {
        let mut lines = vec![format!("{} handed to their plugins again", render::grouped(self.replayed))];
        let left = |left: &Left| {
            let (letters, plugin) = (render::grouped(left.dead_letters), render::harmless(&left.plugin));
            format!("{letters} left: there is no handler {plugin} now")
        };
        lines.extend(self.left.iter().map(left));
        lines.extend((self.unknown > 0).then(|| format!("{} not there", render::grouped(self.unknown))));
        lines.join("\n")
    }
}

/// Fails if anything that was asked for was not replayed.
async fn replay(client: &Client, args: SomeArgs) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_string(&Replay { ids: &args.ids, criteria: &args.criteria, all: args.all })?;
    let body: Box<RawValue> = client.post(&["v1", "dead-letters", "replay"], body).await?;
    let replayed: Replayed = serde_json::from_str(body.get())?;
    show(&body, args.json, |_| Ok(replayed.text()))?;
    let whole = replayed.left.is_empty() && replayed.unknown == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

#[derive(Serialize, Deserialize)]
struct Purged {
    purged: u64,
}

/// Fails if an id is not there; the others are thrown away.
async fn purge(client: &Client, args: SomeArgs) -> anyhow::Result<ExitCode> {
    let (mut purged, mut whole) = (0, true);
    if args.ids.is_empty() {
        let mut query = args.criteria.query();
        query.extend(args.all.then(|| ("all", "true".to_owned())));
        purged = client.delete::<Purged>(&["v1", "dead-letters"], &query).await?.purged;
    }
    for id in &args.ids {
        match client.delete::<Purged>(&["v1", "dead-letters", &id.to_string()], &[]).await {
            Ok(one) => purged += one.purged,
            Err(error) if error.code() == Some("dead-letter.unknown") => {
                note(&error);
                whole = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let body = serde_json::value::to_raw_value(&Purged { purged })?;
    show(&body, args.json, |_| Ok(format!("{} thrown away", render::grouped(purged))))?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
