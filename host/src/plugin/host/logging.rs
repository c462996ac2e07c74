//! `busway:plugin/logging`: lines for whoever runs the hub. A guest writes one line with one call, whatever is in it:
//! control characters are escaped, long lines are cut, floods are thinned out and counted.

use super::{Call, Context, Guest};
use crate::plugin::bindings::handler::busway::plugin::logging;
use crate::plugin::limits::{MAX_LOG_LINE_BYTES, MAX_LOG_LINES_PER_SECOND};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines kept for whoever asked to see those of one call.
const MAX_LINES_SHOWN: usize = 1_000;

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

/// One line of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// Escaped and cut.
    pub message: String,
}

impl logging::Host for Guest {
    async fn log(&mut self, level: logging::Level, message: String) -> wasmtime::Result<()> {
        self.spend(message.len()).await?;
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
    if let Some(lines) = call.lines.as_mut().filter(|lines| lines.len() < MAX_LINES_SHOWN) {
        lines.push(LogLine { level, message: printable(message).into_owned() });
    }
    // Asked first: a level that nobody reads must not use up the lines of those that somebody does.
    if !enabled(level) {
        return;
    }
    match context.throttle.admit(Instant::now()) {
        Admitted::No => return context.stats.suppressed(),
        Admitted::Yes { suppressed: 0 } => {}
        Admitted::Yes { suppressed } => {
            tracing::warn!(target: "plugin", plugin = %context.name, suppressed, "suppressed {suppressed} lines");
        }
    }
    let (name, message) = (&context.name, printable(message));
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

/// `text` as one line that no terminal and no log reader mistakes for anything else, cut at [`MAX_LOG_LINE_BYTES`].
pub(in crate::plugin) fn printable(text: &str) -> Cow<'_, str> {
    let kept = &text[..text.floor_char_boundary(MAX_LOG_LINE_BYTES)];
    // Besides control characters: those that reorder what is shown around them (bidirectional overrides).
    let unsafe_to_show = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if kept.len() == text.len() && !text.contains(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(kept.len() + 32);
    for c in kept.chars() {
        if unsafe_to_show(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    if kept.len() < text.len() {
        line.push_str(&format!("… (cut, {} bytes)", text.len()));
    }
    Cow::Owned(line)
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
enum Admitted {
    /// And so many were suppressed in the window before.
    Yes {
        suppressed: u64,
    },
    No,
}

impl Throttle {
    fn admit(&self, now: Instant) -> Admitted {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        let mut suppressed = 0;
        if over {
            suppressed = window.suppressed;
            *window = Window { began: Some(now), ..Window::default() };
        }
        if window.lines >= MAX_LOG_LINES_PER_SECOND {
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
        assert_eq!(printable("a\nb\x1b[31m\u{202e}c\r\0"), "a\\nb\\u{1b}[31m\\u{202e}c\\r\\u{0}");
        let long = "é".repeat(MAX_LOG_LINE_BYTES);
        let shown = printable(&long);
        assert!(shown.ends_with("… (cut, 8192 bytes)") && shown.len() < MAX_LOG_LINE_BYTES + 40);
    }

    #[test]
    fn a_flood_is_thinned_out_and_counted() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let yes = Admitted::Yes { suppressed: 0 };
        assert!((0..MAX_LOG_LINES_PER_SECOND).all(|_| throttle.admit(start) == yes));
        assert!((0..7).all(|_| throttle.admit(start + Duration::from_millis(999)) == Admitted::No));
        let next = start + Duration::from_secs(1);
        assert_eq!((throttle.admit(next), throttle.admit(next)), (Admitted::Yes { suppressed: 7 }, yes));
    }
}
