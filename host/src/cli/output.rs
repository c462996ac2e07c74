//! Stdout and stderr: the only place that writes to them.
//!
//! Stdout is for what was asked for, stderr for everything said about it. A reader that closed the pipe has had
//! enough: that becomes [`Closed`], which ends a command quietly.
//!
//! Whatever goes to a terminal goes through [`text`] here, so that nothing that others wrote steers
//! it, whichever command shows it. Through a pipe, stdout is what it is, byte for byte.

use crate::text;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stderr, Stdout, Write};

/// Nobody reads stdout any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(super) struct Closed;

/// Buffered stdout; call [`Output::flush`] whenever a reader should see what there is.
pub(super) struct Output {
    writer: BufWriter<Stdout>,
    terminal: bool,
    colour: bool,
}

impl Output {
    /// Stdout, and whether it is a terminal.
    pub(super) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            writer: BufWriter::with_capacity(64 << 10, io::stdout()),
            terminal,
            colour: terminal && may_have_colours(),
        }
    }

    /// Whether a person is reading.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether colours are wanted.
    pub(super) fn colour(&self) -> bool {
        self.colour
    }

    /// Columns of the terminal now; it may be resized at any time.
    pub(super) fn width(&self) -> usize {
        terminal_size::terminal_size().map_or(100, |(terminal_size::Width(columns), _)| usize::from(columns))
    }

    /// Writes a line, or several.
    pub(super) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        self.write(text, text::lines)
    }

    /// As [`Output::line`], for text with colours of our own in it.
    pub(super) fn coloured(&mut self, text: impl Display) -> anyhow::Result<()> {
        self.write(text, text::coloured)
    }

    fn write(&mut self, text: impl Display, shown: fn(&str) -> Cow<'_, str>) -> anyhow::Result<()> {
        checked(match self.terminal {
            true => writeln!(self.writer, "{}", shown(&text.to_string())),
            false => writeln!(self.writer, "{text}"),
        })
    }

    /// Hands over what has been written so far.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        checked(self.writer.flush())
    }
}

/// Unless the environment says otherwise (<https://no-color.org>).
fn may_have_colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !plain
}

fn checked(result: io::Result<()>) -> anyhow::Result<()> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::new(error).context("cannot write to stdout"),
    })
}

/// Prints one text and hands it over.
pub(super) fn print(text: impl Display) -> anyhow::Result<()> {
    let mut out = Output::stdout();
    out.line(text)?;
    out.flush()
}

/// Says something about the work, on stderr. It is text for people also where it goes to a file: it
/// is always escaped.
pub(super) fn note(text: impl Display) {
    say(&format!("busway: {}\n", text::lines(&text.to_string())));
}

/// As [`note`], in red and bold where that can be shown, for what must not be overlooked.
pub(super) fn alarm(text: impl Display) {
    let (on, off) = if io::stderr().is_terminal() && may_have_colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    say(&format!("{on}busway: {}{off}\n", text::lines(&text.to_string())));
}

fn say(text: &str) {
    // One write, so that the lines of several commands on one terminal stay whole. If it fails, there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Shows what clap has to say: help on stdout, mistakes on stderr. What was typed is part of it.
pub(super) fn usage(error: &clap::Error) {
    let is_terminal = if error.use_stderr() { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let rendered = error.render();
    let text = if is_terminal && may_have_colours() { rendered.ansi().to_string() } else { rendered.to_string() };
    let text = text::coloured(&text);
    // Nothing is left to tell if even this cannot be written.
    let _ = match error.use_stderr() {
        true => io::stderr().write_all(text.as_bytes()),
        false => io::stdout().write_all(text.as_bytes()),
    };
}

/// Stderr for the log: on a terminal, each of its lines is escaped. `tracing` hands over whole
/// lines.
pub(super) struct LogWriter {
    stderr: Stderr,
    terminal: bool,
}

impl LogWriter {
    pub(super) fn new() -> Self {
        Self { stderr: io::stderr(), terminal: io::stderr().is_terminal() }
    }

    /// Whether the log may have colours.
    pub(super) fn colour() -> bool {
        io::stderr().is_terminal() && may_have_colours()
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.terminal {
            self.stderr.write_all(text::coloured(&String::from_utf8_lossy(bytes)).as_bytes())?;
        } else {
            self.stderr.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}
