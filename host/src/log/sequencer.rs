//! The only writer of the log: one task that takes what waits, gives each event its seq and puts it on the tail.
//!
//! Whatever waits is one round: one lock of the tail, one announcement of the head; with a journal, one transaction.

use super::{Append, Commit, Phase, Shared, tail::Batch};
use crate::event::Event;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

/// Most appends and most commits of one round: a round is what consumers get at once, so it bounds their latency.
const ROUND: usize = 256;

pub(super) async fn run(shared: Arc<Shared>, mut appends: Receiver<Append>, mut commits: Receiver<Commit>) {
    // However this task ends, whoever follows the head is told.
    let closing = Closing(shared);
    let shared = &*closing.0;
    let mut phase = shared.phase.subscribe();
    let (mut new_appends, mut new_commits) = (Vec::with_capacity(ROUND), Vec::with_capacity(ROUND));
    loop {
        let now = *phase.borrow_and_update();
        if now >= Phase::Draining {
            appends.close();
        }
        if now == Phase::Closed {
            commits.close();
        }
        let waiting = tokio::select! {
            biased;
            n = commits.recv_many(&mut new_commits, ROUND), if !(commits.is_closed() && commits.is_empty()) => n,
            n = appends.recv_many(&mut new_appends, ROUND), if !(appends.is_closed() && appends.is_empty()) => n,
            _ = phase.changed(), if now < Phase::Closed => 0,
            else => break,
        };
        if waiting == 0 {
            continue;
        }
        // Neither queue may starve the other: take what waits in both.
        while new_appends.len() < ROUND
            && let Ok(append) = appends.try_recv()
        {
            new_appends.push(append);
        }
        while new_commits.len() < ROUND
            && let Ok(commit) = commits.try_recv()
        {
            new_commits.push(commit);
        }
        round(shared, &mut new_appends, &mut new_commits);
    }
}

struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.head.send_modify(|head| head.closed = true);
    }
}

fn round(shared: &Shared, appends: &mut Vec<Append>, commits: &mut Vec<Commit>) {
    let mut writer = Writer { next: shared.head.borrow().seq + 1, events: Vec::new() };
    let mut committed = Vec::with_capacity(commits.len());
    for commit in commits.drain(..) {
        let result = (commit.apply)();
        if result.is_ok() {
            shared.metrics.commits.inc();
            shared.metrics.events_emitted.add(commit.events.len() as u64);
            writer.take(commit.events);
        } else {
            shared.metrics.commit_conflicts.inc();
        }
        committed.push((commit.ack, result));
    }
    let mut acks = Vec::with_capacity(appends.len());
    let mut taken = (0, 0);
    for append in appends.drain(..) {
        taken = (taken.0 + append.events.len(), taken.1 + append.bytes);
        writer.take(append.events);
        acks.extend(append.ack.map(|ack| (ack, writer.next - 1)));
    }
    writer.finish(shared, taken);
    // Acknowledged only now that consumers can see them. A publisher that has gone away does not matter.
    for (ack, seq) in acks {
        let _ = ack.send(seq);
    }
    for (ack, result) in committed {
        let _ = ack.send(result);
    }
}

struct Writer {
    next: u64,
    events: Vec<Arc<Event>>,
}

impl Writer {
    fn take(&mut self, events: Vec<Arc<Event>>) {
        for mut event in events {
            // The only reference until now, so this writes in place; a clone would be as correct.
            Arc::make_mut(&mut event).seq = self.next;
            self.next += 1;
            self.events.push(event);
        }
    }

    fn finish(self, shared: &Shared, (events, bytes): (usize, usize)) {
        if self.events.is_empty() {
            return;
        }
        shared.metrics.events_accepted.add(self.events.len() as u64);
        let evicted = shared.tail.push(Batch::split(self.events, shared.tail.largest_batch()));
        shared.metrics.tail_evicted.add(evicted);
        shared.head.send_modify(|head| {
            head.seq = self.next - 1;
            // Under the head's lock: who sees an empty queue sees the head that goes with it.
            shared.queued.give_back(events, bytes);
        });
    }
}
