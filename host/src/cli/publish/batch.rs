//! Gathers lines into batches: full, heavy or old enough, whichever comes first.

use super::lines::{Line, Lines};
use serde_json::value::RawValue;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes of JSON in one batch, unless a single event is larger: far below the hub's 1 MiB for a body.
const BATCH_BYTES: usize = 256 << 10;
/// Longest line: the hub takes bodies of 1 MiB, and says so better than a local limit would near that.
const LONGEST_LINE: usize = 2 << 20;

/// When a batch is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At this many events.
    pub(super) events: usize,
    /// This long after its first event came.
    pub(super) wait: Duration,
}

/// An event and the line it came from.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: u64,
    pub(super) event: String,
}

/// Events that are sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    bytes: usize,
    deadline: Option<Instant>,
}

impl Batch {
    fn has_room(&self, item: &Item, limits: Limits) -> bool {
        self.items.is_empty() || (self.items.len() < limits.events && self.bytes + item.event.len() <= BATCH_BYTES)
    }

    fn push(&mut self, item: Item, limits: Limits) {
        self.deadline.get_or_insert_with(|| Instant::now() + limits.wait);
        self.bytes += item.event.len();
        self.items.push(item);
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.items.len() >= limits.events || self.bytes >= BATCH_BYTES
    }
}

/// What the reader hands over, in the order of the lines.
#[derive(Debug)]
pub(super) enum Chunk {
    Batch(Batch),
    /// A line that cannot be an event.
    Bad {
        line: u64,
        why: String,
    },
}

/// Reads `input` to its end. `make` turns a line's JSON into an event's. Returns early once nobody listens.
pub(super) async fn gather<R: AsyncRead + Unpin>(
    input: R,
    limits: Limits,
    make: impl Fn(&RawValue) -> serde_json::Result<String>,
    out: mpsc::Sender<Chunk>,
) -> io::Result<()> {
    let mut lines = Lines::new(BufReader::with_capacity(64 << 10, input), LONGEST_LINE);
    let mut batch = Batch::default();
    loop {
        let line = match batch.deadline {
            None => lines.next().await?,
            Some(deadline) => match tokio::time::timeout_at(deadline, lines.next()).await {
                Ok(line) => line?,
                Err(_) => {
                    if !flush(&mut batch, &out).await {
                        return Ok(());
                    }
                    continue;
                }
            },
        };
        let Some(line) = line else { break };
        let number = line.number;
        let listening = match read(line, &make) {
            Ok(None) => true,
            Ok(Some(item)) => {
                let room = batch.has_room(&item, limits) || flush(&mut batch, &out).await;
                batch.push(item, limits);
                room && (!batch.is_full(limits) || flush(&mut batch, &out).await)
            }
            Err(why) => flush(&mut batch, &out).await && out.send(Chunk::Bad { line: number, why }).await.is_ok(),
        };
        if !listening {
            return Ok(());
        }
    }
    flush(&mut batch, &out).await;
    Ok(())
}

/// Hands the batch over if there is one; false once nobody listens.
async fn flush(batch: &mut Batch, out: &mpsc::Sender<Chunk>) -> bool {
    batch.items.is_empty() || out.send(Chunk::Batch(std::mem::take(batch))).await.is_ok()
}

/// The line's event; `None` for a blank line.
fn read(line: Line, make: impl Fn(&RawValue) -> serde_json::Result<String>) -> Result<Option<Item>, String> {
    let bytes =
        line.bytes.ok_or_else(|| format!("line.too-long: expected at most {LONGEST_LINE} bytes, found more"))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("line.utf-8: expected UTF-8, found {error}"))?;
    // Some programs begin their output with a byte order mark.
    let text = if line.number == 1 { text.trim_start_matches('\u{feff}') } else { text }.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let event = serde_json::from_str(text).and_then(make);
    let event =
        event.map_err(|error| format!("line.json: expected one JSON value, found {}: {error}", excerpt(text)))?;
    Ok(Some(Item { line: line.number, event }))
}

fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const PATIENT: Limits = Limits { events: 3, wait: Duration::from_secs(3600) };

    fn same(line: &RawValue) -> serde_json::Result<String> {
        Ok(line.get().to_string())
    }

    async fn gathered(text: &str) -> Vec<String> {
        let (out, mut chunks) = mpsc::channel(100);
        gather(text.as_bytes(), PATIENT, same, out).await.unwrap();
        let mut shown = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            shown.push(show(chunk));
        }
        shown
    }

    fn show(chunk: Chunk) -> String {
        match chunk {
            Chunk::Batch(batch) => {
                batch.items.iter().map(|item| format!("{}:{}", item.line, item.event)).collect::<Vec<_>>().join(" ")
            }
            Chunk::Bad { line, why } => format!("{line}! {}", why.split(':').next().unwrap_or_default()),
        }
    }

    #[tokio::test]
    async fn a_batch_closes_when_it_is_full_and_at_the_end() {
        assert_eq!(gathered("1\n2\n\n3\n4\n5").await, ["1:1 2:2 4:3", "5:4 6:5"]);
        assert!(gathered("\n\n").await.is_empty());
    }

    #[tokio::test]
    async fn a_bad_line_comes_after_everything_before_it() {
        assert_eq!(gathered("1\noops\n{\"a\":\n3").await, ["1:1", "2! line.json", "3! line.json", "4:3"]);
    }

    #[tokio::test]
    async fn a_batch_closes_before_it_is_too_heavy() {
        let half = format!("\"{}\"\n", "x".repeat(BATCH_BYTES / 2));
        let batches = gathered(&half.repeat(3)).await;
        assert_eq!(batches.iter().map(|batch| batch.split(' ').count()).collect::<Vec<_>>(), [1, 1, 1]);
        let small = format!("\"{}\"\n", "x".repeat(BATCH_BYTES / 2 - 10));
        assert_eq!(gathered(&small.repeat(3)).await.len(), 2);
    }

    #[tokio::test]
    async fn a_slow_pipe_is_live() {
        let limits = Limits { events: 100, wait: Duration::from_millis(20) };
        let (mut pipe, input) = tokio::io::duplex(64);
        let (out, mut chunks) = mpsc::channel(1);
        let reader = tokio::spawn(gather(input, limits, same, out));
        pipe.write_all(b"1\n2\nha").await.unwrap();
        assert_eq!(chunks.recv().await.map(show).as_deref(), Some("1:1 2:2"));
        pipe.write_all(b"lf\n3").await.unwrap();
        assert_eq!(chunks.recv().await.map(show).as_deref(), Some("3! line.json"));
        drop(pipe);
        assert_eq!(chunks.recv().await.map(show).as_deref(), Some("4:3"));
        reader.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_reader_ends_when_nobody_listens() {
        let (out, chunks) = mpsc::channel(1);
        drop(chunks);
        gather("1\n2\n3\n4".as_bytes(), PATIENT, same, out).await.unwrap();
    }
}
