//! `busway journal` works on a data directory itself, without a hub. Every command but `import` only
//! reads the directory, also while a hub runs on it.

use super::output::{Output, note, print};
use super::{FAILED, progress, render};
use crate::event::Glob;
use crate::journal::{self, BackedUp, Damage, Discontinuity, Importer, Inspector, Part, Span};
use anyhow::Context;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest line of an import, in bytes: no event that the hub takes is longer.
const LONGEST_LINE: u64 = 4 << 20;
/// Most gaps that `import` names; the others are counted.
const GAPS: u64 = 10;
/// Most damaged ranges that `verify` lists; the others are counted.
const LISTED: usize = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum JournalCommand {
    /// Show what it holds: events, handlers' places, retries, dead letters, plugins' keys.
    Info(InfoArgs),
    /// Read everything and name what is damaged. Exit code 1 if anything is.
    Verify(InfoArgs),
    /// Write its events as JSON lines to stdout. Exit code 1 if any are damaged; those are named and passed over.
    Export(ExportArgs),
    /// Copy the journal into an empty directory, also while a hub runs on it. Exit code 1 if
    /// acknowledged events are missing from the journal.
    Backup(BackupArgs),
    /// Fill an empty data directory with exported events, under their seqs.
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "busway-data")]
    data: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    at: DataArgs,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    at: DataArgs,
    /// From this seq on; otherwise from the oldest.
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Up to this seq; otherwise up to the last.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Types, any of them; `*` is any run of characters, `?` one.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    types: Vec<Glob>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    at: DataArgs,
    /// The directory to copy to: made if it is missing, refused if there is anything in it.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// JSON even on a terminal.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    at: DataArgs,
    /// JSON lines, as `export` writes them; `-` for stdin.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

pub(super) fn run(command: JournalCommand) -> anyhow::Result<ExitCode> {
    match command {
        JournalCommand::Info(args) => info(&args),
        JournalCommand::Verify(args) => verify(&args),
        JournalCommand::Export(args) => export(&args),
        JournalCommand::Backup(args) => backup(&args),
        JournalCommand::Import(args) => import(&args),
    }
}

fn info(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let mut info = serde_json::to_value(Inspector::open(&args.at.data)?.info()?)?;
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        let lists = [
            (info["handlers"].take(), &["plugin", "done", "behind", "removed", "retries", "dead_letters"][..]),
            (info["kv"].take(), &["plugin", "keys", "bytes"][..]),
            (info["epochs"].take(), &["epoch", "first"][..]),
        ];
        if let Some(facts) = info.as_object_mut() {
            facts.retain(|_, fact| !fact.is_null());
            // No number to be counted with.
            facts.entry("open_by").and_modify(|pid| *pid = format!("process {pid}").into());
        }
        out.line(render::facts(&info))?;
        for (list, columns) in lists {
            if let Some(rows) = list.as_array().filter(|rows| !rows.is_empty()) {
                out.line("")?;
                out.line(render::table(columns, rows))?;
            }
        }
    } else {
        out.line(info)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize, Default)]
struct Verified {
    whole: bool,
    /// Events that are what was written.
    events: u64,
    /// Of events; at most 1,000.
    damaged: Vec<Damage>,
    /// In how many more places.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_damaged: Option<u64>,
    /// What SQLite finds wrong with the file.
    integrity: Vec<String>,
    /// Why the log is not proved to end where the last hub left it; a loss counts as damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    continuity: Option<Discontinuity>,
}

