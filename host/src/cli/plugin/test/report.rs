//! What a test's run is told as: lines for people, JSON for programs.

use super::check::{Call, Unlike};
use super::diff;
use crate::cli::render::{grouped, harmless};
use clap::builder::styling::{AnsiColor, Style};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// What came of one file.
pub(super) struct Report {
    pub(super) file: String,
    pub(super) description: String,
    pub(super) verdict: Verdict,
    pub(super) calls: Vec<Call>,
    pub(super) time: Duration,
}

pub(super) enum Verdict {
    Passed,
    /// Passes, now that it expects what happens.
    Updated,
    Failed(Vec<Unlike>),
    /// It could not be run.
    Refused(String),
}

impl Verdict {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Updated => "updated",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
        }
    }

    fn style(&self) -> Style {
        match self {
            Self::Passed => AnsiColor::Green.on_default(),
            Self::Updated => AnsiColor::Yellow.on_default(),
            Self::Failed(_) | Self::Refused(_) => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl Report {
    /// Of what could not be run at all.
    pub(super) fn refused(place: &Path, problem: String, time: Duration) -> Self {
        let (file, verdict) = (place.display().to_string(), Verdict::Refused(problem));
        Self { file, description: String::new(), verdict, calls: Vec::new(), time }
    }

    /// Most that any call used: fuel, and bytes of memory.
    fn most(&self) -> (u64, usize) {
        let most = |of: fn(&Call) -> u64| self.calls.iter().map(of).max().unwrap_or(0);
        (most(|call| call.usage.fuel), most(|call| call.usage.memory as u64) as usize)
    }

    /// Where it is not as expected, line by line.
    pub(super) fn details(&self, colour: bool) -> String {
        match &self.verdict {
            Verdict::Passed | Verdict::Updated => String::new(),
            Verdict::Refused(problem) => harmless(problem),
            Verdict::Failed(differences) => {
                let one = |unlike: &Unlike| {
                    let told = format!("{}: {}", harmless(&unlike.pointer), unlike.problem);
                    if unlike.diff.is_empty() { told } else { format!("{told}\n{}", diff::text(&unlike.diff, colour)) }
                };
                differences.iter().map(one).collect::<Vec<_>>().join("\n")
            }
        }
    }

    pub(super) fn text(&self, colour: bool) -> String {
        let (style, word) = (self.verdict.style(), self.verdict.as_str());
        let word = if colour { format!("{style}{word:<7}{style:#}") } else { format!("{word:<7}") };
        let mut text = format!("{word}  {}", harmless(&self.file));
        if !self.description.is_empty() {
            text += &format!(": {}", harmless(&self.description));
        }
        if !self.calls.is_empty() {
            text += &format!(" ({} events, at most {} fuel)", self.calls.len(), grouped(self.most().0));
        }
        let details = self.details(colour);
        details.lines().for_each(|line| text += &format!("\n         {line}"));
        text
    }

    pub(super) fn json(&self) -> Value {
        let (fuel, memory) = self.most();
        let mut form = json!({"file": self.file, "description": self.description, "result": self.verdict.as_str(),
                              "events": self.calls.len(), "time_ms": self.time.as_millis() as u64,
                              "max_fuel": fuel, "max_memory": memory});
        match &self.verdict {
            Verdict::Failed(differences) => {
                let one = |unlike: &Unlike| json!({"pointer": unlike.pointer, "problem": unlike.problem, "diff": diff::text(&unlike.diff, false)});
                form["differences"] = differences.iter().map(one).collect();
            }
            Verdict::Refused(problem) => form["problem"] = problem.as_str().into(),
            Verdict::Passed | Verdict::Updated => {}
        }
        form
    }
}

/// How many tests ended how: passed (updated ones among them), failed, refused.
fn counts(reports: &[Report]) -> [(&'static str, usize); 3] {
    let count = |words: &[&str]| reports.iter().filter(|report| words.contains(&report.verdict.as_str())).count();
    [("passed", count(&["passed", "updated"])), ("failed", count(&["failed"])), ("refused", count(&["refused"]))]
}

fn elapsed(reports: &[Report]) -> Duration {
    reports.iter().map(|report| report.time).sum()
}

pub(super) fn summary(reports: &[Report], colour: bool) -> String {
    let counts = counts(reports);
    let told: Vec<_> =
        counts.iter().filter(|(word, n)| *n > 0 || *word == "passed").map(|(word, n)| format!("{n} {word}")).collect();
    let text = format!("{} tests: {} in {} ms", reports.len(), told.join(", "), elapsed(reports).as_millis());
    let good = counts[1].1 + counts[2].1 == 0;
    let style = if good { AnsiColor::Green } else { AnsiColor::Red }.on_default().bold();
    if colour { format!("{style}{text}{style:#}") } else { text }
}

pub(super) fn summary_json(reports: &[Report]) -> Value {
    let [(_, passed), (_, failed), (_, refused)] = counts(reports);
    json!({"tests": reports.len(), "passed": passed, "failed": failed, "refused": refused,
           "time_ms": elapsed(reports).as_millis() as u64})
}
