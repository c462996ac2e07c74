//! The only writer of the log: takes what waits, gives each event its seq, has the journal write it, and puts it on the tail.
//!
//! Whatever waits is one round: one transaction of the journal, one lock of the tail, one announcement of the head. With a
//! journal the sequencer is a thread, since the disk blocks it; in memory it is a task.

use super::{
    AppendError, CommitError, Phase, Shared,
    dedup::Dedup,
    descendants::{Descendants, TooMany, brought_about},
    message::{Ack, Append, Commit, CommitStream, Purpose, Seqs},
    tail::Batch,
};
use crate::{
    event::Event,
    journal::{Change, WriteError, Writer},
    metrics::{PerDoor, Reason},
};
use std::{io, sync::Arc};
use tokio::sync::{
    mpsc::{Receiver, UnboundedReceiver},
    oneshot,
};

/// Most appends and most commits of one round: a round is what consumers get at once, so it bounds their latency.
const ROUND: usize = 256;

/// What the sequencer alone has.
pub(super) struct Sequencer {
    pub(super) shared: Arc<Shared>,
    pub(super) appends: Receiver<Append>,
    pub(super) commits: UnboundedReceiver<Commit>,
    pub(super) dedup: Dedup,
    pub(super) descendants: Descendants,
    pub(super) writer: Option<Writer>,
}

impl Sequencer {
    pub(super) fn spawn(self) -> io::Result<()> {
        if self.writer.is_none() {
            tokio::spawn(self.run());
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::current();
        let run = move || runtime.block_on(self.run());
        std::thread::Builder::new().name("busway-sequencer".into()).spawn(run).map(drop)
    }

    async fn run(mut self) {
        // However this ends, whoever follows the head is told.
        let closing = Closing(self.shared.clone());
        let mut phase = closing.0.phase.subscribe();
        let (mut appends, mut commits) = (Vec::with_capacity(ROUND), Vec::with_capacity(ROUND));
        // Closed and empty, also of what was on its way when it was closed.
        let (mut appends_done, mut commits_done) = (false, false);
        loop {
            let now = *phase.borrow_and_update();
            if now >= Phase::Draining {
                self.appends.close();
            }
            if now == Phase::Closed {
                self.commits.close();
            }
            let waiting = tokio::select! {
                biased;
                n = self.commits.recv_many(&mut commits, ROUND), if !commits_done => {
                    commits_done = n == 0;
                    n
                }
                n = self.appends.recv_many(&mut appends, ROUND), if !appends_done => {
                    appends_done = n == 0;
                    n
                }
                _ = phase.changed(), if now < Phase::Closed => 0,
                else => break,
            };
            if waiting == 0 {
                continue;
            }
            // Neither queue may starve the other: take what waits in both.
            while appends.len() < ROUND
                && let Ok(append) = self.appends.try_recv()
            {
                appends.push(append);
            }
            while commits.len() < ROUND
                && let Ok(commit) = self.commits.try_recv()
            {
                commits.push(commit);
            }
            self.round(&mut appends, &mut commits);
        }
        // Whole on disk before anybody hears that the log has ended.
        drop(self.writer.take());
    }

    fn round(&mut self, appends: &mut Vec<Append>, commits: &mut Vec<Commit>) {
        let mut round = Round::new(self.shared.head.borrow().seq + 1);
        let mut tidy = false;
        for commit in commits.drain(..) {
            tidy |= commit.purpose == Purpose::Tidy;
            round.commit(&mut self.descendants, commit);
        }
        // Also before: nobody may have published for long.
        let mut forgotten = self.dedup.forget();
        for append in appends.drain(..) {
            round.append(&mut self.dedup, append);
        }
        forgotten += self.dedup.forget();
        self.shared.metrics.dedup_forgotten.add(forgotten);
        let written = match &mut self.writer {
            Some(writer) => writer.commit(&round.events, &round.changes),
            None => Ok(()),
        };
        match written {
            Ok(()) => {
                self.shared.metrics.roots_forgotten.add(self.descendants.forget());
                round.finish(&self.shared);
            }
            Err(error) => {
                self.dedup.take_back(round.remembered);
                self.descendants.take_back(&round.brought_about);
                round.fail(&self.shared, &error);
            }
        }
        if tidy && let Some(writer) = &mut self.writer {
            writer.tidy();
        }
    }
}

struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.head.send_modify(|head| head.closed = true);
    }
}

type AppendAck = oneshot::Sender<Result<Seqs, AppendError>>;

/// What becomes true at once, or not at all.
struct Round {
    next: u64,
    events: Vec<Arc<Event>>,
    changes: Vec<Change>,
    calls: u64,
    emitted: u64,
    own: u64,
    own_appended: u64,
    /// The commits in the order of submission, each with its result if the round is written.
    commits: Vec<(Ack, Option<CommitStream>, Result<(), CommitError>)>,
    loops: u64,
    appended: Vec<(AppendAck, Seqs)>,
    /// Events and bytes that leave the ingress queue.
    taken: (usize, usize),
    /// Of what leaves it, by door, what gets a seq and what was there before.
    accepted: PerDoor,
    duplicates: PerDoor,
    /// Identities that are to be forgotten if it fails.
    remembered: usize,
    /// By root, what is to be taken back if it fails.
    brought_about: Vec<(u64, u64)>,
}

impl Round {
    fn new(next: u64) -> Self {
        Self {
            next,
            events: Vec::new(),
            changes: Vec::new(),
            calls: 0,
            emitted: 0,
            own: 0,
            own_appended: 0,
            commits: Vec::new(),
            loops: 0,
            appended: Vec::new(),
            taken: (0, 0),
            accepted: PerDoor::default(),
            duplicates: PerDoor::default(),
            remembered: 0,
            brought_about: Vec::new(),
        }
    }

