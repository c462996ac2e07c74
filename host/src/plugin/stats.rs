//! What one plugin has done since the hub began: counters, how its fuel and time are spread, its last error. Belongs to
//! the plugin's name and outlives its versions. Each is counted at one place: [`super::version`] for calls, the host
//! interfaces for what they refuse.

use super::fault::{CallError, FailureKind, FaultCode, LoadError};
use super::instance::Usage;
use crate::metrics::{Counter, Exposition, Histogram};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    calls: Counter,
    ok: Counter,
    verdicts_true: Counter,
    verdicts_false: Counter,
    retries: Counter,
    rejects: Counter,
    filter_errors: Counter,
    faults: [Counter; FaultCode::ALL.len()],
    refused_denied: Counter,
    refused_outbox: Counter,
    refused_invalid: Counter,
    emitted: Counter,
    lines_suppressed: Counter,
    fuel: Histogram,
    nanoseconds: Histogram,
    memory_peak: AtomicUsize,
    last_error: Mutex<Option<LastError>>,
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
    fn of(histogram: &Histogram, unit: f64) -> Self {
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
    /// Log lines thinned out.
    pub lines_suppressed: u64,
    /// Fuel of a call.
    pub fuel: Spread,
    /// Microseconds of a call, start code included.
    pub time_us: Spread,
    /// Most bytes of memory that an instance took.
    pub memory_peak: usize,
}

