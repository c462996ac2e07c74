//! `busway publish`: one event from the flags, or JSON lines from a file or pipe.
//!
//! A task reads lines and gathers them (`lines`, `batch`); the command sends what it gathers. One batch waits between
//! them, so that a slow hub slows the pipe and memory stays bounded.

mod batch;
mod lines;

use super::client::{Client, ClientError};
use super::event::{self, MetadataArgs};
use super::output::note;
use super::sender::{SendError, Sender};
use super::{FAILED, INTERRUPTED};
use anyhow::Context;
use batch::{Batch, Chunk, Item, Limits};
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// Batches between the reader and the sender.
const WAITING: usize = 1;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    busway publish --type task.created --data '{\"task_id\":\"1\"}' --tag urgent\n  \
    busway publish events.jsonl\n  \
    cargo build --message-format=json | busway publish --type cargo.message -")]
pub(super) struct PublishArgs {
    /// JSON lines, `-` for stdin: each an event, or with --type any JSON value that becomes the data. Without it, one
    /// event is made from the flags.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Type of the event, or of every line's event.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Data of the one event; null if there is none.
    #[arg(long, value_name = "JSON", requires = "event_type", conflicts_with = "file", allow_hyphen_values = true, value_parser = event::json_flag)]
    data: Option<Box<RawValue>>,
    #[command(flatten)]
    metadata: MetadataArgs,
    /// Most events sent at once.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,
    /// How long the first event of a batch waits for more, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    wait_ms: u64,
    /// Count the lines that are not JSON or are refused, and go on.
    #[arg(long)]
    skip_invalid: bool,
}

pub(super) async fn run(client: Client, args: PublishArgs) -> anyhow::Result<ExitCode> {
    let mut work = Publishing { sender: Sender::new(&client), skip_invalid: args.skip_invalid, skipped: 0 };
    let result = tokio::select! {
        result = work.run(&args) => result,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
    };
    let skipped = match work.skipped {
        0 => String::new(),
        n => format!(", skipped {n} that are not valid"),
    };
    note(format_args!("{}{skipped}", work.sender.totals()));
    result
}

struct Publishing<'a> {
    sender: Sender<'a>,
    skip_invalid: bool,
    skipped: u64,
}

/// A line that stops the work.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why} (--skip-invalid goes on after such lines)")]
struct BadLine {
    line: u64,
    why: String,
}

impl Publishing<'_> {
    async fn run(&mut self, args: &PublishArgs) -> anyhow::Result<ExitCode> {
        match (&args.file, &args.event_type) {
            (None, Some(event_type)) => self.one(event_type, args).await,
            (Some(path), _) if path.as_os_str() != "-" => {
                let file = tokio::fs::File::open(path).await;
                self.lines(file.with_context(|| format!("cannot read {}", path.display()))?, args).await
            }
            _ => self.lines(tokio::io::stdin(), args).await,
        }
    }

    async fn one(&mut self, event_type: &str, args: &PublishArgs) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            args.data.is_some() || !stdin_holds_lines(),
            "something is piped in: add `-` to publish its lines, or `--data null` for one event without data"
        );
        let data = args.data.clone().unwrap_or_else(|| RawValue::NULL.to_owned());
        let event = event::around(event_type, &data, &args.metadata)?;
        self.sender.send(&[&event]).await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn lines(
        &mut self,
        input: impl AsyncRead + Send + Unpin + 'static,
        args: &PublishArgs,
    ) -> anyhow::Result<ExitCode> {
        let limits = Limits { events: args.batch as usize, wait: Duration::from_millis(args.wait_ms) };
        let (chunks_in, mut chunks) = mpsc::channel(WAITING);
        let (event_type, metadata) = (args.event_type.clone(), args.metadata.clone());
        let make = move |line: &RawValue| match &event_type {
            Some(event_type) => event::around(event_type, line, &metadata),
            None => event::complete(line, &metadata),
        };
        let reader = tokio::spawn(batch::gather(input, limits, make, chunks_in));
        while let Some(chunk) = chunks.recv().await {
            let stopped = match chunk {
                Chunk::Batch(batch) => self.deliver(batch).await?,
                Chunk::Bad { line, why } => self.refused(line, why),
            };
            if let Some(bad) = stopped {
                note(bad);
                return Ok(ExitCode::from(FAILED));
            }
        }
        reader.await?.context("cannot read the input")?;
        Ok(ExitCode::SUCCESS)
    }

    /// Sends a whole batch, in order. A refused line is taken out, or, if it is to stop the work, cuts the batch: what
    /// stands before it still goes out.
    async fn deliver(&mut self, batch: Batch) -> anyhow::Result<Option<BadLine>> {
        let mut items = batch.items;
        let mut stopped = None;
        let mut most = items.len();
        while !items.is_empty() {
            let now = most.min(items.len());
            let events: Vec<&str> = items[..now].iter().map(|item| item.event.as_str()).collect();
            match self.sender.send(&events).await {
                Ok(()) => drop(items.drain(..now)),
                Err(SendError::TooLarge(_)) => most = now / 2,
                Err(SendError::Refused { index, problem }) => {
                    stopped = self.refused(items[index].line, problem.to_string()).or(stopped);
                    if self.skip_invalid {
                        items.remove(index);
                    } else {
                        items.truncate(index);
                    }
                }
                Err(SendError::Failed(error)) => return Err(lost(error, &items, now)),
            }
        }
        Ok(stopped)
    }

    fn refused(&mut self, line: u64, why: String) -> Option<BadLine> {
        if !self.skip_invalid {
            return Some(BadLine { line, why });
        }
        self.skipped += 1;
        note(format_args!("line {line} skipped: {why}"));
        None
    }
}

/// Says from which line on a second run should go on.
fn lost(error: ClientError, items: &[Item], sent: usize) -> anyhow::Error {
    let line = |index: usize| items.get(index).map_or(0, |item| item.line);
    let (first, last) = (line(0), line(sent.saturating_sub(1)));
    let what = match error {
        ClientError::Broken { .. } => format!("it is not known whether lines {first} to {last} were published"),
        _ => format!("nothing from line {first} on was published"),
    };
    anyhow::Error::new(error).context(what)
}

/// Whether stdin is a pipe or a file, and not a terminal or /dev/null.
fn stdin_holds_lines() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = std::fs::metadata(Path::new("/dev/stdin")).map(|meta| meta.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file())
    }
    #[cfg(not(unix))]
    false
}
