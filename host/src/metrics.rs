//! What is counted, and the Prometheus text that shows it. Every drop, gap, reject, retry and kill has a counter here
//! or, where it belongs to one plugin, in that plugin's statistics; each is incremented at the one place that owns the
//! fact.
//!
//! The hub's own counters are one list, [`Metrics`]; modules with labels of their own write through [`Exposition`].

mod doors;

pub use doors::{Door, DoorCounters, DoorStats, Doors, PerDoor, Reason};

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Sets it.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// One more, until the guard is dropped: no exit path forgets to take it back.
    pub fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }
}

/// Counters by a code. The codes are written in the source, so there is a bound to them; one that
/// never came up has no line.
#[derive(Debug, Default)]
pub struct Codes(Mutex<BTreeMap<&'static str, u64>>);

impl Codes {
    /// Adds one.
    pub fn inc(&self, code: &'static str) {
        *self.lock().entry(code).or_default() += 1;
    }

    /// What it stands at for a code.
    pub fn get(&self, code: &str) -> u64 {
        self.lock().get(code).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "counter", help);
        for (code, count) in self.lock().iter() {
            out.sample(name, &[("code", code)], count);
        }
    }
}

/// See [`Gauge::hold`].
#[derive(Debug)]
pub struct Held<'a>(&'a Gauge);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

const SUB: u32 = 2;
const BUCKETS: usize = (64 - SUB as usize + 1) << SUB;

/// How values are spread: four buckets for each power of two, so a quantile is at most 25 % too high. Recording is two
/// atomic additions and never waits.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Adds a value.
    pub fn record(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        // Nearly never, and reading costs less than writing what stays.
        if value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
    }

    /// Adds a value, for whoever has it alone, behind a lock that is held anyway: no atomic addition.
    #[inline]
    pub fn record_alone(&mut self, value: u64) {
        *self.buckets[bucket(value)].get_mut() += 1;
        let sum = self.sum.get_mut();
        *sum = sum.wrapping_add(value);
        let max = self.max.get_mut();
        *max = value.max(*max);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// The value that the share `q` (0 to 1) of all values does not exceed, rounded up to its bucket; 0 if there are none.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (self.count() as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank {
                return upper(index).min(self.max());
            }
        }
        0
    }
}

/// Values below 4 have a bucket each; above, the two bits after the leading one choose among four.
fn bucket(value: u64) -> usize {
    if value < 1 << SUB {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let sub = (value >> (exponent - SUB)) & ((1 << SUB) - 1);
    (((exponent - SUB + 1) << SUB) as u64 + sub) as usize
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let (group, sub) = (index >> SUB, (index & ((1 << SUB) - 1)) as u64);
    if group == 0 {
        return sub;
    }
    let width = 1u64 << (group - 1);
    (((1 << SUB) + sub) << (group - 1)).saturating_add(width - 1)
}

/// Prometheus text exposition format 0.0.4, written family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family: its help text and type (`counter`, `gauge` or `summary`).
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One line of the family begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{escaped}\"");
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A summary's quantiles, sum and count.
    pub fn summary(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram, unit: f64) {
        for q in ["0.5", "0.99"] {
            let with_q: Vec<_> = labels.iter().copied().chain([("quantile", q)]).collect();
            self.sample(name, &with_q, histogram.quantile(q.parse().unwrap_or(1.0)) as f64 * unit);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum() as f64 * unit);
        self.sample(&format!("{name}_count"), labels, histogram.count());
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.text
    }
}

macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, $help:literal;)+) => {
        /// The hub's own counters and gauges: the one list of them.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind,)+
            /// What publishers handed in, door by door.
            pub doors: Doors,
            /// Requests that were refused, by the code of the problem.
            pub problems: Codes,
            /// How long transactions of the journal take, in microseconds.
            pub journal_commit_us: Histogram,
        }

        impl Metrics {
            /// Writes all of them.
            pub fn write(&self, out: &mut Exposition) {
                $(
                    out.family($name, &stringify!($kind).to_ascii_lowercase(), $help);
                    out.sample($name, &[], self.$field.get());
                )+
                self.doors.write(out);
                self.problems.write(out, "busway_http_problems_total", "Requests that were refused, by the code of the answer.");
                let name = "busway_journal_commit_seconds";
                out.family(name, "summary", "How long transactions of the journal take.");
                out.summary(name, &[], &self.journal_commit_us, 1e-6);
            }
        }
    };
}

