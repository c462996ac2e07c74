//! What a call said and did besides its answer, for whoever tries a plugin by hand. Nothing is recorded unless somebody asked for
//! it: to a call of which nobody did, it is one pointer that is null.

use super::logging::{Level, LogLine, cut as line, printable};
use super::{Call, Guest};
use crate::plugin::grants::Capability;
use crate::plugin::instance::Usage;
use serde::Serialize;
use std::borrow::Cow;
use std::time::Instant;

/// Log lines, and host calls, that are kept of one call.
const MAX_KEPT: usize = 1_000;
/// Longest key, value or answer that is shown of a host call, in characters.
const MAX_SHOWN: usize = 120;

/// What a call said besides its answer, and what it used up.
#[derive(Debug, Default, Serialize)]
pub struct Transcript {
    /// Its log lines.
    pub lines: Vec<LogLine>,
    /// What it wrote to stdout, cut.
    pub stdout: String,
    /// What it wrote to stderr, cut.
    pub stderr: String,
    /// Its host calls in the order of time; none unless they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<HostCall>>,
    /// What it used up, however it ended.
    #[serde(skip)]
    pub usage: Usage,
}

impl Transcript {
    /// One that is to hold the host calls as well.
    pub fn with_trace() -> Self {
        Self { trace: Some(Vec::new()), ..Self::default() }
    }
}

/// One call of a guest into the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostCall {
    /// Microseconds since the guest was called.
    pub at_us: u64,
    /// Interface and function, for example `kv.get`.
    pub call: &'static str,
    /// The key, the type, the level: what it was about.
    pub about: String,
    /// What the host answered, as text; empty where there is no answer.
    pub answer: String,
    /// It was not granted.
    pub denied: bool,
}

/// What is recorded while a call runs.
pub(in crate::plugin) struct Record {
    began: Instant,
    lines: Vec<LogLine>,
    trace: Option<Vec<HostCall>>,
}

impl Record {
    /// What `transcript` asks for.
    pub(in crate::plugin) fn of(transcript: &Transcript) -> Box<Self> {
        Box::new(Self { began: Instant::now(), lines: Vec::new(), trace: transcript.trace.is_some().then(Vec::new) })
    }

    pub(in crate::plugin) fn into_transcript(self, stdout: String, stderr: String, usage: Usage) -> Transcript {
        Transcript { lines: self.lines, stdout, stderr, trace: self.trace, usage }
    }

    /// Keeps a log line, cut at `most` bytes.
    pub(super) fn line(&mut self, level: Level, message: &str, most: usize) {
        if self.lines.len() < MAX_KEPT {
            self.lines.push(LogLine { level, message: line(message, most).into_owned() });
        }
    }
}

/// What the host answered, as it is told.
pub(super) struct Told<'a> {
    pub(super) about: Cow<'a, str>,
    pub(super) answer: String,
    pub(super) denied: bool,
}

impl<'a> Told<'a> {
    pub(super) fn new(about: impl Into<Cow<'a, str>>, answer: impl Into<String>) -> Self {
        Self { about: about.into(), answer: answer.into(), denied: false }
    }

    pub(super) fn denied(self, denied: bool) -> Self {
        Self { denied, ..self }
    }
}

impl Call {
    /// Whether host calls are recorded.
    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.trace.is_some())
    }

    /// Records a host call, if that is wanted.
    #[inline]
    pub(super) fn trace<'a>(&mut self, call: &'static str, told: impl FnOnce() -> Told<'a>) {
        let Some(record) = &mut self.record else { return };
        let Some(trace) = record.trace.as_mut().filter(|trace| trace.len() < MAX_KEPT) else { return };
        let Told { about, answer, denied } = told();
        let at_us = record.began.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        trace.push(HostCall { at_us, call, about: cut(&about), answer: cut(&answer), denied });
    }
}

impl Guest {
    /// Records a call of `kv`, if that is wanted.
    pub(super) fn trace_kv<T>(
        &mut self,
        call: &'static str,
        about: &str,
        answer: &Result<T, String>,
        shown: impl FnOnce(&T) -> String,
    ) {
        let granted = self.context.grants.allows(Capability::Kv).is_ok();
        self.call.trace(call, || match answer {
            Ok(value) => Told::new(about, shown(value)),
            Err(error) => Told::new(about, format!("error: {error}")).denied(!granted),
        });
    }
}

fn cut(text: &str) -> String {
    let mut shown: String = printable(text).chars().take(MAX_SHOWN + 1).collect();
    if shown.chars().count() > MAX_SHOWN {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// A value of the store as text, if it is text.
pub(super) fn value(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{} bytes that are no text", bytes.len()),
    }
}
