//! `busway plugin bench`: a plugin file called as often as it can be, first with a new instance for each call, then with instances
//! that are kept. Both in one run on the same machine: the difference is what `isolation = "reuse"` is worth to this plugin.

mod figures;
mod table;

use super::key_value;
use super::try_out::{Files, params, read, with_config};
use crate::{
    cli::{event::json_flag, output::Output, progress},
    event::{Event, NewEvent},
    plugin::{CallError, FailureKind, Isolation, Kind, Params, Transcript, Version},
};
use anyhow::{Context, bail};
use figures::{Figures, Tally};
use indicatif::ProgressBar;
use serde_json::{json, value::RawValue};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Where neither calls nor seconds are given.
const SECONDS: f64 = 3.0;
/// Nothing of the first calls is counted: pages are touched and caches filled for the first time.
const WARM_UP: Duration = Duration::from_millis(300);
const WARM_UP_CALLS: u64 = 1_000;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BenchArgs {
    /// The .wasm file; the .toml beside it is read as well.
    file: PathBuf,
    /// File with the events, JSON lines or an array, called with one after another, again and again; `-` for stdin.
    #[arg(long, value_name = "FILE|-")]
    events: PathBuf,
    /// Parameters, for a filter.
    #[arg(long, value_name = "JSON", value_parser = json_flag)]
    params: Option<Box<RawValue>>,
    /// A config value of the plugin, JSON or text; may be given several times.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// Calls to make, each way.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// How long to call, each way; 3 unless calls are given.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Calls at once: 1 to 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrency: u16,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let allowed = |seconds: &f64| (0.001..=86_400.0).contains(seconds);
    text.parse().ok().filter(allowed).ok_or_else(|| format!("expected 0.001 to 86400 seconds, found {text:?}"))
}

