//! `busway plugin shadow`: a candidate and the version that it is to replace, asked about the same events one after another. Nothing
//! is published, each writes to a memory of its own, and where they differ is told.

mod live;

use super::key_value;
use super::try_out::{self, Files, not_asked, params, read, with_config};
use crate::{
    cli::{
        client::Client,
        event::json_flag,
        output::{Closed, Output, note},
        progress,
    },
    event::{Event, NewEvent},
    plugin::{
        Params, Transcript, Version,
        shadow::{Answer, Comparison, Report},
    },
};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Events of one request to the hub: as many as it gives.
const PAGE: usize = 1_000;

/// There was nothing to compare, or not everything could be.
const UNUSABLE: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 they do the same, 1 they do not, 2 one does not load, the events cannot be read or the hub not be \
                  reached, or neither of the two wants any of the events."
)]
pub(in crate::cli) struct ShadowArgs {
    /// The candidate, a .wasm file. It runs under the .toml beside it; where there is none, under that of the version it is to replace.
    /// Without --against: the name of a plugin, of which a running hub tells what it has found about it and its shadow.
    file: PathBuf,
    /// The version that it is to replace, a .wasm file with its .toml beside it.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// File with the events, JSON lines or an array, as `busway tail` and `busway journal export` write them; `-` for stdin.
    #[arg(long, value_name = "FILE|-", conflicts_with = "from", requires = "against")]
    events: Option<PathBuf>,
    /// Events of the hub, from this one on to the newest.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..), requires = "against")]
    from: Option<u64>,
    /// Ask about so many events at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Parameters, for filters.
    #[arg(long, value_name = "JSON", value_parser = json_flag)]
    params: Option<Box<RawValue>>,
    /// A config value for both, JSON or text; may be given several times.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// What both memories hold before the first event; may be given several times.
    #[arg(long = "kv", value_name = "KEY=VALUE", value_parser = key_value)]
    kv: Vec<(String, String)>,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: impl FnOnce() -> anyhow::Result<Client>, args: ShadowArgs) -> anyhow::Result<ExitCode> {
    match compare(client, args).await {
        Err(error) if !error.is::<Closed>() => {
            note(format_args!("{error:#}"));
            Ok(ExitCode::from(UNUSABLE))
        }
        ended => ended,
    }
}

/// An error: nothing can be said of the two.
async fn compare(client: impl FnOnce() -> anyhow::Result<Client>, args: ShadowArgs) -> anyhow::Result<ExitCode> {
    let Some(against) = &args.against else { return live::run(&client()?, &args.file, args.json).await };
    if args.events.is_none() && args.from.is_none() {
        bail!("expected --events FILE or --from SEQ: which events the two are asked about");
    }
    let mut pair = Pair::load(&args, against).await?;
    let most = args.limit.unwrap_or(u64::MAX);
    match (&args.events, args.from) {
        (Some(file), _) => {
            let events = events(&read(file)?).with_context(|| file.display().to_string())?;
            let bar = progress::bar("compared", (events.len() as u64).min(most));
            for event in events.iter().take(most.try_into().unwrap_or(usize::MAX)) {
                pair.ask(event).await?;
                bar.inc(1);
            }
            bar.finish_and_clear();
        }
        (None, from) => pair.ask_from(&client()?, from.unwrap_or(1), most).await?,
    }
    let told = Told { report: pair.comparison.report(), unwanted: pair.unwanted, missed: pair.missed };
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        out.line(picture(&told)?.trim_end())?;
    } else {
        out.line(serde_json::to_string_pretty(&told)?)?;
    }
    out.flush()?;
    if told.report.compared == 0 {
        bail!("nothing was compared: neither of the two was asked about any event");
    }
    Ok(if told.report.differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found, and what was not looked at.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    report: Report,
    /// Events that neither of them wants.
    unwanted: u64,
    /// Events that the hub does not have any more.
    missed: u64,
}

struct Side {
    version: Arc<Version>,
    params: Params,
}

impl Side {
    async fn ask(&self, event: &Event) -> anyhow::Result<Answer> {
        let outcome = try_out::call(&self.version, event, 1, &self.params, Transcript::default()).await?;
        let usage = outcome.transcript.usage;
        Ok(match (outcome.error, outcome.verdict) {
            (Some(error), _) => Answer::failed(&error),
            (None, Some(verdict)) => Answer::verdict(verdict, usage),
            (None, None) => Answer::emitted(outcome.emitted.into_iter().map(Arc::new).collect(), usage),
        })
    }
}

/// The two, and what was found.
struct Pair {
    active: Side,
    candidate: Side,
    comparison: Comparison,
    unwanted: u64,
    missed: u64,
}

impl Pair {
    async fn load(args: &ShadowArgs, against: &Path) -> anyhow::Result<Self> {
        let (active, candidate) = (Files::read(against)?, Files::read(&args.file)?);
        let own = args.file.with_extension("toml").exists();
        let manifest = if own { &candidate.manifest } else { &active.manifest }.clone();
        let given = args.params.as_ref().map(|params| serde_json::from_str::<Value>(params.get())).transpose()?;
        let side = async |files: &Files, manifest, path: &Path| -> anyhow::Result<Side> {
            let version = files.load(with_config(manifest, &args.config), &args.kv).await;
            let version = version.with_context(|| path.display().to_string())?;
            let params = params(&version, given.clone()).await?;
            Ok(Side { version, params })
        };
        let active = side(&active, active.manifest.clone(), against).await?;
        let candidate = side(&candidate, manifest, &args.file).await?;
        let (one, other) = (active.version.kind(), candidate.version.kind());
        if one != other {
            bail!("expected two of a kind, found a {} against a {}", other.as_str(), one.as_str());
        }
        Ok(Self { active, candidate, comparison: Comparison::default(), unwanted: 0, missed: 0 })
    }

