//! What one plugin has done since the hub began: counters, how its fuel and time are spread, its last error. Belongs to
//! the plugin's name and outlives its versions. Each is counted at one place: [`super::version`] for calls, the host
//! interfaces for what they refuse.

use super::fault::{CallError, FailureKind, FaultCode, LoadError};
use super::instance::Usage;
use super::memory::Held;
use crate::metrics::{Counter, Exposition, Histogram};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    /// One lock for all that is counted when a call ends: seven atomic additions take longer than the rest of the counting.
    /// And whoever reads sees each call whole.
    tally: Mutex<Tally>,
    refused_denied: Counter,
    refused_outbox: Counter,
    refused_invalid: Counter,
    lines_suppressed: Counter,
    emit_waits: Counter,
    held: Held,
}

#[derive(Debug, Default)]
struct Tally {
    /// By their place in [`LoadError::CODES`].
    load_failures: [u64; LoadError::CODES.len()],
    handled: u64,
    verdicts_true: u64,
    verdicts_false: u64,
    retries: u64,
    rejects: u64,
    filter_errors: u64,
    faults: [u64; FaultCode::ALL.len()],
    /// Calls that returned ok and whose effects were refused, as part of a loop: also faults, but calls already.
    looped: u64,
    emitted: u64,
    fuel: Histogram,
    nanoseconds: Histogram,
    memory_peak: usize,
    last_error: Option<LastError>,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// A fault code, a code of loading, or `failure`.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Of the version whose it was, hexadecimal; none where the file was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl LastError {
    fn new(code: &'static str, message: String, sha256: Option<&str>) -> Self {
        Self { code, message, at: Utc::now(), sha256: sha256.map(str::to_owned) }
    }

    fn of(outcome: &Outcome<'_>, sha256: &str) -> Option<Self> {
        let (code, message) = match outcome {
            Outcome::Handled { .. } | Outcome::Verdict(_) => return None,
            Outcome::FilterError(message) => ("failure", *message),
            Outcome::Error(CallError::Failure(failure)) => ("failure", failure.message.as_str()),
            Outcome::Error(CallError::Fault(fault)) => (fault.code.as_str(), fault.message.as_str()),
        };
        Some(Self::new(code, message.to_owned(), Some(sha256)))
    }
}

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// What one in a hundred exceeds.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    pub(super) fn of(histogram: &Histogram, unit: f64) -> Self {
        let scaled = |value: u64| value as f64 * unit;
        Self {
            p50: scaled(histogram.quantile(0.5)),
            p99: scaled(histogram.quantile(0.99)),
            max: scaled(histogram.max()),
        }
    }
}

/// The counters as they stand, for the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Calls that ended, however they did.
    pub calls: u64,
    /// Of these, those of a handler that returned ok, and those of a filter that gave an answer.
    pub ok: u64,
    /// How many events a filter let through and held back.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// How often the guest said that it failed, by kind: `retry`, `reject`, and `error` for a filter.
    pub failures: BTreeMap<&'static str, u64>,
    /// How often the sandbox ended a call, by code.
    pub faults: BTreeMap<&'static str, u64>,
    /// Host calls refused, by reason; the call went on.
    pub refused: BTreeMap<&'static str, u64>,
    /// Events in the outboxes of calls that returned ok.
    pub emitted: u64,
    /// How often its lane held a call back because the plugin had emitted more than `limits.emit_rate`.
    pub emit_waits: u64,
    /// Log lines thinned out.
    pub lines_suppressed: u64,
    /// Fuel of a call.
    pub fuel: Spread,
    /// Microseconds of a call, start code included.
    pub time_us: Spread,
    /// Most bytes of memory that an instance took.
    pub memory_peak: usize,
    /// Bytes of memories and tables that its instances have now, those that wait for a call included.
    pub memory_held: usize,
}

