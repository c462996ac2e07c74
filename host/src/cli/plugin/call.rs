//! `busway plugin call`: one event through a plugin file without a hub; shows the answer, and everything that the call did.

mod picture;

use super::key_value;
use super::try_out::{self, Change, Files, Outcome, changes, not_asked, params, read, with_config};
use crate::{
    cli::event::json_flag,
    cli::output::{Output, note},
    event::{Event, NewEvent},
    plugin::{CallError, FailureKind, Transcript, Version},
};
use serde_json::{Map, Value, json, value::RawValue};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CallArgs {
    /// The .wasm file; the .toml beside it is read as well.
    file: PathBuf,
    /// File with the event's JSON; `-` for stdin.
    #[arg(long, value_name = "FILE|-")]
    event: PathBuf,
    /// Parameters, for a filter.
    #[arg(long, value_name = "JSON", value_parser = json_flag)]
    params: Option<Box<RawValue>>,
    /// A config value of the plugin, JSON or text; may be given several times.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// What the plugin's memory holds before the call; may be given several times.
    #[arg(long = "kv", value_name = "KEY=VALUE", value_parser = key_value)]
    kv: Vec<(String, String)>,
    /// Which attempt the plugin is told that this is.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// Also show each call into the host: when, what about, what the answer was.
    #[arg(long)]
    trace: bool,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    let files = Files::read(&args.file)?;
    let version = files.load(with_config(files.manifest.clone(), &args.config), &args.kv).await?;
    let event = NewEvent::from_json(&read(&args.event)?)?.admit()?;
    let given = args.params.map(|params| serde_json::from_str(params.get())).transpose()?;
    let params = params(&version, given)?;
    if let Some(why) = not_asked(&version, &event)? {
        note(format_args!("warning: the hub would not call it with this event: {why}"));
    }
    let transcript = if args.trace { Transcript::with_trace() } else { Transcript::default() };
    let outcome = try_out::call(&version, &event, args.attempt, &params, transcript).await?;
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        let budget = Budget::of(&version, &event);
        out.coloured(picture::of(&outcome, &budget, out.colour()))?;
    } else {
        out.line(serde_json::to_string_pretty(&form(&outcome, &Budget::of(&version, &event))?)?)?;
    }
    out.flush()?;
    Ok(if outcome.error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the call may use up.
struct Budget {
    fuel: u64,
    deadline_us: u64,
    memory: u64,
}

impl Budget {
    fn of(version: &Version, event: &Event) -> Self {
        let (limits, bytes) = (version.limits(), event.weight());
        let deadline_us = limits.deadline_for(bytes).as_micros().try_into().unwrap_or(u64::MAX);
        Self { fuel: limits.fuel_for(bytes), deadline_us, memory: limits.memory as u64 }
    }
}

fn form(outcome: &Outcome, budget: &Budget) -> anyhow::Result<Value> {
    let mut shown = Map::new();
    match (&outcome.error, outcome.verdict) {
        (Some(error), _) => shown.insert("error".into(), error_form(error)),
        (None, Some(verdict)) => shown.insert("verdict".into(), json!(verdict)),
        (None, None) => shown.insert("emitted".into(), serde_json::to_value(&outcome.emitted)?),
    };
    shown.insert("kv".into(), json!(outcome.after));
    let changes = changes(&outcome.before, &outcome.after);
    let change = |(key, before, after): &Change<'_>| ((*key).to_owned(), json!({"before": before, "after": after}));
    shown.insert("kv_changes".into(), changes.iter().map(change).collect::<Map<_, _>>().into());
    shown.insert("said".into(), serde_json::to_value(&outcome.transcript)?);
    let used = &outcome.transcript.usage;
    let time_us = used.nanoseconds / 1_000;
    shown.insert("used".into(), json!({"fuel": used.fuel, "time_us": time_us, "memory": used.memory}));
    let limits = json!({"fuel": budget.fuel, "time_us": budget.deadline_us, "memory": budget.memory});
    shown.insert("limits".into(), limits);
    Ok(shown.into())
}

fn error_form(error: &CallError) -> Value {
    match error {
        CallError::Fault(fault) => json!({"code": fault.code.as_str(), "message": fault.message}),
        CallError::Failure(failure) => {
            let kind = kind(failure.kind);
            let mut form = json!({"code": "failure", "kind": kind, "message": failure.message});
            if let Some(pause) = failure.retry_after_ms {
                form["retry_after_ms"] = pause.into();
            }
            form
        }
    }
}

fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Retry => "retry",
        FailureKind::Reject => "reject",
    }
}
