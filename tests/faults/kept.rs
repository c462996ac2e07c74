//! What a journal still holds: opened by the hub's own code, read from the first event to the last, and written to.

use crate::hub::within;
use busway::{
    event::{Event, NewEvent},
    journal::{self, Found, JournalConfig, Opened, Span, WriteError},
    metrics::Metrics,
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

pub struct Kept {
    pub epoch: String,
    pub oldest: u64,
    pub head: u64,
    pub events: BTreeMap<u64, Arc<Event>>,
    pub damaged: Vec<Span>,
    /// What an event gets that is published then.
    pub next: Result<u64, WriteError>,
}

impl Kept {
    /// Opens it as it is, reads everything, publishes one event and closes it.
    pub async fn in_dir(dir: &Path) -> Result<Self, String> {
        let config = JournalConfig { dir: dir.to_owned(), max_age_s: 0, max_bytes: 0, ..JournalConfig::default() };
        let dedup = (Duration::from_secs(120), 1_000);
        let open = tokio::task::spawn_blocking(move || journal::open(&config, dedup, Arc::new(Metrics::default())));
        let (opened, _) = within(open).await.unwrap().map_err(|error| error.to_string())?;
        let Opened { journal, mut writer, lineage, head, recent } = opened;
        assert!(recent.iter().all(|recent| recent.seq <= head));
        let oldest = journal.oldest();
        assert!(1 <= oldest && oldest <= head + 1, "{oldest} {head}");
        let (mut events, mut damaged, mut next) = (BTreeMap::new(), Vec::new(), oldest);
        while next <= head {
            match within(journal.events(next, head)).await {
                Found::Events(found) => {
                    for event in found {
                        assert_eq!(event.seq, next, "in a row");
                        next += 1;
                        events.insert(event.seq, event);
                    }
                }
                Found::Damaged(span) => {
                    assert!(span.from == next && span.to >= next && span.to <= head, "{span:?} from {next} to {head}");
                    next = span.to + 1;
                    damaged.push(span);
                }
            }
        }
        let seq = head + 1;
        let published = move || {
            let mut event = NewEvent::new("after").admit().unwrap();
            event.seq = seq;
            let result = writer.commit(&[Arc::new(event)], &[]);
            drop(writer);
            result.map(|()| seq)
        };
        let next = within(tokio::task::spawn_blocking(published)).await.unwrap();
        Ok(Self { epoch: lineage.current().to_string(), oldest, head, events, damaged, next })
    }
}
