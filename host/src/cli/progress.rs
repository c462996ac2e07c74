//! How far a long command is: on stderr, and only where a person can see it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// A bar that goes to `length`; `name` says what of.
pub(super) fn bar(name: &'static str, length: u64) -> ProgressBar {
    begin(name, ProgressBar::with_draw_target(Some(length), target()), "{msg} {wide_bar} {percent}% {eta}")
}

/// For what has no known end.
pub(super) fn spinner(name: &'static str) -> ProgressBar {
    let spinner = begin(name, ProgressBar::with_draw_target(None, target()), "{spinner} {msg} {human_pos} {elapsed}");
    if !spinner.is_hidden() {
        spinner.enable_steady_tick(Duration::from_millis(200));
    }
    spinner
}

fn target() -> ProgressDrawTarget {
    // On one terminal with what is printed they would be in each other's way.
    let seen = io::stderr().is_terminal() && !io::stdout().is_terminal();
    if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn begin(name: &'static str, bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are ours; without one there is a plain bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(name)
}