pub(super) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let files = Files::read(&args.file)?;
    let events = Arc::new(events(&read(&args.events)?).with_context(|| args.events.display().to_string())?);
    let given: Option<serde_json::Value> =
        args.params.as_ref().map(|params| serde_json::from_str(params.get())).transpose()?;
    let mut measured = Vec::new();
    for isolation in [Isolation::Fresh, Isolation::Reuse] {
        let mut manifest = with_config(files.manifest.clone(), &args.config);
        (manifest.isolation, manifest.concurrency) = (Some(isolation), args.concurrency.into());
        let version = files.load(manifest, &[]).await?;
        let params = params(&version, given.clone()).await?;
        let job = Job { version, events: Arc::clone(&events), params };
        let limit = Limit::of(&args);
        let name = if isolation == Isolation::Fresh { "fresh" } else { "reuse" };
        job.run(&limit.warm_up(), args.concurrency, &ProgressBar::hidden()).await?;
        let bar = limit.progress(name);
        measured.push(job.run(&limit, args.concurrency, &bar).await?);
        bar.finish_and_clear();
    }
    let [fresh, reuse] = &measured[..] else { bail!("expected two measurements") };
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        let what = format!("{}: {} events, {} at a time", files.name(), events.len(), args.concurrency);
        out.line(table::of(&what, fresh, reuse))?;
    } else {
        let form = json!({"plugin": files.name(), "events": events.len(), "concurrency": args.concurrency,
                          "fresh": fresh, "reuse": reuse});
        out.line(form)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Events as JSON lines, or as an array of them; each is checked as the hub would.
fn events(text: &str) -> anyhow::Result<Vec<Event>> {
    let texts: Vec<(usize, &str)> = if text.trim_start().starts_with('[') {
        let array: Vec<&RawValue> = serde_json::from_str(text).context("expected an array of events")?;
        array.into_iter().map(RawValue::get).enumerate().collect()
    } else {
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect()
    };
    let read = |(index, text): (usize, &str)| -> anyhow::Result<Event> {
        NewEvent::from_json(text).and_then(NewEvent::admit).with_context(|| format!("event {}", index + 1))
    };
    let events = texts.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    if events.is_empty() {
        bail!("expected at least one event, found none");
    }
    Ok(events)
}

/// When it is enough.
enum Limit {
    Calls(u64),
    Time(Duration),
}

impl Limit {
    fn of(args: &BenchArgs) -> Self {
        match args.calls {
            Some(calls) => Self::Calls(calls),
            None => Self::Time(Duration::from_secs_f64(args.seconds.unwrap_or(SECONDS))),
        }
    }

    fn warm_up(&self) -> Self {
        match self {
            Self::Calls(calls) => Self::Calls((calls / 10).clamp(1, WARM_UP_CALLS)),
            Self::Time(time) => Self::Time((*time / 10).min(WARM_UP)),
        }
    }

    fn progress(&self, name: &'static str) -> ProgressBar {
        match self {
            Self::Calls(calls) => progress::bar(name, *calls),
            Self::Time(_) => progress::spinner(name),
        }
    }
}

/// What is called with what.
#[derive(Clone)]
struct Job {
    version: Arc<Version>,
    events: Arc<Vec<Event>>,
    params: Params,
}

impl Job {
    async fn run(&self, limit: &Limit, concurrency: u16, bar: &ProgressBar) -> anyhow::Result<Figures> {
        let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (most, until) = match limit {
            Limit::Calls(calls) => (*calls, None),
            Limit::Time(time) => (u64::MAX, Some(began + *time)),
        };
        let workers: Vec<_> = (0..concurrency)
            .map(|_| tokio::spawn(self.clone().work(Arc::clone(&next), most, until, bar.clone())))
            .collect();
        let mut all = Tally::default();
        for worker in workers {
            all.merge(worker.await?);
        }
        Ok(all.into_figures(began.elapsed()))
    }

    /// Calls until it is enough; `next` is shared by all who do.
    async fn work(self, next: Arc<AtomicU64>, most: u64, until: Option<Instant>, bar: ProgressBar) -> Tally {
        let mut tally = Tally::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= most || until.is_some_and(|until| Instant::now() >= until) {
                return tally;
            }
            let event = &self.events[(index % self.events.len() as u64) as usize];
            self.call(event, &mut tally).await;
            bar.inc(1);
        }
    }

    async fn call(&self, event: &Event, tally: &mut Tally) {
        let mut transcript = Transcript::default();
        let result = match self.version.kind() {
            Kind::Filter => {
                self.version.matches_with(event, &self.params, Some(&mut transcript)).await.map(|_| (0, None))
            }
            Kind::Handler => {
                let effects = self.version.handle_with(event, 1, Some(&mut transcript)).await;
                effects.map(|effects| (effects.outbox.len(), effects.writes))
            }
        };
        tally.used(&transcript.usage);
        match result {
            Ok((emitted, writes)) => {
                // As in the hub: of two that touched the same keys, one has to be called again.
                let conflict = writes.is_some_and(|writes| writes.commit().is_err());
                if conflict { tally.conflicts += 1 } else { tally.ok(emitted) }
            }
            Err(CallError::Fault(fault)) => *tally.faults.entry(fault.code.as_str()).or_default() += 1,
            Err(CallError::Failure(failure)) => {
                let kind = match (self.version.kind(), failure.kind) {
                    (Kind::Filter, _) => "error",
                    (Kind::Handler, FailureKind::Retry) => "retry",
                    (Kind::Handler, FailureKind::Reject) => "reject",
                };
                *tally.failures.entry(kind).or_default() += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_or_an_array_and_a_bad_one_is_named() {
        let count = |text: &str| events(text).map(|events| events.len()).map_err(|error| format!("{error:#}"));
        assert_eq!(count("{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n"), Ok(2));
        assert_eq!(count(" [{\"type\":\"a\"},\n{\"type\":\"b\"}]"), Ok(2));
        assert!(count("{\"type\":\"a\"}\n{\"type\":\"\"}\n").unwrap_err().starts_with("event 2: type: expected"));
        assert!(count("\n").unwrap_err().contains("at least one event"));
    }
}
