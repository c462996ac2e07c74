//! A cursor over the journal and the tail, for any order of appends, reads and restarts while retention removes behind it.

use crate::hub::within;
use busway::{
    event::{Event, EventFilter, NewEvent},
    journal::{self, JournalConfig, Sync},
    log::{
        Cursor, Log, LogConfig, Seqs, Step,
        selection::Selection,
        view::{Delivery, Predicate, Question, Views},
    },
    metrics::{Door, Metrics},
};
use futures_util::{FutureExt, future::BoxFuture};
use proptest::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::Notify;

#[derive(Debug, Clone)]
enum Act {
    /// So many events at once.
    Append(u64),
    /// So many steps of a cursor.
    Read {
        cursor: usize,
        steps: usize,
    },
    /// One more cursor, at this part of the log: 0 its oldest event, 1 its head.
    Open(f64),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u64..60).prop_map(Act::Append),
        4 => (0usize..3, 1usize..6).prop_map(|(cursor, steps)| Act::Read { cursor, steps }),
        1 => (0.0f64..=1.0).prop_map(Act::Open),
        1 => Just(Act::Restart),
    ]
}

struct Logs {
    journal: JournalConfig,
    config: LogConfig,
    log: Log,
    /// Each with what it is to see next.
    cursors: Vec<(Cursor, u64)>,
}

impl Logs {
    fn open(journal: &JournalConfig, config: &LogConfig) -> Log {
        let dedup = (config.dedup_window(), config.dedup_events);
        let (opened, _) = journal::open(journal, dedup, Arc::new(Metrics::default())).unwrap();
        Log::on_journal(config, Arc::default(), opened).unwrap()
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Append(count) => {
                let event = |number| Arc::new(NewEvent::new("n").data(number).unwrap().admit().unwrap());
                let first = self.log.head() + 1;
                let events = (first..first + count).map(event).collect();
                let seqs = within(self.log.append(Door::Library, events, false).unwrap().seqs()).await.unwrap();
                assert_eq!(seqs, Seqs::From(first));
            }
            Act::Read { cursor, steps } => {
                for _ in 0..*steps {
                    self.step(*cursor).await;
                }
            }
            Act::Open(part) => {
                let (oldest, next) = (self.log.oldest(), self.log.head() + 1);
                let from = oldest + ((next - oldest) as f64 * part) as u64;
                self.cursors.push((self.log.cursor(from), from));
            }
            Act::Restart => {
                self.log.drain();
                self.log.close();
                within(self.log.ended()).await;
                self.log = Self::open(&self.journal, &self.config);
                for (cursor, next) in &mut self.cursors {
                    assert_eq!(cursor.position(), *next);
                    *cursor = self.log.cursor(*next);
                }
            }
        }
    }

    /// False: the cursor has read everything.
    async fn step(&mut self, index: usize) -> bool {
        let Some((cursor, next)) = self.cursors.get_mut(index) else { return false };
        match within(cursor.read()).await {
            None => {
                assert_eq!(*next, self.log.head() + 1, "there is nothing only at the head");
                return false;
            }
            Some(Step::Events(chunk)) => {
                for event in chunk.events() {
                    assert_eq!((event.seq, event.data.get()), (*next, &*next.to_string()));
                    *next += 1;
                }
            }
            Some(Step::Gap(gap)) => {
                assert_eq!(gap.from, *next);
                assert!(gap.to < self.log.oldest(), "{gap:?}: what is retained is no gap");
                *next = gap.to + 1;
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_cursor_sees_each_retained_event_once_and_in_order(
        retained in 5u64..300,
        buffer in 1usize..40,
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let journal = JournalConfig {
            dir: dir.path().to_owned(),
            sync: Sync::Normal,
            max_events: retained,
            ..JournalConfig::default()
        };
        let config = LogConfig { buffer_size: buffer.try_into().unwrap(), ..LogConfig::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let log = Logs::open(&journal, &config);
            let cursors = vec![(log.cursor(1), 1)];
            let mut logs = Logs { journal, config, log, cursors };
            for act in &acts {
                logs.act(act).await;
            }
            for index in 0..logs.cursors.len() {
                while logs.step(index).await {}
            }
        });
    }
}

/// A client turns to something else while a filter is asked about history, and comes back.
#[tokio::test]
async fn who_stops_waiting_for_a_filter_and_waits_again_does_not_ask_it_again() {
    let log = Log::in_memory(&LogConfig::default(), Arc::default());
    let events = (0..10).map(|number| Arc::new(NewEvent::new("n").data(number).unwrap().admit().unwrap())).collect();
    within(log.append(Door::Library, events, false).unwrap().seqs()).await.unwrap();
    let (asked, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let select = {
        let (asked, may_answer) = (asked.clone(), may_answer.clone());
        move |mut events: Vec<Arc<Event>>| -> BoxFuture<'static, Selection> {
            asked.fetch_add(events.len(), Relaxed);
            let may_answer = may_answer.clone();
            Box::pin(async move {
                may_answer.notified().await;
                events.retain(|event| event.seq % 2 == 0);
                events.into()
            })
        }
    };
    let predicate = Predicate { name: "even".into(), select: Arc::new(select) };
    let question = Question { filter: EventFilter::default(), predicate: Some(predicate) };
    let mut cursor = Views::new(log).follow(question, Some(1));
    for _ in 0..20 {
        assert!(cursor.next().now_or_never().is_none());
    }
    may_answer.notify_one();
    let Some(Delivery::Events { entry, from }) = within(cursor.next()).await else { panic!("there are events") };
    let seqs: Vec<u64> = entry.events().iter().map(|event| event.seq).collect();
    assert_eq!((from, seqs, cursor.position()), (1, vec![2, 4, 6, 8, 10], 11));
    assert_eq!(asked.load(Relaxed), 10);
}