    fn commit(&mut self, descendants: &mut Descendants, commit: Commit) {
        let Commit { events, changes, purpose, stream, ack } = commit;
        let checked = check(descendants, &events, purpose, stream.as_ref());
        let result = checked.map(|brought| {
            if let Some((root, more)) = brought {
                descendants.add(root, more);
                self.brought_about.push((root, more));
            }
            let count = events.len() as u64;
            match purpose {
                Purpose::Call => (self.calls, self.emitted) = (self.calls + 1, self.emitted + count),
                Purpose::Own | Purpose::Tidy => self.own += count,
            }
            self.changes.extend(changes);
            events.into_iter().for_each(|event| self.number(event));
        });
        if result.is_err()
            && let Some(stream) = &stream
        {
            stream.abort();
        }
        self.loops += u64::from(matches!(result, Err(CommitError::Loop { .. })));
        self.commits.push((ack, stream, result));
    }

    fn append(&mut self, dedup: &mut Dedup, append: Append) {
        self.taken = (self.taken.0 + append.events.len(), self.taken.1 + append.bytes);
        let count = append.events.len() as u64;
        let seqs = if append.identified {
            let mut seqs = Vec::with_capacity(append.events.len());
            for event in append.events {
                let first = dedup.first(&event, self.next);
                seqs.push((first.unwrap_or(self.next), first.is_some()));
                if first.is_none() {
                    self.remembered += 1;
                    self.number(event);
                }
            }
            Seqs::Each(seqs)
        } else {
            let first = self.next;
            append.events.into_iter().for_each(|event| self.number(event));
            Seqs::From(first)
        };
        let duplicates = match &seqs {
            Seqs::Each(seqs) => seqs.iter().filter(|(_, is_duplicate)| *is_duplicate).count() as u64,
            Seqs::From(_) => 0,
        };
        match append.door {
            Some(door) => {
                self.accepted[door as usize] += count - duplicates;
                self.duplicates[door as usize] += duplicates;
            }
            None => self.own_appended += count,
        }
        self.appended.extend(append.ack.map(|ack| (ack, seqs)));
    }

    fn number(&mut self, mut event: Arc<Event>) {
        // The only reference until now, so this writes in place; a clone would be as correct.
        Arc::make_mut(&mut event).seq = self.next;
        self.next += 1;
        self.events.push(event);
    }

    fn finish(self, shared: &Shared) {
        let metrics = &shared.metrics;
        metrics.commits.add(self.calls);
        metrics.commit_loops.add(self.loops);
        metrics.events_emitted.add(self.emitted);
        metrics.events_internal.add(self.own + self.own_appended);
        metrics.doors.taken(self.accepted, self.duplicates);
        metrics.events_logged.add(self.events.len() as u64);
        let (seq, (events, bytes)) = (self.next - 1, self.taken);
        if !self.events.is_empty() || events > 0 {
            let batches = Batch::split(self.events, shared.tail.largest_batch());
            let mut evicted = Vec::new();
            shared.head.send_modify(|head| {
                // Under the head's lock: who has read an event and then asks for the head finds it behind neither.
                evicted = shared.tail.push(batches);
                head.seq = seq;
                // Under the head's lock: who sees an empty queue sees the head that goes with it.
                shared.queued.give_back(events, bytes);
            });
            metrics.tail_evicted.add(evicted.iter().map(|batch| batch.events().len() as u64).sum());
        }
        // Acknowledged only now that consumers can see them. A publisher that has gone away does not matter.
        for (ack, seqs) in self.appended {
            let _ = ack.send(Ok(seqs));
        }
        for (ack, _, result) in self.commits {
            ack.send(result);
        }
    }

    /// Nothing of it is true.
    fn fail(self, shared: &Shared, error: &WriteError) {
        // Before anybody is told: a commit that is submitted from now on depends on a refused one.
        self.commits.iter().filter_map(|(_, stream, _)| stream.as_ref()).for_each(CommitStream::abort);
        let (events, bytes) = self.taken;
        shared.metrics.doors.failed(self.accepted, Reason::Journal);
        shared.metrics.doors.failed(self.duplicates, Reason::Journal);
        shared.metrics.internal_dropped.add(self.own_appended);
        shared.head.send_modify(|_| shared.queued.give_back(events, bytes));
        for (ack, _) in self.appended {
            let _ = ack.send(Err(AppendError::Journal(error.clone())));
        }
        for (ack, _, result) in self.commits {
            ack.send(Err(match result {
                Err(CommitError::Aborted) => CommitError::Aborted,
                // Also what was too much: together with what is taken back now, so it may not be.
                _ => CommitError::Journal(error.clone()),
            }));
        }
    }
}

/// Checks a commit before anything of it is applied. Returns the root
/// of its events and their number, where they count against a budget.
fn check(
    descendants: &Descendants,
    events: &[Arc<Event>],
    purpose: Purpose,
    stream: Option<&CommitStream>,
) -> Result<Option<(u64, u64)>, CommitError> {
    if stream.is_some_and(CommitStream::is_aborted) {
        return Err(CommitError::Aborted);
    }
    let brought = if purpose == Purpose::Call { brought_about(events) } else { None };
    if let Some((root, more)) = brought {
        let too_many = |TooMany { root, descendants }| CommitError::Loop { root, descendants };
        descendants.check(root, more).map_err(too_many)?;
    }
    Ok(brought)
}