/// How a call ended.
pub(super) enum Outcome<'a> {
    Handled { emitted: usize },
    Verdict(bool),
    FilterError(&'a str),
    Error(&'a CallError),
}

impl Stats {
    pub(super) fn record(&self, outcome: &Outcome<'_>, usage: &Usage, sha256: &str) {
        self.calls.inc();
        self.fuel.record(usage.fuel);
        self.nanoseconds.record(usage.elapsed.as_nanos().try_into().unwrap_or(u64::MAX));
        if usage.memory > self.memory_peak.load(Relaxed) {
            self.memory_peak.fetch_max(usage.memory, Relaxed);
        }
        match outcome {
            Outcome::Handled { emitted } => {
                self.ok.inc();
                self.emitted.add(*emitted as u64);
            }
            Outcome::Verdict(verdict) => {
                self.ok.inc();
                if *verdict { self.verdicts_true.inc() } else { self.verdicts_false.inc() }
            }
            Outcome::FilterError(message) => {
                self.filter_errors.inc();
                self.set_last_error("failure", (*message).to_owned(), Some(sha256));
            }
            Outcome::Error(CallError::Failure(failure)) => {
                let counter = if failure.kind == FailureKind::Retry { &self.retries } else { &self.rejects };
                counter.inc();
                self.set_last_error("failure", failure.message.clone(), Some(sha256));
            }
            Outcome::Error(CallError::Fault(fault)) => {
                self.faults[fault.code as usize].inc();
                self.set_last_error(fault.code.as_str(), fault.message.clone(), Some(sha256));
            }
        }
    }

    /// Remembers why a version was not loaded.
    pub fn load_failed(&self, error: &LoadError, sha256: Option<&str>) {
        self.set_last_error(error.code(), error.to_string(), sha256);
    }

    fn set_last_error(&self, code: &'static str, message: String, sha256: Option<&str>) {
        let error = LastError { code, message, at: Utc::now(), sha256: sha256.map(str::to_owned) };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn refused(&self, code: FaultCode) {
        match code {
            FaultCode::Outbox => self.refused_outbox.inc(),
            FaultCode::Lift => self.refused_invalid.inc(),
            _ => self.refused_denied.inc(),
        }
    }

    pub(super) fn suppressed(&self) {
        self.lines_suppressed.inc();
    }

    /// The last thing that went wrong.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters as they stand.
    pub fn counts(&self) -> Counts {
        let by =
            |pairs: &[(&'static str, &Counter)]| pairs.iter().map(|(name, counter)| (*name, counter.get())).collect();
        Counts {
            calls: self.calls.get(),
            ok: self.ok.get(),
            verdicts: by(&[("true", &self.verdicts_true), ("false", &self.verdicts_false)]),
            failures: by(&[("retry", &self.retries), ("reject", &self.rejects), ("error", &self.filter_errors)]),
            faults: self.faults().filter(|(_, counter)| counter.get() > 0).map(|(code, n)| (code, n.get())).collect(),
            refused: by(&[
                ("denied", &self.refused_denied),
                ("outbox", &self.refused_outbox),
                ("invalid", &self.refused_invalid),
            ]),
            emitted: self.emitted.get(),
            lines_suppressed: self.lines_suppressed.get(),
            fuel: Spread::of(&self.fuel, 1.0),
            time_us: Spread::of(&self.nanoseconds, 1e-3),
            memory_peak: self.memory_peak.load(Relaxed),
        }
    }

    fn faults(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        FaultCode::ALL.iter().map(|code| (code.as_str(), &self.faults[*code as usize]))
    }
}

/// Writes the statistics of all plugins, family by family.
pub fn write<'a>(plugins: impl Iterator<Item = (&'a str, &'a Stats)> + Clone, out: &mut Exposition) {
    type Family = (&'static str, &'static str, fn(&Stats) -> Vec<(Option<(&'static str, &'static str)>, u64)>);
    const FAMILIES: [Family; 7] = [
        ("busway_plugin_calls_total", "Calls of the plugin that ended, however they did.", |s| {
            vec![(None, s.calls.get())]
        }),
        ("busway_plugin_ok_total", "Calls that returned ok or gave an answer.", |s| vec![(None, s.ok.get())]),
        ("busway_plugin_verdicts_total", "Events that the filter let through (true) or held back (false).", |s| {
            let label = |verdict, n: &Counter| (Some(("verdict", verdict)), n.get());
            vec![label("true", &s.verdicts_true), label("false", &s.verdicts_false)]
        }),
        ("busway_plugin_failures_total", "Calls of which the guest said that they failed.", |s| {
            let label = |kind, n: &Counter| (Some(("kind", kind)), n.get());
            vec![label("retry", &s.retries), label("reject", &s.rejects), label("error", &s.filter_errors)]
        }),
        ("busway_plugin_faults_total", "Calls that the sandbox ended.", |s| {
            s.faults().map(|(code, n)| (Some(("code", code)), n.get())).collect()
        }),
        ("busway_plugin_emitted_total", "Events that the plugin published in calls that returned ok.", |s| {
            vec![(None, s.emitted.get())]
        }),
        ("busway_plugin_log_lines_suppressed_total", "Log lines of the plugin that were thinned out.", |s| {
            vec![(None, s.lines_suppressed.get())]
        }),
    ];
    for (family, help, samples) in FAMILIES {
        out.family(family, "counter", help);
        for (name, stats) in plugins.clone() {
            for (label, value) in samples(stats) {
                let labels: Vec<_> = [("plugin", name)].into_iter().chain(label).collect();
                out.sample(family, &labels, value);
            }
        }
    }
    out.family("busway_plugin_call_seconds", "summary", "Time of a call, start code included.");
    for (name, stats) in plugins.clone() {
        out.summary("busway_plugin_call_seconds", &[("plugin", name)], &stats.nanoseconds, 1e-9);
    }
    out.family("busway_plugin_call_fuel", "summary", "Fuel of a call.");
    for (name, stats) in plugins.clone() {
        out.summary("busway_plugin_call_fuel", &[("plugin", name)], &stats.fuel, 1.0);
    }
    out.family("busway_plugin_memory_peak_bytes", "gauge", "Most bytes of memory that an instance took.");
    for (name, stats) in plugins {
        out.sample("busway_plugin_memory_peak_bytes", &[("plugin", name)], stats.memory_peak.load(Relaxed));
    }
}