metrics! {
    events_logged: Counter, "busway_events_logged_total", "Events that got a seq: those of publishers, those of the hub and those that plugins emitted.";
    dedup_forgotten: Counter, "busway_dedup_forgotten_total", "Identities of events forgotten before the dedup window was over, because there were too many.";
    events_internal: Counter, "busway_events_internal_total", "Events that the hub itself published (ws.*, plugin.*, system.*).";
    internal_dropped: Counter, "busway_events_internal_dropped_total", "Events of the hub itself that were not stored: the ingress queue was full, the hub was stopping, or the journal could not be written.";
    events_emitted: Counter, "busway_events_emitted_total", "Events that plugins emitted, committed with their call.";
    commits: Counter, "busway_commits_total", "Handler calls whose effects were committed.";
    commit_conflicts: Counter, "busway_commit_conflicts_total", "Commits refused because another call had changed what they read; the call ran again.";
    commit_loops: Counter, "busway_commit_loops_total", "Commits refused because too much would have come of one event; the event that was handled became a dead letter.";
    roots_forgotten: Counter, "busway_roots_forgotten_total", "Events whose descendants are counted from zero again, because there were too many such events.";
    journal_commits: Counter, "busway_journal_commits_total", "Transactions of the journal.";
    journal_errors: Counter, "busway_journal_errors_total", "Transactions and checkpoints of the journal that failed.";
    journal_read: Counter, "busway_journal_events_read_total", "Events read from the journal by consumers behind the tail.";
    journal_damaged: Counter, "busway_journal_events_damaged_total", "Events that consumers could not read from the journal.";
    journal_retired: Counter, "busway_journal_events_retired_total", "Events that retention removed.";
    dead_letters_retired: Counter, "busway_dead_letters_retired_total", "Dead letters that went because there were too many, or they were too large.";
    clock_jumps: Counter, "busway_journal_clock_jumps_total", "Times the wall clock jumped by more than a minute while the hub ran.";
    tail_evicted: Counter, "busway_tail_evicted_total", "Events that left the tail because it was full.";
    cursor_gaps: Counter, "busway_cursor_gaps_total", "Times a cursor fell behind what the log still holds.";
    cursor_missed: Counter, "busway_cursor_missed_total", "Events that cursors missed in those gaps.";
    subscribers: Gauge, "busway_subscribers", "Native subscribers.";
    events_processed: Counter, "busway_handler_events_total", "Events that a native handler or a plugin handler is done with, dead letters included: one for each handler.";
    handler_calls: Counter, "busway_handler_calls_total", "Calls of native handlers and plugin handlers that ended; an event that is tried again has several.";
    handler_errors: Counter, "busway_handler_errors_total", "Calls of native handlers and plugin handlers that failed, panics and faults included.";
    handler_retries: Counter, "busway_handler_retries_total", "Calls of plugin handlers that failed and are tried again.";
    dead_letters: Counter, "busway_dead_letters_total", "Events that a plugin handler could not handle.";
    handler_abandoned: Counter, "busway_handler_abandoned_total", "Events that were not handled because their plugin was removed or the hub stopped.";
    handler_panics: Counter, "busway_handler_panics_total", "Native handlers that panicked.";
    handler_uncommitted: Gauge, "busway_handler_uncommitted", "Calls of plugin handlers that have returned and whose effects are not on disk yet.";
    handler_uncommitted_bytes: Gauge, "busway_handler_uncommitted_bytes", "Bytes of the events that those calls published, and of what they wrote to kv.";
    handler_rolled_back: Counter, "busway_handler_rolled_back_total", "Calls of plugin handlers whose effects could not be committed, or that depend on such a call; their events are handled again.";
    active_handlers: Gauge, "busway_active_handlers", "Handlers at work now.";
    requests: Counter, "busway_requests_total", "Requests that waited for a reply.";
    request_timeouts: Counter, "busway_request_timeouts_total", "Requests that got no reply in time.";
    views: Gauge, "busway_views", "Distinct filters with a client.";
    view_bytes: Gauge, "busway_view_bytes", "Bytes of events and frames that the views of all clients hold.";
    view_bytes_limit: Gauge, "busway_view_bytes_limit", "Bytes that the views of all clients may hold: log.view_bytes.";
    view_filter_errors: Counter, "busway_view_filter_errors_total", "Events for which a WASM filter gave no verdict, whoever asked; one that is asked about again counts again.";
    filter_starved: Counter, "busway_filter_starved_total", "Of those, events for which each try of the filter missed its deadline because others had the cores.";
    handler_filter_errors: Counter, "busway_handler_filter_errors_total", "Events for which the filter before a handler failed: they were kept from the handler or passed to it, as on_error says.";
    handler_filter_waits: Counter, "busway_handler_filter_waits_total", "Times a handler waited because the filter before it was starved; it is asked again about the same event.";
    websocket_connections: Gauge, "busway_websocket_connections", "Open WebSocket connections.";
    websocket_accepted: Counter, "busway_websocket_accepted_total", "WebSocket connections accepted.";
    websocket_refused: Counter, "busway_websocket_refused_total", "WebSocket connections refused at their limit.";
    websocket_deliveries: Counter, "busway_websocket_deliveries_total", "Events written to WebSocket clients.";
    websocket_bytes: Counter, "busway_websocket_bytes_total", "Bytes written to WebSocket clients.";
    websocket_lagged: Counter, "busway_websocket_lagged_total", "Times a WebSocket client was told of a gap.";
    websocket_filter_errors: Counter, "busway_websocket_filter_errors_total", "Times a WebSocket client was told that its filter gave no verdict.";
    websocket_slow: Counter, "busway_websocket_slow_total", "Clients closed because they did not read.";
    websocket_dead: Counter, "busway_websocket_dead_total", "Clients dropped because no pong came.";
    websocket_violations: Counter, "busway_websocket_violations_total", "Clients closed because they broke the protocol.";
    websocket_messages: Counter, "busway_websocket_messages_total", "Messages received from clients.";
    websocket_errors: Counter, "busway_websocket_errors_total", "Messages of clients that were answered with an error.";
    sse_lagged: Counter, "busway_sse_lagged_total", "Times a client of server-sent events was told of a gap.";
    sse_filter_errors: Counter, "busway_sse_filter_errors_total", "Times a client of server-sent events was told that its filter gave no verdict.";
    call_records_missed: Counter, "busway_call_records_missed_total", "Calls that those who watch a plugin's calls were not told of, because they read too slowly.";
    sse_connections: Gauge, "busway_sse_connections", "Open server-sent-event streams.";
    http_connections: Gauge, "busway_http_connections", "Open HTTP connections, WebSocket ones included.";
    http_refused: Counter, "busway_http_refused_total", "Connections refused at their limit.";
    http_silent: Counter, "busway_http_silent_total", "Connections closed because no whole request head came in time; idle ones are among them.";
    http_slow: Counter, "busway_http_slow_total", "Connections cut because their client did not read, those of server-sent events among them.";
    sse_left: Counter, "busway_sse_left_total", "Streams of server-sent events whose client closed the connection.";
    http_broken: Counter, "busway_http_broken_total", "Connections whose client went away before the end of its request or of the answer.";
    http_accept_errors: Counter, "busway_http_accept_errors_total", "Times the system did not give the hub a connection that waited.";
    http_body_bytes: Gauge, "busway_http_body_bytes", "Bytes that the bodies of requests under way and WebSocket messages that are not whole use.";
    http_bodies_refused: Counter, "busway_http_bodies_refused_total", "Requests refused, and WebSocket connections closed, because what clients were sending used the memory for it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_holds_it() {
        for value in (0..5000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let index = bucket(value);
            assert!(upper(index) >= value && (index == 0 || upper(index - 1) < value), "{value}");
        }
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value));
        let p50 = histogram.quantile(0.5);
        assert!((500..=625).contains(&p50), "{p50}");
        assert_eq!((histogram.quantile(1.0), histogram.max(), histogram.count()), (1000, 1000, 1000));
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.family("a", "counter", "Help.");
        out.sample("a", &[("x", "q\"\\\n"), ("y", "z")], 1);
        assert_eq!(out.finish(), "# HELP a Help.\n# TYPE a counter\na{x=\"q\\\"\\\\\\n\",y=\"z\"} 1\n");
    }
}