    async fn ask(&mut self, event: &Event) -> anyhow::Result<()> {
        let is_asked = |side: &Side| not_asked(&side.version, event).map(|why| why.is_none());
        let (active, candidate) = (is_asked(&self.active)?, is_asked(&self.candidate)?);
        if !active && !candidate {
            self.unwanted += 1;
            return Ok(());
        }
        let active = if active { self.active.ask(event).await? } else { Answer::not_asked() };
        let candidate = if candidate { self.candidate.ask(event).await? } else { Answer::not_asked() };
        self.comparison.take(event, &active, &candidate);
        Ok(())
    }

    /// Through the hub's newest event when this began.
    async fn ask_from(&mut self, client: &Client, from: u64, mut left: u64) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Box<RawValue>>,
            next: u64,
            head: u64,
            missed: Option<Missed>,
        }
        #[derive(Deserialize)]
        struct Missed {
            from: u64,
            to: u64,
        }
        let (mut next, mut last) = (from, None);
        let spinner = progress::spinner("compared");
        loop {
            let limit = PAGE.min(left.try_into().unwrap_or(PAGE));
            let query = [("from", next.to_string()), ("limit", limit.to_string())];
            let page: Page = client.get(&["v1", "events"], &query).await?;
            let last = *last.get_or_insert(page.head);
            if let Some(Missed { from, to }) = page.missed {
                self.missed += (to.min(last) + 1).saturating_sub(from);
            }
            for text in &page.events {
                let event = recorded(text.get())?;
                if event.seq > last {
                    break;
                }
                self.ask(&event).await?;
                spinner.inc(1);
                left -= 1;
            }
            if page.next > last || left == 0 {
                spinner.finish_and_clear();
                return Ok(());
            }
            next = page.next;
        }
    }
}

/// An event as a hub wrote it: with its place and its history. One that no hub has seen has neither.
fn recorded(text: &str) -> anyhow::Result<Event> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct History {
        hops: u32,
        chain: Vec<u64>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Recorded {
        seq: u64,
        metadata: History,
    }
    let mut event = NewEvent::from_json(text)?.admit()?;
    let Recorded { seq, metadata } = serde_json::from_str(text)?;
    event.seq = seq;
    (event.metadata.hops, event.metadata.chain) = (metadata.hops, metadata.chain);
    Ok(event)
}

fn events(text: &str) -> anyhow::Result<Vec<Event>> {
    let texts: Vec<&str> = if text.trim_start().starts_with('[') {
        let array: Vec<&RawValue> = serde_json::from_str(text).context("expected an array of events")?;
        array.into_iter().map(RawValue::get).collect()
    } else {
        text.lines().filter(|line| !line.trim().is_empty()).collect()
    };
    let read = |(index, text): (usize, &str)| recorded(text).with_context(|| format!("event {}", index + 1));
    texts.into_iter().enumerate().map(read).collect()
}

fn picture(told: &Told) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let Told { report, unwanted, missed } = told;
    let Report { compared, differing, percent, .. } = report;
    writeln!(out, "compared   {compared} events; {differing} differ, {percent} %")?;
    if *unwanted > 0 {
        writeln!(out, "           {unwanted} more that neither wants")?;
    }
    if *missed > 0 {
        writeln!(out, "           {missed} more that the hub does not have any more")?;
    }
    if *differing > 0 {
        writeln!(out, "differ in  {}", counts(&report.differing_by))?;
    }
    let [active, candidate] = [&report.active, &report.shadow];
    writeln!(out, "{:11}{:>34}{:>34}", "", "active", "candidate")?;
    writeln!(out, "{:11}{:>34}{:>34}", "ended", counts(&active.ended), counts(&candidate.ended))?;
    writeln!(out, "{:11}{:>34}{:>34}", "emitted", active.emitted, candidate.emitted)?;
    for (what, one, other) in [("fuel", active.fuel, candidate.fuel), ("time in µs", active.time_us, candidate.time_us)]
    {
        for (quantile, one, other) in [("p50", one.p50, other.p50), ("p99", one.p99, other.p99)] {
            let more = if one > 0.0 { format!("  {:+.1} %", (other / one - 1.0) * 100.0) } else { String::new() };
            writeln!(out, "{:11}{one:>34.0}{other:>34.0}{more}", format!("{what} {quantile}"))?;
        }
    }
    for example in &report.examples {
        writeln!(out, "seq {} {} {}", example.seq, example.event_type, example.event_id)?;
        for difference in &example.differences {
            let shown = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
            let (active, shadow) = (shown(&difference.active), shown(&difference.shadow));
            writeln!(out, "    {}: {active} → {shadow}", difference.pointer)?;
        }
    }
    Ok(out)
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_is_shown() {
        let told = |unwanted, missed| Told { report: Comparison::default().report(), unwanted, missed };
        let text = picture(&told(3, 7)).unwrap();
        assert!(text.contains("\n           3 more that neither wants\n"), "{text}");
        assert!(text.contains("\n           7 more that the hub does not have any more\n"), "{text}");
        assert!(!picture(&told(0, 0)).unwrap().contains("more that"));
    }
}
