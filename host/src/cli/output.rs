//! Stdout and stderr: the only place that writes to them.
//!
//! Stdout is for what was asked for, stderr for everything said about it. A reader that closed the pipe has had
//! enough: that becomes [`Closed`], which ends a command quietly.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

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
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { writer: BufWriter::with_capacity(64 << 10, io::stdout()), terminal, colour: terminal && !plain }
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

    /// Writes one line.
    pub(super) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        checked(writeln!(self.writer, "{text}"))
    }

    /// Hands over what has been written so far.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        checked(self.writer.flush())
    }
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

/// Says something about the work, on stderr.
pub(super) fn note(text: impl Display) {
    // One write, so that the lines of several commands on one terminal stay whole. If it fails, there is nobody to tell.
    let _ = io::stderr().write_all(format!("busway: {text}\n").as_bytes());
}
