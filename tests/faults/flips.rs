//! Bits that turned in the file of a journal that was closed: what is served is what was written, under its own seq, and what
//! is not served is said.

use super::{kept::Kept, program::as_if_never_copied, random::Random};
use crate::hub::within;
use busway::{
    event::NewEvent,
    journal::{self, Change, JournalConfig},
    metrics::Metrics,
};
use serde_json::json;
use std::{fs, path::Path, sync::Arc, time::Duration};

const EVENTS: u64 = 3_000;
const PAGE: usize = 8_192;

/// A closed journal: its file, its epoch, and every event as JSON.
struct Written {
    file: Vec<u8>,
    continuity: Vec<u8>,
    epoch: String,
    events: Vec<String>,
}

async fn written() -> Written {
    let dir = tempfile::tempdir().unwrap();
    let config = JournalConfig { dir: dir.path().to_owned(), ..JournalConfig::default() };
    let write = move || {
        let (mut opened, _) = journal::open(&config, (Duration::ZERO, 0), Arc::new(Metrics::default())).unwrap();
        let mut events = Vec::new();
        for round in 0..EVENTS / 100 {
            let of_round: Vec<_> = (1..=100)
                .map(|index| {
                    let seq = round * 100 + index;
                    let data = json!({"n": seq, "fill": "x".repeat((seq % 90) as usize)});
                    let mut event = NewEvent::new("n").data(data).unwrap().source("test").admit().unwrap();
                    event.seq = seq;
                    Arc::new(event)
                })
                .collect();
            let value = Some(Arc::from(vec![1; 100]));
            let change = Change::Kv { plugin: "probe".into(), key: format!("key-{round}"), value };
            opened.writer.commit(&of_round, &[change]).unwrap();
            events.extend(of_round.iter().map(|event| event.to_json()));
        }
        let epoch = opened.lineage.current().to_string();
        drop(opened);
        (epoch, events)
    };
    let (epoch, events) = within(tokio::task::spawn_blocking(write)).await.unwrap();
    let read = |name| fs::read(dir.path().join(name)).unwrap();
    Written { file: read(journal::FILE), continuity: read("continuity"), epoch, events }
}

/// What became of damaged files.
#[derive(Debug, Default)]
struct Found {
    refused: usize,
    /// With events that are said to be gone.
    with_gaps: usize,
    read_only: usize,
    whole: usize,
    /// How many events could be read.
    read: usize,
}

impl Found {
    async fn add(&mut self, written: &Written, file: &[u8], what: &str) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(journal::FILE), file).unwrap();
        fs::write(dir.path().join("continuity"), &written.continuity).unwrap();
        as_if_never_copied(dir.path());
        let kept = match Kept::in_dir(dir.path()).await {
            Ok(kept) => kept,
            Err(error) => {
                assert!(error.contains(journal::FILE), "{what}: it says which file: {error}");
                self.refused += 1;
                return;
            }
        };
        let is_other_epoch = kept.epoch != written.epoch;
        for (seq, event) in kept.events.range(..=EVENTS) {
            assert_eq!(event.to_json(), written.events[*seq as usize - 1], "{what}: event {seq}");
        }
        assert!(kept.head >= EVENTS || is_other_epoch, "{what}: {} is the last, and nothing is said", kept.head);
        assert!(kept.events.keys().all(|seq| *seq <= EVENTS), "{what}: events that never were");
        if let Ok(next) = kept.next {
            assert!(next > EVENTS || is_other_epoch, "{what}: {next} is given again");
        }
        self.read += kept.events.len();
        self.with_gaps += usize::from(!kept.damaged.is_empty() || kept.oldest > 1);
        self.read_only += usize::from(kept.next.is_err());
        self.whole += usize::from(kept.events.len() as u64 == EVENTS);
        // What was written after the damage has done no more of it to what is served.
        if kept.next.is_ok() && !is_other_epoch {
            self.again(written, dir.path(), what).await;
        }
    }

    async fn again(&self, written: &Written, dir: &Path, what: &str) {
        let Ok(kept) = Kept::in_dir(dir).await else { return };
        for (seq, event) in kept.events.range(..=EVENTS) {
            assert_eq!(event.to_json(), written.events[*seq as usize - 1], "{what}: event {seq}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_turned_is_never_served_and_never_renumbers() {
    let written = written().await;
    let mut random = Random::new(4);
    let pages = written.file.len() / PAGE;
    let mut found = Found::default();
    for index in 0..180 {
        // Anywhere; where pages say what is on them; in what the file says of itself and its tables.
        let at = match index % 3 {
            0 => random.below(written.file.len()),
            1 => random.below(pages) * PAGE + random.below(48),
            _ => [random.below(120), PAGE - 1 - random.below(4_000)][random.below(2)],
        };
        let bit = random.below(8);
        let mut file = written.file.clone();
        file[at] ^= 1 << bit;
        found.add(&written, &file, &format!("bit {bit} of byte {} of page {}", at % PAGE, at / PAGE)).await;
    }
    println!("{found:?}");
    assert!(found.refused > 0 && found.with_gaps > 0 && found.whole > 0, "something of everything: {found:?}");
    assert!(found.read > EVENTS as usize * 80, "most can be read: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_zeros_or_a_file_that_was_cut_short_is_said() {
    let written = written().await;
    let mut random = Random::new(5);
    let pages = written.file.len() / PAGE;
    let mut found = Found::default();
    for page in [0, 1, 2, pages - 1].into_iter().chain((0..16).map(|_| random.below(pages)).collect::<Vec<_>>()) {
        let mut file = written.file.clone();
        file[page * PAGE..(page + 1) * PAGE].fill(0);
        found.add(&written, &file, &format!("page {page} of {pages}")).await;
    }
    for index in 0..16 {
        let length = random.below(written.file.len());
        let length = [length, length / PAGE * PAGE, 0, 50][if index < 14 { index % 2 } else { index - 12 }];
        found.add(&written, &written.file[..length], &format!("cut at {length}")).await;
    }
    println!("{found:?}");
    assert!(found.read > 0, "{found:?}");
}