fn verify(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let inspector = Inspector::open(&args.at.data)?;
    let spinner = progress::spinner("checking the file");
    let (integrity, continuity) = (inspector.integrity(), inspector.continuity());
    let mut found = Verified { integrity, continuity, ..Verified::default() };
    spinner.finish_and_clear();
    let Span { from, to } = inspector.span();
    let bar = progress::bar("checking events", (to + 1).saturating_sub(from));
    let mut more = 0;
    for part in inspector.walk(from, to) {
        match part {
            Part::Events(events) => {
                found.events += events.len() as u64;
                bar.inc(events.len() as u64);
            }
            Part::Damaged(damage) => {
                bar.inc(damage.to - damage.from + 1);
                if found.damaged.len() < LISTED { found.damaged.push(damage) } else { more += 1 }
            }
        }
    }
    bar.finish_and_clear();
    found.more_damaged = (more > 0).then_some(more);
    check_undisturbed(&inspector)?;
    let is_lost = found.continuity.as_ref().is_some_and(|continuity| continuity.is_loss);
    found.whole = found.damaged.is_empty() && found.integrity.is_empty() && !is_lost;
    let code = if found.whole { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    let mut out = Output::stdout();
    if args.json {
        out.line(serde_json::to_string(&found)?)?;
    } else {
        said(&found, &mut out)?;
    }
    out.flush()?;
    Ok(code)
}

/// Without a hub, what is read is of one moment only if nothing was written meanwhile.
fn check_undisturbed(inspector: &Inspector) -> anyhow::Result<()> {
    anyhow::ensure!(!inspector.was_disturbed(), "a hub was started on the journal while it was read: run this again");
    Ok(())
}

fn said(found: &Verified, out: &mut Output) -> anyhow::Result<()> {
    for complaint in &found.integrity {
        out.line(format_args!("the file: {}", render::harmless(complaint)))?;
    }
    for damage in &found.damaged {
        out.line(line(damage))?;
    }
    if let Some(more) = found.more_damaged {
        out.line(format_args!("and damage in {} more places", render::grouped(more)))?;
    }
    if let Some(Discontinuity { is_loss, reason }) = &found.continuity {
        let what = if *is_loss { "events are gone" } else { "the next start begins a new epoch" };
        out.line(format_args!("{what}: {}", render::harmless(reason)))?;
    }
    let events = render::grouped(found.events);
    let state = if found.whole { "nothing is damaged" } else { "see above for what is damaged" };
    out.line(format_args!("{events} events are what was written; {state}"))
}

fn line(damage: &Damage) -> String {
    format!("{}–{}: {}", damage.from, damage.to, render::harmless(&damage.what))
}

fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let inspector = Inspector::open(&args.at.data)?;
    let span = inspector.span();
    let (from, to) = (args.from.unwrap_or(span.from), args.to.unwrap_or(span.to));
    if from < span.from {
        note(format_args!("the oldest event is {}: those before it are no longer kept", span.from));
    }
    let bar = progress::bar("exporting", (to.min(span.to) + 1).saturating_sub(from.max(span.from)));
    let mut out = Output::stdout();
    let mut whole = true;
    for part in inspector.walk(from, to) {
        match part {
            Part::Events(events) => {
                bar.inc(events.len() as u64);
                let wanted = |glob: &str| args.types.is_empty() || args.types.iter().any(|one| one.matches(glob));
                for event in events.iter().filter(|event| wanted(&event.event_type)) {
                    out.line(event.to_json())?;
                }
            }
            Part::Damaged(damage) => {
                bar.inc(damage.to - damage.from + 1);
                bar.suspend(|| note(format_args!("damaged and passed over: {}", line(&damage))));
                whole = false;
            }
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    check_undisturbed(&inspector)?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn backup(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let bar = progress::bar("copying", 0);
    let backed_up = journal::backup(&args.at.data, &args.to, |done, pages| {
        bar.set_length(pages);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        let BackedUp { oldest, head, bytes, .. } = backed_up;
        let events = render::grouped((head + 1).saturating_sub(oldest));
        let to = args.to.display();
        out.line(format_args!("{events} events, seq {oldest} to {head}, {} bytes, in {to}", render::grouped(bytes)))?;
    } else {
        out.line(serde_json::to_string(&backed_up)?)?;
    }
    out.flush()?;
    let Some(loss) = backed_up.loss else { return Ok(ExitCode::SUCCESS) };
    note(format_args!("events are missing from the journal itself: {}", render::harmless(&loss)));
    Ok(ExitCode::from(FAILED))
}

fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let (input, length) = open(&args.file)?;
    let mut input = BufReader::with_capacity(256 << 10, input);
    let mut importer = Importer::begin(&args.at.data)?;
    let bar = match length {
        Some(length) => progress::bar("importing", length),
        None => progress::spinner("importing"),
    };
    let (mut line, mut number, mut events, mut gaps) = (Vec::new(), 0u64, 0u64, 0u64);
    loop {
        line.clear();
        number += 1;
        let context = || format!("line {number}: nothing is imported");
        let read = input.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line).with_context(context)?;
        if read == 0 {
            break;
        }
        let text = text(&line).with_context(context)?;
        if text.is_empty() {
            continue;
        }
        let gap = importer.add(text).with_context(context)?;
        if let Some(Span { from, to }) = gap {
            gaps += 1;
            if gaps <= GAPS {
                bar.suspend(|| note(format_args!("line {number}: {from}–{to} are missing before it")));
            }
        }
        events += 1;
        bar.inc(if length.is_some() { read as u64 } else { 1 });
    }
    importer.finish().context("nothing is imported")?;
    bar.finish_and_clear();
    if gaps > 0 {
        let gaps = render::grouped(gaps);
        note(format_args!("{gaps} gaps between seqs: readers are told of what is missing, and `verify` reports it"));
    }
    print(format_args!("{} events imported into {}", render::grouped(events), args.at.data.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(line: &[u8]) -> anyhow::Result<&str> {
    let longest = LONGEST_LINE;
    anyhow::ensure!(line.len() as u64 <= longest, "line.too-long: expected at most {longest} bytes, found more");
    let text = std::str::from_utf8(line).context("event.json: expected UTF-8")?;
    Ok(text.trim())
}

/// What to read, and how long it is if that is known.
fn open(file: &Path) -> anyhow::Result<(Box<dyn Read>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let length = opened.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
    Ok((Box::new(opened), length))
}
