//! `busway:plugin/logging`: lines for whoever runs the hub. A guest writes one line with one call, whatever is in it:
//! control characters are escaped, long lines are cut, floods are thinned out and counted.

use super::text::{InvalidText, Texts, decoded};
use super::transcript::Told;
use super::{Call, Context, Guest, interface};
use crate::plugin::bindings::handler::busway::plugin::logging;
use crate::plugin::grants::Capability;
use crate::plugin::limits::MAX_TEXT_BYTES;
use crate::text::line;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::component::{Linker, WasmStr};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// What a reader of the log wants to know.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One line of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// Escaped and cut.
    pub message: String,
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(&interface("logging"))?.func_wrap(
        "log",
        |mut store, (level, message): (logging::Level, WasmStr)| {
            let message = Texts::of(&store).read("message", &message);
            store.data_mut().log(level, message)
        },
    )
}

impl Guest {
    /// Writes the line. In place of one that is not valid
    /// text it says so: its bytes are not known here.
    fn log(&mut self, level: logging::Level, message: Result<String, InvalidText>) -> wasmtime::Result<()> {
        self.spend(decoded(&message))?;
        let message = message.unwrap_or_else(|error| format!("({error})"));
        if !self.may(Capability::Log) {
            return Ok(());
        }
        let level = match level {
            logging::Level::Trace => Level::Trace,
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error => Level::Error,
        };
        write(&self.context, &mut self.call, level, &message);
        Ok(())
    }
}

fn write(context: &Context, call: &mut Call, level: Level, message: &str) {
    let most = context.limits.log_line_bytes;
    if let Some(record) = &mut call.record {
        record.line(level, message, most);
        call.trace("log", || Told::new(level.as_str(), message));
    }
    // Asked first: a level that nobody reads must not use up the lines of those that somebody does.
    if !enabled(level) {
        return;
    }
    match context.throttle.admit(Instant::now(), context.limits.log_lines) {
        Admitted::No => return context.stats.suppressed(),
        Admitted::Yes { suppressed: 0 } => {}
        Admitted::Yes { suppressed } => {
            tracing::warn!(target: "plugin", plugin = %context.name, suppressed, "suppressed {suppressed} lines");
        }
    }
    let (name, message) = (&context.name, cut(message, most));
    match level {
        Level::Trace => tracing::trace!(target: "plugin", plugin = %name, "{message}"),
        Level::Debug => tracing::debug!(target: "plugin", plugin = %name, "{message}"),
        Level::Info => tracing::info!(target: "plugin", plugin = %name, "{message}"),
        Level::Warn => tracing::warn!(target: "plugin", plugin = %name, "{message}"),
        Level::Error => tracing::error!(target: "plugin", plugin = %name, "{message}"),
    }
}

fn enabled(level: Level) -> bool {
    match level {
        Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
        Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
    }
}

/// `text` as one line that no terminal and no log reader mistakes for anything else, cut at [`MAX_TEXT_BYTES`].
pub(in crate::plugin) fn printable(text: &str) -> Cow<'_, str> {
    cut(text, MAX_TEXT_BYTES)
}

/// The same, cut at `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    let kept = &text[..text.floor_char_boundary(most)];
    let shown = line(kept);
    if kept.len() == text.len() {
        return shown;
    }
    let mut shown = shown.into_owned();
    shown.push_str(&format!("… (cut, {} bytes)", text.len()));
    Cow::Owned(shown)
}

/// Lets so many lines a second through and counts the others.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Throttle(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Admitted {
    /// And so many were suppressed in the window before.
    Yes {
        suppressed: u64,
    },
    No,
}

impl Throttle {
    /// `most`: lines in a second.
    pub(in crate::plugin) fn admit(&self, now: Instant, most: u32) -> Admitted {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        let mut suppressed = 0;
        if over {
            suppressed = window.suppressed;
            *window = Window { began: Some(now), ..Window::default() };
        }
        if window.lines >= most {
            window.suppressed += 1;
            return Admitted::No;
        }
        window.lines += 1;
        Admitted::Yes { suppressed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(printable("plain, ü"), "plain, ü");
        assert_eq!(printable("a\nb\x1b[31m\u{202e}c\r\0\u{2028}"), "a\\nb\\u001b[31m\\u202ec\\r\\u0000\\u2028");
        let long = "é".repeat(MAX_TEXT_BYTES);
        let shown = printable(&long);
        assert!(shown.ends_with("… (cut, 8192 bytes)") && shown.len() < MAX_TEXT_BYTES + 40);
        assert_eq!(cut("abc", 2), "ab… (cut, 3 bytes)");
    }

    #[test]
    fn a_flood_is_thinned_out_and_counted() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let yes = Admitted::Yes { suppressed: 0 };
        assert!((0..100).all(|_| throttle.admit(start, 100) == yes));
        assert!((0..7).all(|_| throttle.admit(start + Duration::from_millis(999), 100) == Admitted::No));
        let next = start + Duration::from_secs(1);
        let admit = |most| throttle.admit(next, most);
        assert_eq!((admit(2), admit(2), admit(2)), (Admitted::Yes { suppressed: 7 }, yes, Admitted::No));
    }
}
