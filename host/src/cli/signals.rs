//! What the signals mean that by habit end or reload a server. None of them ends the hub without a
//! word.
//!
//! | signal | what `busway serve` does |
//! |---|---|
//! | TERM, INT, QUIT | stops in order; a second one ends it at once |
//! | HUP | the same if it runs on a terminal, which has been closed; else as USR1 |
//! | USR1, USR2 | says that there is nothing to reload or reopen, and goes on |
//! | PIPE | nothing: whoever read its output has gone |

use super::output::note;
use anyhow::Context;
use std::io::IsTerminal;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears the signals from its creation on: none that comes in between is lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
    on_terminal: bool,
}

impl Signals {
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// If the system does not let it hear them.
    pub(super) fn new() -> anyhow::Result<Self> {
        let hear = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            quit: hear(SignalKind::quit())?,
            hangup: hear(SignalKind::hangup())?,
            user_1: hear(SignalKind::user_defined1())?,
            user_2: hear(SignalKind::user_defined2())?,
            on_terminal: std::io::stdin().is_terminal()
                || std::io::stdout().is_terminal()
                || std::io::stderr().is_terminal(),
        })
    }

    /// Waits for the next signal that ends the hub, and says so of those that do not. Gives its
    /// number.
    pub(super) async fn end(&mut self) -> u8 {
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => return 2,
                _ = self.quit.recv() => return 3,
                _ = self.terminate.recv() => return 15,
                _ = self.hangup.recv() => match self.on_terminal {
                    true => return 1,
                    false => "SIGHUP",
                },
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            note(format_args!(
                "{name} changes nothing: plugins and their sidecars are reloaded when their files change, the configuration \
                 is read at the start, and the log goes to stderr; SIGTERM ends the hub"
            ));
        }
    }
}