/// How a call ended.
pub(super) enum Outcome<'a> {
    Handled { emitted: usize },
    Verdict(bool),
    FilterError(&'a str),
    Error(&'a CallError),
}

impl Stats {
    #[inline]
    pub(super) fn record(&self, outcome: &Outcome<'_>, usage: &Usage, sha256: &str) {
        // Made before the lock is taken: the clock is read for it, and texts are copied.
        let error = LastError::of(outcome, sha256);
        let mut tally = self.tally();
        tally.fuel.record_alone(usage.fuel);
        tally.nanoseconds.record_alone(usage.nanoseconds);
        tally.memory_peak = tally.memory_peak.max(usage.memory);
        match outcome {
            Outcome::Handled { emitted } => {
                tally.handled += 1;
                tally.emitted += *emitted as u64;
            }
            Outcome::Verdict(true) => tally.verdicts_true += 1,
            Outcome::Verdict(false) => tally.verdicts_false += 1,
            Outcome::FilterError(_) => tally.filter_errors += 1,
            Outcome::Error(CallError::Failure(failure)) if failure.kind == FailureKind::Retry => tally.retries += 1,
            Outcome::Error(CallError::Failure(_)) => tally.rejects += 1,
            Outcome::Error(CallError::Fault(fault)) => tally.faults[fault.code as usize] += 1,
        }
        if error.is_some() {
            tally.last_error = error;
        }
    }

    /// Counts a call that returned ok, but whose effects are part of a loop and were refused.
    pub(super) fn looped(&self, message: &str, sha256: &str) {
        let error = LastError::new(FaultCode::Loop.as_str(), message.to_owned(), Some(sha256));
        let mut tally = self.tally();
        tally.looped += 1;
        tally.last_error = Some(error);
    }

    /// Counts that a version was not loaded, and remembers why.
    pub fn load_failed(&self, error: &LoadError, sha256: Option<&str>) {
        let error = LastError::new(error.code(), error.to_string(), sha256);
        let mut tally = self.tally();
        if let Some(at) = LoadError::CODES.iter().position(|code| *code == error.code) {
            tally.load_failures[at] += 1;
        }
        tally.last_error = Some(error);
    }

    /// Remembers that nobody knows what limits an operator has set for the plugin.
    pub(super) fn limits_unreadable(&self, detail: String) {
        self.tally().last_error = Some(LastError::new("limits.unreadable", detail, None));
    }

    /// What its instances have of the hub's memory.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refused(&self, code: FaultCode) {
        match code {
            FaultCode::Outbox => self.refused_outbox.inc(),
            FaultCode::Lift => self.refused_invalid.inc(),
            _ => self.refused_denied.inc(),
        }
    }

    pub(super) fn waited(&self) {
        self.emit_waits.inc();
    }

    pub(super) fn suppressed(&self) {
        self.lines_suppressed.inc();
    }

    /// The last thing that went wrong.
    pub fn last_error(&self) -> Option<LastError> {
        self.tally().last_error.clone()
    }

    /// The counters as they stand.
    pub fn counts(&self) -> Counts {
        let tally = self.tally();
        Counts {
            calls: tally.calls(),
            ok: tally.ok(),
            verdicts: tally.verdicts().into(),
            failures: tally.failures().into(),
            faults: tally.faults().filter(|(_, n)| *n > 0).collect(),
            refused: self.refusals().into(),
            emitted: tally.emitted,
            emit_waits: self.emit_waits.get(),
            lines_suppressed: self.lines_suppressed.get(),
            fuel: Spread::of(&tally.fuel, 1.0),
            time_us: Spread::of(&tally.nanoseconds, 1e-3),
            memory_peak: tally.memory_peak,
            memory_held: self.held.get(),
        }
    }

    fn refusals(&self) -> [(&'static str, u64); 3] {
        [
            ("denied", self.refused_denied.get()),
            ("outbox", self.refused_outbox.get()),
            ("invalid", self.refused_invalid.get()),
        ]
    }
}

/// What follows from what is counted: nothing is counted twice.
impl Tally {
    fn calls(&self) -> u64 {
        self.ok() + self.retries + self.rejects + self.filter_errors + self.faults.iter().sum::<u64>()
    }

    fn ok(&self) -> u64 {
        self.handled + self.verdicts_true + self.verdicts_false
    }

    fn verdicts(&self) -> [(&'static str, u64); 2] {
        [("true", self.verdicts_true), ("false", self.verdicts_false)]
    }

    fn failures(&self) -> [(&'static str, u64); 3] {
        [("retry", self.retries), ("reject", self.rejects), ("error", self.filter_errors)]
    }

    fn load_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LoadError::CODES.into_iter().zip(self.load_failures)
    }

    fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FaultCode::ALL.iter().map(|code| {
            let looped = if *code == FaultCode::Loop { self.looped } else { 0 };
            (code.as_str(), self.faults[*code as usize] + looped)
        })
    }
}

/// Writes the statistics of all plugins, family by family.
pub fn write<'a>(plugins: impl Iterator<Item = (&'a str, &'a Stats)> + Clone, out: &mut Exposition) {
    type Samples = Vec<(Option<(&'static str, &'static str)>, u64)>;
    type Family = (&'static str, &'static str, fn(&Tally) -> Samples);
    fn labelled(label: &'static str, counts: impl IntoIterator<Item = (&'static str, u64)>) -> Samples {
        counts.into_iter().map(|(value, n)| (Some((label, value)), n)).collect()
    }
    const FAMILIES: [Family; 7] = [
        ("busway_plugin_calls_total", "Calls of the plugin that ended, however they did.", |t| vec![(None, t.calls())]),
        ("busway_plugin_ok_total", "Calls that returned ok or gave an answer.", |t| vec![(None, t.ok())]),
        ("busway_plugin_verdicts_total", "Events that the filter let through (true) or held back (false).", |t| {
            labelled("verdict", t.verdicts())
        }),
        ("busway_plugin_failures_total", "Calls of which the guest said that they failed.", |t| {
            labelled("kind", t.failures())
        }),
        ("busway_plugin_faults_total", "Calls that the sandbox ended.", |t| labelled("code", t.faults())),
        ("busway_plugin_emitted_total", "Events that the plugin published in calls that returned ok.", |t| {
            vec![(None, t.emitted)]
        }),
        ("busway_plugin_load_failures_total", "Files and sidecars of the plugin that were not loaded.", |t| {
            labelled("code", t.load_failures())
        }),
    ];
    for (family, help, samples) in FAMILIES {
        out.family(family, "counter", help);
        for (name, stats) in plugins.clone() {
            let samples = samples(&stats.tally());
            for (label, value) in samples {
                let labels: Vec<_> = [("plugin", name)].into_iter().chain(label).collect();
                out.sample(family, &labels, value);
            }
        }
    }
    const REFUSED: &str = "busway_plugin_refused_total";
    out.family(REFUSED, "counter", "Host calls of the plugin that were refused; the call itself went on.");
    for (name, stats) in plugins.clone() {
        for (reason, count) in stats.refusals() {
            out.sample(REFUSED, &[("plugin", name), ("reason", reason)], count);
        }
    }
    const WAITS: &str = "busway_plugin_emit_waits_total";
    out.family(
        WAITS,
        "counter",
        "Times a call was held back because the plugin had emitted more than its rate allows.",
    );
    for (name, stats) in plugins.clone() {
        out.sample(WAITS, &[("plugin", name)], stats.emit_waits.get());
    }
    const SUPPRESSED: &str = "busway_plugin_log_lines_suppressed_total";
    out.family(SUPPRESSED, "counter", "Log lines of the plugin that were thinned out.");
    for (name, stats) in plugins.clone() {
        out.sample(SUPPRESSED, &[("plugin", name)], stats.lines_suppressed.get());
    }
    out.family("busway_plugin_call_seconds", "summary", "Time of a call, start code included.");
    for (name, stats) in plugins.clone() {
        out.summary("busway_plugin_call_seconds", &[("plugin", name)], &stats.tally().nanoseconds, 1e-9);
    }
    out.family("busway_plugin_call_fuel", "summary", "Fuel of a call.");
    for (name, stats) in plugins.clone() {
        out.summary("busway_plugin_call_fuel", &[("plugin", name)], &stats.tally().fuel, 1.0);
    }
    const PEAK: &str = "busway_plugin_memory_peak_bytes";
    out.family(PEAK, "gauge", "Most bytes of memory that an instance took.");
    for (name, stats) in plugins.clone() {
        out.sample(PEAK, &[("plugin", name)], stats.tally().memory_peak);
    }
    const HELD: &str = "busway_plugin_memory_held_bytes";
    out.family(HELD, "gauge", "Bytes that all instances of the plugin have now, those that wait for a call included.");
    for (name, stats) in plugins {
        out.sample(HELD, &[("plugin", name)], stats.held.get());
    }
}
